-- How good are the decisions, by what later turned out?
-- Look at fraud that was allowed, and at legitimate payments that were blocked: the amounts say what each mistake costs.
SELECT
  decision.action,
  decision.event_type,
  COUNTIF(label.is_fraud) AS fraud,
  COUNTIF(NOT label.is_fraud) AS legitimate,
  COUNTIF(label.is_fraud IS NULL) AS without_verdict,
  COALESCE(SUM(IF(label.is_fraud, decision.amount_minor, 0)), 0) AS fraud_amount_minor,
  ROUND(
    SAFE_DIVIDE(COUNTIF(label.is_fraud), SUM(COUNTIF(label.is_fraud)) OVER (PARTITION BY decision.event_type)),
    3
  ) AS share_of_fraud
FROM fraud.latest_scores AS decision
LEFT JOIN fraud.current_labels AS label
  ON label.user_id = decision.user_id AND label.target_event_id = decision.event_id
GROUP BY decision.action, decision.event_type
ORDER BY decision.event_type, decision.action
