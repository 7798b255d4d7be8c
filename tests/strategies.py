"""What Hypothesis draws for the laws: users' events, in hostile orders, and what happens to them.

Times are a random walk whose steps are the interesting ones (ties, one millisecond around the gap or around a
sliding window, days), so that boundaries are met all the time. The walk's order is the order of arrival.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from transforms.events import Activity, Claim, Envelope, Label, Login, Payment, Signup

DAY_MS = 86_400_000
LONG_DAYS = 36_500
"""A retention that no schedule outlives, so that nothing is forgotten before the drain."""

BASES_MS = (
    1_700_000_000_000,
    1_704_067_199_999,  # the last millisecond of 2023
    1_709_251_199_999,  # the last millisecond of 29 February 2024
    1_483_228_799_000,  # 2016-12-31T23:59:59, before a leap second
    200 * DAY_MS,
)


WANTED = int(os.environ.get("LAWS_EXAMPLES", "0"))
"""How many examples each law gets; 0 for CI's own number of them, which are the same in every run."""
SHRINK = os.environ.get("LAWS_SHRINK", "1") == "1"
"""Whether a failing example is made small, which takes time; the mutation check only wants to see it fail."""


def laws(share: float = 1.0) -> settings:
    """Settings of a law's test: all the examples that are wanted, or in CI a share of 120."""
    return settings(
        max_examples=WANTED or int(120 * share),
        derandomize=not WANTED,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[p for p in Phase if SHRINK or p != Phase.shrink],
    )


