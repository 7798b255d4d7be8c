"""Result tables as JSON lines, a file for each table."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from fraud_pipeline.sinks.base import StagedSink, concatenate
from fraud_pipeline.sinks.staging import replacing


class JsonlSink(StagedSink):
    """`<output>/<table>.jsonl`, also for tables without rows."""

    def _publish(self, staged: Mapping[str, list[Path]]) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            for table, files in staged.items():
                path = self.output / f"{table}.jsonl"
                before = [path] if self.resume and path.exists() else []
                concatenate([*before, *files], stack.enter_context(replacing(path)))
