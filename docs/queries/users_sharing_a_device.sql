-- Which users act from one device, and who of them is known to be a fraudster or a victim?
-- Look at users without a verdict who are linked to one with fraud, then at what they did since they first met on a
-- device. Families share devices too, without suspicious events.
SELECT
  user_id,
  linked_user_id,
  shared_device_count,
  example_device_id,
  event_count,
  linked_event_count,
  linked_flagged_count,
  linked_fraud_count,
  first_event_time,
  last_event_time
FROM fraud.linked_users
ORDER BY linked_fraud_count DESC, linked_flagged_count DESC, user_id, linked_user_id
LIMIT 50
