"""What `python -m bench.pubsub_read` says of messages that were lost, came again, or were late."""

from __future__ import annotations

import pytest

from bench.pubsub_job import Bundle
from bench.pubsub_read import RATE, figures, verdict
from bench.traffic import session

SECONDS = 2
EVENTS = session(SECONDS * RATE + 1)[1:]
IDS = [each.event.event_id for each in EVENTS]
TIMES = [1_000 + i / RATE for i in range(len(EVENTS))]
CONFIRMED = TIMES[-1] + 0.01
WARM_UP = Bundle(["first"], 999.0, 3.0)


def bundles(ids: list[str], delay: float) -> list[Bundle]:
    """Bundles of a tenth of a second's messages, each so long after its last was published; 0.1 s of processor each."""
    size = RATE // 10
    parts = [ids[i : i + size] for i in range(0, len(ids), size)]
    return [Bundle(part, 1_000.1 + i / 10 + delay, 3.1 + i / 10) for i, part in enumerate(parts)]


def test_a_read_that_is_a_tenth_of_a_second_behind_keeps_up() -> None:
    found = figures(EVENTS, TIMES, CONFIRMED, [WARM_UP, *bundles(IDS, 0.1)])

    assert verdict(found) == "kept up"
    assert (found["lost"], found["again"], found["slowest"]) == (0, 0, RATE)
    assert found["backlog"] == 2 * RATE // 10
    assert found["p50_ms"] == pytest.approx(150, abs=2)
    assert found["p95_ms"] == pytest.approx(195, abs=2)
    assert found["empty_seconds"] == pytest.approx(0.1, abs=0.001)
    assert found["cpu_us"] == pytest.approx(0.1 / (RATE // 10) * 1e6)


def test_messages_lost_or_delivered_twice_are_counted_and_a_loss_is_no_keeping_up() -> None:
    twice = Bundle(IDS[:400], 1_000 + SECONDS, 9.0)
    found = figures(EVENTS, TIMES, CONFIRMED, [WARM_UP, *bundles(IDS[:-1], 0.0), twice])

    assert (found["lost"], found["again"]) == (1, 400)
    assert found["p95_ms"] < 100, "a message's first coming counts"
    assert verdict(found) == "did NOT keep up"


def test_a_second_behind_is_not_keeping_up() -> None:
    found = figures(EVENTS, TIMES, CONFIRMED, [WARM_UP, *bundles(IDS, 1.1)])

    assert found["backlog"] >= RATE
    assert verdict(found) == "did NOT keep up"


def test_a_slow_publisher_says_nothing_of_the_read() -> None:
    slow = [1_000 + 1.1 * (at - 1_000) for at in TIMES]
    found = figures(EVENTS, slow, slow[-1], [WARM_UP, *bundles(IDS, 0.5)])

    assert verdict(found) == "the publisher was too slow to say anything of 2,000/s"
