"""The index of timers changes how long the local runner takes, and nothing else."""

import subprocess
import sys
from pathlib import Path

import apache_beam as beam
from apache_beam.utils.timestamp import Timestamp

from fraud_pipeline import local_timers

# Keys with timers in both domains, set, moved, cleared and left over, and a window of each key with an early pane.
_PROGRAM = """
import random, sys
import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms import trigger, userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from fraud_pipeline import local_timers

if sys.argv[1] == "indexed":
    assert local_timers.install()

class Timed(beam.DoFn):
    COUNT = userstate.ReadModifyWriteStateSpec("count", VarIntCoder())
    EVENT = userstate.TimerSpec("event", TimeDomain.WATERMARK)
    PROCESSING = userstate.TimerSpec("processing", TimeDomain.REAL_TIME)

    def process(self, element, at=beam.DoFn.TimestampParam, count=beam.DoFn.StateParam(COUNT),
                event=beam.DoFn.TimerParam(EVENT), processing=beam.DoFn.TimerParam(PROCESSING)):
        key, value = element
        n = (count.read() or 0) + 1
        count.write(n)
        event.set(at + 5)
        if value % 3 == 0:
            processing.set(value)
        elif value % 7 == 0:
            processing.clear()
        yield f"{key} element {n}"

    @userstate.on_timer(EVENT)
    def on_event(self, key=beam.DoFn.KeyParam, at=beam.DoFn.TimestampParam, count=beam.DoFn.StateParam(COUNT)):
        yield f"{key} event {at} {count.read()}"
        count.clear()

    @userstate.on_timer(PROCESSING)
    def on_processing(self, key=beam.DoFn.KeyParam, at=beam.DoFn.TimestampParam, count=beam.DoFn.StateParam(COUNT)):
        yield f"{key} processing {at} {count.read()}"

class Note(beam.DoFn):
    def __init__(self, seed):
        self.seed = seed

    def process(self, element):
        with open(sys.argv[2], "a") as out:
            out.write(f"{self.seed} {element}" + chr(10))

def run(seed):
    rng = random.Random(seed)
    stream, watermark = TestStream(), 0
    for step in range(40):
        stream.add_elements([
            TimestampedValue((f"k{rng.randrange(9)}", rng.randrange(60)), max(0, watermark + rng.randrange(-5, 20)))
            for _ in range(rng.randrange(4))
        ])
        if rng.random() < 0.5:
            stream.advance_processing_time(rng.randrange(1, 4))
        if rng.random() < 0.5:
            watermark += rng.randrange(1, 9)
            stream.advance_watermark_to(watermark)
    stream.advance_watermark_to_infinity()
    stream.advance_processing_time(1000)
    options = PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming", "--allow_unsafe_triggers"])
    with beam.Pipeline(options=options) as pipeline:
        keyed = pipeline | stream | beam.Map(tuple).with_output_types(tuple[str, int])
        timed = keyed | beam.ParDo(Timed())
        panes = (
            keyed
            | beam.WindowInto(
                FixedWindows(10),
                trigger=trigger.AfterWatermark(early=trigger.AfterProcessingTime(2)),
                accumulation_mode=trigger.AccumulationMode.DISCARDING,
            )
            | beam.CombinePerKey(sum)
            | beam.MapTuple(lambda key, total: f"{key} total {total}")
        )
        (timed, panes) | beam.Flatten() | beam.ParDo(Note(seed))

for seed in (1, 2, 3):
    run(seed)
"""


def test_beam_is_the_version_whose_private_parts_are_replaced() -> None:
    assert beam.__version__ == local_timers.BEAM_VERSION, (
        "local_timers replaces private parts of Beam's direct runner: compare "
        "_TransformWatermarks.extract_transform_timers and refresh, EvaluationContext._initialize_keyed_states "
        "and handle_result, and InMemoryUnmergedState.copy of this version with those it was made for, adapt it, "
        "then BEAM_VERSION"
    )


def test_a_stream_of_timers_and_triggers_gives_the_same_with_the_index(tmp_path: Path) -> None:
    outputs = {}
    for how in ("plain", "indexed"):
        out = tmp_path / how
        subprocess.run([sys.executable, "-c", _PROGRAM, how, str(out)], check=True)
        outputs[how] = sorted(out.read_text().splitlines())

    assert outputs["indexed"] == outputs["plain"]
    kinds = {line.split()[2] for line in outputs["plain"]}
    assert kinds == {"element", "event", "processing", "total"}


