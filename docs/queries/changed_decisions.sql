-- How often does a correction change what was decided at first, and in which direction?
-- Look at allow that became block: the event was let through before what it belongs to was known. Many of them mean
-- that events arrive late, or that a rule leans on what comes after.
SELECT
  first_action,
  last_action,
  last_trigger,
  COUNT(*) AS events,
  COUNT(DISTINCT user_id) AS users,
  ROUND(AVG(seconds_until) / 60, 1) AS mean_minutes_until,
  ROUND(MAX(ABS(last_score - first_score)), 3) AS largest_step_of_score
FROM fraud.decision_changes
GROUP BY first_action, last_action, last_trigger
ORDER BY events DESC, first_action, last_action, last_trigger
