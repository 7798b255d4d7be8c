-- Who is linked to whom: one row for each pair of users with a device in common, both ways round, so that one user_id
-- finds all. Devices of more than 50 users are left out, as their pairs are too many to read: see shared_devices.
SELECT
  mine.user_id,
  theirs.user_id AS linked_user_id,
  COUNT(*) AS shared_device_count,
  MIN(mine.device_id) AS example_device_id,
  SUM(mine.event_count) AS event_count,
  SUM(theirs.event_count) AS linked_event_count,
  SUM(theirs.flagged_count) AS linked_flagged_count,
  SUM(theirs.fraud_count) AS linked_fraud_count,
  MIN(LEAST(mine.first_event_time, theirs.first_event_time)) AS first_event_time,
  MAX(GREATEST(mine.last_event_time, theirs.last_event_time)) AS last_event_time
FROM shared_devices AS mine
JOIN shared_devices AS theirs
  ON theirs.device_id = mine.device_id AND theirs.user_id != mine.user_id
WHERE mine.user_count <= 50
GROUP BY mine.user_id, theirs.user_id
