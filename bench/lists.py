"""What lists cost: reading, memory and look-ups, by number of entries; and events scored while one is read again.

Run: python -m bench.lists
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from bench.rules import records
from fraud_pipeline.rules import read_rules
from transforms.list_file import Outside, load_lists
from transforms.lists import Entry, ListSet, ValueList
from transforms.scoring import score

SIZES = (10_000, 100_000, 1_000_000)
LOOKUPS = 100_000
HEAD = "lists:\n  - {name: one, kind: deny, field: FIELD, file: one.csv}\n"


def main() -> None:
    """Prints a table for each kind of list, and the longest wait of an event while a list is read."""
    print(f"{'list':22} {'entries':>10} {'read s':>7} {'MB':>6} {'bytes/entry':>11} {'hit us':>7} {'miss us':>8}")
    for name, field, make in (
        ("card tokens", "card_id", _token),
        ("addresses", "ip", _address),
        ("networks, 9 lengths", "ip", _network),
    ):
        for size in SIZES:
            _measure(name, field, make, size)
    _waits()


def _measure(name: str, field: str, make: Callable[[random.Random], str], size: int) -> None:
    content = _content(make, size)
    started = time.perf_counter()
    lists = _load(field, content)
    read = time.perf_counter() - started
    (one,) = lists.lists
    grown = _size(one)
    values = [line.partition(",")[0].partition("/")[0] for line in content.decode().split("\n", LOOKUPS + 1)[1:-1]]
    random.Random(2).shuffle(values)
    others = [make(random.Random(-i - 1)).partition("/")[0] for i in range(min(len(values), 20_000))]
    hit, miss = (_each(one.find, found) for found in (values, others))
    print(f"{name:22} {one.size:10,} {read:7.2f} {grown / 1e6:6.0f} {grown / one.size:11.0f} {hit:7.2f} {miss:8.2f}")


def _waits() -> None:
    """Scores events one after the other, with and without a thread beside that reads a million entries."""
    rules, record = read_rules(), records()["payment"]
    content = _content(_token, 1_000_000)

    def longest(until: Callable[[], bool]) -> tuple[float, int]:
        worst, number, last = 0.0, 0, time.perf_counter()
        while not until():
            score(record, rules)
            now = time.perf_counter()
            worst, number, last = max(worst, now - last), number + 1, now
        return worst * 1e3, number

    deadline = time.perf_counter() + 3
    quiet, _ = longest(lambda: time.perf_counter() > deadline)
    kept: list[ListSet] = []
    reader = threading.Thread(target=lambda: kept.append(_load("card_id", content)))
    reader.start()
    busy, number = longest(lambda: not reader.is_alive())
    print(
        f"\nlongest time of one event: {quiet:.0f} ms alone, {busy:.0f} ms while a million entries are read "
        f"({number:,} events scored meanwhile)"
    )


def _load(field: str, content: bytes) -> ListSet:
    return load_lists(HEAD.replace("FIELD", field), Outside(lambda name: content, lambda name: ()))


def _content(make: Callable[[random.Random], str], size: int) -> bytes:
    source = random.Random(1)
    lines = (f"{make(source)},2027-01-01T00:00:00Z,case {i % 50}" for i in range(size))
    return ("value,expires,source\n" + "\n".join(lines) + "\n").encode()


def _token(source: random.Random) -> str:
    return f"tok_{source.getrandbits(80):020x}"


def _address(source: random.Random) -> str:
    return f"{source.randrange(1, 224)}.{source.randrange(256)}.{source.randrange(256)}.{source.randrange(256)}"


def _network(source: random.Random) -> str:
    length = source.randrange(16, 25)
    number = source.getrandbits(length) << (32 - length)
    return ".".join(str(byte) for byte in number.to_bytes(4)) + f"/{length}"


def _each(call: Callable[[str, int], object], values: list[str]) -> float:
    """Microseconds a call: the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for value in values:
            call(value, 0)
        best = min(best, time.perf_counter() - started)
    return best / len(values) * 1e6


def _size(one: ValueList) -> int:
    """Bytes of its dictionaries and their keys; what is known of entries is shared among them."""
    tables: list[dict[Any, Entry]] = [one._values]
    tables += [table for networks in one._networks.values() for _, table in networks]
    return sum(sys.getsizeof(table) + sum(sys.getsizeof(key) for key in table) for table in tables)


if __name__ == "__main__":
    main()
