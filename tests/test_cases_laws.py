"""The laws of cases: what stands in the end is a function of the set of scores, told once, and bounded."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from suspicions import Player, current, essence, suspicion

from transforms.cases import CaseConfig, Cases
from transforms.records import Score

FAR_MINUTES = 300


@st.composite
def histories(draw: st.DrawFn) -> list[Score]:
    """Scores of one user over some hours, each event with up to three versions, in the order of versions."""
    scores = []
    version = 0
    for i in range(draw(st.integers(1, 12))):
        minute = draw(st.integers(0, FAR_MINUTES))
        for n in range(draw(st.integers(1, 3))):
            version += 1
            codes = draw(st.sampled_from(["", "A", "B", "AB", "C", "BC", "D"]))
            action, points = draw(st.sampled_from([("review", 0.6), ("review", 0.7), ("block", 0.95)]))
            scores.append(
                suspicion(
                    minute,
                    f"e{i}",
                    codes,
                    action=action,
                    score=points,
                    version=version,
                    trigger="EVENT" if n == 0 else draw(st.sampled_from(["LATE", "ON_TIME"])),
                )
            )
    return scores


CONFIGS = st.builds(CaseConfig, grouping=st.sampled_from(["reasons", "key"]))


def played(scores: list[Score], config: CaseConfig) -> Player:
    player = Player(config)
    player.play(*(score for score in scores if score.action != "allow" or score.record.trigger != "EVENT"))
    player.drain()
    return player


@given(histories(), CONFIGS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_gives_the_same_cases(history: list[Score], config: CaseConfig, random: Any) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)
    assert essence(played(history, config).told) == essence(played(shuffled, config).told)


@given(histories(), CONFIGS)
def test_the_cases_are_those_of_the_newest_scores_alone(history: list[Score], config: CaseConfig) -> None:
    newest = {score.record.event.event_id: score for score in history}
    machine = Cases(config)
    suspicious = [machine.finding(score) for score in newest.values() if score.action != "allow"]
    backfilled = machine.backfill("user_id:u1", suspicious)
    assert essence(backfilled) == essence(played(history, config).told)
    assert all(alert.status == "closed" for alert in current(backfilled).values())


@given(histories(), CONFIGS, st.randoms(use_true_random=False))
def test_what_comes_again_says_nothing_new(history: list[Score], config: CaseConfig, random: Any) -> None:
    player = Player(config)
    seen: list[Score] = []
    for score in history:
        player.play(score)
        seen.append(score)
        assert player.play(random.choice(seen)) == []


@given(histories(), CONFIGS, st.lists(st.integers(0, 400), max_size=6), st.randoms(use_true_random=False))
def test_a_watermark_in_between_changes_nothing_in_the_end(
    history: list[Score], config: CaseConfig, minutes: list[int], random: Any
) -> None:
    random.shuffle(history)
    player = Player(config)
    steps = sorted(minutes)
    for i, score in enumerate(history):
        player.play(score)
        if i < len(steps):
            player.watermark(steps[i])
    player.drain()
    assert essence(player.told) == essence(played(history, config).told)


@given(histories(), CONFIGS, st.randoms(use_true_random=False))
def test_versions_grow_and_every_case_ends(history: list[Score], config: CaseConfig, random: Any) -> None:
    random.shuffle(history)
    player = played(history, config)
    assert player.state is None
    versions: dict[str, int] = {}
    for alert in player.told:
        assert alert.version > versions.get(alert.alert_id, -1)
        versions[alert.alert_id] = alert.version
    last = {alert.alert_id: alert for alert in player.told}
    assert all(alert.status != "open" for alert in last.values())


@given(histories(), CONFIGS)
def test_each_suspicious_event_is_in_exactly_one_case_that_stands(history: list[Score], config: CaseConfig) -> None:
    newest = {score.record.event.event_id: score for score in history}
    suspicious = sorted(event_id for event_id, score in newest.items() if score.action != "allow")
    stands = current(played(history, CaseConfig(grouping=config.grouping, max_shown=100)).told).values()
    assert sorted(event.event_id for alert in stands for event in alert.events) == suspicious
    assert sum(alert.event_count for alert in stands) == len(suspicious)


@given(histories(), st.integers(2, 4))
def test_the_state_is_bounded_and_no_event_is_lost_from_the_count(history: list[Score], most: int) -> None:
    firsts = [score for score in history if score.record.trigger == "EVENT" and score.action != "allow"]
    player = Player(CaseConfig(grouping="key", max_events=most, cooldown_seconds=FAR_MINUTES * 60))
    for score in firsts:
        player.play(score)
        assert player.state is not None
        assert sum(1 for finding in player.state.findings if finding.count) <= most
    player.drain()
    assert sum(alert.event_count for alert in current(player.told).values()) == len(firsts)


@given(histories(), CONFIGS, st.integers(2, 4))
def test_past_the_bounds_too_versions_grow_and_every_case_ends(
    history: list[Score], config: CaseConfig, most: int
) -> None:
    told = played(history, msgspec.structs.replace(config, max_events=most)).told
    last = {alert.alert_id: alert for alert in told}
    assert all(alert.status != "open" for alert in last.values())
    assert all(alert.version == max(a.version for a in told if a.alert_id == alert.alert_id) for alert in last.values())
