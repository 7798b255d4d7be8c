-- Is every message accounted for?
-- Look at the balance: it is 0. While a job runs, messages under way make it positive; afterwards, anything but 0 is lost
-- or made up. The last row is the sum.
SELECT
  COALESCE(CAST(day AS STRING), 'all') AS day,
  messages_in,
  scored,
  labels,
  duplicate,
  too_late,
  conflict,
  malformed,
  sink_rejected,
  balance
FROM (
  SELECT * FROM fraud.ledger
  UNION ALL
  SELECT
    NULL,
    SUM(messages_in),
    SUM(scored),
    SUM(labels),
    SUM(duplicate),
    SUM(too_late),
    SUM(conflict),
    SUM(malformed),
    SUM(sink_rejected),
    SUM(balance)
  FROM fraud.ledger
) AS days
ORDER BY 1
