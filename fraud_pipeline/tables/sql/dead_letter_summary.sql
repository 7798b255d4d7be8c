-- Dead letters by day of receipt, reason and field, each counted once, with an example of what is wrong.
SELECT
  DATE(received_time) AS day,
  reason,
  field,
  COUNT(DISTINCT dead_letter_id) AS dead_letter_count,
  COUNT(DISTINCT user_id) AS user_count,
  MIN(received_time) AS first_received_time,
  MAX(received_time) AS last_received_time,
  MIN(message) AS example
FROM dead_letters
GROUP BY day, reason, field
