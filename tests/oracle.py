"""What the hybrid aggregation must say, by brute force, written from the laws of the design and nothing else.

`OracleUser` replays what happens to one user. It keeps the plain list of accepted events and, each time it is
asked, works everything out anew: sessions, features, what was said before and what is to be said now.
It shares no code with `transforms.aggregation`, and must never do so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import oracle_features
from oracle_features import Position, position

from transforms.events import Activity, DeadLetter, Envelope, Label, Login, Payment, Reason
from transforms.features import FEATURES
from transforms.records import FeatureRecord, SessionRecord

Record: TypeAlias = FeatureRecord | SessionRecord | DeadLetter


@dataclass(frozen=True)
class Session:
    """A maximal chain of events, each less than `gap` after the one before. It spans [start_ms, end_ms)."""

    events: tuple[Activity, ...]
    gap_ms: int

    @property
    def start_ms(self) -> int:
        return self.events[0].event_time_ms

    @property
    def end_ms(self) -> int:
        return self.events[-1].event_time_ms + self.gap_ms

    @property
    def content(self) -> frozenset[Position]:
        return frozenset(position(e) for e in self.events)

    def sums(self) -> dict[str, int]:
        """The counted fields of a session's record, by name."""
        logins = [e for e in self.events if isinstance(e, Login)]
        payments = [e for e in self.events if isinstance(e, Payment)]
        return {
            "event_count": len(self.events),
            "login_count": len(logins),
            "login_failure_count": sum(e.outcome == "failure" for e in logins),
            "payment_count": len(payments),
            "amount_minor": sum(e.amount_minor for e in payments),
            "distinct_ip_count": len({e.ip for e in self.events} - {None}),
            "distinct_device_count": len({e.device_id for e in self.events} - {None}),
        }

    def described(self) -> tuple[int, ...]:
        """All that a record says of the session: (start, end, sums...)."""
        return (self.start_ms, self.end_ms, *self.sums().values())


NO_SUMS = dict.fromkeys(
    (
        "event_count",
        "login_count",
        "login_failure_count",
        "payment_count",
        "amount_minor",
        "distinct_ip_count",
        "distinct_device_count",
    ),
    0,
)


def sessions(events: Iterable[Activity], gap_ms: int) -> list[Session]:
    """The sessions of a set of events, in order. Two events exactly `gap_ms` apart are in different ones."""
    chains: list[list[Activity]] = []
    for event in sorted(events, key=position):
        if chains and event.event_time_ms - chains[-1][-1].event_time_ms < gap_ms:
            chains[-1].append(event)
        else:
            chains.append([event])
    return [Session(tuple(chain), gap_ms) for chain in chains]


@dataclass(frozen=True)
class ExpectedFeature:
    """A feature record to come, its trigger one of `triggers`: a step may finalize for several reasons."""

    event: Activity
    features: tuple[Any, ...]
    session_start_ms: int
    triggers: frozenset[str]
    received_ms: int


@dataclass(frozen=True)
class ExpectedSession:
    """A session record to come. A retraction must follow the record of the session `replaced_by`."""

    start_ms: int
    end_ms: int
    trigger: str
    provisional: bool = False
    replaced_by: int | None = None
    sums: dict[str, int] = field(default_factory=lambda: dict(NO_SUMS), hash=False)


@dataclass(frozen=True)
class ExpectedDeadLetter:
    """A dead letter to come."""

    reason: str
    envelope: Envelope


Expected = ExpectedFeature | ExpectedSession | ExpectedDeadLetter
Said = tuple[tuple[Any, ...], int]


