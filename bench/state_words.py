"""The widths of the words in `transforms.state_words`, from what idle users' states hold in simulated traffic.

The words take part in the format of state: new widths make a new version of it.

Run: python -m bench.state_words
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.state_size import User
from bench.traffic import by_user, envelopes
from transforms.aggregation import Aggregation, AggregationConfig
from transforms.points import DIMENSIONS
from transforms.state_columns import symbols
from transforms.state_packing import columns_of
from transforms.state_words import KINDS, REPEATED

USERS, DAYS, SEED = 400, 30, 1_001
SHAPES = {
    "POINTS": (1, KINDS << len(DIMENSIONS)),
    "GAPS": (4, 64),
    "AMOUNTS": (1, REPEATED + 1),
    "SUMS": (2, REPEATED),
}
"""Contexts and symbols."""
_UNSEEN = 0.02


def widths(counts: Sequence[int]) -> str:
    """Bits of each symbol's word in a Huffman code for symbols that come so often, as hexadecimal digits.

    All are taken to come somewhat more often than seen, so that other traffic than this isn't much longer.
    """
    floor = _UNSEEN * sum(counts) / len(counts)
    heap = [(count + floor, symbol, [symbol]) for symbol, count in enumerate(counts)]
    found = [0] * len(counts)
    heapq.heapify(heap)
    while len(heap) > 1:
        weight, first, symbols = heapq.heappop(heap)
        other, _, others = heapq.heappop(heap)
        symbols += others
        for symbol in symbols:
            found[symbol] += 1
        heapq.heappush(heap, (weight + other, first, symbols))
    return "".join(f"{width:x}" for width in found)


def main() -> None:
    """Prints them."""
    machine = Aggregation(AggregationConfig())
    totals: dict[str, NDArray[np.int64]] = {}
    for sequence in by_user(envelopes(USERS, DAYS, SEED)).values():
        user = User(machine)
        for envelope in sequence:
            user.event(envelope)
        user.advance(max(e.event.event_time_ms for e in sequence) + 86_400_000)
        found = columns_of(machine.decode(user.data).history) if user.data else None
        if found:
            for name, (contexts, of) in zip(SHAPES, symbols(found[0]), strict=True):
                np.add.at(totals.setdefault(name, np.zeros(SHAPES[name], np.int64)), (contexts, of), 1)
    for name, rows in totals.items():
        print(name, *(f'    "{widths(row)}",' for row in rows.tolist()), sep="\n")


if __name__ == "__main__":
    main()
