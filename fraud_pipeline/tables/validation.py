"""What BigQuery would refuse in a row, found before the sink."""

from __future__ import annotations

import binascii
import math
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from fraud_pipeline.tables.schema import TABLES, Column, Table

MAX_PART_BYTES = 6 * 1024 * 1024
"""Bytes of a payload in one row for BigQuery: as base64, and with the other columns, below its 10 MB a row."""


class RowError(msgspec.Struct, frozen=True):
    """Why a row doesn't fit its table: the column, and what is wrong with its value."""

    column: str
    message: str


def validate(table: str, row: Mapping[str, Any]) -> RowError | None:
    """What BigQuery would refuse in a row, or None where it would take it. Never raises for any row.

    Checked before the sink, as BigQuery refuses the good rows of a request along with a bad one.
    """
    return _CHECKS[table](row)


class RowCheck:
    """Finds what BigQuery would refuse in rows of a table, as `validate` does.

    Args:
      table: its declaration.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._checks = {column.name: _check(column) for column in table.columns}

    def __call__(self, row: Mapping[str, Any]) -> RowError | None:
        """The first fault of a row, or None. Never raises for any row."""
        checks = self._checks
        for name, value in row.items():
            check = checks.get(name)
            if check is None:
                return RowError(str(name), f"{self._table.name} has no such column")
            fault = check(value)
            if fault is not None:
                return RowError(name, fault)
        if len(row) < len(checks):
            for column in self._table.columns:
                if column.mode == "REQUIRED" and column.name not in row:
                    return RowError(column.name, "is missing")
        return None


def _string_fault(value: Any) -> str | None:
    if type(value) is not str:
        return _wrong(value, "a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds a lone surrogate, which is no character"
    return None


def _int_fault(value: Any) -> str | None:
    if type(value) is not int:
        return _wrong(value, "an integer")
    return None if -(2**63) <= value < 2**63 else f"is an integer of {value.bit_length()} bits, not 64"


def _float_fault(value: Any) -> str | None:
    if type(value) is not float and type(value) is not int:
        return _wrong(value, "a number")
    try:
        return None if math.isfinite(value) else f"is {value}, not a finite number"
    except OverflowError:
        return "is an integer beyond the range of numbers"


def _bool_fault(value: Any) -> str | None:
    return None if type(value) is bool else _wrong(value, "true or false")


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


def _timestamp_fault(value: Any) -> str | None:
    if type(value) is str and _RFC_3339.fullmatch(value):
        try:
            datetime.fromisoformat(value[:19])
        except ValueError:
            pass
        else:
            return None
    return _wrong(value, "a time like 2026-03-01T12:34:56.789Z")


def _bytes_fault(value: Any) -> str | None:
    if type(value) is not str:
        return _wrong(value, "base64")
    try:
        size = len(b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        return _wrong(value, "base64")
    return None if size <= MAX_PART_BYTES else f"has {size} bytes; split it into rows of {MAX_PART_BYTES}"


def _wrong(value: Any, expected: str) -> str:
    return f"is a {type(value).__name__}, not {expected}"


_FAULTS: dict[str, Callable[[Any], str | None]] = {
    "STRING": _string_fault,
    "INT64": _int_fault,
    "FLOAT64": _float_fault,
    "BOOL": _bool_fault,
    "TIMESTAMP": _timestamp_fault,
    "BYTES": _bytes_fault,
}


def _check(column: Column) -> Callable[[Any], str | None]:
    fault = _FAULTS[column.type]
    if column.mode == "REQUIRED":
        return lambda value: "is null" if value is None else fault(value)
    if column.mode == "NULLABLE":
        return lambda value: None if value is None else fault(value)
    return lambda value: _list_fault(value, fault)


def _list_fault(value: Any, fault: Callable[[Any], str | None]) -> str | None:
    if type(value) is not list:
        return _wrong(value, "a list")
    return _first("holds null" if item is None else fault(item) for item in value)


def _first(faults: Iterable[str | None]) -> str | None:
    return next((fault for fault in faults if fault is not None), None)


_CHECKS = {table.name: RowCheck(table) for table in TABLES.values()}
