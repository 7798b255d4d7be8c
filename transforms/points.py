"""The compact past of a user: one point an event, in columns, holding just what the features need.

Points are ordered by event time, ties by the hash of the event id: an order that is a function of the set of events
alone. Of an event whose session is closed three things stay, its time, its kind and its amount; what came with it
(addresses, devices, ...) lives on in `transforms.recency`, once a value.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from functools import lru_cache
from typing import Final

import mmh3
import msgspec

from transforms.events import Activity, Login, Payment, Signup

LOGIN_FAILURE: Final = 0
LOGIN_SUCCESS: Final = 1
PAYMENT: Final = 2
SIGNUP: Final = 3
CLAIM: Final = 4
"""Kinds of points; a failed login is the falsy one."""

DIMENSIONS = ("ip", "device", "country", "merchant", "payee", "card")
"""What different values are counted of, in the order of a point's values."""
IP: Final = 0
DEVICE: Final = 1
COUNTRY: Final = 2
MERCHANT: Final = 3
PAYEE: Final = 4
CARD: Final = 5

MAX_POINTS_LIMIT: Final = 254
"""Positions are one byte, 0 may mean none, and one more point than the bound exists for a moment."""

NEW_DEVICE_LOGIN: Final = 1
NEW_COUNTRY_LOGIN: Final = 2
UNSURE_LOGIN: Final = 4
"""Flags of a successful login; the last says that the others lack points that were given up."""

KEY_BYTES: Final = 4
NO_VALUE: Final = bytes(KEY_BYTES)
VALUES_BYTES: Final = 24

Place = tuple[float, float]
"""Latitude and longitude in degrees."""


def event_key(event_id: str) -> bytes:
    """64-bit MurmurHash3 of an event id, big-endian: the same in every process and release, unlike `hash`."""
    return int(mmh3.hash64(event_id, signed=False)[0]).to_bytes(8, "big")


def _key_maker(dimension: int):  # type: ignore[no-untyped-def]
    @lru_cache(maxsize=1 << 16)
    def key(text: str | None) -> bytes:
        if not text:
            return NO_VALUE
        # Among the 254 values of a user that are the most there can be, 32 bits collide once in 130,000 users.
        return (mmh3.hash(text, dimension, signed=False) or 1).to_bytes(KEY_BYTES, "big")

    return key


_ip_key, _device_key, _country_key, _merchant_key, _payee_key, _card_key = map(_key_maker, range(len(DIMENSIONS)))
_NO_PAYMENT_VALUES = bytes(3 * KEY_BYTES)


class Point(msgspec.Struct, gc=False):
    """What the features need of one event.

    Attributes:
      id_key: the hash of the event id, 8 bytes, big-endian: bytes compare as the numbers do.
      digest: of the event's content, 8 bytes.
      values: a key of 4 bytes for each of `DIMENSIONS`, zero where the event has none; the dimension is hashed in.
      changed: whether a late event has changed its features since they were last said.
      flags: of a successful login, once it was observed.
    """

    time_ms: int
    id_key: bytes
    digest: bytes
    kind: int
    amount_minor: int
    values: bytes
    place: Place | None
    changed: bool = False
    flags: int = 0


def project(event: Activity, digest: int) -> Point:
    """The point of an event."""
    amount, payment_values = 0, _NO_PAYMENT_VALUES
    if isinstance(event, Payment):
        kind, amount = PAYMENT, event.amount_minor
        payment_values = _merchant_key(event.merchant_id) + _payee_key(event.payee_id) + _card_key(event.card_id)
    elif isinstance(event, Login):
        kind = LOGIN_SUCCESS if event.outcome == "success" else LOGIN_FAILURE
    else:
        kind = SIGNUP if isinstance(event, Signup) else CLAIM
    latitude, longitude = event.latitude, event.longitude
    return Point(
        event.event_time_ms,
        event_key(event.event_id),
        digest.to_bytes(8, "big"),
        kind,
        amount,
        _ip_key(event.ip) + _device_key(event.device_id) + _country_key(event.country) + payment_values,
        None if latitude is None or longitude is None else (latitude, longitude),
    )


_DIGEST: Final = 8
_VALUES: Final = 16
_PLACE: Final = 40
_KNOWN: Final = 41
_CHANGED: Final = 42
OPEN_BYTES: Final = 43
"""An open point keeps id, digest and values, the code of its place, the same if it isn't of a failed login (a place
that was guessed from isn't the user's) and 0 otherwise, and whether it is changed."""


