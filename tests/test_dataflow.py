"""The job on Dataflow, without an account: the script, its options, the job it makes, and what workers do with it.

Nothing here goes over the network. The script runs in a clean copy of the tree; the job is written as a template;
the package is installed, as workers install it, in an environment that has what `setup.py` requires and no more.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as api
from dataflow import worker_env
from dataflow.stateful_steps import stateful_steps, to_json
from google.cloud import dataflow_v1beta3

from fraud_pipeline import cli

# Each step below is made once and used by several tests.
pytestmark = pytest.mark.xdist_group("dataflow")

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent
GOLDEN = HERE / "goldens/stateful_steps.json"
BIN = Path(sys.executable).parent
PACKAGES = ("transforms", "fraud_pipeline")
LOCAL_LIBRARIES = {"duckdb", "sqlglot", "matplotlib", "pyarrow", "rich"}

SETTINGS = {
    "project": "my-project",
    "region": "europe-west1",
    "bucket": "my-bucket",
    "subscription": "events",
    "dataset": "fraud",
}
MORE_SETTINGS = {
    "timestamp-attribute": "event_time",
    "service-account": "fraud-worker@my-project.iam.gserviceaccount.com",
    "subnetwork": "regions/europe-west1/subnetworks/workers",
    "max-workers": "7",
    "job-name": "fraud",
}


def flags(settings: dict[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


class Script:
    """`run_dataflow.sh` in a copy of the tree that has neither git nor what builds leave behind."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *arguments: str, path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "HOME": os.environ.get("HOME", "/"),
            "PATH": os.pathsep.join([*([str(path)] if path else []), "/usr/bin", "/bin"]),
        }
        return subprocess.run(
            [self.root / "run_dataflow.sh", *arguments],
            env=environment | variables,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=240,
        )


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Script:
    root = tmp_path_factory.mktemp("clean") / "copy"
    root.mkdir()
    for name in (*PACKAGES, "requirements", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_dataflow.sh", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md"):
        shutil.copy2(ROOT / name, root / name)
    return Script(root)


class Job(NamedTuple):
    directory: Path
    description: dict[str, Any]
    pipeline: api.Pipeline


