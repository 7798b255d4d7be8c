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
from typing import Any, NamedTuple

from transforms.entities import DAY_MS, Entity
from transforms.entity_checkpoints import Checkpoints, Ladder, total
from transforms.entity_distinct import RecentValues, find
from transforms.entity_keys import PAYMENT, hash_of, kind_of
from transforms.entity_plan import Plan
from transforms.entity_state import NEVER, EntityState, StateCodec
from transforms.entity_verdicts import FRAUD, MATCHED, Verdicts, between, tie
from transforms.events import Activity, Label

SLACK_MS = DAY_MS
"""How late, in event time, an event can be and still find all that its windows cover."""

_MASK = (1 << 64) - 1
_NO_VALUE = bytes(8)


class Answer(NamedTuple):
    """An event's features of one entity, and whether a bound of the state made any of them inexact."""

    values: tuple[Any, ...]
    approximate: bool


class EntityMachine:
    """The state machine of one entity's declaration. A state that is handed in may be changed and handed back."""

    def __init__(self, entity: Entity) -> None:
        self.entity = entity
        self._plan = Plan(entity)
        self._keep_ms = entity.horizon_ms + SLACK_MS
        self._ladder = Ladder([(f.delay_ms, f.window_ms) for f in entity.features], self._keep_ms)
        self._codec = StateCodec(self._plan.layout)
        self.encode = self._codec.encode
        self.decode = self._codec.decode
        self.none: tuple[None, ...] = (None,) * len(entity.features)
        """The features of an event that has no such entity."""

    def on_event(self, state: EntityState | None, event: Activity) -> tuple[EntityState, Answer]:
        """An event of this entity: it counts, and gets the entity's features."""
        state = state or EntityState(self._plan.layout)
        hi = self._insert(state, event, kind_of(event))
        return state, self._answer(state, hi, event.event_time_ms)

    def on_feed(self, state: EntityState | None, event: Activity) -> EntityState:
        """An event that names this entity as its other side: it counts in the second role."""
        state = state or EntityState(self._plan.layout)
        self._insert(state, event, kind_of(event) | 8)
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
        increments = [(column, 1) for column in plan.total_of_kind.get(kind, ())]
        increments += [(plan.first_sum + s, amount) for s, amount in enumerate(amounts) if amount]
        self._checkpoints(state).add(time_ms, increments, state.newest_ms, self._ladder)
        if state.samples is None:
            state.samples = [RecentValues(0, array("q"), b"", b"") for _ in plan.samples]
        for (track, window_ms), sample in zip(plan.samples, state.samples, strict=True):
            value = values[track]
            if value != _NO_VALUE and find(state.tracks[track], value) < 0:
                sample.add(value, time_ms, state.newest_ms - window_ms - SLACK_MS)

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

    def _answer(self, state: EntityState, hi: int, now_ms: int) -> Answer:
        plan, times, kinds = self._plan, state.times, state.kinds
        out: list[Any] = [None] * plan.slots
        lows: list[int] = []
        lo = 0
        for window_ms in plan.windows:
            lo = bisect_right(times, now_ms - window_ms, lo, hi)
            lows.append(lo)
        for codes, outs in plan.counts:
            if codes is None:
                for i, w in outs:
                    out[i] = hi - lows[w]
            elif len(codes) == 1:
                code = codes[0]
                for i, w in outs:
                    out[i] = kinds.count(code, lows[w], hi)
            else:
                for i, w in outs:
                    out[i] = sum([kinds.count(code, lows[w], hi) for code in codes])
        for s, outs in plan.sum_outs:
            totals, base = state.sums[s], state.bases[s]
            until = totals[hi - 1] if hi else base
            for i, w in outs:
                lo = lows[w]
                out[i] = (until - (totals[lo - 1] if lo else base)) & _MASK
        for track, outs in plan.distinct_outs:
            # Windows from the shortest to the longest: each adds what lies before the one it holds.
            seen: set[int] = set()
            start = hi
            column = state.tracks[track]
            for i, w in outs:
                lo = lows[w]
                if lo < start:
                    seen.update(array("Q", column[8 * lo : 8 * start]))
                    start = lo
                out[i] = len(seen) - (0 in seen)
        for delay_ms, wanted in plan.delayed:
            self._answer_delayed(state, hi, now_ms, delay_ms, wanted, out)
        approximate = False
        if max(state.floor_ms, state.verdict_floor_ms) > now_ms - plan.horizon_ms:
            approximate = self._add_given_up(state, now_ms, out)
        for i, fraud, payments in plan.shares:
            out[i] = min(1.0, out[fraud] / out[payments]) if out[payments] else None
        if plan.extra:
            del out[-plan.extra :]
        return Answer(tuple(out), approximate)

    def _answer_delayed(
        self, state: EntityState, hi: int, now_ms: int, delay_ms: int, outs: list[tuple[int, int, str]], out: list[Any]
    ) -> None:
        until_ms = now_ms - delay_ms
        end = bisect_right(state.times, until_ms, 0, hi) if delay_ms else hi
        labelled = fraud = None
        after: list[bool] = []
        if state.verdicts is not None:
            labelled, fraud = state.verdicts.as_of(now_ms)
            if not delay_ms and tie(labelled, now_ms):
                # Payments of the same millisecond that come after this one don't count.
                ahead = [state.ids[8 * i : 8 * i + 8] for i in range(hi, len(state.times))]
                after = [is_fraud for target_id, is_fraud in state.verdicts.tied(now_ms, now_ms) if target_id in ahead]
        for i, window_ms, aggregate in outs:
            start_ms = until_ms - window_ms
            if aggregate == "payment_count":
                out[i] = state.kinds.count(PAYMENT, bisect_right(state.times, start_ms, 0, end), end)
            elif labelled is None or fraud is None:
                out[i] = 0
            elif aggregate == "fraud_count":
                out[i] = between(fraud, start_ms, until_ms) - sum(after)
            else:
                out[i] = between(labelled, start_ms, until_ms) - len(after)

    def _add_given_up(self, state: EntityState, now_ms: int, out: list[Any]) -> bool:
        """Adds to counts what was given up. Returns whether any window begins before it."""
        plan, floor_ms = self._plan, state.floor_ms
        approximate = self._add_totals(state, now_ms, out, plan.given_up, floor_ms)
        if state.verdict_floor_ms != NEVER:
            approximate |= self._add_totals(state, now_ms, out, plan.given_up_verdicts, state.verdict_floor_ms)
        last_ms = state.times[-1] if state.times else NEVER
        for n, (track, window_ms) in enumerate(plan.samples):
            if now_ms - window_ms < floor_ms:
                approximate = True
                i = plan.sampled[n]
                if last_ms > now_ms:
                    # A sample knows but the last sight of a value, so a late event's windows reach to the newest one.
                    out[i] = len(set(array("Q", state.tracks[track])) - {0})
                if state.samples is not None:
                    out[i] += state.samples[n].count(now_ms - window_ms)
        return approximate

    def _add_totals(
        self,
        state: EntityState,
        now_ms: int,
        out: list[Any],
        windows: list[tuple[int, int, list[tuple[int, int]]]],
        floor_ms: int,
    ) -> bool:
        checkpoints, newest_ms, ladder = state.checkpoints, state.newest_ms, self._ladder
        approximate = False
        for delay_ms, window_ms, outs in windows:
            start_ms = now_ms - delay_ms - window_ms
            if start_ms >= floor_ms:
                continue
            approximate = True
            if checkpoints is None or not checkpoints.ends:
                continue
            start = checkpoints.locate(start_ms, newest_ms, ladder, floor_ms)
            until = checkpoints.locate(min(now_ms - delay_ms, floor_ms), newest_ms, ladder, floor_ms)
            for i, column in outs:
                totals = checkpoints.totals[column]
                out[i] += round(total(totals, until) - total(totals, start))
        return approximate
