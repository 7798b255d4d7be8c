"""Plays a schedule against the aggregation as a runner would: state is encoded and decoded after each call.

`replay` only plays. With `against_oracle`, each step's records are compared with what the laws say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from oracle import OracleUser, Position, Record, check_step, position
from strategies import Arrive, Refire, Schedule, Silence, Times, Watermark

from transforms.aggregation import Aggregation, AggregationConfig, MemoryLog, Step
from transforms.events import DeadLetter, Envelope
from transforms.records import FeatureRecord, SessionRecord
from transforms.user_state import UserState

END_OF_TIME_MS = 1 << 53


def config_of(times: Times, **bounds: int) -> AggregationConfig:
    """The aggregation's configuration for these times."""
    return AggregationConfig(
        gap_seconds=times.gap_ms // 1000,
        grace_seconds=times.grace_ms // 1000,
        retention_seconds=times.retention_ms // 1000,
        **bounds,
    )


@dataclass
class MachineUser:
    """One user of the aggregation, with the timer that a runner would keep for it."""

    machine: Aggregation
    user_id: str
    oracle: OracleUser | None = None
    state: UserState | None = None
    log: MemoryLog = field(default_factory=MemoryLog)
    timer_ms: int | None = None
    fired_ms: int | None = None
    records: list[Record] = field(default_factory=list)
    largest_state: int = 0

    def on_event(self, envelope: Envelope) -> list[Record]:
        """One event. Timers don't fire yet: its bundle may go on."""
        records = self._take(self.machine.on_event(self.state, envelope, self.log))
        if self.oracle is not None:
            check_step(records, self.oracle.on_event(envelope), self.user_id)
        return records

    def on_silence(self) -> list[Record]:
        """The processing-time timer fires, and once more, which must change nothing."""
        records = self._take(self.machine.on_inactivity(self.state, self.log))
        if self.oracle is not None:
            check_step(records, self.oracle.on_inactivity(), self.user_id)
        assert self._take(self.machine.on_inactivity(self.state, self.log)) == [], "said twice"
        return records

    def advance(self, watermark_ms: int, in_one_jump: bool = False) -> list[Record]:
        """Fires the timer as long as the watermark is past it."""
        records: list[Record] = []
        rounds = 0
        while self.timer_ms is not None and self.timer_ms <= watermark_ms:
            records += self.fire(watermark_ms if in_one_jump else self.timer_ms)
            rounds += 1
            assert rounds < 10_000, f"a timer that sets itself forever, at {self.timer_ms}"
        if self.oracle is not None:
            due_ms = self.oracle.due_ms()
            assert due_ms is None or due_ms > watermark_ms, f"no timer for {due_ms}, the watermark has passed"
        return records

    def fire(self, now_ms: int) -> list[Record]:
        """The event-time timer fires, and once more, which must change nothing."""
        self.fired_ms = now_ms
        records = self._take(self.machine.on_watermark(self.state, now_ms, self.log))
        if self.oracle is not None:
            check_step(records, self.oracle.on_watermark(now_ms), self.user_id)
        assert self._take(self.machine.on_watermark(self.state, now_ms, self.log)) == [], "said twice"
        return records

    def _take(self, step: Step) -> list[Record]:
        self.state = step.state
        if self.state is not None:
            encoded = self.machine.encode(self.state)
            self.largest_state = max(self.largest_state, len(encoded))
            self.state = self.machine.decode(encoded)
        self.timer_ms = step.timer_ms
        self.records += step.records
        return list(step.records)


def replay(
    schedule: Schedule,
    *,
    against_oracle: bool = False,
    drain: bool = True,
    bounds: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, MachineUser]:
    """Plays the schedule. Returns the users by id, with all that they said."""
    times = schedule.times
    machine = Aggregation(config_of(times, **bounds))
    users = {
        user_id: MachineUser(machine, user_id, oracle_of(times) if against_oracle else None)
        for user_id in schedule.user_ids
    }
    watermark_ms = 0
    bundle: set[str] = set()
    for op in schedule.ops:
        if isinstance(op, Arrive):
            user_id = op.envelope.event.user_id
            users[user_id].on_event(op.envelope)
            bundle.add(user_id)
            if op.ends_bundle:
                for user_id in sorted(bundle):
                    users[user_id].advance(watermark_ms)
                bundle.clear()
        elif isinstance(op, Watermark):
            watermark_ms = op.now_ms
            for user in users.values():
                user.advance(watermark_ms, op.in_one_jump)
        elif isinstance(op, Silence):
            users[op.user_id].on_silence()
        elif isinstance(op, Refire):
            user = users[op.user_id]
            if user.fired_ms is not None:
                user.fire(user.fired_ms)
                user.advance(watermark_ms)
    if drain:
        for user in users.values():
            user.advance(END_OF_TIME_MS)
    return users


def oracle_of(times: Times) -> OracleUser:
    """The oracle for a user under these times."""
    return OracleUser(times.gap_ms, times.grace_ms, times.retention_ms)


@dataclass
class Net:
    """What a reader of the tables sees: the latest record of each event, current sessions, rejects."""

    features: dict[Position, FeatureRecord]
    sessions: dict[int, SessionRecord]
    dead_letters: list[DeadLetter]

    def essence(self) -> tuple[object, object]:
        """All that doesn't depend on how the events came: neither versions nor triggers."""
        features = {k: (r.event, tuple(r.features), r.session_start_ms) for k, r in self.features.items()}
        sums = (
            "end_ms",
            "event_count",
            "login_count",
            "login_failure_count",
            "payment_count",
            "amount_minor",
            "distinct_ip_count",
            "distinct_device_count",
        )
        sessions = {k: tuple(getattr(r, name) for name in sums) for k, r in self.sessions.items()}
        return features, sessions


def net(records: list[Record]) -> Net:
    """One user's records as a reader sees them: of each event and session the highest version counts."""
    features: dict[Position, FeatureRecord] = {}
    sessions: dict[int, SessionRecord] = {}
    for record in records:
        if isinstance(record, FeatureRecord):
            key = position(record.event)
            features[key] = max(features.get(key, record), record, key=lambda r: r.version)
        elif isinstance(record, SessionRecord):
            start_ms = record.start_ms
            sessions[start_ms] = max(sessions.get(start_ms, record), record, key=lambda r: r.version)
    current = {start_ms: r for start_ms, r in sessions.items() if not r.retracted}
    return Net(features, current, [r for r in records if isinstance(r, DeadLetter)])


def by_user(records: list[Record]) -> dict[str, list[Record]]:
    """Records of several users, parted by user, each in the order of versions, dead letters last."""
    parted: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        user_id = record.event.user_id if isinstance(record, FeatureRecord) else record.user_id
        assert user_id is not None
        parted[user_id].append(record)
    for user_records in parted.values():
        user_records.sort(key=lambda r: 1 << 62 if isinstance(r, DeadLetter) else r.version)
    return parted
