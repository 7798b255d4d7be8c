"""Makes BundleBasedDirectRunner fast enough for streams of small bundles, and lets them end. Not for production.

For every bundle Beam pickles the DoFn anew and looks through all its methods for state and timers; with a bundle for
each user and step that is most of a local stream's time. Both give the same each time, so here they are remembered.
Where late data joins sessions, its triggers also leave a watermark hold behind that nothing releases, and the job
stalls; here a window that has had its on-time pane holds nothing back. They call panes EARLY that come after it, and a
session whose end late data has moved gets no pane any more when the watermark passes the new one. Here such panes are
LATE, and a session that was joined waits for its end anew, as on other runners.
A bundle of no elements is scheduled like any other, so where a branch joins its other half again their number doubles,
and a chain of such branches takes time by the power of two of its length; here empty bundles go nowhere.
Each look at the state of a trigger makes a class anew; here each combiner gets one.
This leans on private parts of Beam, so it does nothing with any version but the one it was made for.
"""

from __future__ import annotations

import copy
import functools
import weakref
from typing import Any

import apache_beam as beam
from apache_beam.internal.cloudpickle import cloudpickle
from apache_beam.runners.direct import executor, transform_evaluator
from apache_beam.transforms import core, trigger, userstate

BEAM_VERSION = "2.77.0"


def install() -> bool:
    """Remembers, in this process from now on, what the runner finds out about DoFns.

    Returns:
      Whether it was done: not with another version of Beam, which then just runs slower.
    """
    if beam.__version__ != BEAM_VERSION:
        return False
    if isinstance(transform_evaluator.pickler, _Pickler):
        return True
    core.get_function_args_defaults = _by_function(core.get_function_args_defaults)
    specs = _by_class(userstate.get_dofn_specs)
    # Beam's own names, replaced on purpose: to a type checker these are any object.
    evaluators: Any = transform_evaluator
    driver: Any = trigger.GeneralTriggerDriver
    after_watermark: Any = trigger.AfterWatermark
    tag: Any = trigger._CombiningValueStateTag
    unmerged_state: Any = trigger.InMemoryUnmergedState
    parallel: Any = executor._ExecutorServiceParallelExecutor
    userstate.get_dofn_specs = evaluators.get_dofn_specs = specs
    userstate.validate_stateful_dofn = _by_class(userstate.validate_stateful_dofn)
    evaluators.pickler = _Pickler()
    driver._output = _releasing(driver._output)
    after_watermark.on_merge = _anew(after_watermark.on_merge)
    tag.without_extraction = _by_combiner(tag.without_extraction)
    unmerged_state.copy = _copied
    parallel.schedule_consumers = _unless_empty(parallel.schedule_consumers)
    return True


class _Pickler:
    """Pickles a DoFn once; each bundle still gets a copy of its own."""

    def __init__(self) -> None:
        self._pickled: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()

    def roundtrip(self, dofn: Any) -> Any:
        pickled = self._pickled.get(dofn)
        if pickled is None:
            pickled = self._pickled[dofn] = cloudpickle.dumps(dofn)
        return cloudpickle.loads(pickled)


def _unless_empty(schedule: Any) -> Any:
    @functools.wraps(schedule)
    def scheduled(runner: Any, bundle: Any) -> None:
        if bundle.has_elements():
            schedule(runner, bundle)

    return scheduled


def _copied(state: Any) -> Any:
    copied = trigger.InMemoryUnmergedState(state.defensive_copy)
    copied.timers.update((window, dict(timers)) for window, timers in state.timers.items())
    copied.global_state = copy.deepcopy(state.global_state)
    for window, tags in state.state.items():
        copied.state[window].update((tag, copy.copy(values)) for tag, values in tags.items())
    return copied


def _releasing(output: Any) -> Any:
    """A pane at the end of its window or after is named so, and holds nothing back.

    Its driver goes by the output watermark, which other windows may hold; the trigger knows better.
    """

    @functools.wraps(output)
    def released(driver: Any, window: Any, finished: bool, state: Any, watermark: Any, *args: Any) -> Any:
        is_late = getattr(driver.trigger_fn, "is_late", None)
        if is_late is not None and is_late(state.at(window, driver.clock)):
            watermark = max(watermark, window.end)
        return output(driver, window, finished, state, watermark, *args)

    return released


def _anew(on_merge: Any) -> Any:
    """Merged windows wait for their common end; where the watermark is past it, the next look at them fires."""

    @functools.wraps(on_merge)
    def merged(after_watermark: Any, to_be_merged: Any, merge_result: Any, context: Any) -> Any:
        context.clear_state(after_watermark.LATE_TAG)
        return on_merge(after_watermark, to_be_merged, merge_result, context)

    return merged


def _by_combiner(without_extraction: Any) -> Any:
    known: dict[Any, Any] = {}

    @functools.wraps(without_extraction)
    def remembered(tag: Any) -> Any:
        if tag.combine_fn not in known:
            known[tag.combine_fn] = without_extraction(tag).combine_fn
        return trigger._CombiningValueStateTag(tag.tag, known[tag.combine_fn])

    return remembered


def _by_class(function: Any) -> Any:
    known: dict[type, Any] = {}

    @functools.wraps(function)
    def remembered(dofn: Any) -> Any:
        kind = type(dofn)
        if kind.__module__ == "__main__":  # pickled by value: its specs are others in each copy
            return function(dofn)
        if kind not in known:
            known[kind] = function(dofn)
        return known[kind]

    return remembered


def _by_function(function: Any) -> Any:
    known: dict[Any, Any] = {}

    @functools.wraps(function)
    def remembered(method: Any) -> Any:
        key = getattr(method, "__func__", method), type(getattr(method, "__self__", None))
        if key not in known:
            known[key] = function(method)
        return known[key]

    return remembered
