"""What a run caught: figures, tables and pictures of a results file, with the truth of a simulation beside it."""
