-- Why was an alert raised? The newest ones, with the numbers behind them.
-- Look at the summary first, then at what the user does otherwise: the session, the device, the place, the amounts.
SELECT
  alert.event_time,
  alert.user_id,
  alert.severity,
  alert.action,
  ROUND(alert.score, 3) AS score,
  ARRAY_TO_STRING(alert.fired_rules, ', ') AS rules,
  alert.change,
  alert.event_count,
  alert.summary,
  decision.trigger,
  decision.failures_before_login,
  decision.is_new_device,
  decision.is_new_country,
  ROUND(decision.travel_speed_kmh) AS travel_speed_kmh,
  ROUND(decision.amount_to_mean_ratio_30d, 2) AS times_the_mean,
  session.session_event_count_at_end,
  decision.rules_version
FROM fraud.alerts_last_day AS alert
JOIN fraud.latest_scores AS decision
  ON decision.user_id = alert.user_id AND decision.event_id = alert.event_id
LEFT JOIN (
  SELECT session_id, event_count AS session_event_count_at_end FROM fraud.current_sessions
) AS session
  ON session.session_id = alert.session_id
ORDER BY alert.event_time DESC, alert.user_id, alert.event_id
LIMIT 20
