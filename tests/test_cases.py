"""Cases: what makes one, what is told of it, and what a late correction does to it."""

from __future__ import annotations

import pytest
from scored import MINUTE, NOON_MS
from suspicions import Player, changes, current, suspicion

from transforms.alerts import QUIET
from transforms.case_state import decode, encode
from transforms.cases import CaseConfig, Cases, alert_id_of, matters

HOUR = 60


def test_many_events_are_one_alert() -> None:
    player = Player()
    told = player.play(*(suspicion(i / 10, f"e{i}") for i in range(40)))
    assert len({alert.alert_id for alert in told}) == 1
    assert changes(told) == ["OPENED", *5 * ["GREW"]]
    assert [alert.event_count for alert in told] == [1, 2, 4, 8, 16, 32]
    assert [alert for alert in told if alert.change not in QUIET] == told[:1]
    (closed,) = player.drain()
    assert (closed.change, closed.status, closed.event_count) == ("CLOSED", "closed", 40)
    assert (closed.first_event_ms, closed.last_event_ms) == (NOON_MS, NOON_MS + 234_000)


@pytest.mark.parametrize(("gap", "cases"), [(60, 1), (61, 2)])
def test_a_case_ends_a_cool_down_after_the_last_of_its_events(gap: float, cases: int) -> None:
    player = Player()
    player.play(suspicion(0, "a"), suspicion(50, "b"), suspicion(50 + gap, "c"))
    player.drain()
    assert len(current(player.told)) == cases


def test_the_cool_down_is_configured() -> None:
    player = Player(CaseConfig(cooldown_seconds=60))
    player.play(suspicion(0, "a"), suspicion(2, "b"))
    assert len(current(player.told)) == 2


def test_reasons_part_cases_unless_an_event_connects_them() -> None:
    player = Player()
    player.play(suspicion(0, "a", "A"), suspicion(1, "b", "B"))
    assert [alert.reason_codes for alert in current(player.told).values()] == [("A",), ("B",)]
    told = player.play(suspicion(2, "c", "AB"))
    assert changes(told) == ["EXTENDED", "MERGED"]
    survivor, merged = told
    assert merged.merged_into == survivor.alert_id != merged.alert_id
    assert merged.summary.startswith(f"Now part of alert {survivor.alert_id}; it was: ")
    (stands,) = current(player.told).values()
    assert (stands.alert_id, stands.reason_codes, stands.event_count) == (survivor.alert_id, ("A", "B"), 3)


def test_all_reasons_of_a_key_can_be_one_case() -> None:
    player = Player(CaseConfig(grouping="key"))
    told = player.play(suspicion(0, "a", "B"), suspicion(1, "b", "A"), suspicion(2, "c", "C", action="block"))
    assert changes(told) == ["OPENED", "ESCALATED", "ESCALATED"]
    assert told[-1].reason_codes == ("C", "A", "B")
    assert len({alert.alert_id for alert in told}) == 1


def test_it_escalates_when_severity_or_action_grows_and_says_so() -> None:
    player = Player()
    told = player.play(
        suspicion(0, "a", "B"),
        suspicion(1, "b", "BA"),
        suspicion(2, "c", "B", action="block", score=0.95),
        suspicion(3, "d", "B"),
    )
    assert [(alert.change, alert.severity, alert.action) for alert in told] == [
        ("OPENED", "medium", "review"),
        ("ESCALATED", "high", "review"),
        ("ESCALATED", "high", "block"),
    ]
    assert told[2].summary.startswith("Escalated: Block 3 events of user u1 from 2026-01-01 12:00:00 to ")
    assert "Most suspicious: the payment of 20.00 EUR at 2026-01-01 12:02:00 UTC from DE" in told[2].summary
    assert [alert.version for alert in told] == sorted({alert.version for alert in told})


def test_a_milder_new_reason_is_told_too() -> None:
    player = Player()
    told = player.play(suspicion(0, "a", "A"), suspicion(1, "b", "AD"))
    assert changes(told) == ["OPENED", "EXTENDED"]
    assert told[1].summary.startswith("More reasons: ")
    assert told[1].fired_rules == ("a", "d")


def test_the_leading_event_is_the_most_suspicious_and_the_earliest_of_equals() -> None:
    player = Player()
    player.play(
        suspicion(1, "b", score=0.7), suspicion(0, "a", score=0.7), suspicion(2, "c", score=0.65), suspicion(3, "d")
    )
    (closed,) = player.drain()
    assert (closed.event_id, closed.event_time_ms, closed.score) == ("a", NOON_MS, 0.7)
    assert closed.session_id == f"u1@{NOON_MS}"


