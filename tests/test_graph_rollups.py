"""The roll-ups of a stream with events that are minutes and hours late: what they miss, and that they miss no more."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest
from collected import COLLECTED, Collect, Span, last_panes, net_scores, session_scores, summed_up

from fraud_pipeline import job
from fraud_pipeline.config import PipelineConfig
from fraud_pipeline.simulate import Delivery, SimulationConfig, simulate
from fraud_pipeline.stream_replay import ReplayOptions, plan
from transforms.events import Message
from transforms.message_lines import wrap_line

CONFIG = PipelineConfig()
KEPT_MS = round((CONFIG.gap_seconds + CONFIG.grace_seconds) * 1_000)


class Runs(NamedTuple):
    """A file as a stream and as a backfill, and the watermark at the arrival of each message (id, received_ms)."""

    replayed: dict[str, list[Any]]
    backfilled: dict[str, list[Any]]
    watermarks: dict[tuple[str, int], int]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A fifth of the events is out of order, a fifth late: most of these by more than gap and grace."""
    delivery = Delivery(delayed=0.2, late=0.2, duplicates=0.02, malformed=0)
    config = SimulationConfig(users=60, days=1, history_days=0, seed=5, delivery=delivery)
    messages = [Message(a.payload, a.received_ms, "") for a in simulate(config)]
    path = tmp_path_factory.mktemp("late") / "events.jsonl"
    path.write_bytes(b"".join(wrap_line(message) + b"\n" for message in messages))
    options = ReplayOptions(max_ticks=1_000)
    assert job.replay([str(path)], Collect(), CONFIG, replay_options=options) == 0
    replayed = dict(COLLECTED)
    assert job.backfill([str(path)], Collect(), CONFIG) == 0
    watermarks: dict[tuple[str, int], int] = {}
    watermark_ms = 0
    for step in plan(messages, options):
        watermark_ms = watermark_ms if step.watermark_ms is None else step.watermark_ms
        for message in step.messages:
            watermarks[msgspec.json.decode(message.payload)["event_id"], message.received_ms] = watermark_ms
    return Runs(replayed, dict(COLLECTED), watermarks)


def is_past(runs: Runs, score: Any, time_ms: int) -> bool:
    """Whether all that ends by that time and the gap was closed for good when the event came in."""
    record = score.record
    return runs.watermarks[record.event.event_id, record.received_ms] > time_ms + KEPT_MS


def left_out(runs: Runs) -> set[str]:
    """Ids of the events that came when their session, with themselves, was past by more than gap and grace."""
    return {
        s.record.event.event_id
        for s in runs.replayed["scores"]
        if s.record.trigger == "EVENT" and is_past(runs, s, max(s.record.session_last_ms, s.record.event.event_time_ms))
    }


def test_a_roll_up_has_the_newest_score_of_each_event_but_of_those_whose_session_was_past_when_they_came(
    runs: Runs,
) -> None:
    out = left_out(runs)
    expected: dict[Span, tuple[Any, ...]] = {}
    for (user_id, _, end_ms), scores in session_scores(runs.replayed).items():
        kept = [s for s in scores if s.record.event.event_id not in out]
        if kept:
            expected[user_id, min(s.record.event.event_time_ms for s in kept), end_ms] = summed_up(kept)
    assert last_panes(runs.replayed) == expected
    assert out, "no event came that late: too easy a test"


def test_what_is_late_for_a_window_of_its_own_is_rolled_up_where_its_session_is_open(runs: Runs) -> None:
    panes, out = last_panes(runs.replayed), left_out(runs)
    joined = corrected = 0
    for span, scores in session_scores(runs.replayed).items():
        for score in scores:
            event = score.record.event
            if event.event_id not in out and is_past(runs, score, event.event_time_ms):
                assert panes[span] == summed_up(scores)
                joined += 1
            corrected += score.record.trigger != "EVENT" and span[2] > event.event_time_ms + KEPT_MS
    assert joined > 0
    assert corrected > 0, "no correction came past grace: too easy a test"


def test_a_last_pane_differs_from_the_backfills_only_where_an_event_was_too_late_or_decided_on_arrival(
    runs: Runs,
) -> None:
    stream, batch = last_panes(runs.replayed), last_panes(runs.backfilled)
    sessions = session_scores(runs.backfilled)
    assert batch == {span: summed_up(scores) for span, scores in sessions.items()}
    found, out = net_scores(runs.replayed), left_out(runs)
    rejected = {letter.event_id for letter in runs.replayed["dead_letters"] if letter.reason == "TOO_LATE"}
    differing = {span for span in stream.keys() | batch.keys() if stream.get(span) != batch.get(span)}
    for user_id, start_ms, end_ms in differing:
        scores = [s for b, of in sessions.items() if b[0] == user_id and b[1] < end_ms and start_ms < b[2] for s in of]
        ids = {s.record.event.event_id for s in scores}
        decided_otherwise = {
            s.record.event.event_id
            for s in scores
            if (other := found.get(s.record.event.event_id)) and other.record.features != s.record.features
        }
        assert ids & (rejected | out | decided_otherwise), (user_id, start_ms, end_ms)
    assert len(batch.keys() - differing) > len(batch) / 2
