-- Which payments stand out against the user's own history?
-- Look at the ratio together with the number of earlier payments: ten times the mean of two payments says little.
SELECT
  user_id,
  event_time,
  amount_minor,
  currency,
  ROUND(amount_to_mean_ratio_30d, 2) AS times_the_mean,
  ROUND(amount_to_max_ratio_30d, 2) AS times_the_largest,
  payment_count_30d - 1 AS earlier_payments,
  is_new_payee,
  is_new_device,
  action
FROM fraud.latest_scores
WHERE event_type = 'payment' AND amount_to_mean_ratio_30d > 3
ORDER BY amount_to_mean_ratio_30d DESC, event_time, user_id
LIMIT 50
