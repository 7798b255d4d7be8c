"""What it takes to bring a table to its declaration, and what can't be done without losing data."""

from __future__ import annotations

import msgspec

from fraud_pipeline.errors import UsageError
from fraud_pipeline.tables.schema import ENTITY_MARK, Column, Table


class Change(msgspec.Struct, frozen=True):
    """One thing that was, or would be, changed: `action` is a verb, `name` what it is done to."""

    action: str
    name: str
    detail: str = ""


class Difference(msgspec.Struct, frozen=True):
    """How a table that exists differs from its declaration.

    Attributes:
      changes: what can be done to it.
      refusals: what can't, each with the reason and the fix.
      columns: the columns it should have afterwards, in an order that a table can take: those that exist first.
    """

    changes: tuple[Change, ...]
    refusals: tuple[str, ...]
    columns: tuple[Column, ...]


class DataLossError(UsageError):
    """The tables can't be brought to their declaration without losing data."""

    def __init__(self, refusals: tuple[str, ...]) -> None:
        super().__init__(f"refused, as data would be lost or rows rejected: {'; '.join(refusals)}")
        self.refusals = refusals


def difference(existing: Table, declared: Table) -> Difference:
    """Compares the columns, descriptions, partition and cluster of two tables of the same name."""
    name = declared.name
    have = {column.name: column for column in existing.columns}
    want = {column.name: column for column in declared.columns}
    refusals = [
        f"{name}.{column} is not declared any more; declare it again, or drop it by hand"
        for column, there in have.items()
        if column not in want and not there.description.endswith(ENTITY_MARK)
    ]
    changes = []
    for column in declared.columns:
        if column.name not in have:
            refusal, change = _addition(name, column)
        else:
            refusal, change = _alteration(name, have[column.name], column)
        refusals += refusal
        changes += change
    if existing.partition != declared.partition:
        refusals.append(
            f"{name} is not partitioned by the day of {declared.partition}, as declared; copy its rows to a new table"
        )
    if existing.cluster != declared.cluster:
        changes.append(Change("cluster", name, f"by {', '.join(declared.cluster)}"))
    if existing.description != declared.description:
        changes.append(Change("describe", name))
    added = [column for column in declared.columns if column.name not in have]
    kept = [want.get(column.name, column) for column in existing.columns]
    return Difference(tuple(changes), tuple(refusals), (*kept, *added))


def _addition(table: str, column: Column) -> tuple[list[str], list[Change]]:
    if column.mode == "REQUIRED":
        return [
            f"{table}.{column.name} is new and REQUIRED, which rows that are there don't have; make it NULLABLE"
        ], []
    return [], [Change("add column", f"{table}.{column.name}", f"{column.type} {column.mode}")]


def _alteration(table: str, have: Column, want: Column) -> tuple[list[str], list[Change]]:
    name = f"{table}.{want.name}"
    refusals, changes = [], []
    if have.type != want.type:
        refusals.append(f"{name} is {have.type}, declared {want.type}; give the new one another name")
    if have.mode != want.mode:
        if (have.mode, want.mode) == ("REQUIRED", "NULLABLE"):
            changes.append(Change("relax column", name, "REQUIRED to NULLABLE"))
        else:
            refusals.append(f"{name} is {have.mode}, declared {want.mode}; give the new one another name")
    if have.description != want.description:
        changes.append(Change("describe column", name))
    return refusals, changes
