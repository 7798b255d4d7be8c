-- Who tries cards: many small payments in a short time?
-- Look at the number of different cards and at the steady small amounts. The largest one at the end is the card that works.
SELECT
  user_id,
  TIMESTAMP_TRUNC(event_time, HOUR) AS hour,
  COUNT(*) AS payments,
  COUNT(DISTINCT card_id) AS cards,
  COUNT(DISTINCT merchant_id) AS merchants,
  MIN(amount_minor) AS smallest_minor,
  MAX(amount_minor) AS largest_minor,
  ROUND(AVG(amount_minor)) AS mean_minor,
  MAX(payment_count_10m) AS most_in_10_minutes,
  COUNTIF(action != 'allow') AS alerts
FROM fraud.latest_scores
WHERE event_type = 'payment'
GROUP BY user_id, hour
HAVING COUNT(*) >= 5 AND MIN(amount_minor) <= 500
ORDER BY payments DESC, user_id, hour
LIMIT 50
