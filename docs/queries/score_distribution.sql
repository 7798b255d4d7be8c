-- How are the scores spread, and what is done at each?
-- Look at the events just below the threshold of a review: how many would a lower one add?
SELECT
  LEAST(CAST(FLOOR(score * 10) AS INT64), 9) / 10 AS score_from,
  COUNT(*) AS events,
  ROUND(COUNT(*) / SUM(COUNT(*)) OVER (), 4) AS share,
  COUNTIF(action = 'allow') AS allowed,
  COUNTIF(action = 'review') AS to_review,
  COUNTIF(action = 'block') AS blocked
FROM fraud.latest_scores
GROUP BY score_from
ORDER BY score_from
