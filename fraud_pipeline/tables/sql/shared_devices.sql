-- Who uses a device that others use too: one row for each device and user, of devices with two users or more. Events of
-- failed logins count as well: a device that only tried to get in is linked to whom it tried.
SELECT
  use.device_id,
  use.user_id,
  device.user_count,
  use.event_count,
  use.payment_count,
  use.failed_login_count,
  use.flagged_count,
  use.fraud_count,
  use.first_event_time,
  use.last_event_time
FROM (
  SELECT
    decision.device_id,
    decision.user_id,
    COUNT(*) AS event_count,
    COUNTIF(decision.event_type = 'payment') AS payment_count,
    COUNTIF(decision.outcome = 'failure') AS failed_login_count,
    COUNTIF(decision.action != 'allow') AS flagged_count,
    COUNTIF(label.is_fraud) AS fraud_count,
    MIN(decision.event_time) AS first_event_time,
    MAX(decision.event_time) AS last_event_time
  FROM latest_scores AS decision
  LEFT JOIN current_labels AS label
    ON label.user_id = decision.user_id AND label.target_event_id = decision.event_id
  WHERE decision.device_id IS NOT NULL
  GROUP BY decision.device_id, decision.user_id
) AS use
JOIN (
  SELECT device_id, COUNT(DISTINCT user_id) AS user_count
  FROM latest_scores
  WHERE device_id IS NOT NULL
  GROUP BY device_id
  HAVING COUNT(DISTINCT user_id) > 1
) AS device
  ON device.device_id = use.device_id
