"""A report as pictures: what was flagged when, and which attacks were caught how soon."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DateFormatter, HourLocator
from matplotlib.figure import Figure

from fraud_pipeline.errors import UsageError
from fraud_pipeline.report.measures import (
    DAY_MS,
    HOUR_MS,
    Attack,
    Detection,
    Scenario,
    by_scenario,
    count,
)
from fraud_pipeline.report.tables import days_in_words

# Colours that people with any colour vision can tell apart (M. Okabe and K. Ito, 2008), each with a shape of its own.
_BLUE, _ORANGE, _VERMILION, _SKY = "#0072B2", "#E69F00", "#D55E00", "#56B4E9"
_GREY, _DARK = "#BBBBBB", "#444444"

_ACTIONS: dict[str, dict[str, Any]] = {
    "allow": {"marker": "o", "s": 14, "facecolors": "white", "edgecolors": _DARK, "linewidths": 0.7},
    "review": {"marker": "o", "s": 15, "facecolors": _ORANGE, "edgecolors": _DARK, "linewidths": 0.4},
    "block": {"marker": "s", "s": 15, "facecolors": _BLUE, "edgecolors": _DARK, "linewidths": 0.4},
}
_FATES: dict[str, dict[str, Any]] = {
    "caught early": {"marker": "o", "s": 46, "facecolors": _BLUE, "edgecolors": _DARK, "linewidths": 0.5},
    "caught later": {"marker": "^", "s": 50, "facecolors": _SKY, "edgecolors": _DARK, "linewidths": 0.5},
    "missed": {"marker": "x", "s": 46, "c": _VERMILION, "linewidths": 2.0},
}

_FALSE_ALARMS = "normal events,\nflagged"
_ROWS_IN_LANE = 5
_GOLDEN_RATIO = 0.6180339887498949
_DPI = 110


def write_pictures(found: Detection, directory: Path) -> list[Path]:
    """Writes `timeline.png` and `attacks.png`; the same detection makes the same pictures.

    Raises:
      UsageError: the directory can't be written to.
    """
    pictures = {"timeline.png": timeline(found), "attacks.png": attacks(found)}
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, figure in pictures.items():
            paths.append(directory / name)
            figure.savefig(paths[-1], dpi=_DPI, metadata={"Software": None})
    except OSError as error:
        raise UsageError(f"can't write to {str(directory)!r}: {error.strerror}; choose another directory") from error
    return paths


def timeline(found: Detection) -> Figure:
    """Normal traffic by the hour, and below it each event of an attack with what was decided on it."""
    lanes = {row.name: row for row in by_scenario(found.attacks)}
    figure = Figure(figsize=(10, 1.9 + 0.62 * (len(lanes) + 1)), layout="constrained")
    traffic, events = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [1.1, 0.62 * (len(lanes) + 1)], "hspace": 0.02}
    )
    figure.suptitle(f"Attacks, and what was decided on their events: {days_in_words(found.days)}", weight="bold")
    hours = list(found.events_by_hour)
    traffic.bar(
        [_moment(hour * HOUR_MS) for hour in hours],
        list(found.events_by_hour.values()),
        width=1 / 24,
        align="edge",
        color=_GREY,
        edgecolor="white",
        linewidth=0.5,
    )
    traffic.set_ylabel("normal events\nper hour", fontsize=9)
    _plain(traffic)
    _lanes(events, [_lane_name(row) for row in lanes.values()] + [_FALSE_ALARMS])
    heights = _heights(found, list(lanes))
    for action, style in _ACTIONS.items():
        shown = [(mark, height) for mark, height in zip(found.marks, heights, strict=True) if mark.action == action]
        events.scatter(
            [_moment(mark.event_time_ms) for mark, _ in shown],
            [height for _, height in shown],
            label=f"{action} ({len(shown):,})",
            zorder=3,
            clip_on=False,
            **style,
        )
    first, last = found.days[0] * DAY_MS, (found.days[-1] + 1) * DAY_MS
    events.set_xlim(_moment(first), _moment(last))
    if len(found.days) == 1:
        events.xaxis.set_major_locator(HourLocator(byhour=range(0, 24, 3)))
        events.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    else:
        locator = AutoDateLocator()
        events.xaxis.set_major_locator(locator)
        events.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    events.set_xlabel("time of the event, UTC")
    figure.legend(
        *events.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        title="decision",
    )
    return figure


def attacks(found: Detection) -> Figure:
    """Each attack by how loud it was, with what became of it; and recall by scenario beside it."""
    scenarios = by_scenario(found.attacks)
    every = count("all attacks", found.attacks)
    figure = Figure(figsize=(10, 1.7 + 0.62 * (len(scenarios) + 1)), layout="constrained")
    dots, bars = figure.subplots(1, 2, sharey=True, width_ratios=[1.7, 1])
    figure.suptitle(f"{every.caught:,} of {every.attacks:,} attacks caught: {days_in_words(found.days)}", weight="bold")
    _lanes(dots, [row.name.replace("_", " ") for row in (*scenarios, every)])
    rows = _rows_of(found.attacks, [row.name for row in scenarios])
    for fate, style in _FATES.items():
        shown = [attack for attack in found.attacks if _fate(attack) == fate]
        dots.scatter(
            [attack.intensity for attack in shown],
            [rows[attack.attack_id] for attack in shown],
            label=f"{fate} ({len(shown):,})",
            zorder=3,
            **style,
        )
    dots.text(0.5, len(scenarios), "each mark is an attack", ha="center", va="center", color=_DARK, style="italic")
    dots.set_xlim(0, 1.04)
    dots.set_xlabel("intensity (0: slow and careful, 1: fast and loud)")
    dots.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9, handletextpad=0.2)
    _recall_bars(bars, [*scenarios, every])
    return figure


def _recall_bars(axes: Axes, rows: Sequence[Scenario]) -> None:
    positions = range(len(rows))
    early = [100 * row.caught_early / row.attacks for row in rows]
    later = [100 * (row.caught - row.caught_early) / row.attacks for row in rows]
    axes.barh(positions, [100] * len(rows), height=0.5, color="#F0F0F0", zorder=1)
    axes.barh(positions, early, height=0.5, color=_BLUE, label="early", zorder=2)
    axes.barh(positions, later, left=early, height=0.5, color=_SKY, label="later", zorder=2)
    for position, row in zip(positions, rows, strict=True):
        axes.text(103, position, f"{row.caught:,} of {row.attacks:,}", va="center", fontsize=9)
    axes.set_xlim(0, 128)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("recall: attacks caught, %")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False, fontsize=9)
    _plain(axes)
    axes.tick_params(axis="y", length=0)


def _lanes(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for i in range(0, len(names), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="#F6F6F6", zorder=0, linewidth=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6, zorder=1)
    _plain(axes)


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _lane_name(row: Scenario) -> str:
    return f"{row.name.replace('_', ' ')}\n{row.caught:,} of {row.attacks:,} caught"


def _rows_of(found: Iterable[Attack], lanes: Sequence[str]) -> dict[str, float]:
    """The height of each attack: in its scenario's lane, those that follow one another apart."""
    numbers: dict[str, int] = dict.fromkeys(lanes, 0)
    rows = {}
    for attack in found:
        number = numbers[attack.scenario]
        numbers[attack.scenario] += 1
        offset = (number % _ROWS_IN_LANE - (_ROWS_IN_LANE - 1) / 2) * 0.8 / _ROWS_IN_LANE
        rows[attack.attack_id] = lanes.index(attack.scenario) + offset
    return rows


def _heights(found: Detection, lanes: Sequence[str]) -> list[float]:
    """The height of each mark: in its lane, the events of an attack scattered so that each can be seen."""
    lane_of = {attack.attack_id: lanes.index(attack.scenario) for attack in found.attacks}
    numbers: dict[str, int] = {}
    heights = []
    for mark in found.marks:
        number = numbers[mark.attack_id] = numbers.get(mark.attack_id, -1) + 1
        offset = (0.5 + number * _GOLDEN_RATIO) % 1 - 0.5
        heights.append(lane_of.get(mark.attack_id, len(lanes)) + 0.7 * offset)
    return heights


def _fate(attack: Attack) -> str:
    return "caught early" if attack.caught_early else "caught later" if attack.caught else "missed"


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