@pytest.fixture(scope="module")
def job(script: Script, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """What is submitted, written to a directory instead: a service on this machine is not asked for a template."""
    directory = tmp_path_factory.mktemp("job")
    done = script.run(
        *flags(SETTINGS | MORE_SETTINGS),
        "--",
        "--no_auth",
        "--dataflow_endpoint=http://localhost:1",
        f"--temp_location={directory}",
        f"--staging_location={directory}",
        f"--template_location={directory / 'job.json'}",
        "--requirements_cache=skip",
        path=BIN,
        PYTHONPATH=str(ROOT),
    )
    assert done.returncode == 0, done.stderr
    return Job(
        directory,
        json.loads((directory / "job.json").read_text()),
        api.Pipeline.FromString((directory / "pipeline.pb").read_bytes()),
    )


@pytest.fixture(scope="module")
def worker(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment like a worker's, with the package of the job."""
    return worker_env.make(tmp_path_factory.mktemp("worker"), "fraud-pipeline", job.directory / "workflow.tar.gz")


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """A directory where `fraud-pipeline` is `echo`: what the script would run is what it prints."""
    (tmp_path / "fraud-pipeline").symlink_to("/bin/echo")
    return tmp_path


# The script: settings, mistakes.


def test_script_has_no_findings() -> None:
    done = subprocess.run([BIN / "shellcheck", "run_dataflow.sh"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_help_teaches_every_setting(script: Script) -> None:
    done = script.run("--help")
    assert done.returncode == 0
    for name in SETTINGS | MORE_SETTINGS:
        assert f"--{name} " in done.stdout
        assert f" {name.replace('-', '_').upper()} " in done.stdout
    assert "examples" in done.stdout


@pytest.mark.parametrize("name", ["project", "region", "bucket", "subscription", "dataset"])
def test_missing_setting_is_one_line(script: Script, name: str) -> None:
    done = script.run(*flags({k: v for k, v in SETTINGS.items() if k != name}))
    assert_mistake(done, f"--{name} is missing", name.upper())


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"project": "My Project"}, "--project 'My Project'"),
        ({"region": "europe-west1-b"}, "--region 'europe-west1-b'"),
        ({"bucket": "my-bucket/path"}, "--bucket 'my-bucket/path'"),
        ({"temp-location": "gs://my-bucket"}, "--temp-location 'gs://my-bucket'"),
        ({"temp-location": "gs:/my-bucket/temp"}, "--temp-location 'gs:/my-bucket/temp'"),
        ({"staging-location": "s3://my-bucket/temp"}, "--staging-location 's3://my-bucket/temp'"),
        ({"staging-location": "gs://My_Bucket/x y"}, "--staging-location 'gs://My_Bucket/x y'"),
        ({"subscription": "projects/my-project/topics/events"}, "topics/events'"),
        ({"dataset": "my-project:fraud"}, "fraud'"),
        ({"job-name": "Fraud_Pipeline"}, "--job-name 'Fraud_Pipeline'"),
        ({"service-account": "someone@example.com"}, "--service-account 'someone@example.com'"),
        ({"subnetwork": "regions/us-east1/subnetworks/a"}, "such as regions/europe-west1/subnetworks/"),
        ({"max-workers": "0"}, "--max-workers '0'"),
        ({"max-workers": "ten"}, "--max-workers 'ten'"),
        ({"delivery": "at-most-once"}, "--delivery 'at-most-once'"),
        ({"rules": "/no/such/rules.yaml"}, "--rules '/no/such/rules.yaml'"),
        ({"lists": "/no/such/lists.yaml"}, "--lists '/no/such/lists.yaml'"),
        ({"rules-refresh-seconds": "0"}, "--rules-refresh-seconds '0'"),
        ({"rules": __file__, "rules-refresh-seconds": "60"}, "workers can't read it again; copy it to gs://"),
        ({"maxworkers": "3"}, "unknown option --maxworkers"),
    ],
)
def test_wrong_setting_is_one_line(script: Script, changed: dict[str, str], shown: str) -> None:
    assert_mistake(script.run(*flags(SETTINGS | changed)), shown)


@pytest.mark.parametrize("arguments", [["--project"], ["--project", "--region"], ["stray"]])
def test_malformed_command_line_is_one_line(script: Script, arguments: list[str]) -> None:
    assert_mistake(script.run(*arguments), arguments[0])


def test_variables_are_settings_and_flags_win(script: Script, echo: Path) -> None:
    variables = {name.upper(): value for name, value in SETTINGS.items()}
    done = script.run("--region=us-east1", "--max_workers", "3", path=echo, MAX_WORKERS="5", **variables)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[0] == "run"
    assert option(words, "--region") == "us-east1"
    assert option(words, "--max_num_workers") == "3"
    assert option(words, "--input") == "pubsub:projects/my-project/subscriptions/events"
    assert option(words, "--output") == "bigquery:my-project.fraud"
    assert option(words, "--temp_location") == "gs://my-bucket/dataflow/temp"


def test_rules_that_are_read_again_are_in_cloud_storage(script: Script, echo: Path) -> None:
    changed = {"rules": "gs://b/rules.yaml", "lists": "gs://b/lists.yaml", "rules-refresh-seconds": "60"}
    words = script.run(*flags(SETTINGS | changed), path=echo).stdout.split()
    assert {name: option(words, f"--{name}") for name in changed} == changed


