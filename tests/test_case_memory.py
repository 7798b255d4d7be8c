"""What is remembered of a key: for how long, how much of it, and in which bytes."""

from __future__ import annotations

import pytest
from scored import MINUTE, NOON_MS
from suspicions import Player, changes, suspicion

from transforms.case_state import decode, decode_finding, encode, encode_finding
from transforms.cases import CaseConfig, Cases, alert_id_of


def test_a_correction_within_what_is_remembered_reaches_a_closed_case() -> None:
    player = Player(CaseConfig(remember_seconds=3_600))
    (opened,) = player.play(suspicion(0, "a"))
    player.watermark(119)
    assert player.state is not None
    (withdrawn,) = player.play(suspicion(0, "a", "", version=8, trigger="LATE"))
    assert (withdrawn.alert_id, withdrawn.change) == (opened.alert_id, "WITHDRAWN")
    player.watermark(121)
    assert player.state is None


def test_a_version_outruns_those_of_a_case_that_was_forgotten() -> None:
    player = Player(CaseConfig(remember_seconds=0))
    player.play(*(suspicion(i, f"e{i}", version=1_000 + i) for i in range(10)))
    player.watermark(200)
    assert player.state is None
    (again,) = player.play(suspicion(0, "e0", "AC", version=1_100, trigger="LATE"))
    before = [alert for alert in player.told[:-1] if alert.alert_id == again.alert_id]
    assert before
    assert again.version > max(alert.version for alert in before)


def test_past_the_bound_old_events_are_folded_and_still_counted() -> None:
    player = Player(CaseConfig(max_events=10, max_shown=3))
    sizes = []
    for i in range(1_000):
        player.play(suspicion(i / 100, f"e{i}", "AB" if i == 3 else "A", score=0.9 if i == 17 else 0.6))
        sizes.append(len(encode(player.state)) if player.state else 0)
    (closed,) = player.drain()
    assert (closed.event_count, closed.approximate) == (1_000, True)
    assert (closed.event_id, closed.score) == ("e17", 0.9)
    assert closed.reason_codes == ("A", "B")
    assert (closed.first_event_ms, closed.last_event_ms) == (NOON_MS, NOON_MS + 599_400)
    assert max(sizes[500:]) < 1.2 * max(sizes[10:20])


def test_the_correction_of_a_folded_event_is_not_counted_again() -> None:
    player = Player(CaseConfig(max_events=5))
    player.play(*(suspicion(i, f"e{i}", version=i) for i in range(20)))
    (escalated,) = player.play(suspicion(4, "e4", "AC", action="block", version=50, trigger="LATE"))
    assert escalated.change == "ESCALATED"
    assert player.play(suspicion(4, "e4", "", version=51, trigger="LATE")) == []
    (closed,) = player.drain()
    assert (closed.event_count, closed.action) == (20, "block")


def test_many_cases_of_a_key_are_bounded_too() -> None:
    player = Player(CaseConfig(max_events=10))
    for i in range(200):
        player.play(suspicion(61 * i, f"e{i}"))
        player.play(suspicion(61 * i, f"e{i}", "", version=2, trigger="LATE") if i % 2 else suspicion(61 * i, "x"))
    assert player.state is not None
    assert len(player.state.findings) <= 20
    assert len(player.state.cases) <= 20
    player.drain()
    assert player.state is None


def test_an_allowance_is_remembered_when_a_case_of_its_key_closes() -> None:
    player = Player()
    player.play(suspicion(0, "other", "B"), suspicion(50, "a", "", version=8, trigger="LATE"))
    assert changes(player.watermark(61)) == ["CLOSED"]
    assert player.play(suspicion(50, "a", version=3)) == []


def test_what_came_very_late_is_remembered_from_then_on() -> None:
    days = 10 * 24 * 60
    player = Player()
    player.watermark(days)
    (opened,) = player.play(suspicion(0, "a", version=3, received_minute=days))
    player.watermark(days)
    (withdrawn,) = player.play(suspicion(0, "a", "", version=8, trigger="ON_TIME", received_minute=days))
    assert (withdrawn.alert_id, withdrawn.change) == (opened.alert_id, "WITHDRAWN")
    player.watermark(days + 25 * 60 + 1)
    assert player.state is None


def test_versions_of_several_users_cases_grow_though_those_of_their_scores_do_not() -> None:
    player = Player(CaseConfig(key_field="card_id", remember_seconds=0))
    (first,) = player.play(suspicion(0, "a", version=NOON_MS + 10 * MINUTE, user_id="new", card_id="c"))
    player.watermark(200)
    assert player.state is None
    (again,) = player.play(suspicion(1, "b", version=7, user_id="old", card_id="c", received_minute=300))
    assert again.alert_id == first.alert_id
    assert again.version > first.version


def test_a_case_that_makes_room_for_others_is_closed() -> None:
    player = Player(CaseConfig(max_events=2, grouping="reasons"))
    told = player.play(suspicion(0, "a", "A"), suspicion(1, "b", "B"), suspicion(2, "c", "C"))
    assert changes(told) == ["OPENED", "OPENED", "OPENED", "CLOSED"]
    assert (told[3].alert_id, told[3].event_count) == (told[0].alert_id, 1)


