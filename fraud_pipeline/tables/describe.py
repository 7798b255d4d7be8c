"""The reference of tables and views for people: `docs/tables.md` is what this gives."""

from __future__ import annotations

from fraud_pipeline.tables.schema import TABLES, Table
from fraud_pipeline.tables.views import VIEWS

_HEAD = """# Tables

Made by `fraud-pipeline tables describe > docs/tables.md`; change the declarations, not this page.

The tables take rows at least once, and keep every version: a row may be there twice, and an event that was scored
again has a row for each time. The views take care of both, so ask the views unless history is what you want.
"""


def markdown() -> str:
    """The reference: a section for the views, and one for each table."""
    views = "\n".join(f"| `{view.name}` | {_cell(view.description)} |" for view in VIEWS.values())
    return "\n".join(
        [
            _HEAD,
            "## Views",
            "",
            "| view | what it shows |",
            "|---|---|",
            views,
            *(_section(table) for table in TABLES.values()),
            "",
        ]
    )


def _section(table: Table) -> str:
    columns = "\n".join(
        f"| `{column.name}` | {column.type} | {column.mode.lower()} | {_cell(column.description)} |"
        for column in table.columns
    )
    return f"""
## `{table.name}`

{table.description}

Partitioned by the day of `{table.partition}`, clustered by {_names(table.cluster)}. Rows of equal {_names(table.key)}
are one row, written more than once.

| column | type | mode | meaning |
|---|---|---|---|
{columns}"""


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
