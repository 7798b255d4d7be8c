-- Which address, device, card, merchant or payee is behind the alerts?
-- Look for one with several users and a large share of its own events suspicious: it is the attacker's, or a merchant
-- that works with them. One that users share honestly has a small share.
SELECT
  entity,
  entity_id,
  alert_count,
  flagged_user_count,
  flagged_count,
  blocked_count,
  ROUND(event_share, 3) AS event_share,
  flagged_fraud_count,
  flagged_legitimate_count,
  missed_fraud_count,
  last_flagged_time
FROM fraud.alerts_by_entity
ORDER BY flagged_user_count DESC, flagged_count DESC, entity, entity_id
LIMIT 50
