"""What the figures of the README and of docs/benchmarks.md come from; `python -m bench` runs all of it."""
