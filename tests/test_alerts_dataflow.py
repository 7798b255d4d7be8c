"""Alerts in a Dataflow job: Pub/Sub by the service's own write, secrets by their places, never by their values."""

from __future__ import annotations

from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as api

from fraud_pipeline import cli

TOPIC = "projects/my-project/topics/alerts"


def submit(directory: Path, *options: str) -> int:
    """Writes the job's template to a directory instead of submitting it."""
    return cli.main(
        [
            "run",
            "--input=pubsub:projects/my-project/subscriptions/events",
            "--output=bigquery:my-project.fraud",
            "--runner=DataflowRunner",
            "--project=my-project",
            "--region=europe-west1",
            "--sdk_container_image=example.com/fraud:1",
            "--no_auth",
            "--dataflow_endpoint=http://localhost:1",
            f"--temp_location={directory}",
            f"--staging_location={directory}",
            f"--template_location={directory / 'job.json'}",
            *options,
        ]
    )


def test_topics_are_written_to_by_the_service_and_webhooks_by_workers(tmp_path: Path) -> None:
    options = ["--alerts-to", f"pubsub:{TOPIC}", "--alerts-to", "webhook:gs://my-bucket/url"]
    assert submit(tmp_path, *options, "--alerts-secret", "gs://my-bucket/secret") == 0
    pipeline = api.Pipeline.FromString((tmp_path / "pipeline.pb").read_bytes())
    transforms = pipeline.components.transforms.values()
    (write,) = [t for t in transforms if t.spec.urn == "beam:transform:pubsub_write:v1"]
    assert api.PubSubWritePayload.FromString(write.spec.payload).topic == TOPIC
    names = {t.unique_name for t in transforms}
    assert [name for name in names if name.startswith("DeliverAlerts/Send ")] == [
        "DeliverAlerts/Send webhook:gs:__my-bucket_url"
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--alerts-to", "https://soc.example/a", "--alerts-secret", "env:SECRET"], "--alerts-secret 'env:SECRET'"),
        (["--alerts-to", "webhook:env:URL", "--alerts-secret", "none"], "--alerts-to webhook: 'env:URL'"),
        (["--alerts-to", "webhook:url.txt", "--alerts-secret", "none"], "--alerts-to webhook: 'url.txt'"),
    ],
)
def test_secrets_of_this_machine_are_refused(
    options: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SECRET", "hush")
    monkeypatch.setenv("URL", "https://hush.example")
    assert submit(tmp_path, *options) == 2
    said = capsys.readouterr().err
    assert said == f"fraud-pipeline run: {words} is of this machine, and workers can't read it; give gs://bucket/path\n"
    assert not (tmp_path / "pipeline.pb").exists()
