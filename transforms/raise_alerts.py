# mypy: allow-untyped-calls
"""Alerting on a stream: decodes a key's state, calls `transforms.cases`, encodes it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import Timestamp

from transforms.alerts import Alert
from transforms.case_state import decode, decode_finding, encode, encode_finding
from transforms.cases import CaseConfig, Cases, Step, matters
from transforms.features import FEATURES, Feature
from transforms.records import Score
from transforms.stamping import stamped


class RaiseAlerts(beam.PTransform[PCollection[Score], PCollection[Alert]]):
    """Puts suspicious events together into cases and tells of each case once, and again when it changes.

    Takes `Score`s in the global window, gives `Alert`s stamped with the time of the case's last event. All versions of
    a case have the same `alert_id`; the highest version counts. Counters: `alerts/<change>`.

    Args:
      config: what makes a case.
      features: what the values of a record are, in their order.
      bounded: True for the batch path, which gives the last version of each case only.
    """

    def __init__(
        self, config: CaseConfig = CaseConfig(), features: Sequence[Feature] = FEATURES, *, bounded: bool = False
    ) -> None:
        super().__init__()
        self._config = config
        self._features = tuple(features)
        self._bounded = bounded

    def expand(self, scores: PCollection[Score]) -> PCollection[Alert]:
        """Wires it."""
        if not isinstance(scores.windowing.windowfn, GlobalWindows):
            raise TypeError("RaiseAlerts needs scores in the global window: a case knows no other")
        key = beam.ParDo(_KeyByCaseDoFn(self._config, self._features)).with_output_types(tuple[str, bytes])
        keyed = scores | "KeyByCase" >> key
        if self._bounded:
            fold = beam.ParDo(_FoldDoFn(self._config, self._features)).with_output_types(Alert)
            return keyed | "GroupByKey" >> beam.GroupByKey() | "Fold" >> fold
        return keyed | "Cases" >> beam.ParDo(CasesDoFn(self._config, self._features)).with_output_types(Alert)


class _CaseDoFn(beam.DoFn):
    def __init__(self, config: CaseConfig, features: Sequence[Feature]) -> None:
        self._config = config
        self._features = features

    def setup(self) -> None:
        """Builds the state machine, once a worker."""
        self._machine = Cases(self._config, self._features)


class _KeyByCaseDoFn(_CaseDoFn):
    """Sends on, of the scores that matter, what cases remember: compact bytes, not pickled scores."""

    def process(self, score: Score) -> Iterator[tuple[str, bytes]]:
        if matters(score):
            yield self._machine.key(score), encode_finding(self._machine.finding(score))


class CasesDoFn(_CaseDoFn):
    """Keeps the cases of a key. Takes `(key, encoded finding)` in the global window, gives `Alert`s."""

    STATE = ReadModifyWriteStateSpec("cases", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[str, bytes],
        cell: Any = beam.DoFn.StateParam(STATE),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        """A finding arrives."""
        key, taken = element
        data = cell.read()
        yield from _keep(
            self._machine.on_finding(decode(data) if data else None, key, decode_finding(taken)), cell, due
        )

    @on_timer(DUE)
    def on_due(
        self,
        fired: Any = beam.DoFn.TimestampParam,
        cell: Any = beam.DoFn.StateParam(STATE),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        """The watermark has passed the end of a cool-down, or of what is remembered."""
        data = cell.read()
        if data:
            state = decode(data)
            state.timer_ms = None
            yield from _keep(self._machine.on_watermark(state, fired.micros // 1_000), cell, due)


def _keep(step: Step, cell: Any, due: Any) -> Iterator[Any]:
    if step.state is None:
        cell.clear()
        due.clear()
    else:
        assert step.timer_ms is not None, "a key with state has something to wait for"
        if step.timer_ms != step.state.timer_ms:
            step.state.timer_ms = step.timer_ms
            due.set(Timestamp(micros=step.timer_ms * 1_000))
        cell.write(encode(step.state))
    yield from _stamped(step.alerts)


class _FoldDoFn(_CaseDoFn):
    def process(self, element: tuple[str, Iterable[bytes]]) -> Iterator[Any]:
        key, findings = element
        yield from _stamped(self._machine.backfill(key, map(decode_finding, findings)))


def _stamped(alerts: Iterable[Alert]) -> Iterator[Any]:
    for each in alerts:
        Metrics.counter("alerts", each.change.lower()).inc()
        yield stamped(each, each.last_event_ms)
