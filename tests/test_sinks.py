"""Local sinks: what was written is in whole files, however the job ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import apache_beam as beam
import duckdb
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from written import Outputs, dead_letter, label

from fraud_pipeline.errors import UsageError
from fraud_pipeline.sinks import sink_for
from fraud_pipeline.sinks.base import StagedSink
from fraud_pipeline.sinks.bigquery import BigquerySink
from fraud_pipeline.sinks.duckdb import DuckdbSink
from fraud_pipeline.sinks.jsonl import JsonlSink
from fraud_pipeline.sinks.parquet import ParquetSink
from fraud_pipeline.sinks.staging import Staging, append_lines
from fraud_pipeline.stopping import run_until_stopped

RUNNERS = ("BundleBasedDirectRunner", "FnApiRunner")
FORMATS: dict[type[StagedSink], str] = {JsonlSink: "jsonl", DuckdbSink: "duckdb", ParquetSink: "parquet"}


def run(sink: Any, labels: range, dead_letters: range, runner: str = RUNNERS[0]) -> int:
    pipeline = beam.Pipeline(options=PipelineOptions([f"--runner={runner}"]))
    outputs = Outputs(
        pipeline | "Labels" >> beam.Create(labels) | "Label" >> beam.Map(label),
        pipeline | "DeadLetters" >> beam.Create(dead_letters) | "DeadLetter" >> beam.Map(dead_letter),
    )
    sink.write(outputs)
    return run_until_stopped(pipeline, sink.finalize)


def read(output: Path, format: str) -> dict[str, list[tuple[Any, ...]]]:
    """Label ids and dead payloads, by table."""
    with duckdb.connect(str(output) if format == "duckdb" else ":memory:", read_only=format == "duckdb") as connection:
        rows = {}
        for table, column in (("labels", "event_id"), ("dead_letters", "payload")):
            source = table if format == "duckdb" else f"'{output / table}.{format}'"
            rows[table] = sorted(connection.execute(f"SELECT {column} FROM {source}").fetchall())
        return rows


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("kind", [JsonlSink, DuckdbSink, ParquetSink])
def test_every_row_arrives_and_nothing_else_is_left(kind: type[StagedSink], runner: str, tmp_path: Path) -> None:
    output = tmp_path / ("r.duckdb" if kind is DuckdbSink else "r")
    sink = kind(output)

    assert run(sink, range(300), range(20), runner) == 0

    rows = read(output, FORMATS[kind])
    assert rows["labels"] == sorted((f"l{n}",) for n in range(300))
    if kind is not JsonlSink:
        assert rows["dead_letters"] == sorted((dead_letter(n).payload,) for n in range(20))
    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    assert not list(tmp_path.glob("**/.*"))


def test_a_table_without_rows_still_has_its_file(tmp_path: Path) -> None:
    for kind, name in ((JsonlSink, "a"), (ParquetSink, "b"), (DuckdbSink, "c.duckdb")):
        run(kind(tmp_path / name), range(0), range(1))

    assert (tmp_path / "a" / "labels.jsonl").read_bytes() == b""
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/b/labels.parquet'").fetchall() == [(0,)]
    assert read(tmp_path / "c.duckdb", "duckdb")["labels"] == []


@pytest.mark.parametrize(("format", "kind"), [("jsonl", JsonlSink), ("duckdb", DuckdbSink), ("parquet", ParquetSink)])
def test_a_file_read_again_replaces_its_results_and_a_subscription_adds_to_them(
    format: str, kind: type[StagedSink], tmp_path: Path
) -> None:
    output = tmp_path / ("r.duckdb" if kind is DuckdbSink else "r")
    run(kind(output), range(5), range(1))
    run(kind(output), range(5, 8), range(1))
    assert read(output, format)["labels"] == [("l5",), ("l6",), ("l7",)]

    run(kind(output, resume=True), range(8, 10), range(1))
    assert read(output, format)["labels"] == [("l5",), ("l6",), ("l7",), ("l8",), ("l9",)]


def test_a_pipeline_that_fails_leaves_earlier_results_as_they_were(tmp_path: Path) -> None:
    output = tmp_path / "r.duckdb"
    run(DuckdbSink(output), range(3), range(1))
    before = output.read_bytes()

    sink = DuckdbSink(output)
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    broken = pipeline | beam.Create([1]) | beam.Map(lambda n: n / 0)
    sink.write(Outputs(broken, pipeline | "Dead" >> beam.Create([2]) | beam.Map(dead_letter)))
    with pytest.raises(Exception, match="division by zero"):
        run_until_stopped(pipeline, sink.finalize)

    assert output.read_bytes() == before


# A job that would run for minutes: it says when rows are staged, and goes on.
_ENDLESS = """
import sys, time
from pathlib import Path
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from fraud_pipeline.sinks import Sink, sink_for
from fraud_pipeline.sinks.base import StagedSink
from fraud_pipeline.stopping import run_until_stopped
from written import Outputs, dead_letter, label

