-- Where the messages of each day went: in = scored + label + duplicate + too late + conflict + malformed + sink
-- rejected. A balance other than 0 means that messages are under way, lost (above 0) or made up (below 0).
-- Each is counted once, however often a row was written; the day is that of receipt.
WITH
  counts AS (
    SELECT received_time, 'in' AS what, message_count AS n
    FROM intake
    WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY received_time, count_id) = 1
    UNION ALL
    SELECT received_time, 'scored', 1
    FROM latest_scores
    UNION ALL
    SELECT received_time, 'label', 1
    FROM (SELECT DISTINCT user_id, event_id, received_time, message_source FROM labels) AS label
    UNION ALL
    SELECT received_time, reason, 1
    FROM (
      SELECT DISTINCT dead_letter_id, reason, received_time
      FROM dead_letters
      -- A new version of the rules that can't be used is no message of the stream.
      WHERE reason NOT IN ('SINK_REJECTED', 'DELIVERY_FAILED', 'RULES_REJECTED', 'RULES_UNREADABLE')
    ) AS dead_letter
    UNION ALL
    -- A rejected row of scores or labels stands for a message; of other tables it doesn't.
    SELECT MIN(rejected.received_time), 'SINK_REJECTED', 1
    FROM dead_letters AS rejected
    LEFT JOIN latest_scores AS decision
      ON decision.user_id = rejected.user_id AND decision.event_id = rejected.event_id
    LEFT JOIN labels AS label
      ON label.user_id = rejected.user_id AND label.event_id = rejected.event_id
    WHERE
      rejected.reason = 'SINK_REJECTED'
      AND rejected.event_id IS NOT NULL
      AND decision.event_id IS NULL
      AND label.event_id IS NULL
    GROUP BY rejected.user_id, rejected.event_id
  ),
  days AS (
    SELECT
      DATE(received_time) AS day,
      SUM(IF(what = 'in', n, 0)) AS messages_in,
      SUM(IF(what = 'scored', n, 0)) AS scored,
      SUM(IF(what = 'label', n, 0)) AS labels,
      SUM(IF(what = 'DUPLICATE', n, 0)) AS duplicate,
      SUM(IF(what = 'TOO_LATE', n, 0)) AS too_late,
      SUM(IF(what = 'CONFLICT', n, 0)) AS conflict,
      SUM(
        IF(
          what IN ('in', 'scored', 'label', 'DUPLICATE', 'TOO_LATE', 'CONFLICT', 'SINK_REJECTED'),
          0,
          n
        )
      ) AS malformed,
      SUM(IF(what = 'SINK_REJECTED', n, 0)) AS sink_rejected
    FROM counts
    GROUP BY day
  )
SELECT
  *,
  messages_in
  - (scored + labels + duplicate + too_late + conflict + malformed + sink_rejected) AS balance
FROM days
