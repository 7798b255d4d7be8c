-- What isn't scored, and why?
-- Look at the field and the example, mend the producer, then put the messages back in with fraud-pipeline replay.
-- DUPLICATE is harmless, CONFLICT isn't: two different events claim one id.
SELECT
  reason,
  field,
  SUM(dead_letter_count) AS dead_letters,
  ROUND(SUM(dead_letter_count) / SUM(SUM(dead_letter_count)) OVER (), 4) AS share,
  MIN(first_received_time) AS first_time,
  MAX(last_received_time) AS last_time,
  MIN(example) AS example
FROM fraud.dead_letter_summary
GROUP BY reason, field
ORDER BY dead_letters DESC, reason, field
