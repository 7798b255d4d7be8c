-- The alerts that stand, one row each: the latest version of each case, unless that one withdraws it, because all of
-- its events are allowed by now, or says that it is part of another.
SELECT *
FROM alerts
WHERE TRUE
QUALIFY
  ROW_NUMBER() OVER (PARTITION BY alert_id ORDER BY version DESC, emitted_time DESC) = 1
  AND COALESCE(status, 'open') IN ('open', 'closed')
