"""Sessions from published sources (`goldens/sessions.yaml`), pane by pane, for the aggregation and for its oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from driver import END_OF_TIME_MS, MachineUser, config_of, net, oracle_of
from oracle import ExpectedSession, OracleUser
from strategies import DAY_MS, LONG_DAYS, Times, envelope_of

from transforms.aggregation import Aggregation
from transforms.events import Envelope, Payment
from transforms.records import SessionRecord

GOLDENS = yaml.safe_load((Path(__file__).parent / "goldens" / "sessions.yaml").read_text())
Pane = dict[str, Any]


@pytest.fixture(params=GOLDENS, ids=lambda golden: golden["name"])
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def test_aggregation_gives_the_published_panes(golden: dict[str, Any]) -> None:
    user = MachineUser(Aggregation(config_of(times_of(golden))), "u1")
    for step, watermark_ms, envelope in steps_of(golden):
        before = len(user.records)
        if envelope is not None:
            user.on_event(envelope)
        user.advance(watermark_ms)
        panes = [r for r in user.records[before:] if isinstance(r, SessionRecord)]
        check_panes(panes, step, pane_of_record)


def test_aggregation_ends_with_the_published_sessions(golden: dict[str, Any]) -> None:
    user = MachineUser(Aggregation(config_of(times_of(golden))), "u1")
    for _, watermark_ms, envelope in steps_of(golden):
        if envelope is not None:
            user.on_event(envelope)
        user.advance(watermark_ms)
    user.advance(END_OF_TIME_MS)
    finals = sorted(net(user.records).sessions.values(), key=lambda r: r.start_ms)
    assert [{"start": r.start_ms, "end": r.end_ms, "value": r.amount_minor} for r in finals] == [
        wanted(final) for final in golden["net"]
    ]


def test_oracle_gives_the_published_panes(golden: dict[str, Any]) -> None:
    """The judge is judged first: by other people's expectations."""
    oracle = oracle_of(times_of(golden))
    for step, watermark_ms, envelope in steps_of(golden):
        if envelope is not None:
            oracle.on_event(envelope)
        panes = [x for x in due(oracle, watermark_ms) if isinstance(x, ExpectedSession)]
        check_panes(panes, step, pane_of_expected)


def due(oracle: OracleUser, watermark_ms: int) -> list[Any]:
    expected = []
    while (now_ms := oracle.due_ms()) is not None and now_ms <= watermark_ms:
        expected += oracle.on_watermark(now_ms)
    return expected


def times_of(golden: dict[str, Any]) -> Times:
    return Times(
        gap_ms=1000 * golden["gap"],
        grace_ms=1000 * golden["allowed_lateness"],
        retention_ms=LONG_DAYS * DAY_MS,
    )


def steps_of(golden: dict[str, Any]) -> Iterator[tuple[dict[str, Any], int, Envelope | None]]:
    """Each step with the watermark that holds after it and the event that it brings, if it does."""
    watermark_ms, number = 0, count()
    for step in golden["steps"]:
        if "watermark" in step:
            watermark_ms = END_OF_TIME_MS if step["watermark"] == float("inf") else 1000 * step["watermark"]
            yield step, watermark_ms, None
        else:
            yield step, watermark_ms, payment(f"e{next(number)}", *step["event"])


def payment(event_id: str, seconds: int, value: int) -> Envelope:
    return envelope_of(
        Payment(
            event_id=event_id,
            user_id="u1",
            event_time_ms=1000 * seconds,
            amount_minor=value,
            currency="EUR",
        )
    )


def check_panes(got: Sequence[Any], step: dict[str, Any], pane_of: Callable[[Any], tuple[Pane, int]]) -> None:
    """The panes are those published; a step that publishes none has none, but for the drain (see `net`)."""
    if step == {"watermark": float("inf")}:
        return
    panes = step.get("expect", [])
    assert [pane_of(x)[0] for x in got] == [{"pane": p["pane"], **wanted(p)} for p in panes]
    assert [pane_of(x)[1] for x in got if "values" in panes[0]] == [len(p["values"]) for p in panes if "values" in p]


def wanted(published: Pane) -> Pane:
    """A published pane or final in our terms: times in milliseconds, values summed up."""
    return {
        "start": 1000 * published["start"],
        "end": 1000 * published["end"],
        "value": published.get("value", sum(published.get("values", []))),
    }


def pane_of_record(r: SessionRecord) -> tuple[Pane, int]:
    pane = "RETRACTION" if r.retracted else r.trigger
    return {"pane": pane, "start": r.start_ms, "end": r.end_ms, "value": r.amount_minor}, r.event_count


def pane_of_expected(x: ExpectedSession) -> tuple[Pane, int]:
    pane = x.trigger if x.replaced_by is None else "RETRACTION"
    value = x.sums["amount_minor"]
    return {"pane": pane, "start": x.start_ms, "end": x.end_ms, "value": value}, x.sums["event_count"]