class Points:
    """Columns of points, oldest first. The newest, of sessions not closed, are open: more is kept of them.

    Attributes:
      times: epoch ms.
      kinds: LOGIN_FAILURE, LOGIN_SUCCESS, PAYMENT, SIGNUP or CLAIM.
      spent: sum of the amounts of all points before, so that a window's sum is one subtraction.
      total: sum of all amounts, given-up points included; only differences mean something.
      flags: of successful logins.
      open: `OPEN_BYTES` an open point.
      place_table: places of open points by code, from 1.
      closed_place: latitude, longitude and time (epoch ms) of the last known place among closed points.
    """

    __slots__ = ("closed_place", "flags", "kinds", "open", "place_table", "spent", "times", "total")

    def __init__(self) -> None:
        self.times = array("q")
        self.spent = array("q")
        self.total = 0
        self.kinds = bytearray()
        self.flags = bytearray()
        self.open = bytearray()
        self.place_table: list[Place] = []
        self.closed_place: tuple[float, float, int] | None = None

    def __len__(self) -> int:
        return len(self.times)

    @property
    def closed_count(self) -> int:
        """How many of the oldest points belong to sessions that are closed."""
        return len(self.times) - len(self.open) // OPEN_BYTES

    def append(self, point: Point, flags: int) -> None:
        """Adds a point at the end, open."""
        kind, place, code = point.kind, point.place, 0
        self.times.append(point.time_ms)
        self.spent.append(self.total)
        self.total += point.amount_minor
        self.kinds.append(kind)
        self.flags.append(flags)
        if place is not None:
            table = self.place_table
            if not table or table[-1] != place:
                if len(table) == 255:
                    self._collect_places()
                    table = self.place_table
                table.append(place)
            code = len(table)
        self.open += b"%b%b%b%c%c%c" % (
            point.id_key,
            point.digest,
            point.values,
            code,
            code if kind else 0,
            point.changed,
        )

    def amount(self, i: int) -> int:
        """The amount of the point at position `i`."""
        after = i + 1
        return (self.spent[after] if after < len(self.spent) else self.total) - self.spent[i]

    def last_place(self, since_ms: int) -> tuple[float, float, int] | None:
        """Latitude, longitude and time (epoch ms) of the last known place after a time."""
        opened = self.open
        if opened and opened[_KNOWN - OPEN_BYTES]:
            latitude, longitude = self.place_table[opened[_KNOWN - OPEN_BYTES] - 1]
            found = (latitude, longitude, self.times[-1])
        else:
            known = opened[_KNOWN::OPEN_BYTES].rstrip(b"\0")
            if known:
                latitude, longitude = self.place_table[known[-1] - 1]
                found = (latitude, longitude, self.times[self.closed_count + len(known) - 1])
            elif self.closed_place is not None:
                found = self.closed_place
            else:
                return None
        return found if found[2] > since_ms else None

    def point(self, i: int) -> Point:
        """The point at position `i`, which must be open."""
        at = OPEN_BYTES * (i - self.closed_count)
        record = bytes(self.open[at : at + OPEN_BYTES])
        code = record[_PLACE]
        return Point(
            self.times[i],
            record[:_DIGEST],
            record[_DIGEST:_VALUES],
            self.kinds[i],
            self.amount(i),
            record[_VALUES:_PLACE],
            self.place_table[code - 1] if code else None,
            bool(record[_CHANGED]),
            self.flags[i],
        )

    def mark_changed(self) -> None:
        """The newest point's features are no longer what was said."""
        self.open[_CHANGED - OPEN_BYTES] = 1

    def find_digest(self, id_key: bytes) -> bytes | None:
        """The digest of the open point with this id, or None if there is none."""
        at = self.open.find(id_key)
        while at >= 0 and at % OPEN_BYTES:
            at = self.open.find(id_key, at + 1)
        return None if at < 0 else bytes(self.open[at + _DIGEST : at + _VALUES])

    def shown_before(self, key: bytes, dimension: int, end: int) -> int:
        """Position of the last open point before position `end` that has a value; -1 if none has."""
        closed, offset = self.closed_count, _VALUES + KEY_BYTES * dimension
        at = self.open.rfind(key, 0, OPEN_BYTES * (end - closed))
        while at >= 0 and at % OPEN_BYTES != offset:
            at = self.open.rfind(key, 0, at + KEY_BYTES - 1)
        return at if at < 0 else closed + at // OPEN_BYTES

    def position(self, time_ms: int, id_key: bytes) -> int:
        """Where a point with this time and id belongs among the open ones."""
        times = self.times
        i = len(times)
        if not i or times[-1] < time_ms:
            return i
        closed = self.closed_count
        i = bisect_right(times, time_ms, closed)
        while i > closed and times[i - 1] == time_ms:
            at = OPEN_BYTES * (i - 1 - closed)
            if self.open[at : at + 8] < id_key:
                break
            i -= 1
        return i

    def truncate(self, i: int) -> list[Point]:
        """Takes the points from position `i` on away and returns them. They must be open."""
        tail = [self.point(j) for j in range(i, len(self))]
        if tail:
            del self.open[OPEN_BYTES * (i - self.closed_count) :]
            self.total = self.spent[i]
            for column in (self.times, self.spent, self.kinds, self.flags):
                del column[i:]
        return tail

    def drop_front(self, n: int) -> None:
        """Forgets the `n` oldest points."""
        opened = n - self.closed_count
        if opened > 0:
            self.close(opened)
        for column in (self.times, self.spent, self.kinds, self.flags):
            del column[:n]

    def close(self, n: int) -> None:
        """Forgets of the `n` oldest open points all that only open ones need."""
        known = self.open[_KNOWN : OPEN_BYTES * n : OPEN_BYTES].rstrip(b"\0")
        if known:
            latitude, longitude = self.place_table[known[-1] - 1]
            self.closed_place = (latitude, longitude, self.times[self.closed_count + len(known) - 1])
        del self.open[: OPEN_BYTES * n]
        if not self.open:
            self.place_table = []

    def _collect_places(self) -> None:
        """Gives the codes of places that no open point has any more free for others."""
        used = sorted(set(self.open[_PLACE::OPEN_BYTES]) - {0})
        renumbering = bytearray(256)
        for new, old in enumerate(used, start=1):
            renumbering[old] = new
        self.place_table = [self.place_table[code - 1] for code in used]
        for at in (_PLACE, _KNOWN):
            self.open[at::OPEN_BYTES] = self.open[at::OPEN_BYTES].translate(renumbering)
