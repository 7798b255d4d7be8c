"""The tables and views in BigQuery: made where they aren't there, brought up to date where they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from fraud_pipeline.errors import UsageError
from fraud_pipeline.tables.changes import Change, DataLossError, difference
from fraud_pipeline.tables.schema import TABLES, Column, Table
from fraud_pipeline.tables.views import VIEWS, View

_STANDARD_TYPES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
_DATASET_DESCRIPTION = "Results of the fraud pipeline: scores, sessions, alerts and what was not scored."
DEFAULT_LOCATION = "EU"


def make_client(project: str, emulator_host: str | None = None) -> bigquery.Client:
    """A client of BigQuery, or of the emulator: of the one named, or in the variable BIGQUERY_EMULATOR_HOST."""
    host = emulator_host or os.environ.get("BIGQUERY_EMULATOR_HOST")
    if not host:
        return bigquery.Client(project=project)
    return bigquery.Client(
        project=project,
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint=host if "://" in host else f"http://{host}"),
    )


class _Step(NamedTuple):
    change: Change
    apply: Callable[[], object]


def create_or_update(
    client: bigquery.Client,
    dataset: str,
    location: str | None = None,
    *,
    dry_run: bool = False,
    tables: Iterable[Table] = TABLES.values(),
    views: Iterable[View] = VIEWS.values(),
) -> list[Change]:
    """Makes the dataset, tables and views in the client's project, or brings them to their declaration.

    Nothing is changed unless all of it can be: columns are added and relaxed, descriptions, clustering and views
    replaced; rows stay.

    Args:
      location: of the dataset if it is made, `EU` unless given; of one that exists it must be the same.
      dry_run: True to change nothing.

    Returns:
      What was changed, or would be; empty where everything was as declared.

    Raises:
      DataLossError: a change would lose data, or make BigQuery refuse rows that are there.
      UsageError: something stands in the way: a dataset elsewhere, a view where a table belongs.
      google.api_core.exceptions.GoogleAPIError: BigQuery refused, or can't be reached.
    """
    full_name = f"{client.project}.{dataset}"
    steps, is_new = _dataset_steps(client, full_name, location)
    refusals: list[str] = []
    changed_tables = False
    for table in tables:
        existing = None if is_new else _get(client, f"{full_name}.{table.name}")
        table_steps, table_refusals = _table_steps(client, full_name, table, existing)
        steps += table_steps
        refusals += table_refusals
        changed_tables |= existing is not None and any("column" in step.change.action for step in table_steps)
    for view in views:
        existing = None if is_new else _get(client, f"{full_name}.{view.name}")
        steps += _view_steps(client, full_name, view, existing, changed_tables)
    if refusals:
        raise DataLossError(tuple(refusals))
    if not dry_run:
        for step in steps:
            step.apply()
    return [step.change for step in steps]


def _get(client: bigquery.Client, name: str) -> bigquery.Table | None:
    try:
        return client.get_table(name)
    except NotFound:
        return None


def _dataset_steps(client: bigquery.Client, full_name: str, location: str | None) -> tuple[list[_Step], bool]:
    try:
        existing = client.get_dataset(full_name)
    except NotFound:
        dataset = bigquery.Dataset(full_name)
        dataset.location = location or DEFAULT_LOCATION
        dataset.description = _DATASET_DESCRIPTION
        change = Change("create dataset", full_name, f"in {dataset.location}")
        return [_Step(change, lambda: client.create_dataset(dataset))], True
    if location is not None and existing.location.upper() != location.upper():
        raise UsageError(
            f"dataset {full_name} is in {existing.location}, not in {location}, and can't be moved; "
            f"leave --location out, or choose another dataset"
        )
    return [], False


def _table_steps(
    client: bigquery.Client, full_name: str, declared: Table, existing: bigquery.Table | None
) -> tuple[list[_Step], tuple[str, ...]]:
    if existing is None:
        table = to_bigquery(full_name, declared)
        change = Change("create table", declared.name, f"{len(declared.columns)} columns")
        return [_Step(change, lambda: client.create_table(table))], ()
    if existing.table_type != "TABLE":
        raise UsageError(f"{full_name}.{declared.name} is a {existing.table_type}, not a table; rename or drop it")
    found = difference(from_bigquery(existing), declared)
    if not found.changes:
        return [], found.refusals
    fields_now = {field.name: field for field in existing.schema}
    existing.schema = [_field(column, fields_now.get(column.name)) for column in found.columns]
    existing.description = declared.description
    existing.clustering_fields = list(declared.cluster)
    fields = ["schema", "description", "clustering_fields"]
    # One request makes all changes of a table.
    first, *others = found.changes
    apply = _Step(first, lambda: client.update_table(existing, fields))
    return [apply, *(_Step(change, lambda: None) for change in others)], found.refusals


def _view_steps(
    client: bigquery.Client, full_name: str, view: View, existing: bigquery.Table | None, stale: bool
) -> list[_Step]:
    project, dataset = full_name.rsplit(".", 1)
    sql = view_query(view, project, dataset)
    if existing is None:
        table = bigquery.Table(f"{full_name}.{view.name}")
        table.view_query = sql
        table.description = view.description
        return [_Step(Change("create view", view.name), lambda: client.create_table(table))]
    if existing.table_type != "VIEW":
        raise UsageError(f"{full_name}.{view.name} is a {existing.table_type}, not a view; rename or drop it")
    if existing.view_query == sql and existing.description == view.description and not stale:
        return []
    existing.view_query = sql
    existing.description = view.description
    # A view keeps the columns that its tables had when it was made.
    change = Change("replace view", view.name)
    return [_Step(change, lambda: client.update_table(existing, ["view_query", "description"]))]


def view_query(view: View, project: str, dataset: str) -> str:
    """A view's SQL as BigQuery keeps it: tables and views with project and dataset."""
    # Not at the top: a job is submitted, and looks for its tables, without the libraries of a workstation.
    from fraud_pipeline.tables import dialect

    return dialect.qualified(view.sql, {*TABLES, *VIEWS}, project, dataset)


def to_bigquery(full_name: str, table: Table) -> bigquery.Table:
    """The table as the client creates it; `full_name` is `project.dataset`."""
    result = bigquery.Table(f"{full_name}.{table.name}", schema=[_field(column) for column in table.columns])
    result.description = table.description
    result.time_partitioning = bigquery.TimePartitioning(type_=bigquery.TimePartitioningType.DAY, field=table.partition)
    result.clustering_fields = list(table.cluster)
    return result


def _field(column: Column, existing: bigquery.SchemaField | None = None) -> bigquery.SchemaField:
    if existing is None:
        return bigquery.SchemaField(column.name, column.type, column.mode, description=column.description)
    # What others have set on the column, such as policy tags, stays.
    kept = {**existing.to_api_repr(), "mode": column.mode, "description": column.description}
    return bigquery.SchemaField.from_api_repr(kept)


def from_bigquery(table: bigquery.Table) -> Table:
    """A table that exists, in the terms of the declaration. Its types may be some that are never declared."""
    partitioning = table.time_partitioning
    is_daily = partitioning is not None and partitioning.type_ == bigquery.TimePartitioningType.DAY
    return Table(
        name=table.table_id,
        description=table.description or "",
        columns=tuple(
            Column(
                field.name,
                _STANDARD_TYPES.get(field.field_type, field.field_type),
                field.description or "",
                field.mode or "NULLABLE",
            )
            for field in table.schema
        ),
        partition=(partitioning.field or "") if is_daily else "",
        cluster=tuple(table.clustering_fields or ()),
        key=(),
    )
