-- What would each rule on trial add if it were live, day by day?
-- Look at what it alone flags: events that are allowed now, and how many of those turned out fraud. Many of them without
-- a verdict say little; few of them say that other rules find the same. A score names the rules on trial that matched,
-- not their weights: what the file would decide with them live is in `fraud-pipeline rules backtest`.
SELECT
  DATE(decision.event_time) AS day,
  rule_id,
  COUNT(*) AS hit_count,
  COUNT(DISTINCT decision.user_id) AS user_count,
  COUNTIF(decision.action = 'block') AS blocked_anyway,
  COUNTIF(decision.action = 'review') AS reviewed_anyway,
  COUNTIF(decision.action = 'allow') AS allowed_now,
  COUNTIF(decision.action = 'allow' AND label.is_fraud) AS allowed_now_fraud,
  COUNTIF(decision.action = 'allow' AND NOT label.is_fraud) AS allowed_now_legitimate,
  COUNTIF(decision.action = 'allow' AND label.is_fraud IS NULL) AS allowed_now_unlabelled
FROM fraud.latest_scores AS decision
CROSS JOIN UNNEST(decision.shadow_rules) AS rule_id
LEFT JOIN fraud.current_labels AS label
  ON label.user_id = decision.user_id AND label.target_event_id = decision.event_id
GROUP BY day, rule_id
ORDER BY rule_id, day
