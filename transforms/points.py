"""The compact past of a user: one point an event, in columns, holding just what the features need.

Values (addresses, devices, ...) are kept as 64-bit hashes in small tables and as one-byte codes in the columns, so
that "seen before?" and "how many different?" are byte searches at C speed. Points are ordered by event time, ties by
the hash of the event id: an order that is a function of the set of events alone.
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import NamedTuple

import mmh3

from transforms.events import Activity, Payment

LOGIN_FAILURE, LOGIN_SUCCESS, PAYMENT = 0, 1, 2
"""Kinds of points; a failed login is the falsy one."""

DIMENSIONS = ("ip", "device", "country", "merchant", "payee", "card")
"""What different values are counted of, in the order of the columns."""
IP, DEVICE, COUNTRY, MERCHANT, PAYEE, CARD = range(6)

MAX_POINTS_LIMIT = 254
"""Codes are one byte, 0 means none, and one more point than the bound exists for a moment."""

NEW_DEVICE_LOGIN, NEW_COUNTRY_LOGIN = 1, 2
"""Flags of a successful login."""

TRUSTED = (IP, DEVICE, COUNTRY)
"""Dimensions in which a value counts as the user's own only once it was seen in something else than a failed login:
an attacker who guesses a password is not known for having guessed wrong before."""


@lru_cache(maxsize=1 << 16)
def stable_hash(text: str) -> int:
    """64-bit MurmurHash3 of a text, never 0: the same in every process and release, unlike `hash`."""
    return int(mmh3.hash64(text, signed=False)[0]) or 1


class Point(NamedTuple):
    """What the features need of one event.

    Attributes:
      values: hashes by dimension, 0 where the event has none.
      place: latitude and longitude in degrees, or None.
    """

    time_ms: int
    id_hash: int
    digest: int
    kind: int
    amount_minor: int
    values: tuple[int, int, int, int, int, int]
    place: tuple[float, float] | None
    flags: int = 0


def project(event: Activity, digest: int) -> Point:
    """The point of an event."""
    merchant = payee = card = None
    if isinstance(event, Payment):
        kind, amount = PAYMENT, event.amount_minor
        merchant, payee, card = event.merchant_id, event.payee_id, event.card_id
    else:
        kind, amount = (LOGIN_SUCCESS if event.outcome == "success" else LOGIN_FAILURE), 0
    latitude, longitude = event.latitude, event.longitude
    return Point(
        event.event_time_ms,
        stable_hash(event.event_id),
        digest,
        kind,
        amount,
        (
            stable_hash(event.ip) if event.ip else 0,
            stable_hash(event.device_id) if event.device_id else 0,
            stable_hash(event.country) if event.country else 0,
            stable_hash(merchant) if merchant else 0,
            stable_hash(payee) if payee else 0,
            stable_hash(card) if card else 0,
        ),
        None if latitude is None or longitude is None else (latitude, longitude),
    )


class Points:
    """Columns of points, oldest first. `ids` and `digests` cover only the newest `open_count` of them.

    Attributes:
      codes: a column for each of `DIMENSIONS`.
      trusted: for each of `TRUSTED` the same column without the failed logins.
    """

    __slots__ = (
        "amounts",
        "codes",
        "digests",
        "flags",
        "ids",
        "kinds",
        "place_table",
        "places",
        "tables",
        "times",
        "trusted",
    )

    def __init__(self) -> None:
        self.times = array("q")
        self.amounts = array("q")
        self.kinds = bytearray()
        self.flags = bytearray()
        self.places = bytearray()
        self.codes = [bytearray() for _ in DIMENSIONS]
        self.trusted = [bytearray() for _ in TRUSTED]
        self.tables: list[list[int]] = [[] for _ in DIMENSIONS]
        self.place_table = array("d")
        self.ids = bytearray()
        self.digests = bytearray()

    def __len__(self) -> int:
        return len(self.times)

    @property
    def open_count(self) -> int:
        """How many of the newest points belong to sessions that aren't closed, and so are known by their ids."""
        return len(self.ids) // 8

    def append(self, point: Point) -> list[int]:
        """Adds a point at the end and returns its codes by dimension, 0 where it has no value."""
        self.times.append(point.time_ms)
        self.amounts.append(point.amount_minor)
        self.kinds.append(point.kind)
        self.flags.append(point.flags)
        self.ids += point.id_hash.to_bytes(8, "little")
        self.digests += point.digest.to_bytes(8, "little")
        code = self._place_code(*point.place) if point.place else 0
        self.places.append(code)
        codes: list[int] = []
        for column, table, value in zip(self.codes, self.tables, point.values, strict=True):
            if not value:
                code = 0
            elif value in table:
                code = table.index(value) + 1
            else:
                if len(table) == 255:
                    self._collect_values(len(codes))
                table.append(value)
                code = len(table)
            column.append(code)
            codes.append(code)
        for column, code in zip(self.trusted, codes, strict=False):
            column.append(code if point.kind else 0)
        return codes

    def _place_code(self, latitude: float, longitude: float) -> int:
        table = self.place_table
        if len(table) == 2 * 255:
            self._collect_places()
        if not table or table[-2] != latitude or table[-1] != longitude:
            table.append(latitude)
            table.append(longitude)
        return len(table) // 2

    def place(self, i: int) -> tuple[float, float] | None:
        """The place of the point at position `i`."""
        code = self.places[i]
        return (self.place_table[2 * code - 2], self.place_table[2 * code - 1]) if code else None

    def point(self, i: int) -> Point:
        """The point at position `i`, which must be open."""
        at = 8 * (i - (len(self) - self.open_count))
        values = tuple(
            table[column[i] - 1] if column[i] else 0 for column, table in zip(self.codes, self.tables, strict=True)
        )
        return Point(
            self.times[i],
            int.from_bytes(self.ids[at : at + 8], "little"),
            int.from_bytes(self.digests[at : at + 8], "little"),
            self.kinds[i],
            self.amounts[i],
            values,  # type: ignore[arg-type]
            self.place(i),
            self.flags[i],
        )

    def find_digest(self, id_hash: int) -> int | None:
        """The digest of the open point with this id, or None if there is none."""
        key, ids = id_hash.to_bytes(8, "little"), self.ids
        at = ids.find(key)
        while at >= 0 and at % 8:
            at = ids.find(key, at + 1)
        return None if at < 0 else int.from_bytes(self.digests[at : at + 8], "little")

    def position(self, time_ms: int, id_hash: int) -> int:
        """Where a point with this time and id belongs among the open ones."""
        i = len(self.times)
        if not i or self.times[-1] < time_ms:
            return i
        closed = i - self.open_count
        while i > closed and self.times[i - 1] >= time_ms:
            if self.times[i - 1] == time_ms:
                at = 8 * (i - 1 - closed)
                if int.from_bytes(self.ids[at : at + 8], "little") < id_hash:
                    break
            i -= 1
        return i

    def truncate(self, i: int) -> list[Point]:
        """Takes the points from position `i` on away and returns them. They must be open."""
        tail = [self.point(j) for j in range(i, len(self))]
        keep = 8 * (self.open_count - len(tail))
        for column in (self.times, self.amounts, self.kinds, self.flags, self.places, *self.codes, *self.trusted):
            del column[i:]
        del self.ids[keep:], self.digests[keep:]
        return tail

    def drop_front(self, n: int) -> None:
        """Forgets the `n` oldest points."""
        ids_gone = max(0, 8 * (n - (len(self) - self.open_count)))
        for column in (self.times, self.amounts, self.kinds, self.flags, self.places, *self.codes, *self.trusted):
            del column[:n]
        del self.ids[:ids_gone], self.digests[:ids_gone]

    def collect_values(self) -> None:
        """Forgets the values that no point has any more."""
        for dimension in range(len(DIMENSIONS)):
            self._collect_values(dimension)

    def close_before(self, time_ms: int) -> None:
        """Forgets what only open points need of those before `time_ms`: ids, and all places but the last."""
        closed = len(self) - self.open_count
        first = closed
        while first < len(self) and self.times[first] < time_ms:
            first += 1
        del self.ids[: 8 * (first - closed)], self.digests[: 8 * (first - closed)]
        last_place = len(self.places[:first].rstrip(b"\0"))
        if last_place > 1:
            self.places[: last_place - 1] = bytes(last_place - 1)
        self._collect_places()

    def _collect_values(self, dimension: int) -> None:
        """Gives the codes of values that no point has any more free for others."""
        column, table = self.codes[dimension], self.tables[dimension]
        used = sorted(set(column) - {0})
        if len(used) < len(table):
            table[:] = [table[code - 1] for code in used]
            renumbering = _renumbering(used)
            column[:] = column.translate(renumbering)
            if dimension in TRUSTED:
                self.trusted[dimension][:] = self.trusted[dimension].translate(renumbering)

    def _collect_places(self) -> None:
        used = sorted(set(self.places) - {0})
        if 2 * len(used) < len(self.place_table):
            kept = array("d")
            for code in used:
                kept += self.place_table[2 * code - 2 : 2 * code]
            self.place_table[:] = kept
            self.places = self.places.translate(_renumbering(used))


def _renumbering(used: list[int]) -> bytes:
    table = bytearray(256)
    for new, old in enumerate(used, start=1):
        table[old] = new
    return bytes(table)
