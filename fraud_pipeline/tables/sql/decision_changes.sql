-- Events that were scored again, from the provisional answer at arrival to the final one: one row for each, also where
-- the action stayed and only score or rules moved. seconds_until is how long the first answer stood.
SELECT
  latest.user_id,
  latest.event_id,
  latest.event_time,
  latest.event_type,
  latest.session_id,
  latest.amount_minor,
  latest.currency,
  answer.action AS first_action,
  latest.action AS last_action,
  answer.score AS first_score,
  latest.score AS last_score,
  answer.fired_rules AS first_fired_rules,
  latest.fired_rules AS last_fired_rules,
  latest.trigger AS last_trigger,
  answer.version AS first_version,
  latest.version AS last_version,
  answer.scored_time AS first_scored_time,
  latest.scored_time AS last_scored_time,
  TIMESTAMP_DIFF(latest.scored_time, answer.scored_time, SECOND) AS seconds_until
FROM latest_scores AS latest
JOIN first_answers AS answer
  ON answer.event_time = latest.event_time
  AND answer.user_id = latest.user_id
  AND answer.event_id = latest.event_id
WHERE answer.version < latest.version
