-- Which rules find fraud, and which cry wolf?
-- Look at the precision of rules with enough verdicts. Events without a verdict count for neither: analysts look at
-- alerts first, so compare rules with each other rather than with 1.
SELECT
  rule_id,
  COUNT(*) AS fired,
  COUNT(DISTINCT decision.user_id) AS users,
  COUNTIF(label.is_fraud) AS fraud,
  COUNTIF(NOT label.is_fraud) AS legitimate,
  ROUND(SAFE_DIVIDE(COUNTIF(label.is_fraud), COUNTIF(label.is_fraud IS NOT NULL)), 3) AS precision_of_judged,
  COUNTIF(decision.action = 'block') AS blocked
FROM fraud.latest_scores AS decision
CROSS JOIN UNNEST(decision.fired_rules) AS rule_id
LEFT JOIN fraud.current_labels AS label
  ON label.user_id = decision.user_id AND label.target_event_id = decision.event_id
GROUP BY rule_id
ORDER BY fired DESC, rule_id
