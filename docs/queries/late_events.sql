-- How late do events arrive?
-- Look at the share beyond the grace period (5 minutes unless configured): these are corrected as LATE, or dead letters
-- where what they belong to was closed for good. A rising share points at a producer that holds events back.
WITH
  delays AS (
    SELECT DATE(received_time) AS day, TIMESTAMP_DIFF(received_time, event_time, SECOND) AS seconds
    FROM fraud.latest_scores
    UNION ALL
    SELECT DATE(received_time), TIMESTAMP_DIFF(received_time, event_time, SECOND)
    FROM (
      SELECT DISTINCT dead_letter_id, received_time, event_time
      FROM fraud.dead_letters
      WHERE reason = 'TOO_LATE' AND event_time IS NOT NULL
    ) AS too_late
  )
SELECT
  day,
  COUNT(*) AS events,
  COUNTIF(seconds < 1) AS within_a_second,
  COUNTIF(seconds >= 1 AND seconds < 60) AS within_a_minute,
  COUNTIF(seconds >= 60 AND seconds < 300) AS within_5_minutes,
  COUNTIF(seconds >= 300) AS later,
  ROUND(SAFE_DIVIDE(COUNTIF(seconds >= 300), COUNT(*)), 4) AS share_later,
  MAX(seconds) AS longest_seconds
FROM delays
GROUP BY day
ORDER BY day
