"""The local runner, as it is made fit for the graph's shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms import trigger
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

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


def test_state_without_extraction_is_that_of_the_tag_by_one_combiner_each() -> None:
    local_runner.install()
    late, count = trigger._CombiningValueStateTag("late", any), trigger._CombiningValueStateTag("count", sum)
    looks = [tag.with_prefix("0_").without_extraction() for tag in (late, count, late)]
    assert [look.tag for look in looks] == ["0_late", "0_count", "0_late"]
    assert looks[0].combine_fn is looks[2].combine_fn
    assert looks[0].combine_fn is not looks[1].combine_fn
    summed = looks[1].combine_fn
    assert summed.extract_output(summed.add_input(summed.create_accumulator(), 3)) == [3], "as Beam's: no sum yet"


def test_a_copy_of_a_keys_state_is_apart_from_it() -> None:
    local_runner.install()
    window, values = GlobalWindow(), trigger._ListStateTag("values")
    state = trigger.InMemoryUnmergedState()
    state.set_timer(window, "end", TimeDomain.WATERMARK, Timestamp(5))
    state.add_state(window, values, "a")
    copied = state.copy()
    assert copied.timers == {window: {("end", TimeDomain.WATERMARK, ""): Timestamp(5)}}
    assert copied.get_state(window, values) == ["a"]
    copied.set_timer(window, "end", TimeDomain.WATERMARK, Timestamp(6))
    copied.set_timer(window, "start", TimeDomain.WATERMARK, Timestamp(1))
    copied.add_state(window, values, "b")
    assert state.timers == {window: {("end", TimeDomain.WATERMARK, ""): Timestamp(5)}}
    assert state.get_state(window, values) == ["a"]
    copied.clear_timer(window, "end", TimeDomain.WATERMARK)
    copied.clear_timer(window, "start", TimeDomain.WATERMARK)
    assert not copied.timers
    copied.set_timer(window, "end", TimeDomain.WATERMARK, Timestamp(7))
    assert len(copied.timers) == 1, "a window without timers gets one again"
