-- How each rule did on each day of its events, against what turned out since: hits by verdict, precision among those with
-- one, and recall of all events of the day that are labelled fraud. Labels come in over weeks, so recent days look
-- better or worse than they are: compare days of the same age. A rule on trial (shadow) has is_shadow set.
WITH
  judged AS (
    SELECT
      DATE(decision.event_time) AS day,
      decision.user_id,
      decision.event_type,
      decision.action,
      decision.fired_rules,
      decision.shadow_rules,
      label.is_fraud
    FROM latest_scores AS decision
    LEFT JOIN current_labels AS label
      ON label.user_id = decision.user_id AND label.target_event_id = decision.event_id
  ),
  days AS (
    SELECT day, COUNTIF(is_fraud) AS fraud_of_the_day
    FROM judged
    GROUP BY day
  ),
  hits AS (
    SELECT day, user_id, action, is_fraud, rule_id, FALSE AS is_shadow
    FROM judged
    CROSS JOIN UNNEST(judged.fired_rules) AS rule_id
    UNION ALL
    SELECT day, user_id, action, is_fraud, rule_id, TRUE
    FROM judged
    CROSS JOIN UNNEST(judged.shadow_rules) AS rule_id
  )
SELECT
  hits.day,
  hits.rule_id,
  hits.is_shadow,
  COUNT(*) AS hit_count,
  COUNT(DISTINCT hits.user_id) AS user_count,
  COUNTIF(hits.is_fraud) AS fraud_count,
  COUNTIF(NOT hits.is_fraud) AS legitimate_count,
  COUNTIF(hits.is_fraud IS NULL) AS unlabelled_count,
  SAFE_DIVIDE(COUNTIF(hits.is_fraud), COUNTIF(hits.is_fraud IS NOT NULL)) AS precision_of_judged,
  SAFE_DIVIDE(COUNTIF(hits.is_fraud), MAX(days.fraud_of_the_day)) AS recall_of_judged,
  COUNTIF(hits.action = 'block') AS blocked_count,
  COUNTIF(hits.action = 'review') AS reviewed_count
FROM hits
JOIN days
  ON days.day = hits.day
GROUP BY hits.day, hits.rule_id, hits.is_shadow
