-- The alerts that stand, one row each: the latest version, unless the event's latest decision allows it.
SELECT alert.*
FROM (
  SELECT *
  FROM alerts
  WHERE TRUE
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY event_time, user_id, alert_id
      ORDER BY version DESC, emitted_time DESC
    ) = 1
) AS alert
LEFT JOIN latest_scores AS decision
  ON decision.user_id = alert.user_id
  AND decision.event_id = alert.event_id
  AND decision.event_time = alert.event_time
WHERE decision.action IS NULL OR decision.action != 'allow'
