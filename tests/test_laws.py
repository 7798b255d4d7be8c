"""The laws of the hybrid aggregation, each against brute force or against itself.

`LAWS_EXAMPLES=10000 pytest tests/test_laws.py` draws that many cases for each law, other ones in each run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import apache_beam as beam
import msgspec
import pytest
from apache_beam.transforms.window import Sessions, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from driver import END_OF_TIME_MS, MachineUser, Net, Record, config_of, net, oracle_of, replay
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st
from oracle import NO_SUMS, Session, activity, position, same_features, sessions
from oracle_features import features
from strategies import (
    DAY_MS,
    LONG_DAYS,
    Arrive,
    Op,
    Schedule,
    Silence,
    Times,
    Watermark,
    arrivals,
    envelope_of,
    laws,
    pipelines,
    schedules,
    times,
    user_envelopes,
)

from transforms.aggregation import Aggregation, MemoryLog
from transforms.events import Activity, DeadLetter, Envelope, Login, Payment, Reason
from transforms.features import FEATURES
from transforms.records import FeatureRecord, SessionRecord


@laws(2)
@given(schedules(max_users=3))
def test_every_step_says_what_the_laws_say(schedule: Schedule) -> None:
    replay(schedule, against_oracle=True)


@laws(1)
@given(schedules(max_users=1, short_retention=True))
def test_every_step_says_what_the_laws_say_when_users_are_forgotten(schedule: Schedule) -> None:
    replay(schedule, against_oracle=True)


@laws(0.5)
@given(schedules(max_users=1, max_events=24))
def test_every_step_of_long_histories_says_what_the_laws_say(schedule: Schedule) -> None:
    replay(schedule, against_oracle=True)


@laws(2)
@given(schedules(max_users=1, max_events=16, over_months=True))
def test_every_step_of_histories_over_months_says_what_the_laws_say(schedule: Schedule) -> None:
    replay(schedule, against_oracle=True)


# Law 1: every record is a function of the set of accepted events and of what triggered it.


@laws(1)
@given(st.data(), times())
def test_law_1_arrival_order_does_not_matter(data: st.DataObject, config: Times) -> None:
    envelopes = data.draw(user_envelopes(config.gap_ms, min_size=2))
    shuffled = data.draw(st.permutations(envelopes))
    assert drained(envelopes, config).essence() == drained(shuffled, config).essence()


@laws(1)
@given(st.data(), times())
def test_law_1_the_answer_depends_on_the_set_before_it(data: st.DataObject, config: Times) -> None:
    *before, last = data.draw(user_envelopes(config.gap_ms, min_size=2))
    answers = []
    for order in (before, data.draw(st.permutations(before))):
        user = fresh_user(config)
        for envelope in order:
            user.on_event(envelope)
        (answer,) = user.on_event(last)
        assert isinstance(answer, FeatureRecord)
        answers.append((answer.event, tuple(answer.features), answer.session_start_ms, answer.trigger))
    assert answers[0] == answers[1]


def arrival(of: Envelope | DeadLetter) -> tuple[bytes, int]:
    """What tells arrivals apart."""
    return of.payload, of.received_ms


@laws(1)
@given(schedules(max_users=1))
def test_law_1_redelivery_does_not_matter(schedule: Schedule) -> None:
    """What was rejected leaves no trace."""
    (user,) = replay(schedule).values()
    arrived = Counter(arrival(op.envelope) for op in schedule.ops if isinstance(op, Arrive))
    # Of arrivals that don't differ the first is the one that was accepted, if one was.
    accepted = arrived - Counter(arrival(r) for r in user.records if isinstance(r, DeadLetter))
    ops: list[Op] = []
    for op in schedule.ops:
        if isinstance(op, Arrive) and not accepted[arrival(op.envelope)]:
            note("rejected")
            if op.ends_bundle and ops and isinstance(ops[-1], Arrive):
                ops[-1] = replace(ops[-1], ends_bundle=True)
        else:
            if isinstance(op, Arrive):
                accepted[arrival(op.envelope)] -= 1
            ops.append(op)
    (without,) = replay(replace(schedule, ops=tuple(ops))).values()
    assert net(without.records).essence() == net(user.records).essence()


@laws(1)
@given(schedules(max_users=1))
def test_law_1_bundling_does_not_matter(schedule: Schedule) -> None:
    """Bundles decide when timers fire, and by that what is too late; beyond that they leave no trace."""
    alone = replace(
        schedule,
        ops=tuple(replace(op, ends_bundle=True) if isinstance(op, Arrive) else op for op in schedule.ops),
    )
    (bundled,) = replay(schedule).values()
    (single,) = replay(alone).values()
    if accepted(bundled.records) == accepted(single.records):
        assert net(bundled.records).essence() == net(single.records).essence()
    else:
        note("other events too late")


# Law 2: net of retractions, the finalized sessions are those of Beam's Sessions and GroupByKey in batch.


@laws(1)
@given(schedules(max_users=2))
def test_law_2_finalized_sessions_are_those_of_the_accepted_set(schedule: Schedule) -> None:
    for user in replay(schedule).values():
        events = [activity(e) for e in accepted(user.records)]
        finals = net(user.records).sessions
        assert [describe(finals[start_ms]) for start_ms in sorted(finals)] == [
            s.described() for s in sessions(events, schedule.times.gap_ms)
        ]


FOUND: list[tuple[str, tuple[int, ...]]] = []
"""What `beam_sessions` collects: functions of a test module are pickled by name, so this list is not copied."""


@pipelines()
@given(st.data(), st.sampled_from([1_000, 10_000, 300_000]))
def test_law_2_agreement_with_beams_own_sessions(data: st.DataObject, gap_ms: int) -> None:
    users = {
        f"u{i}": data.draw(user_envelopes(gap_ms, f"u{i}")) for i in range(data.draw(st.integers(1, 30), label="users"))
    }
    from_beam = beam_sessions([e for envelopes in users.values() for e in envelopes], gap_ms)
    for user_id, envelopes in users.items():
        finals = drained(envelopes, Times(gap_ms=gap_ms)).sessions
        assert sorted(describe(r) for r in finals.values()) == sorted(from_beam[user_id])
        by_hand = sessions([activity(e) for e in envelopes], gap_ms)
        assert [s.described() for s in by_hand] == sorted(from_beam[user_id]), "the oracle itself is wrong"


def beam_sessions(envelopes: Sequence[Envelope], gap_ms: int) -> dict[str, list[tuple[int, ...]]]:
    """What `Sessions(gap)` and `GroupByKey` make of the events in batch: by user (start, end, sums...)."""
    FOUND.clear()
    with beam.Pipeline("BundleBasedDirectRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create([activity(e) for e in envelopes])
            | beam.Map(lambda e: TimestampedValue((e.user_id, e), Timestamp(micros=1000 * e.event_time_ms)))
            | beam.WindowInto(Sessions(gap_ms / 1000))
            | beam.GroupByKey()
            | beam.Map(collect_session)
        )
    by_user: dict[str, list[tuple[int, ...]]] = {e.event.user_id: [] for e in envelopes}
    for user_id, row in FOUND:
        by_user[user_id].append(row)
    return by_user


def collect_session(keyed: tuple[str, Iterable[Activity]], window: Any = beam.DoFn.WindowParam) -> None:
    """Beam's bounds with the sums over Beam's grouping."""
    user_id, grouped = keyed
    sums = Session(tuple(grouped), 0).sums()
    FOUND.append((user_id, (window.start.micros // 1000, window.end.micros // 1000, *sums.values())))


# Law 3: every session is finalized.


@laws(1)
@given(schedules(max_users=2))
def test_law_3_the_drain_finalizes_all_and_leaves_no_state(schedule: Schedule) -> None:
    for user in replay(schedule).values():
        assert user.state is None
        assert user.timer_ms is None
        assert list(user.log.read()) == []
        finals = net(user.records).sessions
        assert all(not r.provisional and r.trigger in ("ON_TIME", "LATE") for r in finals.values())
        starts = {r.session_start_ms for r in net(user.records).features.values()}
        assert starts == set(finals)


@laws(1)
@given(schedules(max_users=2))
def test_law_3_no_session_is_complete_and_not_finalized(schedule: Schedule) -> None:
    """At any time: what ended before the watermark has a final record, what is open has a timer."""
    users = replay(schedule, drain=False)
    reached = max((op.now_ms for op in schedule.ops if isinstance(op, Watermark)), default=0)
    for user in users.values():
        view = net(user.records)
        for session in sessions([activity(e) for e in accepted(user.records)], schedule.times.gap_ms):
            if session.end_ms <= reached:
                final = view.sessions[session.start_ms]
                assert (final.end_ms, final.provisional) == (session.end_ms, False)
                assert final.event_count == len(session.events)
            else:
                assert user.timer_ms is not None
                assert user.timer_ms <= session.end_ms


@laws(1)
@given(st.data(), times())
def test_law_3_silence_gives_a_provisional_record_and_on_time_follows(data: st.DataObject, config: Times) -> None:
    envelopes = data.draw(user_envelopes(config.gap_ms))
    user = fresh_user(config)
    for envelope in envelopes:
        user.on_event(envelope)
    user.on_silence()
    stalled = net(user.records)
    assert stalled.sessions
    assert all(r.provisional and r.trigger == "INACTIVITY" for r in stalled.sessions.values())
    user.advance(END_OF_TIME_MS)
    final = net(user.records)
    assert all(not r.provisional and r.trigger == "ON_TIME" for r in final.sessions.values())
    assert final.essence() == stalled.essence(), "the silence was right already"


# Law 4: versions only grow, and retractions are explicit: at any time a reader sees one truth.


@laws(1)
@given(schedules(max_users=2))
def test_law_4_versions_strictly_increase(schedule: Schedule) -> None:
    for user in replay(schedule).values():
        versions = [r.version for r in user.records if not isinstance(r, DeadLetter)]
        assert versions == sorted(set(versions))


@laws(1)
@given(st.data(), times(short_retention=True))
def test_law_4_versions_increase_where_a_user_is_forgotten_and_comes_back(data: st.DataObject, config: Times) -> None:
    before = data.draw(user_envelopes(config.gap_ms))
    after = data.draw(user_envelopes(config.gap_ms))
    user = MachineUser(Aggregation(config_of(config)), "u1")
    for envelope in before:
        user.on_event(envelope)
    reclaimed_ms = max(e.event.event_time_ms for e in before) + config.retention_ms + config.grace_ms + config.gap_ms
    user.advance(reclaimed_ms)
    assert user.state is None
    # They come back in event time, or with events that lie before all that was forgotten.
    later_ms = reclaimed_ms - min(e.event.event_time_ms for e in after) + data.draw(st.sampled_from([0, 1, -(10**9)]))
    received_ms = max(reclaimed_ms, *(e.received_ms for e in before)) + 1_000
    for i, envelope in enumerate(after):
        event = activity(envelope)
        moved = msgspec.structs.replace(event, event_time_ms=max(0, event.event_time_ms + later_ms))
        user.on_event(envelope_of(moved, received_ms=received_ms + i))
    user.advance(END_OF_TIME_MS)
    versions = [r.version for r in user.records if not isinstance(r, DeadLetter)]
    assert versions == sorted(set(versions))


@laws(1)
@given(schedules(max_users=1))
def test_law_4_a_reader_never_sees_two_sessions_over_one_event(schedule: Schedule) -> None:
    """After each step, current sessions are disjoint; each retraction names a session that was current."""
    user = MachineUser(Aggregation(config_of(schedule.times)), "u0")
    seen: list[Record] = []
    for part in steps_of(schedule, user):
        for record in part:
            if isinstance(record, SessionRecord) and record.retracted:
                before = net(seen).sessions[record.start_ms]
                assert before.end_ms == record.end_ms
                assert [getattr(record, name) for name in NO_SUMS] == [0] * len(NO_SUMS)
                note("retraction")
            seen.append(record)
        current = sorted(net(seen).sessions.values(), key=lambda r: r.start_ms)
        assert all(a.end_ms <= b.start_ms for a, b in pairwise(current))


def steps_of(schedule: Schedule, user: MachineUser) -> Iterator[list[Record]]:
    """The records of each step of a one-user schedule, drained at the end."""
    watermark_ms = 0
    for op in schedule.ops:
        if isinstance(op, Arrive):
            yield user.on_event(op.envelope)
        elif isinstance(op, Watermark):
            watermark_ms = op.now_ms
        elif isinstance(op, Silence):
            yield user.on_silence()
        yield user.advance(watermark_ms)
    yield user.advance(END_OF_TIME_MS)


# Law 5: events in = scored + duplicate + conflict + too late.


@laws(1)
@given(schedules(max_users=3, short_retention=True))
def test_law_5_each_arrival_has_exactly_one_outcome(schedule: Schedule) -> None:
    for user_id, user in replay(schedule).items():
        assert outcomes(user.records) == Counter(
            (e.event.event_id, e.received_ms, e.event.event_time_ms)
            for e in schedule.envelopes
            if e.event.user_id == user_id
        )


@laws(1)
@given(schedules(max_users=1))
def test_law_5_what_is_rejected_is_rejected_for_its_reason(schedule: Schedule) -> None:
    (user,) = replay(schedule).values()
    scored = {r.event.event_id: r.event for r in user.records if isinstance(r, FeatureRecord)}
    for letter in net(user.records).dead_letters:
        assert letter.event_time_ms is not None
        assert letter.reason in (Reason.TOO_LATE, Reason.DUPLICATE, Reason.CONFLICT)
        if letter.reason == Reason.TOO_LATE:
            ends = [r.end_ms for r in user.records if isinstance(r, SessionRecord)]
            assert letter.event_time_ms < max(ends), "too late for what? nothing was finalized after it"
        else:
            assert letter.event_id in scored


# Law 6: state is bounded whatever comes, and what a bound made inexact says so.

TINY = {"max_points": 8, "max_log_events": 6, "max_open_sessions": 3}


@laws(1)
@given(schedules(max_users=1, max_events=30))
def test_law_6_beyond_the_bounds_what_is_said_is_exact_or_approximate(schedule: Schedule) -> None:
    """Each record, when it is made, is right over the events accepted by then, or says that it may not be."""
    user = MachineUser(Aggregation(config_of(schedule.times, **TINY)), "u0")
    seen: list[Record] = []
    for part in steps_of(schedule, user):
        events = [activity(e) for e in accepted([*seen, *part])]
        for record in part:
            if isinstance(record, FeatureRecord):
                assert record.approximate or is_right(record, events, schedule.times.gap_ms)
                note("approximate" if record.approximate else "exact")
            elif isinstance(record, SessionRecord) and not record.retracted and not record.approximate:
                assert describe(record) in [s.described() for s in sessions(events, schedule.times.gap_ms)]
        seen += part


@laws(1)
@given(schedules(max_users=1, max_events=30))
def test_law_6_beyond_the_bounds_what_remains_is_exact_or_approximate(schedule: Schedule) -> None:
    """Where an event came too many to correct later ones, its session says so, as does all that is said after."""
    (user,) = replay(schedule, bounds=TINY).values()
    gap_ms = schedule.times.gap_ms
    events = [activity(e) for e in accepted(user.records)]
    view = net(user.records)
    for record in view.features.values():
        if not record.approximate and not is_right(record, events, gap_ms):
            before = [r for r in view.sessions.values() if r.start_ms <= record.event.event_time_ms]
            assert any(r.approximate for r in before), "inexact, and nothing says so"
    exact = [s.described() for s in sessions(events, gap_ms)]
    assert all(r.approximate or describe(r) in exact for r in view.sessions.values())


def is_right(record: FeatureRecord, events: Sequence[Activity], gap_ms: int) -> bool:
    exact = features(record.event, events, gap_ms)
    start_ms = record.event.event_time_ms - round(1000 * exact[SESSION_DURATION])
    return same_features(record.features, exact) and record.session_start_ms == start_ms


SESSION_DURATION = [f.name for f in FEATURES].index("session_duration_seconds")


@laws(1)
@given(schedules(max_users=1, max_events=30, short_retention=True))
def test_law_6_beyond_the_bounds_the_other_laws_hold(schedule: Schedule) -> None:
    (user,) = replay(schedule, bounds=TINY).values()
    assert user.state is None
    assert user.timer_ms is None
    assert list(user.log.read()) == []
    versions = [r.version for r in user.records if not isinstance(r, DeadLetter)]
    if schedule.times.retention_ms == LONG_DAYS * DAY_MS:
        assert versions == sorted(set(versions))
    assert outcomes(user.records) == Counter(
        (e.event.event_id, e.received_ms, e.event.event_time_ms) for e in schedule.envelopes
    )


@laws(0.5)
@given(schedules(max_users=1))
def test_law_6_within_the_bounds_all_is_exact(schedule: Schedule) -> None:
    (user,) = replay(schedule).values()
    assert not any(r.approximate for r in user.records if not isinstance(r, DeadLetter))


@pytest.mark.parametrize("spacing_ms", [0, 1, 10_000, 7 * DAY_MS, -9_999, -10_000])
def test_law_6_state_stops_growing(spacing_ms: int) -> None:
    """Every value new, every event kept open by a watermark that stands still: the worst there is."""
    config = config_of(Times(), max_points=32, max_log_events=16, max_open_sessions=4)
    machine, state, log = Aggregation(config), None, MemoryLog()
    sizes, logged = [], []
    for i in range(1_200):
        envelope = new_everything(i, i * spacing_ms)
        step = machine.on_event(state, envelope, log)
        assert step.state is not None
        encoded = machine.encode(step.state)
        state = machine.decode(encoded)
        sizes.append(len(encoded))
        logged.append(len(list(log.read())))
    assert max(logged) <= 16 + 1
    assert max(sizes[600:]) <= 1.2 * max(sizes[:600])
    assert max(sizes) <= 32 * 1024


def new_everything(i: int, offset_ms: int) -> Envelope:
    common: dict[str, Any] = {
        "event_id": f"event-{i:05}",
        "user_id": "u0",
        "event_time_ms": 2_000_000_000_000 + offset_ms,
        "ip": f"2001:db8::{i:x}",
        "device_id": f"device-{i}",
        "country": f"{chr(65 + i % 26)}{chr(65 + i // 26 % 26)}",
        "latitude": (i * 7) % 90 + 0.5,
        "longitude": (i * 13) % 180 + 0.25,
    }
    if i % 3 == 0:
        return envelope_of(Login(outcome="failure" if i % 2 else "success", **common))
    ids: dict[str, Any] = {"merchant_id": f"merchant-{i}", "payee_id": f"payee-{i}", "card_id": f"card-{i}"}
    return envelope_of(Payment(amount_minor=i, currency="EUR", **ids, **common))


# Law 8: parity. The backfill says what the stream says, net of corrections.


@laws(2)
@given(schedules(max_users=2))
def test_law_8_backfill_says_the_same_as_the_stream(schedule: Schedule) -> None:
    machine = Aggregation(config_of(schedule.times))
    for user in replay(schedule).values():
        of_stream = net(user.records)
        envelopes = accepted(user.records, schedule)
        if len({e.event.event_id for e in envelopes}) < len(envelopes):
            continue  # an id that came again after its session was closed is a conflict in the backfill
        batch = list(machine.backfill(envelopes))
        assert net(batch).essence() == of_stream.essence()
        assert not any(isinstance(r, DeadLetter) for r in batch)


@laws(1)
@given(st.data(), times())
def test_law_8_backfill_needs_no_correction_and_no_order(data: st.DataObject, config: Times) -> None:
    envelopes = data.draw(user_envelopes(config.gap_ms))
    machine = Aggregation(config_of(config))
    records = list(machine.backfill(data.draw(st.permutations(envelopes))))
    assert Counter(type(r) for r in records)[FeatureRecord] == len(envelopes)
    finals = [r for r in records if isinstance(r, SessionRecord)]
    assert all(r.trigger == "ON_TIME" and not r.retracted and not r.provisional for r in finals)
    assert len(finals) == len(sessions([activity(e) for e in envelopes], config.gap_ms))


@laws(1)
@given(schedules(max_users=1))
def test_law_8_backfill_rejects_redeliveries_too(schedule: Schedule) -> None:
    """Whatever is in the file, each message has one outcome; a message that came twice is scored once."""
    machine = Aggregation(config_of(schedule.times))
    records = list(machine.backfill(schedule.envelopes))
    assert outcomes(records) == Counter(
        (e.event.event_id, e.received_ms, e.event.event_time_ms) for e in schedule.envelopes
    )
    assert all(r.reason in (Reason.DUPLICATE, Reason.CONFLICT) for r in records if isinstance(r, DeadLetter))
    scored = [position(r.event) for r in records if isinstance(r, FeatureRecord)]
    assert len(scored) == len(set(scored))


# Helpers.


def describe(record: SessionRecord) -> tuple[int, ...]:
    """As `oracle.Session.described`."""
    return (record.start_ms, record.end_ms, *(getattr(record, name) for name in NO_SUMS))


def fresh_user(config: Times) -> MachineUser:
    return MachineUser(Aggregation(config_of(config)), "u1", oracle_of(config))


def drained(envelopes: Sequence[Envelope], config: Times) -> Net:
    """What remains of these events, all of which come before the watermark moves."""
    (user,) = replay(arrivals(envelopes, config)).values()
    return net(user.records)


def accepted(records: Sequence[Record], schedule: Schedule | None = None) -> list[Envelope]:
    """The accepted events, as envelopes, in the order in which they were scored."""
    scored = [r for r in records if isinstance(r, FeatureRecord) and r.trigger == "EVENT"]
    if schedule is None:
        return [envelope_of(r.event, r.received_ms) for r in scored]
    known = {(e.event, e.received_ms): e for e in schedule.envelopes}
    return [known[r.event, r.received_ms] for r in scored]


def outcomes(records: Sequence[Record]) -> Counter[object]:
    """How often each arrival, named by event id, receipt and time, was answered: scored or rejected."""
    counted: Counter[object] = Counter()
    for r in records:
        if isinstance(r, DeadLetter):
            counted[r.event_id, r.received_ms, r.event_time_ms] += 1
        elif isinstance(r, FeatureRecord) and r.trigger == "EVENT":
            counted[r.event.event_id, r.received_ms, r.event.event_time_ms] += 1
    return counted
