"""Where messages and labels go: files of whole lines that appear when they are complete."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from fraud_pipeline.errors import UsageError


class LineFile:
    """A file of lines, compressed when its name ends in `.gz`; `-` is standard output.

    Lines go to a temporary file beside it, which takes its name when the block ends, and is removed when the block
    fails. What is there and no regular file (a pipe, a device) stays, and is written to. The same lines make the same
    bytes.
    """

    def __init__(self, path: str) -> None:
        """Names the file.

        Args:
          path: its path, or `-`.
        """
        self._path = Path(path)
        self._temporary: Path | None = None
        self._raw: IO[bytes] | None = None
        self._file: IO[bytes]

    def __enter__(self) -> LineFile:
        """Opens it.

        Raises:
          UsageError: it can't be written there.
        """
        if str(self._path) == "-":
            self._file = sys.stdout.buffer
            return self
        if self._path.is_dir():
            raise UsageError(f"{str(self._path)!r} is a directory; give the name of a file")
        try:
            if self._path.is_file() or not self._path.exists():
                target = self._path.resolve()
                self._temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            self._raw = (self._temporary or self._path).open("wb")
        except OSError as error:
            raise UsageError(f"can't write {str(self._path)!r}: {error.strerror}; choose another path") from error
        if self._path.suffix == ".gz":
            zipped = gzip.GzipFile(filename="", mode="wb", fileobj=self._raw, compresslevel=6, mtime=0)
            self._file = cast(IO[bytes], io.BufferedWriter(cast(io.RawIOBase, zipped), 1 << 18))
        else:
            self._file = self._raw
        return self

    def write(self, line: bytes) -> None:
        """Writes one line; `line` has no newline."""
        self._file.write(line + b"\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._raw is None:
            if error is None:
                self._file.flush()
            return
        try:
            if self._file is not self._raw:
                self._file.close()
            self._raw.flush()
            if self._temporary is not None:
                os.fsync(self._raw.fileno())
            self._raw.close()
            if self._temporary is not None and error is None:
                os.replace(self._temporary, self._path.resolve())
        finally:
            # Closing flushes, which fails again where the disk is full; the descriptor is closed all the same.
            with contextlib.suppress(OSError):
                self._raw.close()
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)
