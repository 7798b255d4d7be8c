"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from fraud_pipeline import compiled
from fraud_pipeline.emulators import bigquery as bigquery_emulator

# A busy machine is no failure.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")


def pytest_sessionstart() -> None:
    """Compiled modules hide their sources, so tests of older ones would say nothing."""
    if problem := compiled.stale():
        raise pytest.UsageError(problem)


@pytest.fixture(scope="session")
def bigquery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery_emulator.Emulator]:
    """A running BigQuery emulator, one for all tests: give each its own project or dataset."""
    bigquery_emulator.install()
    with bigquery_emulator.bigquery_emulator(tmp_path_factory.mktemp("bigquery")) as emulator:
        yield emulator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under `--dist loadgroup` one worker runs all tests of the BigQuery emulator, so that it starts once."""
    for item in items:
        if "bigquery" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("bigquery"))
