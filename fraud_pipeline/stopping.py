"""Runs a pipeline until it ends or is told to stop, so that in each case its files are completed."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

import apache_beam as beam
from apache_beam.runners.runner import PipelineState


class Stopped(BaseException):
    """A signal asked to stop. Not an `Exception`, so that nothing on the way takes it for a failed bundle."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


def run_until_stopped(
    pipeline: beam.Pipeline,
    on_stop: Callable[[], None],
    *,
    progress: Callable[[], Mapping[str, int]] | None = None,
    progress_seconds: float = 10.0,
) -> int:
    """Runs the pipeline; when it ends, or on SIGINT or SIGTERM, calls `on_stop`.

    A first signal cancels the pipeline and completes the files with what was written so far; a second one,
    while that is done, leaves the earlier output as it was. When the pipeline fails, `on_stop` isn't called
    and its error is raised: a broken run replaces no results.

    Args:
      pipeline: any runner's; call from the main thread, as signals come there.
      on_stop: such as `Sink.finalize`.
      progress: rows so far by table, shown on stderr every `progress_seconds`; None for no progress.

    Returns:
      0, or 128 + the signal's number: 130 for SIGINT, 143 for SIGTERM.

    Raises:
      Exception: what the pipeline failed with.
    """
    exit_code = 0
    with _signals_raise():
        try:
            with _showing(progress, progress_seconds):
                result = None
                try:
                    result = pipeline.run()
                    state = result.wait_until_finish()
                    if state == PipelineState.FAILED:
                        raise RuntimeError("the pipeline failed; its log has the reason")
                except Stopped:
                    # Also where it counts as failed: the local runner does when it is interrupted, and runs on.
                    if result is not None and result.state != PipelineState.DONE:
                        result.cancel()
                    raise
        except Stopped as stopped:
            exit_code = 128 + stopped.signal_number
            print("stopping: completing the files; once more to leave them out", file=sys.stderr)
        try:
            on_stop()
        except Stopped as stopped:
            return 128 + stopped.signal_number
    return exit_code


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _showing(progress: Callable[[], Mapping[str, int]] | None, seconds: float) -> Iterator[None]:
    if progress is None:
        yield
        return
    ended = threading.Event()
    start = time.monotonic()

    def show() -> None:
        while not ended.wait(seconds):
            rows = ", ".join(f"{count:,} {table}" for table, count in progress().items())
            print(f"{time.monotonic() - start:,.0f} s: {rows or 'no rows yet'}", file=sys.stderr)

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
