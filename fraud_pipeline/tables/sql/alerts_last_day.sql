-- The alerts that stand, of the 24 hours up to the newest one: the last day of a live stream, and of history too,
-- where "a day before now" would be empty.
SELECT *
FROM current_alerts
WHERE event_time > TIMESTAMP_SUB((SELECT MAX(event_time) FROM alerts), INTERVAL 1 DAY)