output, runner, resume = sys.argv[1], sys.argv[2], sys.argv[3] == "resume"

def slow(n):
    time.sleep(0.002)
    return n

sink = sink_for(output, format=None if output.endswith(".duckdb") else "jsonl", resume=resume)
pipeline = beam.Pipeline(options=PipelineOptions([f"--runner={runner}", "--streaming"]))
if runner == "FnApiRunner":
    numbers = pipeline | beam.Create(range(1_000_000)) | beam.Map(slow)
else:
    stream = TestStream()
    for n in range(0, 100_000, 10):
        stream.add_elements(list(range(n, n + 10)))
    numbers = pipeline | stream.advance_watermark_to_infinity() | beam.Map(slow)
sink.write(Outputs(numbers | "Label" >> beam.Map(label), numbers | "Dead" >> beam.Map(dead_letter)))
print("started", flush=True)
sys.exit(run_until_stopped(pipeline, sink.finalize, progress=sink.rows_written, progress_seconds=0.2))
"""


def start(output: Path, runner: str, resume: str = "anew") -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, str(output), runner, resume],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for_rows(output: Path, process: subprocess.Popen[str], at_least_bytes: int = 20_000) -> None:
    staging = output.with_name(f".{output.name}.staging")
    deadline = time.monotonic() + 120
    while sum(path.stat().st_size for path in staging.glob("labels.*.jsonl")) < at_least_bytes:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, "no rows were staged"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("name", ["r.duckdb", "r"])
def test_ctrl_c_and_sigterm_leave_complete_files(
    name: str, number: signal.Signals, exit_code: int, tmp_path: Path
) -> None:
    output = tmp_path / name
    process = start(output, "BundleBasedDirectRunner")
    wait_for_rows(output, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == exit_code, errors
    rows = read(output, "duckdb" if name.endswith(".duckdb") else "jsonl")
    numbers = sorted(int(event_id[1:]) for (event_id,) in rows["labels"])
    # Bundles of ten, each whole, in order: nothing torn, nothing missing before the end.
    assert numbers == list(range(len(numbers)))
    assert len(numbers) % 10 == 0
    assert len(numbers) > 20
    assert abs(len(rows["dead_letters"]) - len(numbers)) <= 10
    assert "labels" in errors, "progress is shown"
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_ctrl_c_in_one_long_bundle_leaves_complete_files_too(tmp_path: Path) -> None:
    output = tmp_path / "r"
    process = start(output, "FnApiRunner")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert all(json.loads(line) for line in (output / "labels.jsonl").read_bytes().splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_rows_of_a_killed_run_are_kept_where_the_source_will_not_bring_them_again(tmp_path: Path) -> None:
    output = tmp_path / "r"
    process = start(output, "BundleBasedDirectRunner", "resume")
    wait_for_rows(output, process)
    process.kill()
    process.communicate()

    run(JsonlSink(output, resume=True), range(1_000_000, 1_000_001), range(1))

    numbers = sorted(int(event_id[1:]) for (event_id,) in read(output, "jsonl")["labels"])
    assert numbers[-1] == 1_000_000
    assert numbers[:-1] == list(range(len(numbers) - 1))
    assert len(numbers) > 20


def test_rows_of_a_killed_run_are_dropped_where_the_source_is_read_again(tmp_path: Path) -> None:
    output = tmp_path / "r"
    process = start(output, "BundleBasedDirectRunner")
    wait_for_rows(output, process)
    process.kill()
    process.communicate()

    run(JsonlSink(output), range(2), range(1))

    assert read(output, "jsonl")["labels"] == [("l0",), ("l1",)]


def test_a_second_job_for_the_same_output_is_refused(tmp_path: Path) -> None:
    first = Staging(tmp_path / "s", keep=False)
    first.open()
    with pytest.raises(UsageError, match="another job is writing"):
        Staging(tmp_path / "s", keep=False).open()
    first.remove()
    Staging(tmp_path / "s", keep=False).open()


def test_an_output_that_cannot_be_written_is_one_line_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"can't write to .* choose another --output"):
        Staging(tmp_path / "file" / "s", keep=False).open()


@pytest.mark.parametrize("torn", [b'{"event_id": "l', b"x" * 200_000])
def test_a_torn_line_is_cut_off_and_whole_ones_stay(torn: bytes, tmp_path: Path) -> None:
    staging = Staging(tmp_path / "s", keep=True)
    staging.open()
    (tmp_path / "s" / "labels.1-a.jsonl").write_bytes(b'{"n": 1}\n{"n": 2}\n' + torn)
    (tmp_path / "s" / "labels.2-b.jsonl").write_bytes(torn)
    (tmp_path / "s" / "labels_other.2-b.jsonl").write_bytes(b"{}\n")

    (path,) = staging.files("labels")

    assert path.read_bytes() == b'{"n": 1}\n{"n": 2}\n'


def test_a_full_disk_leaves_no_part_of_a_bundle(tmp_path: Path) -> None:
    append_lines(str(tmp_path), "labels", [b"before"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            append_lines(str(tmp_path), "labels", [b"a" * 30, b"b" * 30])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == b"before\n"


def test_nothing_is_appended_once_the_files_are_being_made(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "s", keep=False)
    staging.open()
    append_lines(str(tmp_path / "s"), "labels", [b"{}"])
    staging.close()
    with pytest.raises(RuntimeError, match="the job was stopped"):
        append_lines(str(tmp_path / "s"), "labels", [b"{}"])
    assert staging.rows_written() == {"labels": 1}


@pytest.mark.parametrize(
    ("output", "format", "kind"),
    [
        ("results.duckdb", None, DuckdbSink),
        ("out", None, ParquetSink),
        ("out/", "parquet", ParquetSink),
        ("out.d/", "jsonl", JsonlSink),
        ("bigquery:my-project.fraud", None, BigquerySink),
    ],
)
def test_an_output_is_what_its_specification_says(output: str, format: str | None, kind: type) -> None:
    assert type(sink_for(output, format=format)) is kind


@pytest.mark.parametrize(
    ("output", "format", "words"),
    [
        ("", None, "give results.duckdb"),
        ("out.csv", None, "give out.duckdb, or a directory out/"),
        ("out.parquet", "parquet", "one file for several tables"),
        ("gs://bucket/out", None, "no local path"),
        ("bigquery:fraud", None, "give bigquery:project.dataset"),
        ("bigquery:p.d", None, "names no dataset"),
        ("bigquery:my-project.fraud", "jsonl", "leave it out"),
        ("results.duckdb", "parquet", "leave it out"),
        ("out", "csv", "give one of parquet, jsonl"),
    ],
)
def test_a_wrong_output_is_one_line_with_the_fix(output: str, format: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        sink_for(output, format=format)
    assert "\n" not in str(error.value)
