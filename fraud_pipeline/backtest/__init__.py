"""Rules on history: candidate rules over events that were scored before, by the code of the stream.

`history` reads the events, `members` and `prefilter` leave out those that no rule can match, `evaluate` makes records
of the others and `run` has them scored; `tally` counts the answers, `measures` makes `figures` of the counts, and
`tables` shows them.
"""
