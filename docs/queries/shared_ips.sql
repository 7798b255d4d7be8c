-- Which addresses act for many users?
-- Look for an address with many users, mostly failed logins and few successes: one machine tries stolen passwords.
-- Households and offices share an address too, without the failures.
SELECT
  ip,
  COUNT(DISTINCT user_id) AS users,
  COUNT(DISTINCT device_id) AS devices,
  COUNTIF(event_type = 'login') AS logins,
  COUNTIF(outcome = 'failure') AS failed_logins,
  ROUND(SAFE_DIVIDE(COUNTIF(outcome = 'failure'), COUNTIF(event_type = 'login')), 3) AS failure_share,
  COUNTIF(event_type = 'payment') AS payments,
  COUNTIF(action != 'allow') AS alerts
FROM fraud.latest_scores
WHERE ip IS NOT NULL
GROUP BY ip
HAVING COUNT(DISTINCT user_id) > 1
ORDER BY users DESC, failed_logins DESC, ip
LIMIT 50