@dataclass
class OracleUser:
    """One user, judged by the laws. All times in epoch milliseconds."""

    gap_ms: int
    grace_ms: int
    retention_ms: int
    accepted: list[Envelope] = field(default_factory=list)
    closed_through: float = -math.inf
    _said: dict[Position, Said] = field(default_factory=dict)
    _finalized: set[frozenset[Position]] = field(default_factory=set)
    _provisional: set[frozenset[Position]] = field(default_factory=set)
    _issued: dict[int, int] = field(default_factory=dict)

    @property
    def events(self) -> list[Activity]:
        return [activity(envelope) for envelope in self.accepted]

    def open_sessions(self) -> list[Session]:
        """The sessions that are not closed for good, in order."""
        return [s for s in sessions(self.events, self.gap_ms) if s.end_ms > self.closed_through]

    def due_ms(self) -> int | None:
        """When the watermark next does something: finalizes or closes a session, or reclaims the state."""
        open_sessions = self.open_sessions()
        if open_sessions:
            return min(s.end_ms + (self.grace_ms if s.content in self._finalized else 0) for s in open_sessions)
        if self.accepted:
            return max(e.event_time_ms for e in self.events) + self.retention_ms
        return None

    def on_event(self, envelope: Envelope) -> list[Expected]:
        """The answer to an event: its features, or the reason why it isn't scored."""
        event = activity(envelope)
        if event.event_time_ms < self.closed_through:
            return [ExpectedDeadLetter(Reason.TOO_LATE, envelope)]
        for known in self.accepted:
            if known.event.event_id == event.event_id and known.event.event_time_ms >= self.closed_through:
                same = known.digest == envelope.digest
                return [ExpectedDeadLetter(Reason.DUPLICATE if same else Reason.CONFLICT, envelope)]
        self.accepted.append(envelope)
        return [self._say(envelope, frozenset({"EVENT"}))]

    def on_watermark(self, now_ms: int) -> list[Expected]:
        """What the watermark's reaching `now_ms` finalizes and corrects. Closes, and reclaims, afterwards."""
        complete = [s for s in self.open_sessions() if s.end_ms <= now_ms and s.content not in self._finalized]
        seen = {p for content in self._finalized for p in content}
        triggers = ["LATE" if s.content & seen else "ON_TIME" for s in complete]
        expected = self._finalize(complete, triggers, provisional=False)
        self._finalized.update(s.content for s in complete)
        for session in self.open_sessions():
            if session.end_ms + self.grace_ms <= now_ms:
                self.closed_through = max(self.closed_through, session.end_ms)
        if not self.open_sessions() and (due := self.due_ms()) is not None and due <= now_ms:
            self.forget()
        return expected

    def on_inactivity(self) -> list[Expected]:
        """What a silence in processing time brings: a provisional record of all that isn't finalized."""
        silent = [s for s in self.open_sessions() if s.content not in self._finalized | self._provisional]
        expected = self._finalize(silent, ["INACTIVITY"] * len(silent), provisional=True)
        self._provisional.update(s.content for s in silent)
        return expected

    def forget(self) -> None:
        """Back to a user of whom nothing is known."""
        self.accepted.clear()
        self.closed_through = -math.inf
        self._said.clear()
        self._finalized.clear()
        self._provisional.clear()
        self._issued.clear()

    def wrong_records(self) -> list[Activity]:
        """The events whose last record isn't right over the events accepted by now."""
        return [e for e in self.events if self._said[position(e)] != self._truth(e)]

    def _truth(self, event: Activity) -> Said:
        events = self.events
        (own,) = (s for s in sessions(events, self.gap_ms) if event in s.events)
        return (oracle_features.features(event, events, self.gap_ms), own.start_ms)

    def _say(self, envelope: Envelope, triggers: frozenset[str]) -> ExpectedFeature:
        event = activity(envelope)
        self._said[position(event)] = values, start_ms = self._truth(event)
        return ExpectedFeature(event, values, start_ms, triggers, envelope.received_ms)

    def _finalize(self, complete: Sequence[Session], triggers: Sequence[str], provisional: bool) -> list[Expected]:
        expected: list[Expected] = []
        for session, trigger in zip(complete, triggers, strict=True):
            expected.append(
                ExpectedSession(session.start_ms, session.end_ms, trigger, provisional=provisional, sums=session.sums())
            )
            # The start of another issued session can be among the events only if that session was joined.
            for start_ms in sorted(self._issued.keys() & {e.event_time_ms for e in session.events}):
                if start_ms != session.start_ms:
                    end_ms = self._issued.pop(start_ms)
                    expected.append(ExpectedSession(start_ms, end_ms, trigger, replaced_by=session.start_ms))
            self._issued[session.start_ms] = session.end_ms
        if complete:
            expected += self._corrections(frozenset(triggers))
        return expected

    def _corrections(self, triggers: frozenset[str]) -> Iterator[ExpectedFeature]:
        for envelope in self.accepted:
            event = activity(envelope)
            if event.event_time_ms >= self.closed_through and self._said[position(event)] != self._truth(event):
                yield self._say(envelope, triggers)


