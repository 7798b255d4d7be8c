-- How often does a correction change what was decided at first, and in which direction?
-- Look at allow that became block: the event was let through before what it belongs to was known. Many of them mean
-- that events arrive late, or that a rule leans on what comes after.
WITH
  decisions AS (
    SELECT
      user_id,
      event_id,
      ARRAY_AGG(action ORDER BY version LIMIT 1)[OFFSET(0)] AS first_action,
      ARRAY_AGG(action ORDER BY version DESC LIMIT 1)[OFFSET(0)] AS last_action,
      ARRAY_AGG(trigger ORDER BY version DESC LIMIT 1)[OFFSET(0)] AS last_trigger,
      COUNT(DISTINCT version) AS versions
    FROM fraud.scores
    GROUP BY user_id, event_id
  )
SELECT
  first_action,
  last_action,
  last_trigger,
  COUNT(*) AS events,
  COUNT(DISTINCT user_id) AS users,
  MAX(versions) AS most_versions
FROM decisions
WHERE versions > 1
GROUP BY first_action, last_action, last_trigger
ORDER BY events DESC, first_action, last_action, last_trigger
