-- How do users use the service: sessions, their length, failures and spending?
-- Look at users with many short sessions full of failed logins, and at provisional sessions: these are open for as long
-- as the watermark is behind.
SELECT
  user_id,
  COUNT(*) AS sessions,
  COUNTIF(provisional) AS provisional_sessions,
  SUM(event_count) AS events,
  ROUND(AVG(TIMESTAMP_DIFF(session_end, session_start, SECOND)) / 60, 1) AS mean_minutes,
  SUM(login_failure_count) AS failed_logins,
  SUM(payment_count) AS payments,
  SUM(amount_minor) AS amount_minor,
  MAX(distinct_ip_count) AS most_ips,
  MIN(session_start) AS first_session,
  MAX(session_start) AS last_session
FROM fraud.current_sessions
GROUP BY user_id
ORDER BY sessions DESC, failed_logins DESC, user_id
LIMIT 50
