"""A backtest, and a comparison, as tables for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fraud_pipeline.backtest.figures import ActionChange, Backtest, Diff, Range, RuleFigures, Verdicts
from fraud_pipeline.backtest.tally import Example, Said

MOST_CURRENCIES = 2

_STYLES = {"allow": "green", "review": "yellow", "block": "red"}


def backtest(found: Backtest) -> Iterator[RenderableType]:
    """The tables of a backtest, in the order to read them."""
    yield history(found.history)
    yield _decisions(found)
    yield _performance(found)
    yield _additions(found)
    if any(rule.saved_minor for rule in found.rules):
        yield _savings(found)


def diff(found: Diff) -> Iterator[RenderableType]:
    """The tables of a comparison."""
    yield history(found.history)
    yield _action_changes(found)
    yield _rule_changes(found)
    for example in found.examples:
        yield _example(example)


def history(found: Range) -> RenderableType:
    """What the rules were tried on."""
    verdicts = found.verdicts
    superseded = f" (rows that a later version replaced: {found.superseded_rows:,})" if found.superseded_rows else ""
    lines = [
        f"{verdicts.events:,} events on {found.days:,} days, {found.first_day} to {found.last_day}{superseded}",
        f"{verdicts.fraud:,} labelled fraud, {verdicts.legitimate:,} legitimate, {verdicts.unlabelled:,} unlabelled",
    ]
    if found.unlabelled_counts_as == "legitimate":
        lines[1] = f"{verdicts.fraud:,} labelled fraud; all others, {verdicts.legitimate:,}, count as legitimate"
    elif not verdicts.fraud + verdicts.legitimate:
        lines.append("without labels, precision, recall and amounts saved aren't known; give --labels")
    else:
        lines.append("unlabelled ones count for neither precision, recall nor false positives (see --unlabelled)")
    return Padding(Text("\n".join(lines)), (0, 0, 1, 0))


def _decisions(found: Backtest) -> RenderableType:
    parts: list[RenderableType] = [_actions(f"Decisions of rules {found.rules_version}", found.actions)]
    if found.actions_with_shadow is not None:
        parts.append(_actions("Decisions if its rules on trial (shadow) were live", found.actions_with_shadow))
    lines = [
        f"payments labelled fraud, reviewed or blocked: {_money(found.prevented_minor, 99)}",
        f"payments labelled fraud, allowed: {_money(found.missed_minor, 99)}",
    ]
    return _section(Group(*parts), "\n".join(lines))


def _actions(title: str, actions: Mapping[str, Verdicts]) -> RenderableType:
    table = _table(title)
    table.add_column("action")
    _add_numbers(table, "events", "share", "fraud", "legitimate", "unlabelled")
    events = sum(verdicts.events for verdicts in actions.values())
    for action, verdicts in actions.items():
        table.add_row(
            Text(action, _STYLES[action]), f"{verdicts.events:,}", _percent(verdicts.events / events), *_cells(verdicts)
        )
    return table


def _performance(found: Backtest) -> RenderableType:
    table = _table("Rules against labels")
    table.add_column("rule", overflow="fold")
    _add_numbers(table, "hits", "fraud", "legit", "unlabelled", "precision", "recall", "FP/day")
    if any(rule.errors for rule in found.rules):
        _add_numbers(table, "errors")
    for rule in found.rules:
        cells: list[RenderableType] = [
            _name(rule),
            f"{rule.hits.events:,}",
            *_cells(rule.hits),
            _percent(rule.precision),
            _percent(rule.recall),
            f"{rule.false_positives_per_day:,.2f}",
        ]
        table.add_row(*cells, *([f"{rule.errors:,}"] if len(table.columns) > len(cells) else []))
    return _section(
        table,
        "precision: fraud among hits with a verdict. recall: share of all events labelled fraud, of every type. "
        "FP/day: legitimate hits over the days with events",
    )


def _additions(found: Backtest) -> RenderableType:
    table = _table("What each rule adds to the others")
    table.add_column("rule", overflow="fold")
    _add_numbers(table, "only it", "fraud", "legit")
    table.add_column("most hits shared with", overflow="fold")
    for rule in found.rules:
        shared = next(iter(rule.overlaps.items()), None)
        table.add_row(
            _name(rule),
            f"{rule.only.events:,}",
            *_cells(rule.only)[:2],
            "–" if shared is None else f"{shared[0]} {_percent(shared[1] / rule.hits.events, 0)}",
        )
    return _section(table, "only it: hits on which no other live rule fires. --json has all overlaps")


def _savings(found: Backtest) -> RenderableType:
    table = _table("Payments labelled fraud that each rule stops, minor units by currency")
    table.add_column("rule", overflow="fold")
    table.add_column("saved", overflow="fold")
    table.add_column("by it alone", overflow="fold")
    for rule in found.rules:
        if rule.saved_minor:
            table.add_row(_name(rule), _money(rule.saved_minor), _money(rule.only_saved_minor))
    return _section(
        table,
        "it fires, and the decision is review or block. Not converted. Two rules that fire on one payment both save it",
    )


def _name(rule: RuleFigures) -> Text:
    return Text.assemble(rule.rule_id, (" shadow", "dim") if rule.mode == "shadow" else "")


def _action_changes(found: Diff) -> RenderableType:
    changed = sum(change.verdicts.events for change in found.actions if change.old_action != change.new_action)
    table = _table(f"Decisions that change from {found.old_version} to {found.new_version}: {changed:,}")
    table.add_column("old")
    table.add_column("new")
    _add_numbers(table, "events", "fraud", "legit", "unlabelled")
    table.add_column("payments, minor units", overflow="fold")
    for change in found.actions:
        table.add_row(*_change_cells(change), _money(change.amount_minor))
    return _section(table, "with the same action before and after: for other reasons, or with another score")


def _change_cells(change: ActionChange) -> list[RenderableType]:
    verdicts = change.verdicts
    return [
        Text(change.old_action, _STYLES[change.old_action]),
        Text(change.new_action, _STYLES[change.new_action]),
        f"{verdicts.events:,}",
        *_cells(verdicts),
    ]


def _rule_changes(found: Diff) -> RenderableType:
    table = _table("By rule")
    table.add_column("rule", overflow="fold")
    table.add_column("rule is")
    _add_numbers(table, "gains", "of fraud", "legit", "loses", "of fraud", "legit")
    same = 0
    for rule in found.rules:
        if rule.change == "same" and not rule.gained.events + rule.lost.events:
            same += 1
            continue
        cells = [
            f"{number:,}" for hits in (rule.gained, rule.lost) for number in (hits.events, hits.fraud, hits.legitimate)
        ]
        table.add_row(rule.rule_id, rule.change, *cells)
    return _section(
        table, f"gains, loses: events on which it fires in one file only. Rules that are the same: {same:,}"
    )


def _example(example: Example) -> RenderableType:
    verdict = {True: "labelled fraud", False: "legitimate", None: "unlabelled"}[example.is_fraud]
    amount = "" if example.amount_minor is None else f", {example.currency} {example.amount_minor:,} minor units"
    head = Text.assemble(
        (example.event_id, "bold"), f" of {example.user_id}, {_time(example.event_time_ms)}{amount}, {verdict}"
    )
    lines = [head, _said("old", example.old), _said("new", example.new)]
    if example.mattered:
        values = ", ".join(f"{name} {_value(value)}" for name, value in example.mattered.items())
        lines.append(Text(f"  {values}", "dim"))
    return Padding(Group(*lines), (0, 0, 1, 0))


def _said(which: str, found: Said) -> Text:
    return Text.assemble(
        f"  {which}: ",
        (found.action, _STYLES[found.action]),
        f" {found.score:g}  {', '.join(found.fired) or 'no rule'}",
    )


def _value(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(" ", "seconds").replace("+00:00", "Z")


def _money(amounts: Mapping[str, int], most: int = MOST_CURRENCIES) -> str:
    """Amounts by currency, those that are 0 left out; beyond a few, how many more."""
    known = [f"{currency} {amount:,}" for currency, amount in amounts.items() if amount]
    more = [f"and {len(known) - most} more"] if len(known) > most else []
    return ", ".join([*known[:most], *more]) or "–"


def _cells(verdicts: Verdicts) -> list[str]:
    return [f"{verdicts.fraud:,}", f"{verdicts.legitimate:,}", f"{verdicts.unlabelled:,}"]


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _add_numbers(table: Table, *headings: str) -> None:
    for heading in headings:
        table.add_column(heading, justify="right", overflow="fold")


def _section(table: RenderableType, note: str) -> RenderableType:
    return Padding(Group(table, Text(note, "dim")), (0, 0, 1, 0))
