"""Gives the timers of BundleBasedDirectRunner an index, and lets them hold the watermark. Not for production.

As it comes, the runner looks at every timer of every key of every step several times a bundle, so that a replay takes
time by its square; and where a bundle touches a key it copies the key's timers deeply, though they never change.
It also lets the watermark of the steps downstream pass a timer that has not fired yet: where the watermark leaps, as
after a stall, what the timer then says comes too late for the windows there. Here, as on other runners, the output
watermark of a step waits for its event-time timers.
This leans on private parts of Beam, so with any version but the one it was made for it does nothing.
"""

from __future__ import annotations

import copy
import functools
import heapq
import itertools
from collections.abc import Hashable
from typing import Any

import apache_beam as beam
from apache_beam.runners.direct.evaluation_context import EvaluationContext
from apache_beam.runners.direct.util import TimerFiring
from apache_beam.runners.direct.watermark_manager import _TransformWatermarks
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.trigger import InMemoryUnmergedState
from apache_beam.utils.timestamp import Timestamp

BEAM_VERSION = "2.77.0"

_TIMERS = "event-time timers"
"""Stands for the key, among those that hold a step's output watermark."""


def install() -> bool:
    """Keeps an index of timers, in this process from now on.

    Returns:
      Whether it was done: not with another version of Beam, which then just runs slower.
    """
    if beam.__version__ != BEAM_VERSION:
        return False
    if EvaluationContext._initialize_keyed_states is _initialize_keyed_states:
        return True
    # Beam's own methods, replaced on purpose: to a type checker these are any object.
    context: Any = EvaluationContext
    watermarks: Any = _TransformWatermarks
    unmerged_state: Any = InMemoryUnmergedState
    context._initialize_keyed_states = _initialize_keyed_states
    context.handle_result = _states_first(context.handle_result)
    watermarks.extract_transform_timers = _extract_transform_timers
    watermarks.refresh = _held_by_timers(watermarks.refresh)
    unmerged_state.copy = _copy
    return True


class States(dict[Hashable, Any]):
    """The states of a step's keys, with an index of their timers.

    When a bundle is committed, the states of its keys are replaced as a whole, so every change of a timer is seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changed: dict[Hashable, None] = {}
        self._has_timers = False
        self._timers = {TimeDomain.WATERMARK: _Timers(), TimeDomain.REAL_TIME: _Timers()}

    def __setitem__(self, key: Hashable, state: Any) -> None:
        super().__setitem__(key, state)
        self._changed[key] = None

    def may_have_timers(self) -> bool:
        """Whether there is anything to look for: most steps have no timer."""
        return self._has_timers or bool(self._changed)

    def due(self, watermark: Timestamp, processing_time: Timestamp) -> list[Hashable]:
        """The keys that have a timer which is due."""
        self._note_changed()
        keys = dict.fromkeys(self._timers[TimeDomain.WATERMARK].due(watermark.micros))
        keys |= dict.fromkeys(self._timers[TimeDomain.REAL_TIME].due(processing_time.micros))
        return list(keys)

    def has_realtime_timer(self) -> bool:
        """Whether any key has a timer in processing time, due or not."""
        return bool(self._timers[TimeDomain.REAL_TIME].earliest)

    def earliest_event_timer(self) -> Timestamp | None:
        """The time of the earliest timer in event time, of any key."""
        if not self.may_have_timers():
            return None
        self._note_changed()
        micros = self._timers[TimeDomain.WATERMARK].first()
        return None if micros is None else Timestamp(micros=micros)

    def _note_changed(self) -> None:
        for key in self._changed:
            self._note_timers(key)
        self._changed.clear()
        self._has_timers = any(timers.earliest for timers in self._timers.values())

    def _note_timers(self, key: Hashable) -> None:
        earliest: dict[str, int] = {}
        for timers in self[key].timers.values():
            for (_, domain, _), timestamp in timers.items():
                micros = Timestamp.of(timestamp).micros
                earliest[domain] = min(micros, earliest.get(domain, micros))
        for domain, known in self._timers.items():
            known.note(key, earliest.get(domain))


class _Timers:
    """The earliest timer of each key in one time domain, epoch microseconds; stale entries of the heap are skipped."""

    def __init__(self) -> None:
        self.earliest: dict[Hashable, int] = {}
        self._heap: list[tuple[int, int, Hashable]] = []
        self._number = itertools.count()

    def note(self, key: Hashable, micros: int | None) -> None:
        if micros is None:
            self.earliest.pop(key, None)
        elif self.earliest.get(key) != micros:
            self.earliest[key] = micros
            heapq.heappush(self._heap, (micros, next(self._number), key))

    def first(self) -> int | None:
        while self._heap and self.earliest.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, micros: int) -> list[Hashable]:
        entries = {}
        while self._heap and self._heap[0][0] <= micros:
            entry = heapq.heappop(self._heap)
            if self.earliest.get(entry[2]) == entry[0]:
                entries[entry[2]] = entry
        # They stay due until the state says otherwise: the executor also asks without firing them.
        for entry in entries.values():
            heapq.heappush(self._heap, entry)
        return list(entries)


def _initialize_keyed_states(self: Any, root_transforms: Any, value_to_consumers: Any) -> dict[Any, States]:
    return {step: States() for step in itertools.chain(root_transforms, *value_to_consumers.values())}


def _states_first(handle_result: Any) -> Any:
    """Commits the states of a bundle's keys before the watermarks that are told by them, not after."""

    @functools.wraps(handle_result)
    def handled(self: Any, completed_bundle: Any, completed_timers: Any, result: Any) -> Any:
        states = self._transform_keyed_states[result.transform]
        for key, state in result.partial_keyed_state.items():
            states[key] = state
        return handle_result(self, completed_bundle, completed_timers, result)

    return handled


def _held_by_timers(refresh: Any) -> Any:
    @functools.wraps(refresh)
    def refreshed(self: Any) -> bool:
        if isinstance(self._keyed_states, States):
            self.hold({_TIMERS: self._keyed_states.earliest_event_timer()})
        return bool(refresh(self))

    return refreshed


def _extract_transform_timers(self: Any) -> tuple[list[TimerFiring], bool]:
    states = self._keyed_states
    if not states.may_have_timers():
        return [], False
    with self._lock:
        watermark, now = self._input_watermark, self._clock.time()
        fired = [
            TimerFiring(key, window, name, domain, timestamp, dynamic_timer_tag=tag)
            for key in states.due(watermark, Timestamp.of(now))
            for window, (name, domain, timestamp, tag) in states[key].get_timers(
                watermark=watermark, processing_time=now
            )[0]
        ]
        self._fired_timers.update(fired)
        return fired, states.has_realtime_timer()


def _copy(self: Any) -> InMemoryUnmergedState:
    """As Beam's, but timers are immutable: the dictionaries that hold them are copied, not they."""
    clone = InMemoryUnmergedState(defensive_copy=self.defensive_copy)
    for window, timers in self.timers.items():
        clone.timers[window] = dict(timers)
    if self.global_state:
        clone.global_state = copy.deepcopy(self.global_state)
    for window, tags in self.state.items():
        for tag, value in tags.items():
            clone.state[window][tag] = copy.copy(value)
    return clone
