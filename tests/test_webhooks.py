"""Webhooks against a real server that is slow, down, broken, hangs, or asks to wait."""

from __future__ import annotations

import json
import logging
import socket
import time
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from hypothesis import given
from hypothesis import strategies as st
from receiver import dripping, dropping, receiver, slow, status
from suspicions import Player, suspicion

from fraud_pipeline.alerting.deliver import DeliverAlerts, Delivery, delivery_failed
from fraud_pipeline.alerting.destinations import (
    WebhookDestination,
    destination,
)
from fraud_pipeline.alerting.notifications import SCHEMA, chat_text, head, notification
from fraud_pipeline.alerting.signing import HEADER, sign, verify
from fraud_pipeline.alerting.webhooks import Failure, Policy, Webhook
from fraud_pipeline.errors import UsageError
from transforms.alerts import Alert
from transforms.cases import CaseConfig
from transforms.events import Reason, dead_letter_id

SECRET = b"correct horse battery staple"
QUICK = Policy(
    timeout_seconds=0.5,
    attempts=4,
    budget_seconds=3,
    backoff_seconds=0.05,
    backoff_max_seconds=0.4,
    open_after=3,
    open_seconds=0.5,
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of this machine can't reach 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def alerts(count: int = 1, **fields: Any) -> list[Alert]:
    """Opened alerts of different users."""
    return [Player().play(suspicion(i, f"e{i}", "AC", user_id=f"u{i}", **fields))[0] for i in range(count)]


def bodies(count: int = 1) -> list[bytes]:
    return [body for alert in alerts(count) if (body := notification(alert))]


def test_a_notification_arrives_signed_with_a_key_to_know_it_by() -> None:
    (body,) = bodies()
    with receiver(status(204)) as server:
        assert Webhook(server.url, [SECRET], QUICK).send([body]) == [None]
    (request,) = server.requests
    assert request.body == body
    assert verify(SECRET, request.body, request.headers[HEADER], time.time())
    said = json.loads(body)["alert"]
    assert request.headers["Idempotency-Key"] == f"{said['alert_id']}-{said['version']}"
    assert request.headers["Content-Type"] == "application/json"


def test_without_a_secret_it_is_not_signed() -> None:
    with receiver() as server:
        assert Webhook(server.url, [], QUICK).send(bodies()) == [None]
    assert HEADER not in server.requests[0].headers


@pytest.mark.parametrize("fault", [status(500), status(503), status(429), status(408), dropping, slow(1)])
def test_what_may_pass_is_tried_again_after_longer_and_longer_waits(fault: Any) -> None:
    with receiver(fault, fault, status(200)) as server:
        assert Webhook(server.url, [SECRET], QUICK).send(bodies()) == [None]
    assert len(server.requests) == 3
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 1
    assert len({request.body for request in server.requests}) == 1


def test_waits_double_up_to_a_bound_and_half_of_each_is_chance() -> None:
    policy = Policy(attempts=5, backoff_seconds=0.1, backoff_max_seconds=0.4, open_after=99)
    with receiver(status(500)) as server:
        webhook = Webhook(server.url, [], policy)
        for _ in range(3):
            webhook.send(bodies())
    times = [request.at for request in server.requests]
    runs = [[b - a for a, b in pairwise(times[i : i + 5])] for i in range(0, 15, 5)]
    for waits in runs:
        assert all(wait >= least for wait, least in zip(waits, (0.05, 0.1, 0.2, 0.2), strict=True))
    assert len({round(waits[2], 4) for waits in runs}) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 301, 302, 307])
def test_what_will_not_pass_is_not_tried_again_and_redirects_are_not_followed(code: int) -> None:
    with receiver(status(code, Location="/elsewhere")) as server:
        assert Webhook(server.url, [SECRET], QUICK).send(bodies()) == [Failure(f"HTTP {code}", 1)]
    assert [request.path for request in server.requests] == ["/alerts"]


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_honoured(code: int) -> None:
    with receiver(status(code, Retry_After="1"), status(200)) as server:
        assert Webhook(server.url, [], QUICK).send(bodies()) == [None]
    first, second = server.requests
    assert second.at - first.at >= 1


def test_retry_after_as_a_date_and_as_nonsense() -> None:
    answers = (status(503, Retry_After=formatdate(time.time() + 2, usegmt=True)), status(503, Retry_After="soon"))
    with receiver(*answers, status(200)) as server:
        assert Webhook(server.url, [], QUICK).send(bodies()) == [None]
    assert server.requests[1].at - server.requests[0].at >= 0.9


def test_a_wait_beyond_the_budget_fails_at_once() -> None:
    start = time.monotonic()
    with receiver(status(429, Retry_After="3600")) as server:
        (failure,) = Webhook(server.url, [], QUICK).send(bodies())
    assert failure is not None
    assert failure.why == "HTTP 429; the next try, in 3600.0 s, would be too late"
    assert len(server.requests) == 1
    assert time.monotonic() - start < QUICK.budget_seconds


