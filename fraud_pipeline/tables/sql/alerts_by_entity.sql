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
      decision.fired_rules,
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
  hits AS (
    SELECT decisions.user_id, decisions.event_id, decisions.event_time, rule_id
    FROM decisions
    CROSS JOIN UNNEST(decisions.fired_rules) AS rule_id
    WHERE decisions.action != 'allow'
  ),
  keyed AS (
    SELECT 'user_id' AS case_field, user_id AS case_key, user_id, event_id FROM decisions
    UNION ALL
    SELECT IF(entity = 'ip', entity, CONCAT(entity, '_id')), entity_id, user_id, event_id FROM behind
    UNION ALL
    SELECT 'network', REGEXP_REPLACE(ip, '[.][0-9]+$', '.0/24'), user_id, event_id FROM decisions
  ),
  told AS (
    SELECT
      current_alerts.alert_id,
      current_alerts.case_field,
      current_alerts.case_key,
      current_alerts.first_event_time,
      current_alerts.last_event_time,
      rule_id
    FROM current_alerts
    CROSS JOIN UNNEST(current_alerts.fired_rules) AS rule_id
  ),
  members AS (
    -- An alert shows ten of its events; the others are known by its key, its rules and its time.
    SELECT told.alert_id, keyed.user_id, keyed.event_id
    FROM told
    JOIN keyed
      ON keyed.case_field = told.case_field AND keyed.case_key = told.case_key
    JOIN hits
      ON hits.user_id = keyed.user_id AND hits.event_id = keyed.event_id AND hits.rule_id = told.rule_id
    WHERE hits.event_time BETWEEN told.first_event_time AND told.last_event_time
    UNION DISTINCT
    -- Of an IPv6 network, and of decisions without a rule, there is nothing but what the alert shows.
    SELECT current_alerts.alert_id, decisions.user_id, decisions.event_id
    FROM current_alerts
    CROSS JOIN UNNEST(current_alerts.event_ids) AS shown_id
    JOIN decisions
      ON decisions.event_id = shown_id
    WHERE
      decisions.action != 'allow'
      AND decisions.event_time BETWEEN current_alerts.first_event_time AND current_alerts.last_event_time
  ),
  alerted AS (
    SELECT behind.entity, behind.entity_id, COUNT(DISTINCT members.alert_id) AS alert_count
    FROM behind
    JOIN members
      ON members.user_id = behind.user_id AND members.event_id = behind.event_id
    WHERE behind.entity_id IS NOT NULL
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
