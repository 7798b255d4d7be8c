"""The velocity of one entity as a pure state machine: events and labels update it, events get its features.

The answer to an event is a function of the set of events and labels that the entity has accepted so far and of the
event's own time: windows are `(t - w, t]`, the event included, verdicts are those known at `t`. An event that comes out
of order is put in its place; one that comes again (the same id) changes nothing and is answered the same.

The newest `max_points` events are kept one by one, and windows that lie within them are exact. What is given up goes
into `transforms.entity_checkpoints` (counts and sums) and `transforms.entity_distinct`, and answers that need it say
`approximate`. `EntityMachine` is used by the stream and by the backfill; it holds no clock and does no input or output.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

from transforms.entities import DAY_MS, Entity
from transforms.entity_answers import Answer, Answers
from transforms.entity_checkpoints import Checkpoints, Ladder
from transforms.entity_distinct import RecentValues, find
from transforms.entity_keys import FED, PAYMENT, hash_of, kind_of
from transforms.entity_plan import Plan
from transforms.entity_state import EntityState, StateCodec
from transforms.entity_verdicts import FRAUD, MATCHED, Verdicts
from transforms.events import Activity, Label

SLACK_MS = DAY_MS
"""How late, in event time, an event can be and still find all that its windows cover."""

_MASK = (1 << 64) - 1
_NO_VALUE = bytes(8)


class EntityMachine:
    """The state machine of one entity's declaration. A state that is handed in may be changed and handed back."""

    def __init__(self, entity: Entity) -> None:
        self.entity = entity
        self._plan = Plan(entity)
        self._keep_ms = entity.horizon_ms + SLACK_MS
        self._ladder = Ladder([(f.delay_ms, f.window_ms) for f in entity.features], self._keep_ms)
        self._codec = StateCodec(self._plan.layout)
        self._answers = Answers(self._plan, self._ladder)
        self.encode = self._codec.encode
        self.decode = self._codec.decode
        self.none: tuple[None, ...] = (None,) * len(entity.features)
        """The features of an event that has no such entity."""

    def on_event(self, state: EntityState | None, event: Activity) -> tuple[EntityState, Answer]:
        """An event of this entity: it counts, and gets the entity's features."""
        state = state or EntityState(self._plan.layout)
        end = self._insert(state, event, kind_of(event))
        return state, self._answers.answer(state, end, event.event_time_ms)

    def on_feed(self, state: EntityState | None, event: Activity) -> EntityState:
        """An event that names this entity as its other side: it counts in the second role."""
        state = state or EntityState(self._plan.layout)
        self._insert(state, event, kind_of(event) + FED)
        return state

    def on_label(self, state: EntityState | None, label: Label) -> EntityState:
        """A verdict on a payment of this entity, which may be there, still to come, or given up."""
        state = state or EntityState(self._plan.layout)
        verdicts = state.verdicts = state.verdicts or Verdicts.empty()
        target_ms, flags = label.target_event_time_ms, FRAUD if label.is_fraud else 0
        target_id = hash_of(label.target_event_id)
        i = find(state.ids, target_id)
        if i >= 0:
            target_ms = state.times[i]
            if state.kinds[i] == PAYMENT:
                flags |= MATCHED
        elif target_ms <= state.floor_ms:
            flags |= MATCHED
        if label.event_time_ms > state.newest_ms:
            state.newest_ms = label.event_time_ms
            self._expire(state)
        label_id = hash_of(label.event_id)
        if verdicts.add(target_ms, target_id, label.event_time_ms, label_id, flags):
            self._drop_verdicts(state, verdicts)
            while len(verdicts) > self.entity.max_points:
                self._give_up_verdict(state, verdicts)
        return state

    def expires_ms(self, state: EntityState) -> int:
        """When, by the watermark, the state is of no use to any window any more, unless something comes."""
        return state.newest_ms + self._keep_ms

    def _insert(self, state: EntityState, event: Activity, kind: int) -> int:
        """Puts an event in its place. Returns the number of points up to and with it."""
        plan, times, time_ms = self._plan, state.times, event.event_time_ms
        event_id = hash_of(event.event_id)
        known = find(state.ids, event_id)
        if known >= 0:
            return known + 1 if times[known] == time_ms else bisect_right(times, time_ms)
        values = [
            hash_of(value) if kind in kinds and (value := read(event)) is not None else _NO_VALUE
            for read, kinds in plan.tracks
        ]
        amounts = [event.amount_minor if kind == summed else 0 for summed in plan.sums]  # type: ignore[union-attr]
        if time_ms > state.newest_ms:
            state.newest_ms = time_ms
            if times and times[0] <= time_ms - self._keep_ms:
                self._expire(state)
        if time_ms <= state.floor_ms:
            self._fold(state, time_ms, kind, values, amounts)
            return bisect_right(times, time_ms)
        n = len(times)
        i = n
        if n and times[-1] >= time_ms:
            i = bisect_left(times, time_ms)
            while i < n and times[i] == time_ms and state.ids[8 * i : 8 * i + 8] < event_id:
                i += 1
        times.insert(i, time_ms)
        at = 8 * i
        state.ids = state.ids[:at] + event_id + state.ids[at:]
        state.kinds = state.kinds[:i] + bytes((kind,)) + state.kinds[i:]
        state.tracks = [column[:at] + value + column[at:] for column, value in zip(state.tracks, values, strict=True)]
        for s, amount in enumerate(amounts):
            column = state.sums[s]
            column.insert(i, ((column[i - 1] if i else state.bases[s]) + amount) & _MASK)
            if amount and i < n:
                column[i + 1 :] = array("Q", [(total + amount) & _MASK for total in column[i + 1 :]])
        if state.samples is not None:
            for (track, _), sample in zip(plan.samples, state.samples, strict=True):
                sample.discard(values[track])
        if state.verdicts is not None and kind == PAYMENT:
            state.verdicts.match(event_id, time_ms)
        if n >= self.entity.max_points:
            self._give_up_oldest(state)
            return i
        return i + 1

    def _expire(self, state: EntityState) -> None:
        """Drops points that no window can reach."""
        bound_ms = state.newest_ms - self._keep_ms
        count = bisect_right(state.times, bound_ms)
        if count:
            state.floor_ms = max(state.floor_ms, state.times[count - 1])
            self._cut(state, count)
        if state.verdicts is not None:
            self._drop_verdicts(state, state.verdicts)

    def _drop_verdicts(self, state: EntityState, verdicts: Verdicts) -> None:
        dropped_ms = verdicts.drop_before(state.newest_ms - self._keep_ms)
        if dropped_ms is not None:
            state.verdict_floor_ms = max(state.verdict_floor_ms, dropped_ms)

    def _cut(self, state: EntityState, count: int) -> None:
        del state.times[:count]
        state.ids = state.ids[8 * count :]
        state.kinds = state.kinds[count:]
        state.tracks = [column[8 * count :] for column in state.tracks]
        for s, column in enumerate(state.sums):
            state.bases[s] = column[count - 1]
            del column[:count]

    def _give_up_oldest(self, state: EntityState) -> None:
        time_ms, kind = state.times[0], state.kinds[0]
        values = [column[:8] for column in state.tracks]
        amounts = [(column[0] - base) & _MASK for column, base in zip(state.sums, state.bases, strict=True)]
        state.floor_ms = max(state.floor_ms, time_ms)
        self._cut(state, 1)
        self._fold(state, time_ms, kind, values, amounts)

    def _fold(self, state: EntityState, time_ms: int, kind: int, values: list[bytes], amounts: list[int]) -> None:
        """Counts an event among those that were given up."""
        plan = self._plan
        increments = [(column, 1) for column in plan.totals_of_kind.get(kind, ())]
        increments += [(plan.first_sum + s, amount) for s, amount in enumerate(amounts) if amount]
        self._checkpoints(state).add(time_ms, increments, state.newest_ms, self._ladder)
        if state.samples is None:
            state.samples = [RecentValues(0, array("q"), b"", b"") for _ in plan.samples]
        columns = zip(values, state.tracks, strict=True)
        is_gone = [value != _NO_VALUE and find(column, value) < 0 for value, column in columns]
        for (track, window_ms), sample in zip(plan.samples, state.samples, strict=True):
            if is_gone[track]:
                sample.add(values[track], time_ms, state.newest_ms - window_ms - SLACK_MS)

    def _checkpoints(self, state: EntityState) -> Checkpoints:
        if state.checkpoints is None:
            state.checkpoints = Checkpoints(array("q"), [array("Q") for _ in self._plan.layout.totals])
        return state.checkpoints

    def _give_up_verdict(self, state: EntityState, verdicts: Verdicts) -> None:
        target_ms, fraud = verdicts.pop_oldest()
        state.verdict_floor_ms = max(state.verdict_floor_ms, target_ms)
        if fraud is not None:
            labelled, frauds = self._plan.labelled, self._plan.fraud
            increments = [(labelled, 1), (frauds, 1)] if fraud else [(labelled, 1)]
            self._checkpoints(state).add(target_ms, increments, state.newest_ms, self._ladder)
