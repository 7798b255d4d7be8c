-- Does a rule still work as it did: its hits and precision, day by day?
-- Look at a precision that sinks while hits rise: what the rule finds has become everyday life. A day without hits of a
-- rule that had many is a change in the traffic, or in what it reads. Recent days have few labels yet.
SELECT
  day,
  rule_id,
  is_shadow,
  hit_count,
  hit_count - LAG(hit_count) OVER (PARTITION BY rule_id, is_shadow ORDER BY day) AS more_than_the_day_before,
  user_count,
  fraud_count,
  legitimate_count,
  unlabelled_count,
  ROUND(precision_of_judged, 3) AS precision_of_judged,
  ROUND(recall_of_judged, 3) AS recall_of_judged
FROM fraud.rule_performance_daily
ORDER BY rule_id, is_shadow, day
