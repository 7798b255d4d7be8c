-- Which scenarios raise alerts, hour by hour?
-- An alert is a case, which may be many events. Look for an hour with many users under one reason: an attack runs
-- against many accounts. Many alerts on one user are a take-over, or a rule that is too sharp. Where alerts are about
-- devices or cards, users are those of their leading events.
SELECT
  TIMESTAMP_TRUNC(event_time, HOUR) AS hour,
  reason_code,
  COUNT(*) AS alerts,
  COUNTIF(action = 'block') AS blocked,
  COUNT(DISTINCT user_id) AS users,
  ROUND(MAX(score), 3) AS highest_score
FROM fraud.current_alerts, UNNEST(reason_codes) AS reason_code
GROUP BY hour, reason_code
ORDER BY hour, alerts DESC, reason_code
