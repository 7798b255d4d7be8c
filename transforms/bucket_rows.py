"""Buckets as rows of what they hold beyond a user's points: of points that were given up, mostly the oldest rows."""

from __future__ import annotations

from array import array
from typing import Final

import numpy as np

from transforms.bit_columns import Ints
from transforms.buckets import (
    AMOUNT_MINOR,
    CLAIMS,
    EVENTS,
    FAILURES,
    FIELDS,
    LARGEST_MINOR,
    LOGINS,
    PAYMENTS,
    PER_WINDOW,
    Buckets,
)
from transforms.points import CLAIM, LOGIN_FAILURE, LOGIN_SUCCESS, PAYMENT, SIGNUP

_COUNTS: Final = [LOGINS, PAYMENTS, CLAIMS]
"""In a row the first field is the events that these don't count, which are few."""
_ADDED: Final = np.zeros((CLAIM + 1, FIELDS), np.int64)
_ADDED[LOGIN_FAILURE, [LOGINS, FAILURES]] = 1
_ADDED[LOGIN_SUCCESS, LOGINS] = 1
_ADDED[PAYMENT, PAYMENTS] = 1
_ADDED[SIGNUP, EVENTS] = 1
_ADDED[CLAIM, CLAIMS] = 1
_RING: Final = np.arange(1, PER_WINDOW + 1)


def beyond_points(buckets: Buckets, times: Ints, kinds: Ints, amounts: Ints) -> Ints:
    """The rows, oldest first, up to the last one that isn't empty.

    Args:
      times, kinds, amounts: of the points.
    """
    newest = buckets.newest
    rows = np.array(buckets.cells, np.int64).reshape(PER_WINDOW, FIELDS)[(newest + _RING) % PER_WINDOW]
    rows[:, EVENTS] -= rows[:, _COUNTS].sum(axis=1)
    rows -= _of_points(buckets.width_ms, newest, times, kinds, amounts)
    return rows[: int(np.append(0, np.flatnonzero(rows.any(axis=1)) + 1)[-1])]


def with_points(window_ms: int, newest: int, beyond: Ints, times: Ints, kinds: Ints, amounts: Ints) -> Buckets:
    """Undoes `beyond_points`."""
    rows = _of_points(window_ms // PER_WINDOW, newest, times, kinds, amounts)
    rows[: len(beyond)] += beyond
    rows[:, EVENTS] += rows[:, _COUNTS].sum(axis=1)
    totals = rows.sum(axis=0)
    totals[LARGEST_MINOR] = rows[:, LARGEST_MINOR].max()
    cells = np.empty_like(rows)
    cells[(newest + _RING) % PER_WINDOW] = rows
    return Buckets(window_ms, newest, totals.tolist(), array("q", cells.tobytes()))


def _of_points(width_ms: int, newest: int, times: Ints, kinds: Ints, amounts: Ints) -> Ints:
    """What the points put into buckets."""
    row = times // width_ms - (newest + 1 - PER_WINDOW)
    inside = np.flatnonzero((row >= 0) & (row < PER_WINDOW))
    row, amounts = row[inside], amounts[inside]
    rows = np.zeros((PER_WINDOW, FIELDS), np.int64)
    np.add.at(rows, row, _ADDED[kinds[inside]])
    np.add.at(rows[:, AMOUNT_MINOR], row, amounts)
    np.maximum.at(rows[:, LARGEST_MINOR], row, amounts)
    return rows
