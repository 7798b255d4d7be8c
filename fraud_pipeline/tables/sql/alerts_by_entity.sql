-- What stands behind the events that aren't allowed: one row for each address, device, card, merchant, payee, referrer
-- and promotion, with its suspicious events, their users, the alerts that these are in, and what turned out. event_share
-- is the part of all the entity's events: a large merchant has many suspicious events, and few among its own.
WITH
  decisions AS (
    SELECT
      decision.user_id,
      decision.event_id,
      decision.event_time,
      decision.score,
      decision.action,
      decision.ip,
      decision.device_id,
      decision.card_id,
      decision.merchant_id,
      decision.payee_id,
      decision.referrer_id,
      decision.promotion_id,
      label.is_fraud
    FROM latest_scores AS decision
    LEFT JOIN current_labels AS label
      ON label.user_id = decision.user_id AND label.target_event_id = decision.event_id
  ),
  behind AS (
    SELECT 'ip' AS entity, ip AS entity_id, user_id, event_id, event_time, score, action, is_fraud FROM decisions
    UNION ALL
    SELECT 'device', device_id, user_id, event_id, event_time, score, action, is_fraud FROM decisions
    UNION ALL
    SELECT 'card', card_id, user_id, event_id, event_time, score, action, is_fraud FROM decisions
    UNION ALL
    SELECT 'merchant', merchant_id, user_id, event_id, event_time, score, action, is_fraud FROM decisions
    UNION ALL
    SELECT 'payee', payee_id, user_id, event_id, event_time, score, action, is_fraud FROM decisions
    UNION ALL
    SELECT 'referrer', referrer_id, user_id, event_id, event_time, score, action, is_fraud FROM decisions
    UNION ALL
    SELECT 'promotion', promotion_id, user_id, event_id, event_time, score, action, is_fraud FROM decisions
  ),
  sums AS (
    SELECT
      entity,
      entity_id,
      COUNTIF(action != 'allow') AS flagged_count,
      COUNTIF(action = 'block') AS blocked_count,
      COUNT(DISTINCT IF(action != 'allow', user_id, NULL)) AS flagged_user_count,
      SAFE_DIVIDE(COUNTIF(action != 'allow'), COUNT(*)) AS event_share,
      COUNTIF(action != 'allow' AND is_fraud) AS flagged_fraud_count,
      COUNTIF(action != 'allow' AND NOT is_fraud) AS flagged_legitimate_count,
      COUNTIF(action = 'allow' AND is_fraud) AS missed_fraud_count,
      MAX(score) AS max_score,
      MIN(IF(action != 'allow', event_time, NULL)) AS first_flagged_time,
      MAX(IF(action != 'allow', event_time, NULL)) AS last_flagged_time
    FROM behind
    WHERE entity_id IS NOT NULL
    GROUP BY entity, entity_id
    HAVING COUNTIF(action != 'allow') > 0
  ),
  told AS (
    SELECT alert_id, event_id
    FROM current_alerts
    UNION DISTINCT
    SELECT alert_id, listed_id
    FROM current_alerts
    CROSS JOIN UNNEST(current_alerts.event_ids) AS listed_id
  ),
  alerted AS (
    SELECT behind.entity, behind.entity_id, COUNT(DISTINCT told.alert_id) AS alert_count
    FROM behind
    JOIN told
      ON told.event_id = behind.event_id
    WHERE behind.entity_id IS NOT NULL AND behind.action != 'allow'
    GROUP BY behind.entity, behind.entity_id
  )
SELECT
  sums.entity,
  sums.entity_id,
  COALESCE(alerted.alert_count, 0) AS alert_count,
  sums.* EXCEPT (entity, entity_id)
FROM sums
LEFT JOIN alerted
  ON alerted.entity = sums.entity AND alerted.entity_id = sums.entity_id
