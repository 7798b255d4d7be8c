-- Payments by day and currency against what turned out since: fraud that the answer at arrival blocked (prevented), held
-- for review, or let through (missed), and of what was let through the part that a correction found later; and what
-- blocks and reviews of legitimate payments cost. Amounts in the currency's minor unit; unlabelled payments are counted
-- apart, as labels come in over weeks.
SELECT
  DATE(answer.event_time) AS day,
  answer.currency,
  COUNT(*) AS payment_count,
  COUNTIF(label.is_fraud) AS fraud_count,
  COUNTIF(label.is_fraud IS NULL) AS unlabelled_count,
  COALESCE(SUM(IF(label.is_fraud, answer.amount_minor, 0)), 0) AS fraud_amount_minor,
  COALESCE(SUM(IF(label.is_fraud AND answer.action = 'block', answer.amount_minor, 0)), 0) AS prevented_amount_minor,
  COALESCE(SUM(IF(label.is_fraud AND answer.action = 'review', answer.amount_minor, 0)), 0) AS held_amount_minor,
  COALESCE(SUM(IF(label.is_fraud AND answer.action = 'allow', answer.amount_minor, 0)), 0) AS missed_amount_minor,
  COALESCE(
    SUM(IF(label.is_fraud AND answer.action = 'allow' AND latest.action != 'allow', answer.amount_minor, 0)),
    0
  ) AS found_later_amount_minor,
  COUNTIF(label.is_fraud AND answer.action = 'allow') AS missed_count,
  COUNTIF(NOT label.is_fraud AND answer.action = 'block') AS legitimate_blocked_count,
  COALESCE(
    SUM(IF(NOT label.is_fraud AND answer.action = 'block', answer.amount_minor, 0)),
    0
  ) AS legitimate_blocked_amount_minor,
  COUNTIF(NOT label.is_fraud AND answer.action = 'review') AS legitimate_reviewed_count
FROM first_answers AS answer
JOIN latest_scores AS latest
  ON latest.event_time = answer.event_time
  AND latest.user_id = answer.user_id
  AND latest.event_id = answer.event_id
LEFT JOIN current_labels AS label
  ON label.user_id = answer.user_id AND label.target_event_id = answer.event_id
WHERE answer.event_type = 'payment'
GROUP BY day, answer.currency
