-- One row for each event: the answer that was given when it arrived, before any correction. What a decision prevented is
-- settled by this one; what is known of the event by now is in latest_scores.
SELECT *
FROM scores
WHERE TRUE
QUALIFY
  ROW_NUMBER() OVER (
    PARTITION BY event_time, user_id, event_id
    ORDER BY version, scored_time
  ) = 1
