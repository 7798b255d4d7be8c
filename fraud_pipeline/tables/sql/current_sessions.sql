-- The sessions that stand, one row each: the latest version, unless that one retracts the session.
-- session_start is among the partition keys so that a filter on it reaches the table's partitions.
SELECT *
FROM (
  SELECT *
  FROM sessions
  WHERE TRUE
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY session_start, user_id, session_id
      ORDER BY version DESC, emitted_time DESC
    ) = 1
) AS latest
WHERE NOT retracted