def test_full_names_and_paths_are_taken_as_they_are(script: Script, echo: Path) -> None:
    changed = {
        "subscription": "projects/other-project/subscriptions/events",
        "dataset": "other-project.fraud",
        "bucket": "",
        "temp-location": "gs://a-bucket/t",
        "staging-location": "gs://b-bucket/s/",
    }
    words = script.run(*flags(SETTINGS | changed), path=echo).stdout.split()
    assert option(words, "--input") == "pubsub:projects/other-project/subscriptions/events"
    assert option(words, "--output") == "bigquery:other-project.fraud"
    assert option(words, "--temp_location") == "gs://a-bucket/t"
    assert option(words, "--staging_location") == "gs://b-bucket/s/"


def test_update_delivery_and_more_are_passed_on(script: Script, echo: Path) -> None:
    done = script.run(
        *flags(SETTINGS), "--update", "--delivery", "at-least-once", "--", "--gap-seconds", "600", path=echo
    )
    words = done.stdout.split()
    assert "--update" in words
    assert option(words, "--dataflow_service_options") == "streaming_mode_at_least_once"
    assert words[-2:] == ["--gap-seconds", "600"]
    assert "--update" not in script.run(*flags(SETTINGS), path=echo).stdout.split()


def test_without_the_program_it_says_how_to_get_it(script: Script) -> None:
    assert_mistake(script.run(*flags(SETTINGS)), "make setup")


def assert_mistake(done: subprocess.CompletedProcess[str], *shown: str) -> None:
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for text in shown:
        assert text in done.stderr


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


# The job.


