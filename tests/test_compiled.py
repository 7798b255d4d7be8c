"""The aggregation compiled to C says what its sources say: where tests run one form, the other is tried here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import transforms.history
from bench.compiled import HAS_COMPILER, Copy
from fraud_pipeline import compiled

IS_COMPILED = transforms.history.__file__.endswith(".so")


def test_the_other_form_passes_the_aggregations_tests(tmp_path: Path) -> None:
    """In a copy of the checkout: goldens, bytes of state, the lockstep with the oracle. Without a C compiler there is
    but one form, and the copy is of that."""
    is_compiled = HAS_COMPILER and not IS_COMPILED
    copy = Copy(tmp_path, is_compiled)
    where = copy.python("-c", "import transforms.history as h; print(h.__file__)").strip()
    assert where.startswith(str(tmp_path))
    assert where.endswith(".so") is is_compiled
    files = ("tests/test_goldens.py", "tests/test_state_codec.py", "tests/test_laws.py")
    copy.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "golden or codec or every_step", *files)


def test_compiled_modules_older_than_their_sources_are_named(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "transforms").mkdir(parents=True)
    source, module = checkout / "transforms/history.py", checkout / "transforms/history.cpython-311-x86_64-linux-gnu.so"
    shared = checkout / "transforms/compiled__mypyc.cpython-311-x86_64-linux-gnu.so"
    for path, time in ((source, 1_000), (module, 2_000), (shared, 2_000), (checkout / "setup.py", 3_000)):
        path.touch()
        os.utime(path, (time, time))
    assert compiled.stale(checkout) is None
    os.utime(source, (2_500, 2_500))
    told = compiled.stale(checkout)
    assert told is not None
    assert told.startswith("transforms/history.py is newer")
    module.unlink()
    assert compiled.stale(checkout) is None, "it isn't compiled"
    module.touch()
    os.utime(module, (2_000, 2_000))
    (checkout / "setup.py").unlink()
    assert compiled.stale(checkout) is None, "an installed package"


def test_modules_are_found_from_anywhere_compiled_or_not() -> None:
    """As the installed command finds them: without the checkout on Python's path."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import transforms.aggregation as a, transforms.parsing; print(a.__file__)"],
        cwd="/",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(".so") is IS_COMPILED
