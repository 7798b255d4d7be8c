"""What is said again of an event, and what isn't, where late events change it."""

from __future__ import annotations

from driver import END_OF_TIME_MS, MachineUser, config_of, oracle_of
from strategies import DAY_MS, Times, envelope_of

from transforms.aggregation import Aggregation
from transforms.events import Envelope, Login
from transforms.points import event_key
from transforms.records import FeatureRecord

TIMES = Times(gap_ms=300_000, grace_ms=90 * DAY_MS, retention_ms=400 * DAY_MS)
START_MS = 1_750_000_000_000


def login(event_id: str, day: int, device_id: str) -> Envelope:
    return envelope_of(
        Login(
            event_id=event_id,
            user_id="u",
            event_time_ms=START_MS + day * DAY_MS,
            outcome="success",
            device_id=device_id,
        )
    )


def said_of(late: list[Envelope]) -> dict[str, int]:
    """How often each event is answered for, with the late ones last and the watermark after them, by the oracle too."""
    user = MachineUser(Aggregation(config_of(TIMES)), "u", oracle_of(TIMES))
    # A failure on day 40 asks what the login of day 20 showed, which is judged by what lies up to 30 days before that.
    asking = envelope_of(Login(event_id="asks", user_id="u", event_time_ms=START_MS + 40 * DAY_MS, outcome="failure"))
    for envelope in (login("judged", 20, "phone"), asking, *late):
        user.on_event(envelope)
    records = user.advance(START_MS + 50 * DAY_MS)
    feature_records = [r for r in user.records if isinstance(r, FeatureRecord)]
    assert [r for r in records if isinstance(r, FeatureRecord)]
    assert user.state is not None
    assert not user.state.history.said
    user.advance(END_OF_TIME_MS)
    return {e: sum(r.event.event_id == e for r in feature_records) for e in ("judged", "asks")}


def test_an_event_that_a_late_one_changes_is_said_again() -> None:
    assert said_of([login("other", 0, "laptop")]) == {"judged": 2, "asks": 2}


def test_an_event_that_late_ones_change_and_change_back_is_not_said_again() -> None:
    assert said_of([login("other", 0, "laptop"), login("same", 1, "phone")]) == {"judged": 2, "asks": 1}


def test_what_was_said_is_remembered_of_changed_events_only_and_only_while_they_are_kept() -> None:
    machine = Aggregation(config_of(TIMES, max_points=16))
    user = MachineUser(machine, "u")
    for i in range(200):
        user.on_event(login(f"e{i}", 100 - i // 2 if i % 2 else 100 + i, "phone"))
        assert user.state is not None
        points = user.state.history.points
        changed = {points.point(j).id_key for j in range(len(points)) if points.point(j).changed}
        assert user.state.history.said.keys() == changed
    assert event_key("e199") not in changed
