"""A report as tables for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fraud_pipeline.report.measures import DAY_MS, Detection, Scenario, by_scenario, count, ratio
from fraud_pipeline.report.results import ActionCount, LedgerDay, ReasonCount, Results, Sample, SessionRows

WIDTH = 100
"""Columns of a report: what a terminal has at least, or where it isn't one."""

MOST_DAYS = 10
MOST_REASONS = 20
MOST_SAMPLES = 4

_STYLES = {"allow": "green", "review": "yellow", "block": "red"}


def console() -> Console:
    """Standard output, no wider than the tables are good for."""
    found = Console(highlight=False)
    return Console(highlight=False, width=min(found.width, WIDTH) if found.is_terminal else WIDTH)


def report(results: Results) -> Iterator[RenderableType]:
    """All tables, in the order to read them."""
    yield ledger(results.ledger)
    yield sessions(results.session_rows, results.sessions, results.panes)
    yield actions(results.actions)
    if results.detection is not None:
        yield scenarios(results.detection)
    if results.reasons:
        yield reasons(results.reasons, None if results.detection is None else results.detection.days)
    if results.samples:
        yield samples(results.samples)


def ledger(days: Sequence[LedgerDay]) -> RenderableType:
    """Where the messages of each day went, and whether any is missing."""
    total = _sum("all days", days)
    if not days:
        title = "Ledger: no message came in"
    elif any(day.balance for day in days):
        title = f"Ledger: {_missing(total.balance)} (see the days with a balance)"
    else:
        title = f"Ledger: each of the {total.messages_in:,} messages is accounted for"
    columns = [name for name in _LEDGER if name not in _SELDOM or any(getattr(day, name) for day in days)]
    table = _table(title)
    table.collapse_padding = True
    table.add_column("received on", no_wrap=True)
    for column in columns:
        table.add_column(_LEDGER[column], justify="right", overflow="fold")
    shown = list(days)
    if len(days) > MOST_DAYS:
        earlier = days[: -MOST_DAYS + 1]
        shown = [_sum(f"{len(earlier)} days before", earlier), *days[-MOST_DAYS + 1 :]]
    for i, day in enumerate(shown, 1):
        table.add_row(day.day, *_ledger_cells(day, columns), end_section=i == len(shown))
    table.add_row(total.day, *_ledger_cells(total, columns), style="bold")
    outcomes = " + ".join(_LEDGER[column] for column in columns if column not in ("messages_in", "balance"))
    return _section(table, f"in = {outcomes} + balance")


def sessions(rows: Sequence[SessionRows], standing: int, panes: dict[str, int]) -> RenderableType:
    """What made the session rows, and what became of them."""
    table = _table(f"Sessions: {standing:,} stand")
    table.add_column("row made by")
    table.add_column("rows", justify="right", overflow="fold")
    table.add_column("users", justify="right", overflow="fold")
    table.add_column("what it says")
    for row in rows:
        name = "retraction" if row.retracted else _TRIGGERS.get(row.trigger, row.trigger)
        says = _RETRACTED if row.retracted else _PROVISIONAL if row.provisional else _SAYS.get(row.trigger, "final")
        table.add_row(name, f"{row.rows:,}", f"{row.users:,}", says)
    if not any(row.retracted for row in rows):
        table.add_row("retraction", "0", "0", _RETRACTED)
    counted = ", ".join(f"{panes.get(pane, 0):,} {name}" for pane, name in _PANES.items())
    return _section(table, f"Panes of decisions summed up by session: {counted}")


def actions(counts: Iterable[ActionCount]) -> RenderableType:
    """The decisions that stand."""
    by_action = {found.action: found for found in counts}
    events = sum(found.events for found in by_action.values())
    table = _table(f"Scores: {events:,} events decided")
    table.add_column("action")
    for heading in ("events", "share", "logins", "payments", "users", "rescored", "changed"):
        table.add_column(heading, justify="right", overflow="fold")
    for action in ("allow", "review", "block"):
        found = by_action.get(action, ActionCount(action, 0, 0, 0, 0, 0, 0))
        table.add_row(
            Text(action, _STYLES[action]),
            f"{found.events:,}",
            _percent(ratio(found.events, events)),
            f"{found.logins:,}",
            f"{found.payments:,}",
            f"{found.users:,}",
            f"{found.rescored:,}",
            f"{found.changed:,}",
        )
    return _section(
        table,
        "rescored: when late events had come in. changed: those of them that were decided otherwise on arrival",
    )


def scenarios(detection: Detection) -> RenderableType:
    """Which attacks were caught, and the false alarms."""
    every = count("all", detection.attacks)
    table = _table(f"Attacks: {every.caught:,} of {every.attacks:,} caught, on {days_in_words(detection.days)}")
    table.add_column("scenario")
    for heading in ("attacks", "caught", "recall", "early", "events", "flagged", "share"):
        table.add_column(heading, justify="right", overflow="fold")
    rows = by_scenario(detection.attacks)
    for i, row in enumerate(rows, 1):
        table.add_row(*_scenario_cells(row), end_section=i == len(rows))
    table.add_row(*_scenario_cells(every), style="bold")
    return _section(
        table,
        "flagged: reviewed or blocked. caught: an event of the attack is flagged. "
        "early: on arrival, before half of its events",
        Text.assemble(
            f"False alarms: {detection.normal_flagged:,} of {detection.normal_events:,} normal events of the same days "
            "(false positive rate ",
            (_percent(detection.false_positive_rate, 2), "bold"),
            "); of all flagged ones ",
            (_percent(detection.precision), "bold"),
            " are of attacks (precision)",
        ),
    )


