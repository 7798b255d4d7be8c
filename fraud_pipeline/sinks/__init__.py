"""Where results go: `sink_for` reads the output's specification and gives the sink."""

from __future__ import annotations

import re
from pathlib import Path

from fraud_pipeline.errors import UsageError
from fraud_pipeline.sinks.base import Sink
from transforms.entities import DEFAULT_ENTITIES, EntityConfig

__all__ = ["FORMATS", "Sink", "sink_for"]

FORMATS = ("parquet", "jsonl")
"""File formats of an output directory; the first is the default."""

_DATASET = re.compile(r"([a-z][a-z0-9-]{4,28}[a-z0-9])\.([A-Za-z0-9_]{1,1024})")


def sink_for(
    output: str,
    *,
    format: str | None = None,
    resume: bool = False,
    entities: EntityConfig = DEFAULT_ENTITIES,
) -> Sink:
    """The sink of an output specification.

    Args:
      output: `results.duckdb`, a directory, or `bigquery:project.dataset`.
      format: `parquet` or `jsonl`, of the files in a directory; None for the default.
      resume: True where the source won't bring again what it brought before, as a subscription: rows of
        earlier runs are kept. False where it will, as a file: the output is replaced.
      entities: of which the records of scores have features.

    Raises:
      UsageError: the specification names no output that can be written.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"--format {format!r} is unknown; give one of {', '.join(FORMATS)}")
    kind, colon, rest = output.partition(":")
    if colon and kind == "bigquery":
        _refuse_format(output, format)
        match = _DATASET.fullmatch(rest)
        if match is None:
            raise UsageError(f"--output {output!r} names no dataset; give bigquery:project.dataset")
        from fraud_pipeline.sinks.bigquery import BigquerySink

        return BigquerySink(project=match[1], dataset=match[2], entities=entities)
    if not output or "://" in output:
        raise UsageError(
            f"--output {output!r} is no local path; give results.duckdb, a directory, or bigquery:project.dataset"
        )
    path = Path(output).absolute()
    if path.suffix == ".duckdb":
        _refuse_format(output, format)
        if path.is_dir():
            raise UsageError(f"--output {output!r} is a directory; give the name of a DuckDB file")
        from fraud_pipeline.sinks.duckdb import DuckdbSink

        return DuckdbSink(path, resume=resume, entities=entities)
    if path.is_file() or (path.suffix and not output.endswith("/") and not path.is_dir()):
        raise UsageError(
            f"--output {output!r} would be one file for several tables; "
            f"give {path.with_suffix('.duckdb').name}, or a directory {path.stem}/"
        )
    if format == "jsonl":
        from fraud_pipeline.sinks.jsonl import JsonlSink

        return JsonlSink(path, resume=resume, entities=entities)
    from fraud_pipeline.sinks.parquet import ParquetSink

    return ParquetSink(path, resume=resume, entities=entities)


def _refuse_format(output: str, format: str | None) -> None:
    if format is not None:
        raise UsageError(f"--format {format} is for a directory, not for --output {output!r}; leave it out")
