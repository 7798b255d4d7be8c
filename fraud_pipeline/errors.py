"""Errors that are the caller's to mend."""


class UsageError(Exception):
    """A mistake in arguments, configuration or an input file: shown as one line, exit code 2.

    The message says what is wrong, shows the value, and gives the fix.
    """
