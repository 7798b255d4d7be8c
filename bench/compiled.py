"""Copies of the checkout: the aggregation compiled to C, as `make setup` does in place, or its sources alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 540
HAS_COMPILER = shutil.which("cc") is not None


class Copy:
    """A copy in a folder, compiled or not, whatever this checkout is.

    Raises:
      RuntimeError: it doesn't compile; the message has what the compiler said.
    """

    def __init__(self, folder: Path, is_compiled: bool) -> None:
        self._folder = folder
        self._environment = {**os.environ, "FRAUD_PIPELINE_COMPILE": "1", "PYTHONPATH": str(folder)}
        for name in ("transforms", "fraud_pipeline", "tests", "bench"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        for name in ("setup.py", "pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, folder)
        if is_compiled:
            self.python("setup.py", "--quiet", "build_ext", "--inplace")

    def python(self, *arguments: str) -> str:
        """What Python prints there.

        Raises:
          RuntimeError: it fails; the message has the end of what it printed.
        """
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}")
        return done.stdout


def figures(module: str) -> dict[str, dict[str, Any]]:
    """What `python -m MODULE --json` prints: `compiled`, where there is a C compiler, and `interpreted`."""
    forms = {"compiled": True, "interpreted": False} if HAS_COMPILER else {"interpreted": False}
    return {
        name: json.loads(_copy(is_compiled)[0].python("-m", module, "--json")) for name, is_compiled in forms.items()
    }


@cache
def _copy(is_compiled: bool) -> tuple[Copy, tempfile.TemporaryDirectory[str]]:
    """One copy of a form for all benches of a run; its folder goes with the process."""
    folder = tempfile.TemporaryDirectory()
    return Copy(Path(folder.name), is_compiled), folder