def test_the_evidence_is_bounded_and_the_count_true() -> None:
    player = Player(CaseConfig(max_shown=3))
    player.play(*(suspicion(i, f"e{i}", score=0.9 if i in (7, 30) else 0.6) for i in range(50)))
    (closed,) = player.drain()
    assert closed.event_count == 50
    assert [event.event_id for event in closed.events] == ["e0", "e7", "e30"]
    assert [(f.name, f.value, f.unit, f.text) for f in closed.features] == [
        ("is_new_ip", True, "yes/no", "new IP: yes"),
        ("login_count_1h", 3, "events", "logins in the last hour: 3"),
    ]
    assert [(r.rule_id, r.reason_code, r.severity) for r in closed.rules] == [("a", "A", "high")]


def test_a_score_that_comes_again_says_nothing_new() -> None:
    player = Player()
    scores = [suspicion(0, "a", version=5), suspicion(1, "b", "AB", version=6)]
    player.play(*scores)
    before = encode(player.state) if player.state else b""
    assert player.play(*scores) == []
    assert player.state is not None
    assert encode(player.state) == before


def test_an_outdated_score_says_nothing() -> None:
    player = Player()
    player.play(suspicion(0, "a", "A", version=9, trigger="LATE"))
    assert player.play(suspicion(0, "a", "C", action="block", version=3)) == []


def test_a_correction_up_escalates_the_same_alert() -> None:
    player = Player()
    (opened,) = player.play(suspicion(0, "a", "A", version=3))
    (corrected,) = player.play(suspicion(0, "a", "AC", action="block", score=0.95, version=8, trigger="LATE"))
    assert (corrected.alert_id, corrected.change) == (opened.alert_id, "ESCALATED")
    assert corrected.version > opened.version
    assert (corrected.event_count, corrected.score) == (1, 0.95)


def test_a_correction_down_is_told() -> None:
    player = Player()
    (opened,) = player.play(suspicion(0, "a", "AC", action="block", score=0.95, version=3))
    (corrected,) = player.play(suspicion(0, "a", "A", version=8, trigger="LATE"))
    assert (corrected.alert_id, corrected.change) == (opened.alert_id, "CORRECTED")
    assert (corrected.action, corrected.severity, corrected.reason_codes) == ("review", "high", ("A",))


def test_a_case_whose_events_are_all_allowed_is_withdrawn_and_may_come_back() -> None:
    player = Player()
    (opened,) = player.play(suspicion(0, "a", version=3))
    (withdrawn,) = player.play(suspicion(0, "a", "", version=8, trigger="LATE"))
    assert (withdrawn.alert_id, withdrawn.change, withdrawn.status) == (opened.alert_id, "WITHDRAWN", "withdrawn")
    assert (withdrawn.action, withdrawn.event_count, withdrawn.reason_codes) == ("allow", 0, ("A",))
    assert withdrawn.summary.startswith("Nothing is suspicious any more, as late events change the picture; it was: ")
    assert withdrawn.version > opened.version
    assert current(player.told) == {}
    (again,) = player.play(suspicion(0, "a", version=11, trigger="LATE"))
    assert (again.alert_id, again.change, again.status) == (opened.alert_id, "REOPENED", "open")
    assert again.version > withdrawn.version


def test_one_event_that_is_allowed_after_all_leaves_the_case() -> None:
    player = Player()
    player.play(suspicion(0, "a"), suspicion(1, "b"), suspicion(2, "c", "AB"))
    (corrected,) = player.play(suspicion(2, "c", "", version=8, trigger="LATE"))
    assert (corrected.change, corrected.event_count, corrected.reason_codes) == ("CORRECTED", 2, ("A",))


def test_what_an_allowed_event_connected_parts_again() -> None:
    player = Player()
    player.play(suspicion(0, "a", "A"), suspicion(1, "b", "B"))
    ids = list(current(player.told))
    player.play(suspicion(2, "c", "AB"))
    told = player.play(suspicion(2, "c", "", version=8, trigger="LATE"))
    assert sorted(changes(told)) == ["CORRECTED", "REOPENED"]
    assert list(current(player.told)) == ids


def test_an_allowance_that_overtakes_the_suspicion_holds() -> None:
    player = Player()
    assert player.play(suspicion(0, "a", "", version=8, trigger="LATE")) == []
    assert player.play(suspicion(0, "a", version=3)) == []
    assert player.drain() == []
    assert player.state is None


def test_the_id_stays_when_an_earlier_event_comes_late_or_the_first_turns_out_harmless() -> None:
    player = Player()
    (opened,) = player.play(suspicion(30, "b"))
    player.play(suspicion(-10, "a"), suspicion(31, "c"), suspicion(30, "b", "", version=8, trigger="LATE"))
    (closed,) = player.drain()
    assert (closed.alert_id, closed.first_event_ms) == (opened.alert_id, NOON_MS - 10 * MINUTE)


def test_the_id_is_the_same_wherever_the_case_is_made_again() -> None:
    ordered, shuffled = Player(), Player()
    scores = [suspicion(minute, f"e{minute}", "AB") for minute in (1, 5, 9)]
    ordered.play(*scores)
    shuffled.play(*reversed(scores))
    assert set(current(ordered.told)) == set(current(shuffled.told))
    assert alert_id_of("user_id:u1", "A", 490_908, 0) in current(ordered.told)