def test_what_is_refused_fails_with_its_reason_and_without_the_url() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/secret-path"
        (failure,) = Webhook(url, [SECRET], QUICK).send(bodies())
    assert failure is not None
    assert failure.attempts == QUICK.attempts
    assert failure.why.startswith("ConnectError")
    assert "secret-path" not in failure.why


@pytest.mark.parametrize("fault", [slow(60), dripping])
def test_a_receiver_that_hangs_holds_nothing_up_for_long(fault: Any) -> None:
    policy = Policy(timeout_seconds=0.4, attempts=9, budget_seconds=1, backoff_seconds=0.05, open_after=99)
    with receiver(fault) as server:
        start = time.monotonic()
        results = Webhook(server.url, [], policy).send(bodies(30))
        took = time.monotonic() - start
    assert all(isinstance(result, Failure) for result in results)
    assert took < policy.budget_seconds + 2 * policy.timeout_seconds
    assert any(result.why.startswith("no answer within 0.4 s") for result in results if result)


def test_a_receiver_that_fails_again_and_again_is_left_alone_for_a_while() -> None:
    policy = Policy(attempts=1, open_after=3, open_seconds=0.5, concurrency=1)
    with receiver(status(500)) as server:
        webhook = Webhook(server.url, [], policy)
        results = webhook.send(bodies(10))
        assert len(server.requests) == 3
        assert results[3] is not None
        assert results[3].why.startswith("3 deliveries failed in a row; none is tried for ")
        assert results[3].attempts == 0
        time.sleep(0.6)
        webhook.send(bodies(5))
        assert len(server.requests) == 4, "one tries whether it is back"
        server.answers = [status(200)]
        time.sleep(0.6)
        assert webhook.send(bodies(5)) == 5 * [None]


def test_one_alert_arrives_in_the_order_of_its_versions_and_many_at_a_time() -> None:
    player = Player()
    told = player.play(suspicion(0, "a", "B"), suspicion(1, "b", "BA"), suspicion(2, "c", "BAC", action="block"))
    versions = [notification(alert) for alert in told]
    with receiver(status(500), slow(0.2)) as server:
        start = time.monotonic()
        many = [body for body in [*versions, *bodies(24)] if body]
        results = Webhook(server.url, [], Policy(backoff_seconds=0.05, concurrency=8)).send(many)
        took = time.monotonic() - start
    assert results == [None] * len(many)
    arrived = [head(request.body) for request in server.requests]
    mine = [each.version for each in arrived if each.alert_id == told[0].alert_id]
    assert mine == sorted(mine)
    assert took < len(many) * 0.2 / 2, "they go one by one"


def test_logs_hold_neither_url_nor_content(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), receiver(status(500), status(200)) as server:
        Webhook(server.url, [SECRET], QUICK).send(bodies())
    assert "/alerts" not in caplog.text
    assert "u0" not in caplog.text


def test_signatures_are_those_of_the_known_scheme() -> None:
    # printf '1492774577.{"a":1}' | openssl dgst -sha256 -hmac whsec_test
    assert sign([b"whsec_test"], b'{"a":1}', 1_492_774_577.9) == (
        "t=1492774577,v1=2a55874e33dedb30da6fac02873208f53a243141599a71c0d52a1d5b89656823"
    )


@given(st.binary(min_size=1), st.binary(), st.integers(0, 1 << 40))
def test_what_is_signed_verifies_and_nothing_else_does(secret: bytes, body: bytes, now: int) -> None:
    header = sign([secret], body, now)
    assert verify(secret, body, header, now + 299)
    assert not verify(secret, body, header, now + 301)
    assert not verify(secret, body, header, now - 301)
    assert not verify(secret + b"x", body, header, now)
    assert not verify(secret, body + b"x", header, now)
    assert not verify(secret, body, header.replace("t=", "t=1"), now)


@given(st.text())
def test_any_header_is_refused_without_an_error(header: str) -> None:
    assert not verify(SECRET, b"body", header, 0)


def test_two_secrets_sign_while_receivers_change_over() -> None:
    header = sign([b"old", b"new"], b"body", 5)
    assert verify(b"old", b"body", header, 5)
    assert verify(b"new", b"body", header, 5)
    assert not verify(b"other", b"body", header, 5)


def test_the_notification_has_a_text_for_chats_and_fields_for_programs() -> None:
    (alert,) = alerts()
    body = notification(alert)
    assert body is not None
    said = json.loads(body)
    assert said["schema"] == SCHEMA
    assert said["text"].startswith("*CRITICAL* Review the payment of 20.00 EUR of user u0 at 2026-01-01 12:00:00 UTC")
    assert said["text"].endswith(f"\nAlert `{alert.alert_id}`")
    fields = said["alert"]
    assert (fields["action"], fields["reason_codes"], fields["event_count"]) == ("review", ["C", "A"], 1)
    assert fields["evidence"]["features"][1] == {
        "name": "login_count_1h",
        "value": 3,
        "unit": "events",
        "text": "logins in the last hour: 3",
    }
    assert fields["evidence"]["events"][0]["what"] == "payment of 20.00 EUR"
    assert fields["event_time"] == "2026-01-01T12:00:00.000Z"