def pipelines() -> settings:
    """Settings where each example is a Beam pipeline of many users: a twentieth as many, and not shrunk."""
    return settings(laws(), max_examples=WANTED // 20 or 10, phases=[Phase.explicit, Phase.generate])


@dataclass(frozen=True)
class Times:
    """The times of a configuration, in milliseconds, as far as the laws depend on them."""

    gap_ms: int = 10_000
    grace_ms: int = 10_000
    retention_ms: int = LONG_DAYS * DAY_MS


@dataclass(frozen=True)
class Arrive:
    """An event arrives. The timers it sets can fire once its bundle has ended."""

    envelope: Envelope
    ends_bundle: bool = True


@dataclass(frozen=True)
class Watermark:
    """The watermark reaches `now_ms`. With `in_one_jump`, callbacks are told that time, not their own."""

    now_ms: int
    in_one_jump: bool = False


@dataclass(frozen=True)
class Silence:
    """The processing-time timer of a user fires."""

    user_id: str


@dataclass(frozen=True)
class Refire:
    """The last event-time timer of a user that fired is fired again, out of date or not."""

    user_id: str


Op: TypeAlias = Arrive | Watermark | Silence | Refire


@dataclass(frozen=True, repr=False)
class Schedule:
    """What happens, in order. A drain (the watermark goes to infinity) follows."""

    times: Times
    ops: tuple[Op, ...]

    def __repr__(self) -> str:
        """A line for each step, times counted from the first event, so that a failure can be read."""
        zero = min((e.event.event_time_ms for e in self.envelopes), default=0)
        lines = [f"{self.times}, zero={zero}"]
        for op in self.ops:
            if isinstance(op, Arrive):
                set_fields = {
                    name: value
                    for name, value in msgspec.structs.asdict(op.envelope.event).items()
                    if value is not None and name not in ("event_id", "user_id", "event_time_ms", "currency")
                }
                event = op.envelope.event
                end = "" if op.ends_bundle else " +"
                lines.append(f"{event.user_id} {event.event_id} at {event.event_time_ms - zero}: {set_fields}{end}")
            elif isinstance(op, Watermark):
                lines.append(f"watermark {op.now_ms - zero}{' in one jump' if op.in_one_jump else ''}")
            else:
                lines.append(repr(op))
        return "\n".join(lines)

    @property
    def envelopes(self) -> list[Envelope]:
        return [op.envelope for op in self.ops if isinstance(op, Arrive)]

    @property
    def user_ids(self) -> list[str]:
        return sorted({envelope.event.user_id for envelope in self.envelopes})


def envelope_of(event: Activity, received_ms: int = 0, source: str = "test") -> Envelope:
    """The event as if it had come in a message."""
    payload = msgspec.json.encode(event)
    digest = int.from_bytes(hashlib.blake2b(payload, digest_size=8).digest(), "big")
    return Envelope(event=event, payload=payload, received_ms=received_ms, source=source, digest=digest)


def times(short_retention: bool = False) -> st.SearchStrategy[Times]:
    """Configurations in which collisions are frequent, and the default one."""
    retentions = [1_000, 60_000, 30 * DAY_MS] if short_retention else [LONG_DAYS * DAY_MS]
    return st.builds(
        Times,
        gap_ms=st.sampled_from([10_000, 10_000, 300_000, 1_000]),
        grace_ms=st.sampled_from([10_000, 300_000, 2 * DAY_MS, 0, 90 * DAY_MS]),
        retention_ms=st.sampled_from(retentions),
    )


@cache
def steps_ms(gap_ms: int, over_months: bool = False) -> st.SearchStrategy[int]:
    """From one event's time to the next one's: mostly within reach of a session, sometimes of a window."""
    if over_months:
        days = [n * DAY_MS + d for n in (0, 1, 7, 10, 15, 20, 29, 30) for d in (-1, 0, 1)]
        return st.sampled_from([*days, *(-d for d in days)])
    near = [0, 1, gap_ms // 2, gap_ms - 1, gap_ms, gap_ms + 1, 2 * gap_ms - 1, 2 * gap_ms, 3 * gap_ms]
    windows = [60_000, 600_000, 3_600_000, DAY_MS, 7 * DAY_MS, 30 * DAY_MS]
    far = [w + d for w in windows for d in (-1, 0, 1)] + [45 * DAY_MS]
    return st.one_of(
        st.sampled_from([*near, *(-n for n in near)]),
        st.sampled_from([*near, *(-n for n in near)]),
        st.sampled_from([*near, *(-n for n in near)]),
        st.integers(-3 * gap_ms, 3 * gap_ms),
        st.sampled_from([*far, *(-f for f in far)]),
    )


_COMMON: dict[str, Sequence[Any]] = {
    "letter": "bac",
    "ip": (None, "1.1.1.1", "2.2.2.2", "2001:db8::1"),
    "device_id": (None, "d1", "d2", "d3"),
    "country": (None, "CH", "AU"),
    "place": (
        (None, None),
        (47.4, 8.5),
        (47.4, 8.5001),
        (-33.9, 151.2),
        (0.0, 180.0),
        (0.0, -180.0),
        (90.0, 0.0),
        (5.0, None),
    ),
}
_LOGIN = {**_COMMON, "outcome": ("success", "failure")}
_PAYMENT = {
    **_COMMON,
    "amount_minor": (0, 1, 0, 100, 12_345, 9_007_199_254_740_991),
    "currency": ("CHF", "JPY"),
    "merchant_id": (None, "m1", "m2"),
    "payee_id": (None, "p1", "p2"),
    "card_id": (None, "c1", "c2"),
}
_SIGNUP = {**_COMMON, "referrer_id": (None, "r1")}
_CLAIM = {**_COMMON, "promotion_id": ("welcome", "spring")}


def _decoder(kind: type[Activity], choices: dict[str, Sequence[Any]]) -> st.SearchStrategy[Content]:
    """All fields from one number: a draw for each field would take most of the tests' time."""

    def decode(number: int) -> Content:
        fields = {}
        for name, values in choices.items():
            number, i = divmod(number, len(values))
            fields[name] = values[i]
        latitude, longitude = fields.pop("place")
        return kind, fields.pop("letter"), {**fields, "latitude": latitude, "longitude": longitude}

    return st.integers(0, math.prod(map(len, choices.values())) - 1).map(decode)


Content: TypeAlias = tuple[type[Activity], str, dict[str, Any]]
CONTENTS = st.one_of(
    _decoder(Login, _LOGIN),
    _decoder(Payment, _PAYMENT),
    _decoder(Login, _LOGIN),
    _decoder(Payment, _PAYMENT),
    _decoder(Signup, _SIGNUP) | _decoder(Claim, _CLAIM),
)
"""What an event says, without who and when, and a letter that its id begins with."""


@st.composite
def user_envelopes(
    draw: st.DrawFn,
    gap_ms: int,
    user_id: str = "u1",
    min_size: int = 1,
    max_size: int = 12,
    over_months: bool = False,
) -> list[Envelope]:
    """Distinct events of one user, in order of arrival."""
    now_ms = draw(st.sampled_from(BASES_MS))
    size = draw(st.integers(min_size, max_size))
    envelopes = []
    for i in range(size):
        now_ms = max(0, now_ms + draw(steps_ms(gap_ms, over_months)))
        kind, letter, fields = draw(CONTENTS)
        # The letter makes the order of the ids, which breaks ties, another one than the order of arrival.
        event = kind(event_id=f"{letter}{i:02}", user_id=user_id, event_time_ms=now_ms, **fields)
        envelopes.append(envelope_of(event, received_ms=BASES_MS[0] + i, source=f"file.jsonl:{i}"))
    return envelopes


def _redelivered(original: Envelope, line: int) -> Envelope:
    return msgspec.structs.replace(original, received_ms=BASES_MS[0] + line, source=f"file.jsonl:{line}")


@st.composite
def _conflicting(draw: st.DrawFn, original: Envelope, gap_ms: int, line: int) -> Envelope:
    """Another event under the same id: another content, and maybe another time."""
    event = original.event
    later_ms = draw(st.sampled_from([0, 0, 1, gap_ms, -gap_ms, 3 * gap_ms]))
    other = msgspec.structs.replace(event, user_agent="other", event_time_ms=max(0, event.event_time_ms + later_ms))
    assert not isinstance(other, Label)
    return envelope_of(other, received_ms=BASES_MS[0] + line, source=f"file.jsonl:{line}")


@st.composite
def schedules(
    draw: st.DrawFn,
    max_users: int = 2,
    max_events: int = 12,
    short_retention: bool = False,
    silences: bool = True,
    over_months: bool = False,
) -> Schedule:
    """Everything at once: events of some users, redeliveries, conflicts, bundles, watermarks, silences."""
    config = draw(times(short_retention))
    waiting: list[Envelope] = []
    for u in range(draw(st.integers(1, max_users))):
        size = max(1, max_events // (u + 1))
        waiting += draw(user_envelopes(config.gap_ms, f"u{u}", max_size=size, over_months=over_months))
    if draw(st.booleans()):
        waiting = draw(st.permutations(waiting))
    marks = [0, config.gap_ms, config.gap_ms, config.gap_ms + config.grace_ms]
    if short_retention:
        marks.append(config.retention_ms)
    arrived: list[Envelope] = []
    ops: list[Op] = []
    watermark_ms = 0
    for line, envelope in enumerate(waiting):
        ops.append(Arrive(envelope, ends_bundle=draw(st.integers(0, 3)) != 0))
        arrived.append(envelope)
        for kind in draw(_THINGS):
            chosen = draw(st.sampled_from(arrived))
            if kind == "redelivery":
                ops.append(Arrive(_redelivered(chosen, 1000 + line), draw(st.booleans())))
            elif kind == "conflict":
                ops.append(Arrive(draw(_conflicting(chosen, config.gap_ms, 2000 + line)), draw(st.booleans())))
            elif kind == "watermark":
                mark = chosen.event.event_time_ms + draw(st.sampled_from(marks)) + draw(st.integers(-1, 1))
                watermark_ms = max(watermark_ms, mark)
                ops.append(Watermark(watermark_ms, in_one_jump=draw(st.booleans())))
            elif kind == "silence" and silences:
                ops.append(Silence(chosen.event.user_id))
            elif kind == "refire":
                ops.append(Refire(chosen.event.user_id))
    # A bundle can't span a step of the watermark or of the clock.
    for i, op in enumerate(ops):
        last = i + 1 == len(ops) or not isinstance(ops[i + 1], Arrive)
        if isinstance(op, Arrive) and last and not op.ends_bundle:
            ops[i] = replace(op, ends_bundle=True)
    return Schedule(config, tuple(ops))


_THINGS = st.lists(
    st.sampled_from(("watermark", "watermark", "redelivery", "conflict", "silence", "refire")), max_size=2
)


def arrivals(envelopes: Sequence[Envelope], config: Times | None = None) -> Schedule:
    """The envelopes one after another, each in a bundle of its own, and then the drain."""
    return Schedule(config or Times(), tuple(Arrive(e) for e in envelopes))