def test_job_is_a_streaming_job_with_the_options_of_production(job: Job) -> None:
    description = job.description
    environment = description["environment"]
    (pool,) = environment["workerPools"]
    assert description["name"] == "fraud"
    assert description["type"] == "JOB_TYPE_STREAMING"
    assert description["labels"] == {"app": "fraud-pipeline"}
    assert "enable_streaming_engine" in environment["experiments"]
    assert environment["serviceAccountEmail"] == MORE_SETTINGS["service-account"]
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 7
    assert pool["autoscalingSettings"]["algorithm"] == "AUTOSCALING_ALGORITHM_BASIC"  # THROUGHPUT_BASED, in the API
    assert pool["machineType"] == "n2-standard-2"
    assert pool["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert pool["subnetwork"] == MORE_SETTINGS["subnetwork"]
    assert {"workflow.tar.gz", "requirements.txt"} <= {package["name"] for package in pool["packages"]}
    options = environment["sdkPipelineOptions"]["options"]
    assert options["streaming"] is True
    assert options["save_main_session"] is False
    assert options["max_cache_memory_usage_mb"] == 100
    assert not options.get("enable_hot_key_logging")


def test_job_reads_the_subscription(job: Job) -> None:
    (read,) = (t for t in job.pipeline.components.transforms.values() if t.spec.urn == "beam:transform:pubsub_read:v1")
    payload = api.PubSubReadPayload.FromString(read.spec.payload)
    assert payload.subscription == "projects/my-project/subscriptions/events"
    assert payload.timestamp_attribute == "event_time"


def test_stateful_steps_are_those_of_the_golden_file(job: Job) -> None:
    """A difference means that a running job can't be updated to this code, or loses state: drain it instead.

    If that is meant, tell it in the CHANGELOG and renew the file: UPDATE_GOLDENS=1 pytest tests/test_dataflow.py
    """
    steps = to_json(stateful_steps(job.pipeline))
    if os.environ.get("UPDATE_GOLDENS"):
        GOLDEN.write_text(steps)
    assert json.loads(steps) == json.loads(GOLDEN.read_text())


def test_aggregation_keeps_its_state_by_user_without_pickle(job: Job) -> None:
    step = stateful_steps(job.pipeline)["HybridAggregation/Aggregate/ParDo(HybridAggregationDoFn)"]
    assert step["input"]["coder"] == "kv[string_utf8, EnvelopeCoder]"
    assert {name: state["kind"] for name, state in step["states"].items()} == {
        "user_state": "read_modify_write_spec",
        "open_events": "bag_spec",
    }
    assert [coder for state in step["states"].values() for coder in state["coders"].values()] == ["bytes", "bytes"]
    assert {timer["domain"] for timer in step["timers"].values()} == {"EVENT_TIME", "PROCESSING_TIME"}


def _rename_step(step: api.PTransform, par_do: api.ParDoPayload) -> None:
    step.unique_name += "2"


def _rename_state(step: api.PTransform, par_do: api.ParDoPayload) -> None:
    par_do.state_specs["renamed"].CopyFrom(par_do.state_specs.pop("user_state"))


def _change_state_coder(step: api.PTransform, par_do: api.ParDoPayload) -> None:
    spec = par_do.state_specs["user_state"].read_modify_write_spec
    (timer, *_) = par_do.timer_family_specs.values()
    spec.coder_id = timer.timer_family_coder_id


def _change_state_kind(step: api.PTransform, par_do: api.ParDoPayload) -> None:
    spec = par_do.state_specs["open_events"]
    spec.set_spec.element_coder_id = spec.bag_spec.element_coder_id


def _drop_timer(step: api.PTransform, par_do: api.ParDoPayload) -> None:
    par_do.timer_family_specs.pop("ts-inactivity")


def _change_timer_domain(step: api.PTransform, par_do: api.ParDoPayload) -> None:
    par_do.timer_family_specs["ts-inactivity"].time_domain = api.TimeDomain.EVENT_TIME


@pytest.mark.parametrize(
    "change",
    [_rename_step, _rename_state, _change_state_coder, _change_state_kind, _drop_timer, _change_timer_domain],
)
def test_golden_file_tells_a_change_of_state(
    job: Job, change: Callable[[api.PTransform, api.ParDoPayload], None]
) -> None:
    changed = api.Pipeline()
    changed.CopyFrom(job.pipeline)
    for step in changed.components.transforms.values():
        if step.unique_name == "HybridAggregation/Aggregate/ParDo(HybridAggregationDoFn)":
            par_do = api.ParDoPayload.FromString(step.spec.payload)
            change(step, par_do)
            step.spec.payload = par_do.SerializeToString()
    assert stateful_steps(changed) != stateful_steps(job.pipeline)


def test_golden_file_tells_a_change_of_key_coder(job: Job) -> None:
    changed = api.Pipeline()
    changed.CopyFrom(job.pipeline)
    for coder in changed.components.coders.values():
        if coder.spec.urn == "beam:coder:string_utf8:v1":
            coder.spec.urn = "beam:coder:bytes:v1"
    assert stateful_steps(changed) != stateful_steps(job.pipeline)


# The package, as workers have it.


def files_of_packages(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"  # workers get sources
    }


def test_package_holds_every_module_and_data_file(script: Script, job: Job, worker: Path) -> None:
    expected = files_of_packages(script.root)
    assert any(name.endswith(".sql") for name in expected)
    assert {"fraud_pipeline/rules/default.yaml", "transforms/py.typed", "fraud_pipeline/py.typed"} <= expected
    (site,) = worker.parent.glob("lib/python*/site-packages")
    assert files_of_packages(site) == expected
    with tarfile.open(job.directory / "workflow.tar.gz") as archive:
        assert not any("/tests/" in name for name in archive.getnames())


def test_functions_and_coders_load_on_a_worker(job: Job, worker: Path) -> None:
    done = subprocess.run(
        [worker / "python", HERE / "dataflow/load_pipeline.py", job.directory / "pipeline.pb"],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded["failures"] == {}
    assert loaded["unmet"] == []
    assert "transforms.hybrid.HybridAggregationDoFn" in loaded["functions"]
    assert len(loaded["functions"]) >= sum(
        step.spec.urn == "beam:transform:pardo:v1" for step in job.pipeline.components.transforms.values()
    )
    assert loaded["coders"] == len(job.pipeline.components.coders)
    # What isn't there is what only a workstation has, and no step needs it.
    assert set(loaded["missing"].values()) <= LOCAL_LIBRARIES
    assert not any(module.startswith("transforms") for module in loaded["missing"])
    assert not {"fraud_pipeline.job", "fraud_pipeline.sinks.bigquery", "fraud_pipeline.tables.bigquery"} & set(
        loaded["missing"]
    )


def test_dry_run_checks_all_without_network_or_local_libraries(script: Script, worker: Path, tmp_path: Path) -> None:
    """Beam validates every option where the service is the real one, and the package is built; no socket is opened."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "def watch(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto'):\n"
        f"        print(event, arguments, file=open({str(tmp_path / 'network')!r}, 'a'))\n"
        "sys.addaudithook(watch)\n"
    )
    done = script.run(*flags(SETTINGS | MORE_SETTINGS), "--dry-run", "--update", path=worker, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "nothing was submitted" in done.stderr
    assert "nknown" not in done.stderr
    assert "unparseable" not in done.stderr
    assert "--runner DataflowRunner" in done.stdout
    assert "gs://my-bucket/dataflow/temp" in done.stdout
    assert not (tmp_path / "network").exists(), (tmp_path / "network").read_text()


def test_workers_get_all_that_the_image_lacks_in_the_versions_that_are_tested() -> None:
    """Workers have no way to PyPI: whatever the package needs beside Beam is sent along, and what that needs."""
    tested = set((ROOT / "requirements/dev.lock").read_text().split())
    sent = set((ROOT / "requirements/workers.lock").read_text().split())
    assert sent <= tested
    listed = {line for line in (ROOT / "requirements/workers.in").read_text().split("\n") if line and line[0] != "#"}
    brought_by_beam = worker_env.closure(["apache-beam[gcp]"]).keys()
    required = worker_env.direct_requirements("fraud-pipeline").keys()
    assert required - brought_by_beam <= listed
    assert {pin.partition("==")[0] for pin in sent} == worker_env.closure(listed).keys()


# Mistakes that Beam lets pass or hangs on, told by `fraud-pipeline run` itself.

RUN = ("run", "--input", "pubsub:projects/my-project/subscriptions/events", "--runner", "DataflowRunner")
TO_BIGQUERY = ("--output", "bigquery:my-project.fraud", "--project", "my-project", "--region", "europe-west1")
STAGED = ("--temp_location", "gs://my-bucket/temp", "--setup_file", str(ROOT / "setup.py"))


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((*TO_BIGQUERY, "--setup_file", "setup.py"), "--temp_location is missing"),
        ((*TO_BIGQUERY, "--temp_location", "gs://my-bucket"), "--temp_location 'gs://my-bucket'"),
        ((*TO_BIGQUERY, "--temp_location", "gs://my-bucket/temp"), "--setup_file is missing"),
        ((*TO_BIGQUERY, *STAGED, "--staging_location", "my-bucket/s"), "--staging_location 'my-bucket/s'"),
        ((*TO_BIGQUERY, *STAGED, "--dry_run=false"), "--dry_run=false"),
        ((*TO_BIGQUERY, *STAGED, "--dry_run=true", "--job_name", "Fraud"), "Fraud"),
        ((*TO_BIGQUERY, *STAGED, "--max_workers", "3"), "--max_num_workers"),
        ((*TO_BIGQUERY[:-2], *STAGED), "--region is missing"),
        ((*TO_BIGQUERY, *STAGED, "--job_name", "fraud"), "no Google credentials"),
        (("--output", "results.duckdb", *STAGED), "results.duckdb"),
    ],
)
def test_mistake_is_told_before_anything_is_sent(
    arguments: tuple[str, ...], shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(event: str, arguments: Any) -> None:
        raise AssertionError(f"went to the network: {arguments}")

    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/account.json")
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert cli.main([*RUN, *arguments]) == 2
    error = capsys.readouterr().err
    assert shown in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("mode", [(), ("--mode", "replay")])
def test_local_files_are_not_for_dataflow(
    mode: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text("{}\n")
    code = cli.main(["run", "--input", str(events), *mode, "--runner", "DataflowRunner", *TO_BIGQUERY, *STAGED])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


# Submission, to a service on this machine that answers as Dataflow's does.


class Service(NamedTuple):
    """Tells which jobs run and takes new ones; refuses what `refusals` has a reason for, by method."""

    endpoint: str
    running: list[dict[str, str]]
    submitted: list[dict[str, Any]]
    refusals: dict[str, str]


@pytest.fixture
def service() -> Iterator[Service]:
    known = Service("", [], [], {})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # An empty token, as the service gives on the last page, made Beam ask for it again, forever.
            self.answer(200, {"jobs": known.running, "nextPageToken": ""})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "POST" not in known.refusals:
                known.submitted.append(body)
            self.answer(200, {"id": "2026-new", "name": body["name"], "clientRequestId": body["clientRequestId"]})

        def answer(self, status: int, content: dict[str, Any]) -> None:
            if self.command in known.refusals:
                status = 403
                content = {"error": {"code": status, "message": known.refusals[self.command]}}
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield known._replace(endpoint=f"http://localhost:{server.server_port}")
    server.shutdown()
    server.server_close()


def submit(service: Service, directory: Path, *more: str) -> int:
    return cli.main(
        [
            *RUN,
            *TO_BIGQUERY,
            "--job_name=fraud",
            "--no_auth",
            f"--dataflow_endpoint={service.endpoint}",
            f"--temp_location={directory}",
            # An image in place of the package: what is staged is tested above.
            "--sdk_container_image=europe-docker.pkg.dev/my-project/fraud/worker:1",
            *more,
        ]
    )


OLD_JOB = {"id": "2026-old", "name": "fraud", "currentState": "JOB_STATE_RUNNING"}
OTHER_JOB = {"id": "2026-other", "name": "fraud-2", "currentState": "JOB_STATE_RUNNING"}


def test_new_job_is_submitted_and_left_running(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.running.append(OTHER_JOB)
    assert submit(service, tmp_path) == 0
    (submitted,) = service.submitted
    assert submitted["type"] == dataflow_v1beta3.JobType.JOB_TYPE_STREAMING
    assert "replaceJobId" not in submitted
    error = capsys.readouterr().err
    assert "2026-new" in error
    assert "drain" in error


def test_update_replaces_the_running_job(service: Service, tmp_path: Path) -> None:
    service.running.extend([OTHER_JOB, OLD_JOB])
    assert submit(service, tmp_path, "--update") == 0
    (submitted,) = service.submitted
    assert submitted["replaceJobId"] == "2026-old"


def test_update_without_a_running_job_is_told(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.running.append(OTHER_JOB)
    assert submit(service, tmp_path, "--update") == 2
    assert service.submitted == []
    assert "no job named 'fraud' runs" in capsys.readouterr().err


def test_second_job_of_a_name_is_told(service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service.running.append(OLD_JOB)
    assert submit(service, tmp_path) == 2
    assert service.submitted == []
    assert "2026-old" in capsys.readouterr().err


def test_update_needs_a_name(service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(service, tmp_path, "--job_name=", "--update") == 2
    assert service.submitted == []
    assert "--job_name" in capsys.readouterr().err


def test_service_that_will_not_tell_its_jobs(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.refusals["GET"] = "someone may not list jobs"
    assert submit(service, tmp_path) == 2
    assert service.submitted == []
    error = capsys.readouterr().err
    assert "someone may not list jobs" in error
    assert error.count("\n") == 1


def test_refusal_of_the_service_is_shown(service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service.refusals["POST"] = "fraud-worker may not create jobs"
    assert submit(service, tmp_path) == 1
    assert "fraud-worker may not create jobs" in capsys.readouterr().err
