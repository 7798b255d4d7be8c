"""Beam sizes what it caches of state, and rows for BigQuery, without looking at all loaded modules each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import objsize
import pytest
from apache_beam.io.gcp import bigquery
from apache_beam.runners.worker import statecache
from objsize import traverse

import transforms
from bench.traffic import ReadEvents, session, write_lines
from transforms.aggregation import AggregationConfig
from transforms.hybrid import HybridAggregation

assert transforms.__doc__, "the import sets it"


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that all loaded modules are listed."""
    counted: list[int] = []
    original = traverse._iter_modules_globals

    def counting() -> Iterator[Any]:
        counted.append(1)
        return original()

    monkeypatch.setattr(traverse, "_iter_modules_globals", counting)
    return counted


def run(path: Path) -> None:
    with beam.Pipeline("FnApiRunner") as pipeline:
        _ = pipeline | ReadEvents(path) | HybridAggregation(AggregationConfig())


def test_no_modules_are_listed_for_state(tmp_path: Path, listings: list[int]) -> None:
    """The step's state goes through Beam's cache, which lists modules for each entry unless told not to."""
    path = write_lines(session(20, "u1"), tmp_path / "events.jsonl")
    run(path)
    assert listings == []


def test_it_is_beams_default_still(tmp_path: Path, listings: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this fails, Beam or objsize no longer does it, and the setting in `transforms` can go."""
    monkeypatch.setattr(objsize.default_settings, "exclude_modules_globals", True)
    path = write_lines(session(20, "u1"), tmp_path / "events.jsonl")
    run(path)
    assert len(listings) >= 3


@pytest.mark.parametrize(
    "value",
    [[b"x" * 800], [], [bytes(70), bytes(90)], ({"event_id": "e1", "score": 0.5, "rules": ["a", "b"]}, "id"), None],
)
def test_sizes_are_what_they_were(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [statecache.get_deep_size(value), bigquery.get_deep_size(value)]
    monkeypatch.setattr(objsize.default_settings, "exclude_modules_globals", True)
    assert sizes == [statecache.get_deep_size(value), bigquery.get_deep_size(value)]
