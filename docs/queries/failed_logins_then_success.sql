-- Who logged in after many failed attempts?
-- Look at logins from a new device or country first, and at what was paid within the next hour: guessed or stuffed
-- passwords end in a success that looks like any other.
SELECT
  login.user_id,
  login.event_time AS login_time,
  login.failures_before_login AS failures_before,
  login.ip,
  login.country,
  login.is_new_device,
  login.is_new_country,
  COUNT(payment.event_id) AS payments_after,
  COALESCE(SUM(payment.amount_minor), 0) AS amount_minor_after
FROM fraud.latest_scores AS login
LEFT JOIN fraud.latest_scores AS payment
  ON payment.user_id = login.user_id
  AND payment.event_type = 'payment'
  AND payment.event_time >= login.event_time
  AND payment.event_time < TIMESTAMP_ADD(login.event_time, INTERVAL 1 HOUR)
WHERE login.event_type = 'login' AND login.outcome = 'success' AND login.failures_before_login >= 3
GROUP BY
  login.user_id,
  login.event_id,
  login_time,
  failures_before,
  login.ip,
  login.country,
  login.is_new_device,
  login.is_new_country
ORDER BY failures_before DESC, login_time, login.user_id
LIMIT 50
