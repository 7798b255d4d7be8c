"""Where alerts go and what a case is, as the command line says it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from fraud_pipeline.alerting.deliver import Delivery
from fraud_pipeline.alerting.destinations import (
    TopicDestination,
    WebhookDestination,
    check_destinations,
    destination,
)
from fraud_pipeline.alerting.options import add_arguments, case_config, delivery
from fraud_pipeline.alerting.secrets import Place
from fraud_pipeline.alerting.webhooks import label
from fraud_pipeline.cli import main
from fraud_pipeline.errors import UsageError
from transforms.cases import CaseConfig


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pubsub:alerts", "'pubsub:alerts' names no topic; give pubsub:projects/PROJECT/topics/TOPIC"),
        ("alerts.txt", "'alerts.txt' is no destination; give pubsub:"),
        ("http://example.com/x", "would be sent in the clear; give https://"),
        ("https://", "is no URL for a webhook; give https://host/path"),
        ("ftp://example.com", "is no URL for a webhook; give https://host/path"),
        ("https://[x", "is no URL; give https://host/path"),
        ("https://user:hush@example.com", "holds a password; put the URL into a file and give webhook:PATH"),
        ("webhook:", "names no place; give webhook:env:NAME, or webhook: and a file's path"),
        ("webhook:https://example.com/hush", "names no place; give webhook:env:NAME"),
    ],
)
def test_a_destination_that_is_none_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        destination(text, (), "--alerts-to")
    assert words in str(refused.value)
    assert "hush" not in str(refused.value)
    assert str(refused.value).startswith("--alerts-to ")


def test_a_secret_is_read_where_it_is_and_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTS_SECRET", " hush\n")
    (tmp_path / "secret").write_text("hush2\n")
    assert Place("env:ALERTS_SECRET").read() == b"hush"
    assert Place(str(tmp_path / "secret")).read() == b"hush2"
    (tmp_path / "empty").write_text("\n")
    for place, words in (
        ("env:NOT_SET", "the environment variable NOT_SET is not set"),
        (str(tmp_path / "none"), "can't be read (FileNotFoundError); give a file with the secret"),
        (str(tmp_path / "empty"), "is empty; put the secret into it"),
    ):
        with pytest.raises(UsageError) as refused:
            Place(place).read()
        assert words in str(refused.value)


def test_workers_of_another_machine_need_secrets_that_they_can_read() -> None:
    for places in ((Place("env:X"),), (Place("/local/file"),)):
        with pytest.raises(UsageError, match=r"and workers can't read it; give gs://bucket/path"):
            check_destinations([WebhookDestination("https://example.com", None, places)], by_workers=True)
    ours = WebhookDestination(None, Place("gs://b/url"), (Place("gs://b/secret"),))
    check_destinations([ours, TopicDestination("projects/my-project/topics/t")], by_workers=True)


def test_a_label_tells_receivers_apart_without_what_is_secret() -> None:
    assert label("https://hooks.example.com/T0/B0/secret").startswith("https://hooks.example.com#")
    assert label("https://a.example/1") != label("https://a.example/2")
    assert label("http://127.0.0.1:8080/x").startswith("http://127.0.0.1:8080#")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--alerts-to", "https://a.example"], "--alerts-secret is missing; give env:NAME, a file, or `none`"),
        (["--alerts-secret", "env:X"], "--alerts-secret is for --alerts-to with a URL"),
        (["--alerts-to", "https://a.example", "--alerts-secret", "env:NOT_SET"], "variable NOT_SET is not set"),
        (["--alerts-include", "card"], "--alerts-include 'card' is no field of events; give one of amount_minor"),
        (["--alerts-by", "country"], "--alerts-by is 'country'; give one of user_id, card_id"),
        (["--alerts-cooldown-seconds", "0"], "--alerts-cooldown-seconds is 0.0; give 1 to "),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "events.jsonl").write_text("{}\n")
    command = ["run", "--input", str(tmp_path / "events.jsonl"), "--output", str(tmp_path / "r.duckdb"), *options]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_the_command_line_says_what_a_case_is() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert case_config(parser.parse_args([])) == CaseConfig()
    given = "--alerts-by network --alerts-group key --alerts-cooldown-seconds 60 --alerts-include network"
    assert case_config(parser.parse_args([*given.split(), "--alerts-include", "event"])) == CaseConfig(
        key_field="network", grouping="key", cooldown_seconds=60, include=("network", "event")
    )
    to = "--alerts-to https://a.example --alerts-to pubsub:projects/my-project/topics/t --alerts-secret env:A"
    assert delivery(parser.parse_args([*to.split(), "--alerts-include", "ip"])) == Delivery(
        (
            WebhookDestination("https://a.example", None, (Place("env:A"),)),
            TopicDestination("projects/my-project/topics/t"),
        ),
        ("ip",),
    )
    both = delivery(parser.parse_args([*to.split(), "--alerts-secret", "env:B"])).destinations[0]
    assert isinstance(both, WebhookDestination)
    assert both.secrets == (Place("env:A"), Place("env:B"))
    with pytest.raises(UsageError, match="--alerts-secret none stands alone"):
        delivery(parser.parse_args([*to.split(), "--alerts-secret", "none"]))