class _State:
    def __init__(self, *timers: tuple[str, str, float]) -> None:
        self.timers = {"window": {(name, domain, ""): Timestamp(at) for name, domain, at in timers}}


def test_due_keys_are_those_with_a_timer_that_has_been_reached() -> None:
    states = local_timers.States()
    states["early"] = _State(("a", "WATERMARK", 5), ("b", "WATERMARK", 50))
    states["late"] = _State(("a", "WATERMARK", 11))
    states["clock"] = _State(("a", "REAL_TIME", 7))

    assert states.due(Timestamp(4), Timestamp(6)) == []
    assert states.due(Timestamp(5), Timestamp(6)) == ["early"]
    assert states.due(Timestamp(11), Timestamp(7)) == ["early", "late", "clock"]
    assert states.has_realtime_timer()


def test_a_key_stays_due_until_its_state_is_replaced() -> None:
    states = local_timers.States()
    states["k"] = _State(("a", "REAL_TIME", 5))
    assert [states.due(Timestamp(0), Timestamp(5)) for _ in range(2)] == [["k"], ["k"]]

    states["k"] = _State(("a", "REAL_TIME", 9))
    assert states.due(Timestamp(0), Timestamp(5)) == []
    assert states.due(Timestamp(0), Timestamp(9)) == ["k"]

    states["k"] = _State()
    assert states.due(Timestamp(0), Timestamp(9)) == []
    assert not states.has_realtime_timer()
    assert not states.may_have_timers()


def test_a_timer_set_back_to_an_earlier_time_and_forth_again_is_due_once_in_a_list() -> None:
    states = local_timers.States()
    for at in (9, 5, 9):
        states["k"] = _State(("a", "WATERMARK", at))
        states.due(Timestamp(0), Timestamp(0))

    assert states.due(Timestamp(5), Timestamp(0)) == []
    assert states.due(Timestamp(9), Timestamp(0)) == ["k"]


# A timer at 10 that gives a value at 9, into windows of ten seconds; the watermark leaps from 1 past the grace of 5.
_LEAP = """
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms import trigger, userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from fraud_pipeline import local_timers

assert local_timers.install()
assert local_timers.install(), "again"

class Timed(beam.DoFn):
    END = userstate.TimerSpec("end", TimeDomain.WATERMARK)

    def process(self, element, end=beam.DoFn.TimerParam(END)):
        end.set(10)
        yield 1

    @userstate.on_timer(END)
    def on_end(self):
        yield TimestampedValue(10, 9)

options = PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])
stream = TestStream().add_elements([TimestampedValue(("k", 0), 1)]).advance_watermark_to(1).advance_watermark_to(99)
with beam.Pipeline(options=options) as pipeline:
    _ = (
        pipeline
        | stream.advance_watermark_to_infinity()
        | beam.Map(tuple).with_output_types(tuple[str, int])
        | beam.ParDo(Timed())
        | beam.WindowInto(
            FixedWindows(10),
            trigger=trigger.AfterWatermark(late=trigger.AfterCount(1)),
            accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
            allowed_lateness=5,
        )
        | beam.CombineGlobally(sum).without_defaults()
        | beam.Map(print)
    )
"""


def test_what_a_timer_says_comes_before_the_watermark_that_made_it_fire() -> None:
    run = subprocess.run([sys.executable, "-c", _LEAP], check=True, capture_output=True, text=True)
    assert run.stdout.split()[-1] == "11"


def test_the_earliest_event_timer_is_that_of_any_key_and_none_in_processing_time() -> None:
    states = local_timers.States()
    assert states.earliest_event_timer() is None
    states["a"], states["b"] = _State(("t", "WATERMARK", 7)), _State(("t", "WATERMARK", 5), ("p", "REAL_TIME", 1))
    assert states.earliest_event_timer() == Timestamp(5)
    states["b"] = _State(("p", "REAL_TIME", 1))
    assert states.earliest_event_timer() == Timestamp(7)
    states["a"] = _State()
    assert states.earliest_event_timer() is None
