"""Alerts: which scores raise one, that a correction is the same alert again, and what people read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import MINUTE, NOON_MS, login, payment, record, rule, rules

from fraud_pipeline.rules import read_rules
from transforms.alerts import MAX_EVIDENCE, Alert, alert, alert_id, money
from transforms.features import FEATURES
from transforms.records import FeatureRecord
from transforms.rule_file import load_rules
from transforms.rules import RuleSet
from transforms.scoring import score

SHIPPED = read_rules()


def raised(found: FeatureRecord, rules: RuleSet = SHIPPED) -> Alert:
    result = alert(score(found, rules))
    assert result is not None
    return result


def test_an_allowed_event_raises_nothing() -> None:
    assert alert(score(record(), SHIPPED)) is None
    weak = rules("is_new_ip", weight=0.49)
    assert score(record(is_new_ip=True), weak).fired
    assert alert(score(record(is_new_ip=True), weak)) is None


def test_an_alert_names_every_reason_the_most_severe_first() -> None:
    made = load_rules(
        "rules:\n"
        + rule("slow", "is_new_ip", 0.5, "medium")
        + rule("worst", "is_new_ip", 0.2, "critical")
        + rule("silent", "is_new_device", 0.9, "critical")
    )
    found = record(payment(5), version=7, is_new_ip=True)
    result = raised(found, made)
    assert result.fired_rules == ("worst", "slow")
    assert result.reason_codes == ("WORST", "SLOW")
    assert (result.severity, result.action, result.score) == ("critical", "review", 0.6)
    assert (result.user_id, result.event_id, result.event_time_ms) == ("u1", found.event.event_id, NOON_MS + 5)
    assert (result.session_id, result.version) == (f"u1@{NOON_MS}", 7)


def test_a_reason_of_two_rules_stands_once() -> None:
    both = rule("a", "is_new_ip") + rule("b", "is_new_ip").replace("reason_code: B", "reason_code: A")
    assert raised(record(is_new_ip=True), load_rules("rules:\n" + both)).reason_codes == ("A",)


def test_a_corrected_score_is_the_same_alert_with_a_higher_version() -> None:
    event = login(0, "failure")
    first = raised(record(event, version=3, failures_in_a_row=7, login_failure_count_10m=7))
    later = raised(
        record(
            event,
            version=9,
            trigger="LATE",
            failures_in_a_row=12,
            login_failure_count_10m=12,
            login_failure_count_1d=12,
        )
    )
    assert later.alert_id == first.alert_id
    assert later.version > first.version
    assert later.score > first.score
    assert alert(score(record(event, version=12, trigger="LATE", failures_in_a_row=2), SHIPPED)) is None


def test_the_id_is_of_user_and_event_alone() -> None:
    assert alert_id("u", "e1") == alert_id("u", "e1") == "ea183f54c23adb6b1c2986d45002c63a"
    assert len({alert_id("u", "e1"), alert_id("u", "e2"), alert_id("v", "e1")}) == 3
    assert alert_id("a", "bc") != alert_id("ab", "c")


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_no_two_events_share_an_id(a: tuple[str, str], b: tuple[str, str]) -> None:
    assert (alert_id(*a) == alert_id(*b)) == (a == b)


def test_the_summary_is_a_sentence_with_values_and_units() -> None:
    taken = record(
        payment(4 * MINUTE, 129_900, country="BR"),
        login_from_new_device=True,
        seconds_since_login=120.0,
        is_new_payee=True,
        is_first_payment_after_login=True,
        amount_to_mean_ratio_30d=45.25,
        travel_km=10_234.5,
        travel_speed_kmh=3_412.25,
        is_new_country=True,
    )
    assert raised(taken).summary == (
        "Review the payment of 1,299.00 EUR of user u1 at 2026-01-01 12:04:00 UTC from BR: impossible travel, "
        "account takeover new payee (score 0.88, high). Seen: failures before login: 0 events, new country: yes, "
        "new device: no, travel: 10,234.5 km, travel speed: 3,412.2 km/h, amount to mean ratio in the last 30 days: "
        "45.2, first payment after login: yes, new payee: yes, login from new device: yes, seconds since login: 120.0 "
        "seconds."
    )
    guessing = record(login(0, "failure", country=None), failures_in_a_row=7, login_failure_count_10m=7)
    assert raised(guessing).summary == (
        "Review the failed login of user u1 at 2026-01-01 12:00:00 UTC: brute force burst (score 0.60, high). "
        "Seen: failures in a row: 7 events, login failure count in the last 10 minutes: 7 events, "
        "login failure count in the last hour: 0 events."
    )


def test_card_tokens_addresses_and_devices_stay_out() -> None:
    event = payment(
        card_id="tok-4111",
        ip="192.0.2.77",
        device_id="dev-99",
        payee_id="payee-5",
        user_agent="agent/1",
        merchant_id="m-1",
    )
    asks = " && ".join(f"has_{n}" for n in ("card_id", "ip", "device_id", "payee_id", "user_agent", "merchant_id"))
    result = raised(record(event), rules(f"{asks} && card_id != 'x' && event_type == 'payment'"))
    for secret in ("tok-4111", "192.0.2.77", "dev-99", "payee-5", "agent/1", "m-1"):
        assert secret not in str(result)


@given(st.text(max_size=300), st.text(max_size=300))
def test_text_from_outside_stays_on_one_short_line(user_id: str, country: str) -> None:
    event = login(user_id=user_id, country=country)
    summary = raised(record(event, is_new_ip=True), rules("is_new_ip")).summary
    assert summary.isprintable()
    assert len(summary) < 400


def test_only_the_first_of_many_values_are_shown() -> None:
    counts = [f.name for f in FEATURES if f.type == "int"]
    wide = rules(" && ".join(f"{name} >= 0" for name in counts))
    summary = raised(record(), wide).summary
    assert len(re.findall(r": 0 ", summary)) == MAX_EVIDENCE
    assert f"and {len(counts) - MAX_EVIDENCE} more." in summary


def test_unknown_values_are_not_shown() -> None:
    summary = raised(record(is_new_ip=True), rules("travel_km > 5.0 || is_new_ip")).summary
    assert "travel" not in summary
    assert "new ip: yes" in summary


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (129_900, "EUR", "1,299.00 EUR"),
        (5, "USD", "0.05 USD"),
        (0, "USD", "0.00 USD"),
        (1_299, "JPY", "1,299 JPY"),
        (1_299, "KWD", "1.299 KWD"),
        (12_999, "CLF", "1.2999 CLF"),
        (-5, "EUR", "-0.05 EUR"),
    ],
)
def test_money_has_the_decimals_of_its_currency(amount: int, currency: str, shown: str) -> None:
    assert money(amount, currency) == shown
