# mypy: allow-untyped-calls
"""Alerting on a stream: thin Beam around `transforms.alerts`."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.alerts import Alert, alert
from transforms.records import Score


class RaiseAlerts(beam.PTransform):  # type: ignore[type-arg]
    """Tells of the events that aren't simply allowed.

    Takes a PCollection of `Score`, gives a PCollection of `Alert`, one for each score whose action isn't `allow`; a
    score that corrects an earlier one gives the same alert with a higher version.
    """

    def expand(self, scores: PCollection[Score]) -> PCollection[Alert]:
        return scores | "Alert" >> beam.FlatMap(_alerts).with_output_types(Alert)


def _alerts(score: Score) -> Iterator[Alert]:
    raised = alert(score)
    if raised is not None:
        yield raised
