"""What the figures of the README and of the pages of docs come from; `python -m bench` makes the README's table."""
