"""The local runner, as it is made fit for the graph's shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from fraud_pipeline import local_runner

BUNDLES: Counter[str] = Counter()
PASSED: list[int] = []


class Branch(beam.DoFn):
    def start_bundle(self) -> None:
        BUNDLES["last"] += 1

    def process(self, number: int) -> Iterator[Any]:
        yield number if number % 2 else TaggedOutput("even", number)


def collect(number: int) -> None:
    PASSED.append(number)


def test_a_chain_of_branches_takes_no_bundles_by_the_power_of_its_length() -> None:
    local_runner.install()
    BUNDLES.clear()
    PASSED.clear()
    with beam.Pipeline("BundleBasedDirectRunner") as pipeline:
        numbers = pipeline | beam.Create([1, 2])
        for n in range(8):
            both = numbers | f"Branch {n}" >> beam.ParDo(Branch()).with_outputs("even", main="odd")
            numbers = (both.odd, both.even) | f"Join {n}" >> beam.Flatten()
        _ = numbers | beam.Map(collect)
    assert sorted(PASSED) == [1, 2]
    assert BUNDLES["last"] <= 8 * 2, "a bundle for each step and element at most"
