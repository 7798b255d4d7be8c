"""Outputs stamped with event time, the cheap way."""

from __future__ import annotations

from typing import Any

from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils import windowed_value
from apache_beam.utils.windowed_value import WindowedValue

_GLOBAL = (GlobalWindow(),)


def stamped(value: Any, time_ms: int) -> WindowedValue:
    """An output of a DoFn whose input is in the global window.

    Beam takes a `TimestampedValue` too, but makes a timestamp and a window anew for each one, which takes longer than
    most of our steps.

    Args:
      time_ms: event time, epoch ms.
    """
    return windowed_value.create(value, time_ms * 1_000, _GLOBAL)
