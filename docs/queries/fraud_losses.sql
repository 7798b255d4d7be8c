-- How much money did the decisions save, how much got through, and what did false alarms cost?
-- Look at what was missed, then at how much of it a correction found later: that part could be saved by acting on
-- corrections within minutes. Compare days that are equally old, as chargebacks come in over weeks.
SELECT
  day,
  currency,
  payment_count,
  fraud_count,
  fraud_amount_minor,
  prevented_amount_minor,
  held_amount_minor,
  missed_amount_minor,
  found_later_amount_minor,
  ROUND(SAFE_DIVIDE(prevented_amount_minor + held_amount_minor, fraud_amount_minor), 3) AS share_stopped,
  legitimate_blocked_count,
  legitimate_blocked_amount_minor,
  legitimate_reviewed_count,
  unlabelled_count
FROM fraud.fraud_losses
ORDER BY day, currency
