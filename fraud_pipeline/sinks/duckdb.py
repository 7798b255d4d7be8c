"""Result tables in one DuckDB file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fraud_pipeline.sinks.base import StagedSink
from fraud_pipeline.sinks.staging import replacing


class DuckdbSink(StagedSink):
    """One DuckDB file with every table and view, to be asked with `fraud-pipeline query`."""

    def _publish(self, staged: Mapping[str, list[Path]]) -> None:
        from fraud_pipeline.tables.duckdb import load
        from fraud_pipeline.tables.schema import tables_for

        tables = tables_for(self._entities)
        if self.resume:
            load(self.output, staged, tables)
            return
        with replacing(self.output) as temporary:
            load(temporary, staged, tables)
            # The log of an earlier file of that name, left by a crash, would be applied to the new one.
            self.output.with_name(f"{self.output.name}.wal").unlink(missing_ok=True)
