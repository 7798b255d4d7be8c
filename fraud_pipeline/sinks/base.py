"""What every sink is: it writes the graph's outputs as the job runs, and completes its files at the end."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fraud_pipeline.sinks.staging import RowBuilder, StageRows, Staging
from transforms.entities import DEFAULT_ENTITIES, EntityConfig


class Sink(ABC):
    """Where the graph's outputs go: `write` as the pipeline is built, `finalize` when it has ended."""

    def check(self) -> None:  # noqa: B027
        """Looks whether the output can be written to, where that takes a network.

        Raises:
          UsageError: it can't.
        """

    @abstractmethod
    def write(self, outputs: Any) -> None:
        """Wires the outputs to their tables.

        Args:
          outputs: the graph's named tuple of PCollections; a field's name is its table's.

        Raises:
          UsageError: the output can't be written to.
        """

    @abstractmethod
    def finalize(self) -> None:
        """Makes complete files of what was written so far. Does nothing where there are no files."""

    def rows_written(self) -> Mapping[str, int]:
        """Rows so far by table, for progress; empty where that isn't known in this process."""
        return {}


class StagedSink(Sink):
    """A sink of local files: rows go to a staging directory beside the output, which is made of them later.

    Args:
      output: the file or directory to make.
      resume: True where the source won't bring again what it brought before (a subscription): rows left by a
        killed run and those already in the output are kept. False to replace them.
      row_builders: for each table how a row is made of an element; the tables' own unless given.
      entities: of which the records of scores have features; those that ship unless given.
    """

    def __init__(
        self,
        output: Path,
        *,
        resume: bool = False,
        row_builders: Mapping[str, RowBuilder] | None = None,
        entities: EntityConfig = DEFAULT_ENTITIES,
    ) -> None:
        self.output = output
        self.resume = resume
        self._row_builders = row_builders
        self._entities = entities
        self._tables: tuple[str, ...] = ()
        self._staging = Staging(output.with_name(f".{output.name}.staging"), keep=resume)

    def write(self, outputs: Any) -> None:
        row_builders = self._row_builders if self._row_builders is not None else table_row_builders(self._entities)
        self._staging.open()
        self._tables = outputs._fields
        for table in self._tables:
            stage = StageRows(self._staging.directory, table, row_builders[table])
            _ = getattr(outputs, table) | f"Write{step_name(table)}" >> stage

    def finalize(self) -> None:
        if not self._tables:
            return
        self._staging.close()
        self._publish({table: self._staging.files(table) for table in self._tables})
        self._staging.remove()
        self._tables = ()

    def rows_written(self) -> Mapping[str, int]:
        return self._staging.rows_written()

    @abstractmethod
    def _publish(self, staged: Mapping[str, list[Path]]) -> None:
        """Makes the output of the staged files by table; a reader sees the old output or the new, whole."""


def step_name(table: str) -> str:
    """A table's name in the label of a step: `DeadLetters` for `dead_letters`."""
    return table.title().replace("_", "")


def table_row_builders(entities: EntityConfig) -> Mapping[str, RowBuilder]:
    """The row builder of each table."""
    from fraud_pipeline.tables.rows import row_builders

    builders: Mapping[str, RowBuilder] = row_builders(entities)
    return builders


def concatenate(sources: list[Path], target: Path) -> None:
    """Writes the sources one after another to a new file."""
    with target.open("wb") as out:
        for source in sources:
            with source.open("rb") as lines:
                shutil.copyfileobj(lines, out, 1 << 20)
