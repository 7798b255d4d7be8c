"""Breaks the aggregation, and the cases after it, in known ways, one at a time, and names the test that notices.

    python tests/mutations.py            every mutation, each in a copy of the checkout
    python tests/mutations.py retraction only those whose name contains the word

A mutation is a piece of source and what stands in its place. The check fails if a mutation survives, or if its piece
of source is no longer there: then bring this list up to date.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PURE = ("tests/test_goldens.py", "tests/test_said_again.py", "tests/test_laws.py")
ON_BEAM = ("tests/test_laws_beam.py",)
OF_CASES = ("tests/test_cases.py", "tests/test_case_memory.py", "tests/test_cases_laws.py")


class Mutation(NamedTuple):
    """One way to break it: in `path`, `old` becomes `new`."""

    name: str
    path: str
    old: str
    new: str


AGGREGATION, HYBRID, SESSIONS = "transforms/aggregation.py", "transforms/hybrid.py", "transforms/sessions.py"
HISTORY, POINTS, CODEC = "transforms/history.py", "transforms/points.py", "transforms/state_codec.py"
RECENCY, WINDOWS = "transforms/recency.py", "transforms/window_buckets.py"
CASES, FINDINGS = "transforms/cases.py", "transforms/case_findings.py"

MUTATIONS = (
    Mutation("drop the deduplication", AGGREGATION, "if digest is None:\n", "if True:\n"),
    Mutation("take a conflict for a duplicate", AGGREGATION, "if digest == point.digest:", "if digest is not None:"),
    Mutation(
        "set the timer by the newest arrival",
        SESSIONS,
        "        if time_ms > self.last_ms:\n            self.last_ms = time_ms\n        elif",
        "        self.last_ms = time_ms\n        if",
    ),
    Mutation("skip the retraction", AGGREGATION, "if start_ms != session.start_ms:", "if False:"),
    Mutation("retract before the replacement is known", SESSIONS, "self.emitted += other.emitted", "pass"),
    Mutation(
        "join sessions exactly one gap apart",
        SESSIONS,
        "s.start_ms - gap_ms < time_ms < s.last_ms + gap_ms]",
        "s.start_ms - gap_ms <= time_ms <= s.last_ms + gap_ms]",
    ),
    Mutation("call late corrections on time", SESSIONS, "self.was_final |= other.was_final", "pass"),
    Mutation("no corrections of events", AGGREGATION, "        if disorder_ms is None:\n", "        if True:\n"),
    Mutation("accept what is too late", AGGREGATION, "point.time_ms < state.closed_through_ms:", "False:"),
    Mutation(
        "no grace period", AGGREGATION, "bound = now_ms - self.gap_ms - self.grace_ms", "bound = now_ms - self.gap_ms"
    ),
    Mutation(
        "versions stand still in sessions",
        AGGREGATION,
        "        state.version += 1\n        records.append(session",
        "        records.append(session",
    ),
    Mutation("finalize twice", AGGREGATION, "s.status != FINAL and s.last_ms", "s.last_ms"),
    Mutation(
        "finalize as of the start, not the end",
        AGGREGATION,
        "s.status != FINAL and s.last_ms",
        "s.status != FINAL and s.start_ms",
    ),
    Mutation("silence is final", AGGREGATION, 'PROVISIONAL if trigger == "INACTIVITY" else FINAL', "FINAL"),
    Mutation(
        "never forget",
        AGGREGATION,
        "if not state.sessions and now_ms >= self._deadline(state):",
        "if False and now_ms:",
    ),
    Mutation(
        "windows closed at both ends",
        HISTORY,
        "start = bisect_right(times, time_ms - width, 0, start - 1)",
        "start = bisect_left(times, time_ms - width, 0, start - 1)",
    ),
    Mutation(
        "the 30 days are 29",
        WINDOWS,
        "LONGEST_MS: Final = WINDOWS_MS[-1]",
        "LONGEST_MS: Final = WINDOWS_MS[-1] - 86_400_000",
    ),
    Mutation("late events change nothing that was said", HISTORY, "points.mark_changed()", "pass"),
    Mutation("say again what changed and changed back", HISTORY, "self.said[p.id_key] = said[p.id_key]", "pass"),
    Mutation(
        "remember what was said for good",
        HISTORY,
        "self.said.pop(points.point(0).id_key, None)",
        "pass",
    ),
    Mutation(
        "what was new at a login is never judged anew",
        HISTORY,
        "login_changed_ms = p.time_ms if points.flags[-1] != p.flags else NEVER_MS",
        "pass",
    ),
    Mutation("values stay hidden when events are taken back", RECENCY, "dims[hidden] = d", "pass"),
    Mutation("the codec forgets what was emitted", CODEC, "        session.emitted,\n", "        [],\n"),
    Mutation("the codec forgets what is to be corrected", CODEC, "        state.disorder_ms,\n", "        None,\n"),
    Mutation(
        "the codec forgets the late flag", CODEC, "session.was_final = packed.was_final", "session.was_final = False"
    ),
    Mutation("ties in order of arrival", POINTS, "if self.open[at : at + 8] < id_key:", "if True:"),
    Mutation(
        "failed logins make devices known",
        HISTORY,
        "recency.touch(point.values, i, kind != LOGIN_FAILURE)",
        "recency.touch(point.values, i, True)",
    ),
    Mutation("take the state at hand for the user's", HYBRID, "latest is not None and latest[0] == data", "latest"),
    Mutation(
        "the inactivity timer is never moved",
        HYBRID,
        "if due_ms - (state.inactivity_ms or 0) >= TIMER_SLACK_SECONDS * 1_000:",
        "if state.inactivity_ms is None:",
    ),
    Mutation(
        "the completion timer is set but once",
        HYBRID,
        "step.state.timer_ms = step.timer_ms\n            completion.set(",
        "step.state.timer_ms = step.timer_ms\n            str(",
    ),
    Mutation(
        "state survives its reclamation",
        HYBRID,
        "            state_cell.clear()\n            bag.clear()\n",
        "            pass\n",
    ),
    Mutation(
        "drop remembered allowances early",
        CASES,
        "if f.case in kept or self._forgets_ms(f) > now_ms]",
        "if f.case in kept]",
    ),
    Mutation("forget very late cases at once", CASES, "known.end_ms, known.received_ms)", "known.end_ms, 0)"),
    Mutation(
        "forget cases when they close", CASES, "self._cooldown_ms + self._remember_ms + 1", "self._cooldown_ms + 1"
    ),
    Mutation("a case that makes room stays open", CASES, "if oldest.status == OPEN:", "if False:"),
    Mutation("a new id for what was withdrawn", CASES, "if former.status in (WITHDRAWN, MERGED):", "if False:"),
    Mutation(
        "outdated scores count", CASES, "if known.version >= taken.version:", "if known.version == taken.version:"
    ),
    Mutation("folded events count once", FINDINGS, "count=a.count + b.count,", "count=1,"),
    Mutation("reasons don't part cases", FINDINGS, 'grouping == "key" or group.codes & codes', "True"),
)


def main(words: list[str]) -> int:
    """Runs the mutations whose names contain one of the words, or all."""
    chosen = [m for m in MUTATIONS if not words or any(word in m.name for word in words)]
    survivors = 0
    for mutation in chosen:
        killer = killed_by(mutation)
        survivors += killer is None
        print(f"{mutation.name}: {killer or 'SURVIVED'}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations noticed")
    return 1 if survivors else 0


def killed_by(mutation: Mutation) -> str | None:
    """The first test that fails with the mutation in place, or None."""
    with tempfile.TemporaryDirectory() as copied:
        copy = Path(copied)
        for folder in ("transforms", "tests"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        (copy / "tests" / "conftest.py").unlink()
        shutil.copy(ROOT / "pyproject.toml", copy)
        source = copy / mutation.path
        text = source.read_text()
        if text.count(mutation.old) != 1:
            raise SystemExit(
                f"mutation {mutation.name!r}: its piece of source is {text.count(mutation.old)} times in "
                f"{mutation.path}, not once; bring tests/mutations.py up to date"
            )
        source.write_text(text.replace(mutation.old, mutation.new))
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests_for(mutation)],
            cwd=copy,
            env={**os.environ, "LAWS_SHRINK": "0", "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode == 0:
        return None
    failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if run.returncode != 1 or not failed:
        raise SystemExit(f"mutation {mutation.name!r}: pytest stopped with {run.returncode}\n{run.stdout}{run.stderr}")
    return failed[0].split(" - ")[0].removeprefix("FAILED ")


def tests_for(mutation: Mutation) -> tuple[str, ...]:
    if mutation.path in (CASES, FINDINGS):
        return OF_CASES
    return ON_BEAM if mutation.path == HYBRID else (*PURE, *ON_BEAM)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
