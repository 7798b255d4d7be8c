"""`python -m bench`: runs the benches and writes their table into the README.

Figures are medians of several rounds on this machine, and ratios are taken within a round, so that they hold when the
machine's speed drifts. Where a bound is given, the project holds itself to it.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from bench import aggregation, backfill, entities, parsing, pubsub_read, state_size, stateful_step
from transforms.features import FEATURES

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- figures: made by `make bench` -->\n", "<!-- /figures -->\n"


def main() -> None:
    """Measures, prints, and writes the table."""
    pure = aggregation.main()
    state = state_size.main()
    steps = stateful_step.main()
    batch = backfill.main()
    keys = entities.main()
    messages = parsing.main()
    read = pubsub_read.main(whole=False) if shutil.which("gcloud") else None
    rows = [
        *(
            (f"parsing {name}, {how}", f"{ours:.1f} µs, {ours / floor:.2f}× `json.loads`", "< 5 µs")
            for how, found in messages.items()
            for name, (ours, floor) in found["parsing"].items()
            if name.startswith(("payments", "logins"))
        ),
        *(
            (
                f"the aggregation alone, all {len(FEATURES)} features, one core, {how}",
                f"{rate['median']:,.0f} events/s, best round {rate['best']:,.0f}",
                "≥ 50,000",
            )
            for how, rate in pure.items()
        ),
        *(
            (
                f"stateful step over Beam's floor, {name}, {how}",
                f"{step.over_stock:.2f}× ({step.step:.0f} µs over {step.stock:.0f} µs), with the source "
                f"{step.run_over_stock:.2f}×; over a floor with our sizes {step.over_floor:.2f}×, "
                f"with the source {step.run_over_floor:.2f}×",
                "≤ 1.5×",
            )
            for how, found in steps.items()
            for name, step in found["over_floor"].items()
        ),
        *(
            (
                f"an event in a session of 10,000 over one of 10, {name}, {how}",
                f"{cost.ratio:.2f}× ({cost.long:.0f} µs over {cost.short:.0f} µs)",
                "≤ 1.2×",
            )
            for how, found in steps.items()
            for name, cost in found["by_length"].items()
        ),
        ("state of an idle user: median, 90th, 99th percentile", _bytes(state["idle"]), "≤ 1,024 B"),
        ("state of an active user: median, 90th, 99th percentile", _bytes(state["active"]), "≤ 8,192 B"),
        ("state of one user with a million events, at most", f"{state['hot']:,} B", "bounded"),
        ("cost of the other users beside it", f"{state['others'][2]:.2f}×", "unchanged"),
        ("an event in an entity's state (address)", f"{keys['ip']['uniform']:.0f} µs", "—"),
        ("a tenth of all events on one address, over uniform addresses", f"{keys['ip']['ratio']:.2f}×", "unchanged"),
        *(
            (
                f"backfill over Bytewax session windows, {how}",
                f"{found['ratio']:.2f}× ({found['ours']:,.0f} events/s)",
                "≥ 1×",
            )
            for how, found in batch.items()
        ),
    ]
    if read is not None:
        rate, waiting = read["read"], read["waiting"]
        rows.append(
            (
                f"local Pub/Sub read, {pubsub_read.RATE:,} events/s published to the emulator",
                f"{rate['taken']:,.0f}/s, p95 {rate['p95_ms']:.0f} ms, {rate['lost']:.0f} lost; "
                f"{waiting['rate']:,.0f}/s of what waits",
                "≥ 2,000/s",
            )
        )
    table = ["| what | measured | aim |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores; medians; `make bench` makes this table."
    text = README.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n" + "\n".join(table) + f"\n\n{machine}\n\n{END}{after}", "utf-8")


def _bytes(sizes: dict[str, int]) -> str:
    return ", ".join(f"{sizes[p]:,}" for p in ("p50", "p90", "p99")) + " B"


if __name__ == "__main__":
    main()
