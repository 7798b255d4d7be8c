"""Whether the modules of `transforms` that are compiled in this checkout are those of its sources."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def stale(root: Path = ROOT) -> str | None:
    """What to tell who would run compiled modules that are older than their sources; None where there is nothing to.

    Only a checkout is looked at: in an installed package times of files mean nothing.
    """
    if not (root / "setup.py").exists():
        return None
    for module in sorted((root / "transforms").glob("*.so")):
        source = module.with_name(module.name.partition(".")[0] + ".py")
        if source.exists() and source.stat().st_mtime > module.stat().st_mtime:
            return (
                f"transforms/{source.name} is newer than its compiled form, which is what runs: "
                "`make compile` compiles it again, `make uncompile` runs the sources"
            )
    return None
