"""The aggregation compiled to C says what its sources say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.compiled import Copy


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to compile with")
def test_compiled_modules_pass_the_aggregations_tests(tmp_path: Path) -> None:
    """In a copy of the checkout: compiles as `make compile` does, runs goldens, bytes of state, the lockstep with the
    oracle."""
    copy = Copy(tmp_path)
    where = copy.python("-c", "import transforms.history as h; print(h.__file__)").strip()
    assert where.startswith(str(tmp_path))
    assert where.endswith(".so")
    files = ("tests/test_goldens.py", "tests/test_state_codec.py", "tests/test_laws.py")
    copy.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "golden or codec or every_step", *files)
