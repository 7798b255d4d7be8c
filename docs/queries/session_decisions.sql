-- Which sessions ended badly, and how soon was that known?
-- Look at the early panes with a block: there the alarm came while the session was running.
WITH
  early AS (
    SELECT user_id, session_start, COUNT(*) AS panes, COUNTIF(blocks) AS panes_with_block
    FROM (
      SELECT DISTINCT user_id, session_start, session_end, pane_index, 'block' IN UNNEST(actions) AS blocks
      FROM fraud.session_rollups
      WHERE pane = 'EARLY'
    ) AS pane
    GROUP BY user_id, session_start
  )
SELECT
  ended.user_id,
  ended.session_start,
  ended.session_end,
  ended.event_count,
  ROUND(ended.max_score, 3) AS highest_score,
  ARRAY_TO_STRING(ended.actions, ', ') AS decided,
  ARRAY_TO_STRING(ended.fired_rules, ', ') AS rules,
  ended.pane,
  COALESCE(early.panes, 0) AS early_panes,
  COALESCE(early.panes_with_block, 0) AS early_panes_with_block
FROM fraud.session_rollups_final AS ended
LEFT JOIN early
  ON early.user_id = ended.user_id AND early.session_start = ended.session_start
WHERE ended.max_score >= 0.5
ORDER BY highest_score DESC, ended.session_start, ended.user_id
LIMIT 50
