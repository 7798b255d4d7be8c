"""Result tables in one DuckDB file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from fraud_pipeline.sinks.base import StagedSink
from fraud_pipeline.sinks.staging import replacing


class DuckdbSink(StagedSink):
    """One DuckDB file with every table and view, to be asked with `fraud-pipeline query`."""

    def _publish(self, staged: Mapping[str, list[Path]]) -> None:
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.output) as temporary:
            if self.resume and self.output.exists():
                shutil.copyfile(self.output, temporary)
            fill(temporary, staged)


def fill(database: Path, staged: Mapping[str, list[Path]]) -> None:
    """Appends the staged rows to the tables of a DuckDB file, which is made if it doesn't exist."""
    import duckdb

    from fraud_pipeline.tables.duckdb import append_jsonl, create_tables

    with duckdb.connect(str(database)) as connection:
        create_tables(connection)
        for table, files in staged.items():
            for file in files:
                append_jsonl(connection, table, file)
