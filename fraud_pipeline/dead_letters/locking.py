"""One replay at a time on a file."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import BinaryIO

from fraud_pipeline.errors import UsageError


def lock(file: BinaryIO, path: Path) -> None:
    """Locks an open file until it is closed.

    Raises:
      UsageError: another replay has it; the message names the path, which is what it is the lock of.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another replay is at work on {str(path)!r}; let it end first") from None
