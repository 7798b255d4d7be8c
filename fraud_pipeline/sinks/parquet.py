"""Result tables as Parquet files, a file for each table."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fraud_pipeline.sinks.base import StagedSink
from fraud_pipeline.sinks.staging import replacing


class ParquetSink(StagedSink):
    """`<output>/<table>.parquet`, also for tables without rows; column types as in the DuckDB tables."""

    def _publish(self, staged: Mapping[str, list[Path]]) -> None:
        from fraud_pipeline.tables.duckdb import connect, load
        from fraud_pipeline.tables.schema import tables_for

        self.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.output, prefix=".", suffix=".tmp") as directory:
            database = Path(directory) / "tables.duckdb"
            load(database, staged, tables_for(self._entities))
            with connect(database, read_only=True) as connection, contextlib.ExitStack() as stack:
                for table in staged:
                    path = self.output / f"{table}.parquet"
                    rows = f'FROM "{table}"'
                    if self.resume and path.exists():
                        rows = f"FROM read_parquet('{_quoted(path)}') UNION ALL BY NAME {rows}"
                    temporary = stack.enter_context(replacing(path))
                    connection.execute(f"COPY ({rows}) TO '{_quoted(temporary)}' (FORMAT parquet, COMPRESSION zstd)")


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
