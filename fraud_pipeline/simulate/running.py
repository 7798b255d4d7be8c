"""What a long run needs: a clean stop, and progress on standard error."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from fraud_pipeline.simulate.config import SimulationConfig


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that a first SIGINT or SIGTERM puts its number into; a second one acts as usual."""
    stop: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def progress(config: SimulationConfig) -> Iterator[Callable[[int, int], None]]:
    """Gives a function that shows the simulated time and the number of messages; quiet where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda received_ms, number: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[when]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[messages]:,} messages  {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    begun = shown = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=config.end_ms - config.begin_ms, when="", messages=0, rate=0.0)

        def show(received_ms: int, number: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < 0.1:
                return
            shown = now
            when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(received_ms / 1000))
            bar.update(
                task,
                completed=received_ms - config.begin_ms,
                when=when,
                messages=number + 1,
                rate=(number + 1) / (now - begun),
            )

        yield show