def test_what_is_folded_shows_the_most_suspicious_and_parts_no_more() -> None:
    """What is lost past the bound: the milder events' own evidence, and their leaving the case."""
    exact, folded = (Player(CaseConfig(max_events=most, max_shown=100)) for most in (100, 3))
    scores = [suspicion(i, f"e{i}", "A", score=0.9 if i == 1 else 0.6, version=i) for i in range(6)]
    allowed = suspicion(0, "e0", "", version=9, trigger="LATE")
    for player in (exact, folded):
        player.play(*scores, allowed)
    (right,), (rough,) = exact.drain(), folded.drain()
    assert (right.event_count, right.approximate, right.first_event_ms) == (5, False, NOON_MS + MINUTE)
    assert (rough.event_count, rough.approximate, rough.first_event_ms) == (6, True, NOON_MS)
    assert [event.event_id for event in right.events] == ["e1", "e2", "e3", "e4", "e5"]
    assert [event.event_id for event in rough.events] == ["e1", "e4", "e5"]
    assert right.event_id == rough.event_id == "e1"


def test_users_that_were_folded_are_not_counted_but_said_to_be_there() -> None:
    player = Player(CaseConfig(key_field="device_id", max_events=3))
    player.play(*(suspicion(i, f"e{i}", user_id=f"u{i}", device_id="d") for i in range(5)))
    (closed,) = player.drain()
    assert "5 events of 3 users or more on one device from " in closed.summary


GOLDEN = bytes.fromhex(
    "0178019bbaaab438b5283e33c5aad470f21d0691f3419a9c057fd6a8cc633ccfc0c038bb32f71a039cc1c8c078dafeb13118"
    "4c9cb23071a123139cbfa8d47061225c259cb1a520b1323735af44213f4dc1c840cfc040c1353468918beba4492b338be3f3"
    "52cbe3330b0e4f5a97939f9e99179f9c5f9a57126f98c1dcb0bca83427b558d7f010dc2090d3da85646eace75eaa01755ade"
    "810488349041c8694970957013a9ea34b1c9d2196d5f0f3b439d96bfea00c41e2083e13fc369062898b0600103c38203131a"
    "161c86bb63e25c869b0a16a646c946c9e6a62649868986c6e68946894616a6a686668689c606e616c9a64c0c8c4ce841ce04"
    "3702c20006c3208ec00570d7321e000078dfe718"
)
GOLDEN_WITHOUT_RECEIPT = bytes.fromhex(
    "0178019bbaaab438b5283e33c5aad470f21d06e1f3419a9c057fd6a8cc633ccfc0c038bb32f71a039cc1c8c078dafeb13118"
    "4c9cb23071a123139cbfa8d47061225c259cb1a520b1323735af44213f4dc1c840cfc040c1353468918beba4492b338be3f3"
    "52cbe3330b0e4f5a97939f9e99179f9c5f9a57126f98c1dcb0bca83427b558d7f010c845ed423237d6732fd580ba28ef4002"
    "c4782083908b92e02aa9eaa2d82d07d76f7fbd7322d445f9ab0e408c073218fe339c668082090b1630302c3830a161c1e189"
    "73186e2a58981a251b259b9b9a2419261a1a9b271a251a59989a1a9a19261a1b985b249b32313032a1872b13dce170af0cbe"
    "585ac078000056edd910"
)
GOLDEN_FINDING = bytes.fromhex(
    "01dc0014cfa68800f083e785a301cf0000019b79709520cf0000019b7970952001ff02cb3fe33333333333339294a163a143"
    "03cb3fe333333333333394a162a14201cb3fe3333333333333a27531a166cf0000019b79709520cf0000019b796dd600b470"
    "61796d656e74206f662032302e303020455552a244459292a969735f6e65775f6970c392ae6c6f67696e5f636f756e745f31"
    "680381a7636172645f6964a3746f6ba772756c65732d31c2cf0000019b796dd600"
)


def test_the_bytes_of_a_running_job_are_read() -> None:
    state = decode(GOLDEN)
    assert [case.alert_id for case in state.cases] == [alert_id_of("user_id:u1", "A", 490_908, 0)]
    step = Cases(CaseConfig()).on_score(state, suspicion(3, "c", "AC", version=9))
    assert [(a.change, a.event_count, a.reason_codes) for a in step.alerts] == [("ESCALATED", 3, ("C", "A"))]
    assert decode(encode(decode(GOLDEN))) == decode(GOLDEN)


def test_bytes_of_another_version_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="case state of format 9, but this release reads 1: run the release"):
        decode(b"\x09" + GOLDEN[1:])
    with pytest.raises(ValueError, match="finding of format 9, but this release reads 1: run the release"):
        decode_finding(b"\x09" + GOLDEN_FINDING[1:])


def test_the_bytes_of_findings_on_their_way_are_read() -> None:
    score = suspicion(3, "f", "BC", action="block", card_id="tok")
    finding = Cases(CaseConfig(include=("card_id",))).finding(score)
    assert decode_finding(GOLDEN_FINDING) == finding
    assert encode_finding(finding) == GOLDEN_FINDING


def test_bytes_without_the_time_of_receipt_are_read_too() -> None:
    before = b"\x01\xdc\x00\x13" + GOLDEN_FINDING[4:-9]
    finding = decode_finding(GOLDEN_FINDING)
    finding.received_ms = 0
    assert decode_finding(before) == finding
    (case,) = decode(GOLDEN_WITHOUT_RECEIPT).cases
    assert (case.received_ms, case.lead.received_ms, case.count) == (0, 0, 2)
