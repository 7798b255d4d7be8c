"""Cases: suspicious events of one user, or of another entity, put together so that people get one alert, not hundreds.

A state machine free of Beam. What a case says is a function of the *set* of scores, the newest of each event: whatever
their order, and however often one comes, the cases end up the same. Only a case's id and version remember the past,
so that what was told once keeps its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from transforms.alerts import Alert, Change
from transforms.case_alerts import alert, change_of, tell
from transforms.case_config import CaseConfig
from transforms.case_findings import Content, content, feature_index, finding, fold, groups, reasons
from transforms.case_state import CLOSED, MERGED, OPEN, WITHDRAWN, Case, CaseState, Finding
from transforms.entity_keys import FieldReader
from transforms.features import FEATURES, Feature
from transforms.records import Score

__all__ = ["CaseConfig", "Cases", "Step", "alert_id_of", "matters"]

END_OF_TIME_MS = 1 << 53


class Step(NamedTuple):
    """What a call leads to: the new state, None to forget the key; alerts to hand on; when to call `on_watermark`."""

    state: CaseState | None
    alerts: list[Alert]
    timer_ms: int | None


def matters(score: Score) -> bool:
    """Whether a score can change a case: all but the first score of an event that is allowed."""
    return score.action != "allow" or score.record.trigger != "EVENT"


def alert_id_of(key: str, reason: str, cell: int, number: int) -> str:
    """The id of a case: 32 hex digits.

    Args:
      reason: the first in the alphabet of its first event; empty where reasons don't part cases.
      cell: start of the case, in whole cool-downs. Two cases of a key and reason never start in the same one, as more
        than a cool-down lies between them; and where the first event comes late, or turns out harmless, the next one
        mostly gives the same id.
      number: 0, or more where a case that has moved since has that id already.
    """
    parts = "".join(f"{len(part)}:{part}" for part in (key, reason, str(cell), str(number)))
    return hashlib.blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Cases:
    """The state machine. Each call takes a key's state, which it may change and hand back.

    Args:
      features: what the values of a record are, in their order.
    """

    def __init__(self, config: CaseConfig, features: Sequence[Feature] = FEATURES) -> None:
        self.config = config
        self._features = {feature.name: feature for feature in features}
        self._index = feature_index(features)
        self._key = FieldReader((config.key_field,))
        self._cooldown_ms = round(config.cooldown_seconds * 1_000)
        self._remember_ms = round(config.remember_seconds * 1_000)

    def key(self, score: Score) -> str:
        """The key of the cases that a score belongs to: a field's name, a colon, its value."""
        event = score.record.event
        value = self._key(event)
        return f"user_id:{event.user_id}" if value is None else f"{self.config.key_field}:{value}"

    def finding(self, score: Score) -> Finding:
        """A score, one that `matters`, as a case remembers it."""
        return finding(score, self._index, self.config.include)

    def on_score(self, state: CaseState | None, score: Score) -> Step:
        """A score arrives, one that `matters`: as `on_finding`."""
        return self.on_finding(state, self.key(score), self.finding(score))

    def on_finding(self, state: CaseState | None, key: str, taken: Finding) -> Step:
        """A finding of the key arrives: alerts of the cases that it changes, none if it is old or repeated."""
        if state is None:
            state = CaseState(key)
        alerts: list[Alert] = []
        if _take(state, taken):
            alerts = [*self._tell(state, taken), *self._bound(state)]
        return Step(state, alerts, self._due(state))

    def on_watermark(self, state: CaseState | None, now_ms: int) -> Step:
        """The watermark has reached `now_ms`: closes, and later forgets, the cases that are due. Idempotent."""
        if state is None:
            return Step(None, [], None)
        alerts = []
        for case in state.cases:
            if case.status == OPEN and self._closes_ms(case) <= now_ms:
                alerts.append(self._close(state, case))
        state.cases = [case for case in state.cases if self._forgets_ms(case) > now_ms]
        kept = {case.number for case in state.cases}
        state.findings = [f for f in state.findings if f.case in kept or self._forgets_ms(f) > now_ms]
        if not state.findings and not state.cases:
            return Step(None, alerts, None)
        return Step(state, alerts, self._due(state))

    def backfill(self, key: str, findings: Iterable[Finding]) -> list[Alert]:
        """The cases of a key's findings, each as the stream tells it last. The findings are sorted in memory."""
        state: CaseState | None = None
        last: dict[str, Alert] = {}
        for each in sorted(findings, key=lambda f: (f.start_ms, f.version)):
            each.received_ms = 0  # There is no later to remember it for.
            state, closed, _ = self.on_watermark(state, each.start_ms)
            state, changed, _ = self.on_finding(state, key, each)
            last.update((alert.alert_id, alert) for alert in (*closed, *changed))
        last.update((alert.alert_id, alert) for alert in self.on_watermark(state, END_OF_TIME_MS).alerts)
        return list(last.values())

    def _tell(self, state: CaseState, taken: Finding) -> list[Alert]:
        """Brings the cases to what the findings say; alerts of those of which that leaves something to tell."""
        parted = groups([f for f in state.findings if f.count], self._cooldown_ms, self.config.grouping)
        by_number = {case.number: case for case in state.cases}
        group_of: dict[int, int] = {}
        for i, group in enumerate(parted):
            for each in group:
                if each.case in by_number:
                    group_of.setdefault(each.case, i)
        alerts: list[Alert] = []
        part_of: dict[int, Case] = {}
        version = taken.version
        if not state.key.startswith("user_id:"):
            # Only a user's own versions can be compared. Of several users a later receipt outruns what was forgotten.
            version = max(version, taken.received_ms)
        for i, group in enumerate(parted):
            known = [by_number[number] for number, at in group_of.items() if at == i]
            known.sort(key=lambda case: (case.status in (WITHDRAWN, MERGED), case.number))
            says = content(group)
            case = known[0] if known else self._new_or_former(state, says, group)
            part_of.update((each.number, case) for each in known[1:])
            for each in group:
                each.case = case.number
            change = change_of(case, says)
            case.first_ms, case.last_ms = says.first_ms, says.last_ms
            case.received_ms = max(case.received_ms, *(each.received_ms for each in group))
            if change is not None or any(each.digest == taken.digest for each in group):
                case.status, case.into = OPEN, ""
            if change is not None:
                alerts.append(self._told(state, case, says, group, change, version))
        alive = {f.case for f in state.findings if f.count}
        for case in state.cases:
            if case.status in (OPEN, CLOSED) and case.number not in alive:
                survivor = part_of.get(case.number)
                case.status = MERGED if survivor else WITHDRAWN
                case.into = survivor.alert_id if survivor else ""
                case.version = max(case.version + 1, version)
                alerts.append(alert(case, state.key, "MERGED" if survivor else "WITHDRAWN", self._features))
        return alerts

    def _close(self, state: CaseState, case: Case) -> Alert:
        case.status = CLOSED
        group = [f for f in state.findings if f.case == case.number and f.count]
        return self._told(state, case, content(group), group, "CLOSED", 0)

    def _told(
        self, state: CaseState, case: Case, says: Content, group: Sequence[Finding], change: Change, version: int
    ) -> Alert:
        tell(case, says, version)
        return alert(case, state.key, change, self._features, group, self.config.max_shown)

    def _new_or_former(self, state: CaseState, says: Content, group: Sequence[Finding]) -> Case:
        """A case for a group that has none: one that was withdrawn or merged before, or a new one."""
        cell = says.first_ms // self._cooldown_ms
        reason = min(reasons(group[0].rules), default="") if self.config.grouping == "reasons" else ""
        by_id = {case.alert_id: case for case in state.cases}
        number = 0
        while (former := by_id.get(alert_id := alert_id_of(state.key, reason, cell, number))) is not None:
            if former.status in (WITHDRAWN, MERGED):
                return former
            number += 1
        case = Case(state.next_number, alert_id, 0, OPEN, 0, 0, [], 0, says.first_ms, says.last_ms, says.lead)
        state.next_number += 1
        state.cases.append(case)
        return case

    def _bound(self, state: CaseState) -> list[Alert]:
        """Folds the oldest events of the largest case; drops the oldest of what is single, allowed or over."""
        alerts = []
        most = self.config.max_events
        suspicious = sorted((f for f in state.findings if f.count), key=lambda f: (f.start_ms, f.digest))
        while len(suspicious) > most:
            sizes: dict[int, int] = {}
            for each in suspicious:
                sizes[each.case] = sizes.get(each.case, 0) + 1
            largest = max(sizes, key=lambda number: (sizes[number], -number))
            if sizes[largest] > 1:
                first, second = [i for i, each in enumerate(suspicious) if each.case == largest][:2]
                suspicious[first] = fold(suspicious[first], suspicious.pop(second))
            else:
                (oldest,) = [case for case in state.cases if case.number == suspicious[0].case]
                if oldest.status == OPEN:
                    alerts.append(self._close(state, oldest))
                state.cases = [case for case in state.cases if case is not oldest]
                suspicious = suspicious[1:]
        allowed = sorted((f for f in state.findings if not f.count), key=lambda f: (f.end_ms, f.digest))
        state.findings = [*suspicious, *allowed[-most:]]
        over = [case for case in state.cases if case.status in (WITHDRAWN, MERGED)]
        dropped = {case.number for case in sorted(over, key=lambda case: (case.last_ms, case.number))[:-most]}
        state.cases = [case for case in state.cases if case.number not in dropped]
        return alerts

    def _closes_ms(self, case: Case) -> int:
        return case.last_ms + self._cooldown_ms + 1

    def _forgets_ms(self, known: Case | Finding) -> int:
        # What comes very late can be corrected after its coming, when its own time is long over.
        last_ms = max(known.last_ms if isinstance(known, Case) else known.end_ms, known.received_ms)
        return last_ms + self._cooldown_ms + self._remember_ms + 1

    def _due(self, state: CaseState) -> int | None:
        times = [self._closes_ms(case) if case.status == OPEN else self._forgets_ms(case) for case in state.cases]
        known = {case.number for case in state.cases}
        times += [self._forgets_ms(f) for f in state.findings if f.case not in known]
        return min(times, default=None)


def _take(state: CaseState, taken: Finding) -> bool:
    """Puts a finding in its place; False where it says nothing new."""
    for i, known in enumerate(state.findings):
        if known.digest == taken.digest:
            if known.version >= taken.version:
                return False
            # One of several that were folded: what it adds counts, what it takes back can't be told any more.
            taken.case = known.case
            state.findings[i] = _absorb(known, taken) if known.count > 1 else taken
            return True
    if taken.is_correction:
        for i, known in enumerate(state.findings):
            if known.count > 1 and known.start_ms <= taken.start_ms <= known.end_ms:
                state.findings[i] = _absorb(known, taken)
                return bool(taken.count)
    state.findings.append(taken)
    return True


def _absorb(known: Finding, taken: Finding) -> Finding:
    if not taken.count:
        return known
    return msgspec.structs.replace(fold(known, taken), count=known.count, case=known.case)
