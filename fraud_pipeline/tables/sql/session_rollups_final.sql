-- Decisions of each session that is over, one row each: the last pane of its window. Windows that were merged into a
-- longer one, by a late event between them, are left out; so are sessions of which only early panes are there.
SELECT * EXCEPT (longest_end_before)
FROM (
  SELECT
    *,
    MAX(session_end) OVER (
      PARTITION BY user_id
      ORDER BY session_start, session_end DESC
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS longest_end_before
  FROM (
    SELECT *
    FROM session_rollups
    WHERE pane != 'EARLY'
    QUALIFY
      ROW_NUMBER() OVER (
        PARTITION BY session_start, session_end, user_id
        ORDER BY pane_index DESC, emitted_time DESC
      ) = 1
  ) AS last_panes
) AS windows
WHERE longest_end_before IS NULL OR longest_end_before < session_end