def reasons(counts: Sequence[ReasonCount], days: Sequence[int] | None = None) -> RenderableType:
    """Why alerts were raised, on these days (since the epoch) or on all."""
    knows = any(found.attacks is not None for found in counts)
    table = _table(f"Alerts by reason, on {'all days' if days is None else days_in_words(days)}")
    table.add_column("reason")
    table.add_column("alerts", justify="right", overflow="fold")
    table.add_column("users", justify="right", overflow="fold")
    if knows:
        table.add_column("of attacks", justify="right", overflow="fold")
        table.add_column("share", justify="right", overflow="fold")
    for found in counts[:MOST_REASONS]:
        cells = [_in_words(found.reason), f"{found.alerts:,}", f"{found.users:,}"]
        if found.attacks is not None:
            cells += [f"{found.attacks:,}", _percent(ratio(found.attacks, found.alerts))]
        table.add_row(*cells)
    note = "An alert with several reasons counts for each."
    if len(counts) > MOST_REASONS:
        note += f" {len(counts) - MOST_REASONS} rarer reasons are left out."
    return _section(table, note)


def samples(found: Sequence[Sample]) -> RenderableType:
    """Some alerts in full, of different kinds."""
    table = _table("Alerts as people read them")
    table.show_header = False
    table.add_column("alert")
    kinds = {_kind(sample.reason): sample for sample in reversed(found)}
    shown = [sample for sample in found if sample in kinds.values()][:MOST_SAMPLES]
    for i, sample in enumerate(shown):
        table.add_row(_sentence(sample.summary), end_section=i + 1 < len(shown))
    return _section(table)


def days_in_words(days: Sequence[int]) -> str:
    """`2 June 2025`, or the first and last of several days, given as days since the epoch."""
    if not days:
        return "no day"
    names = [_date(day) for day in (days[0], days[-1])]
    return names[0] if days[0] == days[-1] else f"{len(days)} days from {names[0]} to {names[1]}"


_LEDGER = {
    "messages_in": "in",
    "scored": "scored",
    "labels": "labels",
    "duplicate": "duplicate",
    "too_late": "too late",
    "conflict": "conflict",
    "malformed": "malformed",
    "sink_rejected": "refused",
    "balance": "balance",
}
_SELDOM = ("labels", "sink_rejected")
"""Columns that are left out where there are none, so that 80 columns do."""
_TRIGGERS = {
    "ON_TIME": "on time",
    "INACTIVITY": "inactivity",
    "LATE": "late",
    "FORCED": "too many open",
}
_SAYS = {
    "ON_TIME": "final: the watermark has passed its end",
    "LATE": "final, corrected: an event came after that, within the grace period",
    "FORCED": "final, early: the user has too many open sessions",
}
_PROVISIONAL = "provisional: the user went silent, the watermark hasn't passed yet"
_RETRACTED = "not a session any more: a late event joined it to another"
_PANES = {"EARLY": "early", "ON_TIME": "on time", "LATE": "late"}


def _table(title: str) -> Table:
    return Table(title=title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _section(*parts: RenderableType) -> RenderableType:
    first, *notes = parts
    indented = (Padding(note, (0, 0, 0, 1), expand=False) for note in notes)
    return Padding(Group(first, *indented), (1, 0, 0, 0), expand=False)


def _ledger_cells(day: LedgerDay, columns: Iterable[str]) -> list[RenderableType]:
    balance = Text(f"{day.balance:,}", "green" if day.balance == 0 else "bold red")
    return [balance if column == "balance" else f"{getattr(day, column):,}" for column in columns]


def _sum(name: str, days: Iterable[LedgerDay]) -> LedgerDay:
    rows = [[getattr(day, field) for field in LedgerDay.__struct_fields__[1:]] for day in days]
    return LedgerDay(name, *(sum(column) for column in zip(*rows, strict=True))) if rows else _empty(name)


def _empty(name: str) -> LedgerDay:
    return LedgerDay(name, *(0 for _ in LedgerDay.__struct_fields__[1:]))


def _missing(balance: int) -> str:
    if balance > 0:
        return f"{balance:,} messages are under way or lost"
    return f"{-balance:,} messages too many" if balance < 0 else "messages are counted on the wrong day"


def _scenario_cells(row: Scenario) -> list[str]:
    return [
        row.name.replace("_", " "),
        f"{row.attacks:,}",
        f"{row.caught:,}",
        _percent(row.recall, 0),
        f"{row.caught_early:,}",
        f"{row.events:,}",
        f"{row.flagged:,}",
        _percent(ratio(row.flagged, row.events), 0),
    ]


def _percent(share: float | None, decimals: int = 1) -> str:
    return "-" if share is None else f"{100 * share:.{decimals}f} %"


def _in_words(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _kind(reason: str) -> str:
    """Reason codes begin with their scenario, which has two words."""
    return "_".join(reason.split("_")[:2])


def _sentence(summary: str) -> Text:
    head, dot, evidence = summary.partition(". Seen: ")
    action = head.partition(" ")[0].lower()
    text = Text(head + dot.removesuffix(" Seen: "))
    text.stylize(f"bold {_STYLES.get(action, '')}", 0, len(action))
    return text.append(f" Seen: {evidence}", "dim") if dot else text


def _date(day: int) -> str:
    moment = datetime.fromtimestamp(day * DAY_MS / 1000, UTC)
    return f"{moment.day} {moment:%B %Y}"