def test_cards_tokens_addresses_and_payloads_stay_out_unless_asked_for() -> None:
    secrets = {"card_id": "tok-4111", "ip": "192.0.2.77", "device_id": "dev-99", "user_agent": "agent/1"}
    secrets |= {"payee_id": "payee-5", "merchant_id": "m-1"}
    score = suspicion(0, "e", "AC", **secrets)
    for key_field in ("user_id", "card_id", "device_id", "network"):
        (alert,) = Player(CaseConfig(key_field=key_field)).play(score)
        body = notification(alert)
        assert body is not None
        assert not [value for value in (*secrets.values(), "192.0.2.0") if value.encode() in body]
    (alert,) = Player(CaseConfig(key_field="card_id", include=("card_id",))).play(score)
    body = notification(alert, ("card_id",))
    assert body is not None
    fields = json.loads(body)["alert"]
    assert (fields["case_key"], fields["evidence"]["events"][0]["fields"]) == ("tok-4111", {"card_id": "tok-4111"})
    (alert,) = Player(CaseConfig(include=("event",))).play(score)
    body = notification(alert, ("event",))
    assert body is not None
    assert all(value.encode() in body for value in secrets.values())


def test_a_chat_sees_first_that_an_alert_stands_no_more() -> None:
    player = Player()
    told = player.play(suspicion(0, "a", "A"), suspicion(1, "b", "B"), suspicion(2, "c", "AB"))
    told += player.play(*(suspicion(i, e, "", version=2, trigger="LATE") for i, e in enumerate("abc")))
    first_words = {alert.change: chat_text(alert).split()[0] for alert in told}
    assert first_words["OPENED"] == "*MEDIUM*"
    assert first_words["EXTENDED"] == "*HIGH*"
    assert (first_words["MERGED"], first_words["WITHDRAWN"]) == ("*MERGED*", "*WITHDRAWN*")


def test_people_are_not_told_of_what_is_nothing_to_act_on() -> None:
    player = Player()
    told = [*player.play(*(suspicion(i, f"e{i}") for i in range(5))), *player.drain()]
    assert [alert.change for alert in told if notification(alert)] == ["OPENED"]


@given(st.text(max_size=50))
def test_nothing_from_outside_pings_or_links_in_a_chat(text: str) -> None:
    (alert,) = Player().play(suspicion(0, "e", user_id=f"<!channel> @here @channel <http://x|y> {text}"))
    said = chat_text(alert)
    assert "<" not in said
    assert ">" not in said
    assert "@here" not in said
    assert "@channel" not in said


def test_a_url_can_be_a_secret(tmp_path: Path) -> None:
    with receiver() as server:
        (tmp_path / "url").write_text(server.url + "\n")
        made = destination(f"webhook:{tmp_path / 'url'}", (), "--alerts-to")
        made.check()
        assert made.sender().send(bodies()) == [None]
    assert made.label == f"webhook:{tmp_path / 'url'}"
    (tmp_path / "bad").write_text("http://example.com/hush")
    with pytest.raises(UsageError, match="would be sent in the clear; give https://") as refused:
        destination(f"webhook:{tmp_path / 'bad'}", (), "--alerts-to").check()
    assert "hush" not in str(refused.value)


COLLECTED: list[Any] = []


def collect(element: Any) -> None:
    COLLECTED.append(element)


@pytest.mark.parametrize("runner", ["FnApiRunner", "BundleBasedDirectRunner"])
def test_what_does_not_arrive_is_a_dead_letter_and_the_rest_goes_on(runner: str) -> None:
    told = alerts(7)
    COLLECTED.clear()
    with receiver() as works, receiver(status(400)) as fails:
        to = (
            WebhookDestination(works.url, None, (), QUICK),
            WebhookDestination(fails.url, None, (), QUICK),
        )
        with beam.Pipeline(runner, PipelineOptions([])) as p:
            _ = p | beam.Create(told) | DeliverAlerts(Delivery(to)) | beam.Map(collect)
    assert sorted(request.body for request in works.requests) == sorted(bodies(7))
    assert {letter.payload for letter in COLLECTED} == set(bodies(7))
    letter = COLLECTED[0]
    assert (letter.reason, letter.source) == (Reason.DELIVERY_FAILED, f"alerts to {to[1].label}")
    assert letter.event_id in {f"e{i}" for i in range(7)}
    assert "HTTP 400" in {each.message.split(": ")[1].split(";")[0] for each in COLLECTED}


def test_a_delivery_that_fails_again_is_the_same_dead_letter() -> None:
    (body,) = bodies()
    first = delivery_failed(body, Failure("HTTP 500", 6), "https://a.example#1")
    again = delivery_failed(body, Failure("no answer within 5.0 s", 2), "https://a.example#1")
    other = delivery_failed(body, Failure("HTTP 500", 6), "https://b.example#2")
    assert dead_letter_id(first) == dead_letter_id(again) != dead_letter_id(other)
    assert first.message == (
        "the alert didn't reach https://a.example#1 in 6 attempts: HTTP 500; "
        "send it again with fraud-pipeline replay --reason DELIVERY_FAILED"
    )
