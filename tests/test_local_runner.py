"""The local runner, as it is made fit for the graph's shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import TaggedOutput
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms import trigger
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import GlobalWindow, IntervalWindow, Sessions, TimestampCombiner, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfoTiming

from fraud_pipeline import local_runner, local_timers

BUNDLES: Counter[str] = Counter()
PASSED: list[int] = []
PANES: list[Any] = []


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


class Note(beam.DoFn):
    def process(self, element: Any, pane: Any = beam.DoFn.PaneInfoParam, window: Any = beam.DoFn.WindowParam) -> None:
        PANES.append((PaneInfoTiming.to_string(pane.timing), int(window.start), int(window.end), sorted(element[1])))


def panes_of(stream: TestStream) -> list[Any]:
    """The panes of a user's sessions, whose gap is ten seconds, in order."""
    local_runner.install()
    local_timers.install()
    PANES.clear()
    options = PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | stream
            | beam.Map(lambda value: ("u", value)).with_output_types(tuple[str, str])
            | beam.WindowInto(
                Sessions(10),
                trigger=trigger.AfterWatermark(late=trigger.AfterCount(1)),
                accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
                allowed_lateness=100,
                timestamp_combiner=TimestampCombiner.OUTPUT_AT_EOW,
            )
            | beam.GroupByKey()
            | beam.ParDo(Note())
        )
    return list(PANES)


def test_a_session_whose_end_late_data_moves_has_a_pane_when_the_watermark_passes_it() -> None:
    stream = TestStream().add_elements([TimestampedValue("a", 0)]).advance_watermark_to(11)
    stream = stream.add_elements([TimestampedValue("b", 5)]).advance_watermark_to(16)
    assert panes_of(stream.advance_watermark_to_infinity()) == [
        ("ON_TIME", 0, 10, ["a"]),
        ("ON_TIME", 0, 15, ["a", "b"]),
    ]


def test_panes_after_the_end_of_a_session_are_late_and_one_comes_for_each_late_element() -> None:
    stream = TestStream().add_elements([TimestampedValue("a", 0), TimestampedValue("b", 5)]).advance_watermark_to(16)
    for late, time in (("c", 3), ("d", 1)):
        stream = stream.add_elements([TimestampedValue(late, time)])
    assert panes_of(stream.advance_watermark_to_infinity()) == [
        ("ON_TIME", 0, 15, ["a", "b"]),
        ("LATE", 0, 15, ["a", "b", "c"]),
        ("LATE", 0, 15, ["a", "b", "c", "d"]),
    ]


def test_a_pane_is_named_by_its_window_where_other_windows_hold_the_output() -> None:
    local_runner.install()
    window, driver = IntervalWindow(0, 10), _driver()
    for passed, timing in ((False, PaneInfoTiming.EARLY), (True, PaneInfoTiming.LATE)):
        state = trigger.InMemoryUnmergedState()
        state.at(window, driver.clock).add_state(trigger.AfterWatermark.LATE_TAG, passed)
        pane = driver._output(window, False, state, Timestamp(5), False)
        assert pane.pane_info.timing == timing
        assert not passed or state.get_state(window, driver.WATERMARK_HOLD) is None


def _driver() -> trigger.GeneralTriggerDriver:
    windowing = Windowing(
        Sessions(10),
        trigger.AfterWatermark(late=trigger.AfterCount(1)),
        trigger.AccumulationMode.ACCUMULATING,
        TimestampCombiner.OUTPUT_AT_EOW,
        allowed_lateness=100,
    )
    return trigger.GeneralTriggerDriver(windowing, None)


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