def activity(envelope: Envelope) -> Activity:
    """The envelope's event, which is no label: they never reach the aggregation."""
    assert not isinstance(envelope.event, Label)
    return envelope.event


def check_step(
    records: Sequence[Record],
    expected: Collection[Expected],
    user_id: str,
) -> None:
    """Assert that a step's records are those expected, in any order but for retractions, which follow."""
    features = {position(r.event): r for r in records if isinstance(r, FeatureRecord)}
    expected_features = {position(x.event): x for x in expected if isinstance(x, ExpectedFeature)}
    assert len(features) == sum(isinstance(r, FeatureRecord) for r in records), "an event twice in one step"
    assert features.keys() == expected_features.keys(), "feature records of other events than expected"
    for key, want in expected_features.items():
        got = features[key]
        check_features(got.features, want.features, f"event {key}")
        assert got.event == want.event
        assert (got.session_start_ms, got.received_ms) == (want.session_start_ms, want.received_ms), key
        assert got.trigger in want.triggers, f"event {key}: trigger {got.trigger}, expected {set(want.triggers)}"

    got_sessions = [r for r in records if isinstance(r, SessionRecord)]
    expected_sessions = [x for x in expected if isinstance(x, ExpectedSession)]
    assert sorted(map(_describe, got_sessions)) == sorted(map(_describe_expected, expected_sessions))
    assert all(r.user_id == user_id for r in got_sessions)
    place = {r.start_ms: i for i, r in enumerate(got_sessions)}
    for wanted in expected_sessions:
        if wanted.replaced_by is not None:
            assert place[wanted.start_ms] > place[wanted.replaced_by], "a retraction before its replacement"

    letters = [r for r in records if isinstance(r, DeadLetter)]
    expected_letters = [x for x in expected if isinstance(x, ExpectedDeadLetter)]
    assert [r.reason for r in letters] == [x.reason for x in expected_letters]
    for letter, wanted_letter in zip(letters, expected_letters, strict=True):
        envelope = wanted_letter.envelope
        event = envelope.event
        assert (letter.payload, letter.received_ms, letter.source) == (
            envelope.payload,
            envelope.received_ms,
            envelope.source,
        )
        assert (letter.event_id, letter.user_id, letter.event_time_ms) == (
            event.event_id,
            event.user_id,
            event.event_time_ms,
        )
        assert letter.message


def check_features(got: Sequence[Any], want: Sequence[Any], about: str) -> None:
    """Assert that feature values are those wanted, of the declared types; floats to a relative 1e-9."""
    assert len(got) == len(want) == len(FEATURES), f"{about}: {len(got)} values for {len(FEATURES)} features"
    for feature, g, w in zip(FEATURES, got, want, strict=True):
        where = f"{about}, {feature.name}: {g!r}, expected {w!r}"
        if w is None or g is None:
            assert g is w, where
            assert feature.nullable, where
        else:
            assert type(g).__name__ == feature.type, f"{where}; the type is {feature.type}"
            assert math.isclose(g, w, rel_tol=1e-9) if feature.type == "float" else g == w, where


def same_features(got: Sequence[Any], want: Sequence[Any]) -> bool:
    """Whether `check_features` passes."""
    try:
        check_features(got, want, "")
    except AssertionError:
        return False
    return True


def _describe(r: SessionRecord) -> tuple[Any, ...]:
    sums = tuple(getattr(r, name) for name in NO_SUMS)
    # A retraction isn't provisional or final, it is just gone: the flag is left open.
    provisional = r.provisional and not r.retracted
    return (r.start_ms, r.end_ms, r.trigger, r.retracted, provisional, sums)


def _describe_expected(x: ExpectedSession) -> tuple[Any, ...]:
    sums = tuple(x.sums[name] for name in NO_SUMS)
    return (x.start_ms, x.end_ms, x.trigger, x.replaced_by is not None, x.provisional, sums)
