-- The last word on each event that someone gave a verdict on.
SELECT *
FROM labels
WHERE TRUE
QUALIFY
  ROW_NUMBER() OVER (
    PARTITION BY user_id, target_event_id
    ORDER BY event_time DESC, received_time DESC, event_id DESC, message_source DESC
  ) = 1