def test_ids_tell_keys_reasons_and_times_apart() -> None:
    parts = [("user_id:a", "B", 1, 0), ("user_id:aB", "", 1, 0), ("user_id:a", "B", 1, 1), ("user_id:a", "B", 11, 0)]
    assert len({alert_id_of(*each) for each in parts}) == 4
    assert alert_id_of("user_id:u1", "BRUTE_FORCE", 490_908, 0) == "3d30802ecab890ba157f23d1f603ee00"


def test_a_bundle_that_is_processed_again_tells_the_same_alerts() -> None:
    player = Player()
    player.play(suspicion(0, "a"), suspicion(1, "b", "B"))
    assert player.state is not None
    before, machine = encode(player.state), player.machine
    for score in (suspicion(2, "c", "AB"), suspicion(0, "a", "", version=5, trigger="LATE")):
        first, again = (machine.on_score(decode(before), score) for _ in range(2))
        assert first.alerts == again.alerts != []


def test_a_late_event_reopens_a_closed_case_and_closes_it_again() -> None:
    player = Player()
    player.play(suspicion(0, "a"))
    (closed,) = player.watermark(61)
    told = [*player.play(suspicion(30, "b")), *player.watermark(91)]
    assert changes([closed, *told]) == ["CLOSED", "GREW", "CLOSED"]
    assert [alert.status for alert in told] == ["open", "closed"]
    assert told[-1].event_count == 2


def test_a_silent_late_event_still_reaches_the_final_count() -> None:
    player = Player()
    player.play(*(suspicion(i, f"e{i}") for i in range(5)))
    player.watermark(65)
    assert player.play(suspicion(4.5, "late")) == []
    (closed,) = player.watermark(65)
    assert (closed.change, closed.event_count) == ("CLOSED", 6)


def test_cases_can_be_about_a_card_and_do_not_name_it() -> None:
    config = CaseConfig(key_field="card_id")
    scores = [suspicion(i, f"e{i}", user_id=f"u{i}", card_id="tok-4111") for i in range(3)]
    machine = Cases(config)
    assert {machine.key(score) for score in scores} == {"card_id:tok-4111"}
    assert machine.key(suspicion(0, "x")) == machine.key(suspicion(0, "x", card_id="")) == "user_id:u1"
    player = Player(config)
    player.play(*scores)
    (closed,) = player.drain()
    assert (closed.key_field, closed.key, closed.event_count) == ("card_id", "tok-4111", 3)
    assert "3 events of 3 users on one card from " in closed.summary
    assert "of user u0 at" in closed.summary
    assert "tok-4111" not in closed.summary
    assert [event.user_id for event in closed.events] == ["u0", "u1", "u2"]


def test_cases_can_be_about_a_network() -> None:
    machine = Cases(CaseConfig(key_field="network"))
    keys = {
        "192.0.2.9": "network:192.0.2.0/24",
        "::ffff:192.0.2.77": "network:192.0.2.0/24",
        "2001:db8:1:2:3::4": "network:2001:db8:1:2::/64",
        None: "user_id:u1",
    }
    assert {ip: machine.key(suspicion(0, "x", ip=ip)) for ip in keys} == keys
    player = Player(CaseConfig(key_field="network", include=("network",)))
    player.play(*(suspicion(i, f"e{i}", user_id=f"u{i}", ip=f"192.0.2.{i}") for i in range(3)))
    (closed,) = player.drain()
    assert (closed.key_field, closed.key, closed.event_count) == ("network", "192.0.2.0/24", 3)
    assert "3 events of 3 users on one network from " in closed.summary
    assert [event.fields for event in closed.events] == 3 * [{"network": "192.0.2.0/24"}]


def test_fields_are_shown_where_they_are_asked_for() -> None:
    score = suspicion(0, "a", card_id="tok-4111", ip="192.0.2.9")
    (without,) = Player().play(score)
    assert without.events[0].fields == {}
    assert "tok-4111" not in str(without)
    (some,) = Player(CaseConfig(include=("card_id", "payee_id"))).play(score)
    assert some.events[0].fields == {"card_id": "tok-4111"}
    (whole,) = Player(CaseConfig(include=("event",))).play(score)
    assert whole.events[0].fields["ip"] == "192.0.2.9"
    assert whole.events[0].fields["event_type"] == "payment"


def test_only_first_scores_that_allow_are_of_no_matter() -> None:
    assert not matters(suspicion(0, "a", ""))
    assert matters(suspicion(0, "a", "", trigger="ON_TIME"))
    assert matters(suspicion(0, "a"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key_field", "user_agent"),
        ("grouping", "severity"),
        ("cooldown_seconds", 0),
        ("remember_seconds", -1),
        ("max_events", 1),
        ("max_shown", 0),
    ],
)
def test_a_configuration_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field} is {value!r}; give "):
        CaseConfig(**{field: value})  # type: ignore[arg-type]
