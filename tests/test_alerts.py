"""Alerts on single events: which scores raise one, and what people read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import MINUTE, NOON_MS, login, payment, record, rule, rules

from fraud_pipeline.rules import read_rules
from transforms.alert_words import describe, duration, feature_evidence, money
from transforms.alerts import Alert
from transforms.case_findings import MAX_EVIDENCE
from transforms.cases import CaseConfig, Cases, matters
from transforms.entities import DEFAULT_ENTITIES
from transforms.events import Claim, Signup
from transforms.features import FEATURES, Feature
from transforms.records import FeatureRecord
from transforms.rule_file import load_rules
from transforms.rules import RuleSet
from transforms.scoring import score

SHIPPED = read_rules()
MACHINE = Cases(CaseConfig())


def raised(found: FeatureRecord, rules: RuleSet = SHIPPED) -> Alert:
    (result,) = MACHINE.on_score(None, score(found, rules)).alerts
    return result


def test_an_allowed_event_raises_nothing() -> None:
    assert not matters(score(record(), SHIPPED))
    weak = rules("is_new_ip", weight=0.49)
    decided = score(record(is_new_ip=True), weak)
    assert decided.fired
    assert not matters(decided)
    assert MACHINE.on_score(None, decided).alerts == []


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
        "Review the payment of 1,299.00 EUR of user u1 at 2026-01-01 12:04:00 UTC from BR: impossible travel "
        "(score 0.70, high). Seen: failures before login: 0, new country, travel: 10,234 km, travel speed: 3,412 km/h."
    )
    guessing = record(login(0, "failure", country=None), failures_in_a_row=7, login_failure_count_10m=7)
    assert raised(guessing).summary == (
        "Review the failed login of user u1 at 2026-01-01 12:00:00 UTC: brute force burst (score 0.60, high). "
        "Seen: failures in a row: 7, login failures in the last 10 minutes: 7, login failures in the last hour: 0."
    )


def test_of_windows_with_the_same_number_the_shortest_is_shown() -> None:
    counts = {"login_failure_count_10m": 7, "login_failure_count_1h": 7, "login_failure_count_1d": 9}
    adds = rules("login_failure_count_1h + login_failure_count_10m + login_failure_count_1d > 0")
    result = raised(record(login(), **counts), adds)
    assert len(result.features) == 3
    assert sorted(result.summary.partition("Seen: ")[2].rstrip(".").split(", ")) == [
        "login failures in the last 10 minutes: 7",
        "login failures in the last day: 9",
    ]


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
    assert [f.value for f in raised(record(), wide).features] == MAX_EVIDENCE * [0]


def test_events_of_each_type_are_described() -> None:
    common = {"event_id": "e", "user_id": "u", "event_time_ms": 0}
    assert describe(login(outcome="failure")) == "failed login"
    assert describe(payment(0, 1_820, expected_amount_minor=1_300)) == "payment of 18.20 EUR (quoted 13.00 EUR)"
    assert describe(payment(0, 1_300, expected_amount_minor=1_300)) == "payment of 13.00 EUR"
    assert describe(Signup(**common)) == "sign-up"  # type: ignore[arg-type]
    assert describe(Claim(**common, promotion_id="WELCOME")) == "claim of promotion WELCOME"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ip_event_count_10s", "IP events in the last 10 seconds: 3"),
        ("ip_event_count_1h", "IP events in the last hour: 3"),
        ("ip_event_count_30d", "IP events in the last 30 days: 3"),
        ("distinct_country_count_1d", "distinct countries in the last day: 3"),
        ("ip_login_success_count_1h", "IP login successes in the last hour: 3"),
        ("account_incoming_count_1m", "account incoming payments in the last minute: 3"),
        ("failures_in_a_row", "failures in a row: 3"),
    ],
)
def test_windows_and_counts_are_given_in_words(name: str, text: str) -> None:
    found = feature_evidence(name, 3, {name: Feature(name, "int", "events", "Help.")})
    assert (found.text, found.value, found.unit) == (text, 3, "events")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("payment_amount_minor_1h", 129_900, "payment amount in the last hour: 129,900 minor units"),
        ("payment_amount_max_minor_1d", 5, "largest payment in the last day: 5 minor units"),
        ("amount_to_mean_ratio_30d", 45.25, "amount against the mean in the last 30 days: 45.2 times"),
        ("merchant_fraud_share_7d", 0.125, "merchant fraud share in the last 7 days: 12.5%"),
        ("seconds_since_login", 145.2, "time since login: 2 min 25 s"),
        ("session_duration_seconds", 90_061.0, "session duration: 1 d 1 h"),
        ("travel_speed_kmh", 2_664.5, "travel speed: 2,664 km/h"),
        ("travel_km", 12.34, "travel: 12.3 km"),
        ("is_new_ip", True, "new IP: yes"),
        ("is_new_device", False, "new device: no"),
    ],
)
def test_values_are_given_with_their_units(name: str, value: float, text: str) -> None:
    declared = {feature.name: feature for feature in (*FEATURES, *DEFAULT_ENTITIES.features)}
    assert feature_evidence(name, value, declared).text == text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (59.5, "59.5 s"), (60, "1 min 0 s"), (3_600, "1 h 0 min"), (90_061, "1 d 1 h")],
)
def test_spans_of_time_have_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_what_was_not_seen_is_in_the_evidence_but_not_in_the_sentence() -> None:
    result = raised(record(is_new_ip=True), rules("is_new_ip && !is_new_device"))
    assert sorted(f.text for f in result.features) == ["new IP: yes", "new device: no"]
    assert result.summary.endswith(". Seen: new IP.")


def test_a_feature_that_is_no_longer_declared_is_given_as_it_is() -> None:
    assert feature_evidence("gone_count_1h", 3, {}).text == "gone_count_1h: 3"


def test_unknown_values_are_not_shown() -> None:
    summary = raised(record(is_new_ip=True), rules("travel_km > 5.0 || is_new_ip")).summary
    assert "travel" not in summary
    assert summary.endswith("Seen: new IP.")


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
