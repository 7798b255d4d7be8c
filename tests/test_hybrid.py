"""The DoFn around the aggregation: which timers it sets, when, and what they hold back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apache_beam.utils.timestamp import Timestamp

from bench.traffic import session
from transforms.aggregation import AggregationConfig
from transforms.events import Envelope
from transforms.hybrid import TIMER_SLACK_SECONDS, HybridAggregationDoFn
from transforms.records import FeatureRecord

CONFIG = AggregationConfig()
START_MS = 1_750_000_000_000


class Cell:
    def __init__(self) -> None:
        self.value: bytes | None = None

    def read(self) -> bytes | None:
        return self.value

    def write(self, value: bytes) -> None:
        self.value = value

    def clear(self) -> None:
        self.value = None


class Bag:
    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.reads = 0

    def add(self, entry: bytes) -> None:
        self.entries.append(entry)

    def read(self) -> Iterator[bytes]:
        self.reads += 1
        return iter(self.entries)

    def clear(self) -> None:
        self.entries = []


class Timer:
    """One timer, with the hold that the Python harness gives it: of the element that set it."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.set_by_ms: int | None = None
        self.now_ms = 0
        self.settings = 0

    def set(self, at: Timestamp) -> None:
        self.at, self.set_by_ms = at.micros / 1e6, self.now_ms
        self.settings += 1

    def clear(self) -> None:
        self.at = self.set_by_ms = None


class User:
    """Drives the DoFn for one user, with state and timers as a runner keeps them."""

    def __init__(self, dofn: HybridAggregationDoFn | None = None) -> None:
        self.dofn = dofn or a_dofn()
        self.cell, self.bag, self.completion, self.inactivity = Cell(), Bag(), Timer(), Timer()

    def event(self, envelope: Envelope) -> list[Any]:
        self.inactivity.now_ms = self.completion.now_ms = envelope.received_ms
        return list(
            self.dofn.process((envelope.event.user_id, envelope), self.cell, self.bag, self.completion, self.inactivity)
        )

    def watermark(self) -> list[Any]:
        assert self.completion.at is not None
        fired = Timestamp(micros=round(self.completion.at * 1e6))
        return list(self.dofn.on_completion(fired, self.cell, self.bag, self.completion, self.inactivity))

    def silence(self, fired_seconds: float) -> list[Any]:
        fired = Timestamp(micros=round(fired_seconds * 1e6))
        return list(self.dofn.on_inactivity(fired, self.cell, self.bag, self.inactivity))


def a_dofn() -> HybridAggregationDoFn:
    dofn = HybridAggregationDoFn(CONFIG, clock=received_seconds)
    dofn.setup()
    return dofn


def received_seconds(envelope: Envelope) -> float:
    return envelope.received_ms / 1_000


def test_the_bag_is_not_read_while_events_come_in_order() -> None:
    user = User()
    for envelope in session(50, "u", START_MS):
        user.event(envelope)
    user.watermark()
    assert user.bag.reads == 0


def test_a_pending_inactivity_timer_holds_back_no_longer_than_the_inactivity_and_moves_with_the_user() -> None:
    # Until it fires, or is set anew, the timer holds the watermark downstream at the event that set it.
    user = User()
    for envelope in session(2_000, "u", START_MS, step_ms=700):
        user.event(envelope)
        assert user.inactivity.set_by_ms is not None
        assert envelope.received_ms - user.inactivity.set_by_ms <= TIMER_SLACK_SECONDS * 1_000
        assert user.inactivity.at is not None
        assert user.inactivity.at - envelope.received_ms / 1_000 <= CONFIG.inactivity_seconds
    assert user.inactivity.settings < 2_000


def test_nothing_is_held_back_while_there_is_nothing_to_finalize() -> None:
    user = User()
    first, late = session(2, "u", START_MS)
    user.event(first)
    assert user.inactivity.at is not None
    user.watermark()
    assert user.inactivity.at is None, "the session is final"
    user.event(late)
    assert user.inactivity.at is not None, "it is to be finalized again"
    user.watermark()
    user.watermark()
    assert user.inactivity.at is None, "no session is open"


def test_an_inactivity_timer_picked_before_it_was_moved_says_nothing_and_is_set_again() -> None:
    user = User()
    first, second = session(2, "u", START_MS, step_ms=60_000)
    user.event(first)
    stale = user.inactivity.at
    user.event(second)
    moved = user.inactivity.at
    assert stale is not None
    user.inactivity.clear()
    assert user.silence(stale) == []
    assert user.inactivity.at == moved
    assert moved is not None
    assert [r.value.value.trigger for r in user.silence(moved)] == ["INACTIVITY"]
    assert user.silence(moved) == []


def test_the_completion_timer_follows_the_newest_event_time_not_the_newest_arrival() -> None:
    user = User()
    early, late = session(2, "u", START_MS, step_ms=60_000)
    for envelope in (late, early):
        user.event(envelope)
    assert user.completion.at == late.event.event_time_ms / 1_000 + CONFIG.gap_seconds


def test_records_are_stamped_with_event_time() -> None:
    user = User()
    envelope = session(1, "u", START_MS)[0]
    (stamped,) = user.event(envelope)
    assert isinstance(stamped.value, FeatureRecord)
    assert stamped.timestamp == Timestamp(START_MS / 1_000)


def test_what_a_worker_holds_on_to_is_never_taken_for_other_state() -> None:
    # Bundles fail and are tried again, users alternate, and each time what counts is what the state cell holds.
    shared = a_dofn()
    users = {name: (User(shared), User()) for name in ("u", "v")}
    events = [e for pair in zip(*(session(30, name, START_MS) for name in users), strict=True) for e in pair]
    for i, envelope in enumerate(events):
        ours, fresh = users[envelope.event.user_id]
        fresh.dofn = a_dofn()
        if i % 3 == 0:
            committed, entries = ours.cell.value, list(ours.bag.entries)
            for lost in (envelope, *session(2, envelope.event.user_id, START_MS + 7_000)):
                ours.event(lost)
            ours.cell.value, ours.bag.entries = committed, entries
        assert [r.value for r in ours.event(envelope)] == [r.value for r in fresh.event(envelope)]
        assert ours.cell.value == fresh.cell.value
