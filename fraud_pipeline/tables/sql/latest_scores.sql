-- One row for each event: its latest decision. Rows written twice, and those that were corrected since, are left out.
-- event_time is among the partition keys so that a filter on it reaches the table's partitions.
SELECT *
FROM scores
WHERE TRUE
QUALIFY
  ROW_NUMBER() OVER (
    PARTITION BY event_time, user_id, event_id
    ORDER BY version DESC, scored_time DESC
  ) = 1
