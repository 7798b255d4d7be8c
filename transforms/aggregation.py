"""The hybrid aggregation of one user as a pure state machine: events answer at once, timers finalize.

`Aggregation` is the only implementation: `transforms.hybrid` calls it from a stateful DoFn, and `backfill` is the batch
path, and the oracle of the laws in the design. It holds no clock and does no input or output.

Too late is judged by the user's own state: an event is too late when it lies before the end of a session that has been
closed for good. Closed sessions are remembered by that one time, so no event can open a second session over one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from transforms import state_codec
from transforms.aggregation_config import AggregationConfig
from transforms.events import Activity, DeadLetter, Envelope, Reason
from transforms.history import History
from transforms.open_events import Log, MemoryLog, decode_entry, encode_entry
from transforms.points import Point, event_key, project
from transforms.records import FeatureRecord, SessionRecord, Trigger
from transforms.sessions import CHANGED, FINAL, PROVISIONAL, Session, place
from transforms.user_state import UserState

__all__ = ["Aggregation", "AggregationConfig", "Log", "MemoryLog", "Record", "Step"]

FOREVER_MS: Final = 1 << 62

Record: TypeAlias = FeatureRecord | SessionRecord | DeadLetter


class Step(NamedTuple):
    """What one call gives.

    Attributes:
      state: the user's state from here on; None when nothing is left to remember.
      records: what to hand on, in order of version.
      timer_ms: when, by the watermark, `on_watermark` must be called next; None for never.
    """

    state: UserState | None
    records: list[Record]
    timer_ms: int | None


class Aggregation:
    """The state machine. Each call takes a user's state, which it may change and hand back, and the user's log."""

    def __init__(self, config: AggregationConfig) -> None:
        self.config = config
        self.gap_ms = round(config.gap_seconds * 1_000)
        self.grace_ms = round(config.grace_seconds * 1_000)
        self.retention_ms = round(config.retention_seconds * 1_000)

    def on_event(self, state: UserState | None, envelope: Envelope, log: Log) -> Step:
        """An event arrives: a `FeatureRecord`, or a `DeadLetter` when it is too late, a duplicate or a conflict."""
        event: Activity = envelope.event  # type: ignore[assignment]
        time_ms = event.event_time_ms
        if state is None:
            # A user who was forgotten goes on above every version they had: their records are outrun by event time, and
            # where an event comes later than the retention, by the time that it comes at.
            version = max(time_ms, envelope.received_ms)
            state = UserState(event.user_id, version, History(self.gap_ms, self.config.max_points))
            point = project(event, envelope.digest)
        else:
            state.user_id = event.user_id  # that of an idle user isn't stored
            point = project(event, envelope.digest)
            if rejection := self._reject(state, envelope, point, log):
                return Step(state, [rejection], self._deadline(state))
        session = place(state.sessions, point, self.gap_ms)
        if time_ms > state.newest_ms:
            state.newest_ms = time_ms
        elif state.disorder_ms is None or time_ms < state.disorder_ms:
            state.disorder_ms = time_ms

        features = state.history.insert(point)
        self._log_event(state, log, envelope)
        features += envelope.entity_features
        approximate = envelope.entity_approximate or state.history.approximate
        if state.log_overflow:
            session.approximate = approximate = True
        state.version += 1
        records: list[Record] = [
            FeatureRecord(
                event,
                features,
                session.start_ms,
                state.version,
                "EVENT",
                approximate,
                envelope.received_ms,
                session.last_ms,
            )
        ]
        if len(state.sessions) > self.config.max_open_sessions:
            self._force_oldest(state, log, records)
        return Step(state, records, self._deadline(state))

    def on_watermark(self, state: UserState | None, now_ms: int, log: Log) -> Step:
        """The watermark has reached `now_ms`: finalizes, corrects, closes, and at last forgets. Idempotent."""
        if state is None:
            return Step(None, [], None)
        records: list[Record] = []
        due = [s for s in state.sessions if s.status != FINAL and s.last_ms + self.gap_ms <= now_ms]
        if due:
            self._repair(state, log, "LATE" if any(s.was_final for s in due) else "ON_TIME", records)
        for session in due:
            self._finalize(state, session, "LATE" if session.was_final else "ON_TIME", records)
        self._close(state, now_ms, log)
        if not state.sessions and now_ms >= self._deadline(state):
            return Step(None, records, None)
        return Step(state, records, self._deadline(state))

    def on_inactivity(self, state: UserState | None, log: Log) -> Step:
        """The user has been silent in processing time: finalizes open sessions provisionally. Idempotent."""
        if state is None:
            return Step(None, [], None)
        records: list[Record] = []
        due = [s for s in state.sessions if s.status == CHANGED]
        if due:
            self._repair(state, log, "INACTIVITY", records)
        for session in due:
            self._finalize(state, session, "INACTIVITY", records)
        return Step(state, records, self._deadline(state))

    def awaits_silence(self, state: UserState) -> bool:
        """Whether `on_inactivity` would say something."""
        return any(s.status == CHANGED for s in state.sessions)

    def backfill(self, envelopes: Iterable[Envelope]) -> list[Record]:
        """The batch path: all events of one user in order of event time, the watermark just ahead of each."""
        log = MemoryLog()
        state: UserState | None = None
        records: list[Record] = []
        timer_ms: int | None = None
        for envelope in sorted(envelopes, key=_order):
            if timer_ms is not None and timer_ms <= envelope.event.event_time_ms:
                state, new, _ = self.on_watermark(state, envelope.event.event_time_ms, log)
                records += new
            state, new, timer_ms = self.on_event(state, envelope, log)
            records += new
        while timer_ms is not None:
            state, new, timer_ms = self.on_watermark(state, timer_ms, log)
            records += new
        return records

    def encode(self, state: UserState) -> bytes:
        """A user's state as bytes, versioned."""
        return state_codec.encode(state)

    def decode(self, data: bytes) -> UserState:
        """A user's state from bytes of this or an older version.

        Raises:
          ValueError: the bytes are of a version that this release does not know.
        """
        return state_codec.decode(data, self.gap_ms, self.config.max_points)

    def _deadline(self, state: UserState) -> int:
        if not state.sessions:
            return state.newest_ms + self.retention_ms
        due_ms = FOREVER_MS
        for s in state.sessions:
            end_ms = s.last_ms + self.grace_ms if s.status == FINAL else s.last_ms
            if end_ms < due_ms:
                due_ms = end_ms
        return due_ms + self.gap_ms

    def _reject(self, state: UserState, envelope: Envelope, point: Point, log: Log) -> DeadLetter | None:
        event: Activity = envelope.event  # type: ignore[assignment]
        if point.time_ms < state.closed_through_ms:
            return _dead_letter(
                envelope,
                Reason.TOO_LATE,
                "event_time",
                f"event time {_utc(event.event_time_ms)} lies before {_utc(state.closed_through_ms)}, up to where "
                "this user's sessions are closed for good; backfill the period, or raise grace_seconds",
            )
        digest = self._known_digest(state, event.event_id, point, log)
        if digest is None:
            return None
        if digest == point.digest:
            return _dead_letter(
                envelope, Reason.DUPLICATE, "event_id", f"event {event.event_id[:80]!r} was delivered before"
            )
        return _dead_letter(
            envelope,
            Reason.CONFLICT,
            "event_id",
            f"event {event.event_id[:80]!r} was accepted before with other content; give each event its own id",
        )

    def _known_digest(self, state: UserState, event_id: str, point: Point, log: Log) -> bytes | None:
        digest = state.history.points.find_digest(point.id_key)
        if digest is None and state.closed_through_ms <= point.time_ms <= state.history.lost_ms:
            # Its id may have been given up with its point; only then is the log worth reading.
            for entry in map(decode_entry, log.read()):
                if entry.event.event_id == event_id:
                    return entry.digest.to_bytes(8, "big")
        return digest

    def _log_event(self, state: UserState, log: Log, envelope: Envelope) -> None:
        if state.log_count < self.config.max_log_events:
            log.append(encode_entry(envelope))
            state.log_count += 1
        else:
            state.log_overflow = True

    def _finalize(self, state: UserState, session: Session, trigger: Trigger, records: list[Record]) -> None:
        """Emits a session, and retracts what was emitted before under a start that it no longer has."""
        state.version += 1
        records.append(session.record(state.user_id, self.gap_ms, state.version, trigger))
        for start_ms, end_ms in session.emitted:
            if start_ms != session.start_ms:
                state.version += 1
                records.append(SessionRecord(state.user_id, start_ms, end_ms, state.version, trigger, retracted=True))
        session.emitted = [(session.start_ms, session.last_ms + self.gap_ms)]
        session.status = PROVISIONAL if trigger == "INACTIVITY" else FINAL
        session.was_final |= session.status == FINAL

    def _repair(self, state: UserState, log: Log, trigger: Trigger, records: list[Record]) -> None:
        """Says again what out-of-order arrivals have changed about events of open sessions."""
        disorder_ms, history = state.disorder_ms, state.history
        state.disorder_ms = None
        if disorder_ms is None:
            return
        if history.lost_ms >= state.sessions[0].start_ms:
            # Points to go by were given up, so what was said stands; its session says that it may be inexact.
            for session in state.sessions:
                session.approximate = True
            return
        later = history.rewind(history.points.position(disorder_ms, b""))
        if not any(point.changed for point in later):
            entries = {}
        else:
            entries = {event_key(e.event.event_id): e for e in map(decode_entry, log.read())}
        for point in later:
            changed, point.changed = point.changed, False
            features = history.observe(point)
            entry = entries.get(point.id_key)
            if not changed or entry is None or history.said.get(point.id_key) == history.digest(features):
                continue
            state.version += 1
            records.append(
                FeatureRecord(
                    entry.event,
                    [*features, *entry.entity_features],
                    history.session.start_ms,
                    state.version,
                    trigger,
                    entry.entity_approximate or history.approximate,
                    entry.received_ms,
                    next(s.last_ms for s in reversed(state.sessions) if s.start_ms <= point.time_ms),
                )
            )
        history.said.clear()

    def _close(self, state: UserState, now_ms: int, log: Log) -> None:
        """Closes for good the sessions whose grace period is over."""
        bound = now_ms - self.gap_ms - self.grace_ms
        closed = [s for s in state.sessions if s.last_ms <= bound]
        if closed:
            state.sessions = [s for s in state.sessions if s.last_ms > bound]
            self._forget_before(state, closed[-1].last_ms + self.gap_ms, log)

    def _forget_before(self, state: UserState, closed_through_ms: int, log: Log) -> None:
        state.closed_through_ms = closed_through_ms
        state.history.close_before(closed_through_ms)
        kept: list[bytes] = []
        if state.sessions:
            kept = [e for e in log.read() if decode_entry(e).event.event_time_ms >= closed_through_ms]
        log.replace(kept)
        state.log_count = len(kept)
        state.log_overflow &= bool(kept)

    def _force_oldest(self, state: UserState, log: Log, records: list[Record]) -> None:
        """Holds the bound on open sessions: the oldest is finalized and closed, whatever the watermark."""
        oldest = state.sessions[0]
        oldest.approximate = True
        if oldest.status != FINAL:
            self._repair(state, log, "FORCED", records)
            self._finalize(state, oldest, "FORCED", records)
        del state.sessions[0]
        self._forget_before(state, oldest.last_ms + self.gap_ms, log)


def _order(envelope: Envelope) -> tuple[int, bytes]:
    return envelope.event.event_time_ms, event_key(envelope.event.event_id)


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds")


def _dead_letter(envelope: Envelope, reason: str, field: str, message: str) -> DeadLetter:
    event = envelope.event
    return DeadLetter(
        reason=reason,
        field=field,
        message=message,
        payload=envelope.payload,
        received_ms=envelope.received_ms,
        source=envelope.source,
        event_id=event.event_id,
        user_id=event.user_id,
        event_time_ms=event.event_time_ms,
    )
