"""What later turned out about an entity's payments: all labels, so that the last word can be told for any time.

Labels come days after their payment, in any order, more than once, and take each other back. The last one by its own
event time counts, ties by the hash of its id: a function of the set of labels alone. A label whose payment isn't there
(not yet, or never) waits, and counts from when the payment comes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from transforms.entity_distinct import find

FRAUD, MATCHED = 1, 2
"""Flags: the label says fraud; its payment is there."""


class Verdicts:
    """Labels in the order of their payments' times.

    Attributes:
      targets, target_ids: time (epoch ms) and id hash (8 bytes each) of the payment.
      times, ids: event time and id hash of the label.
      flags: a byte each.
      labelled, fraud: times of the payments that have a verdict, and of those whose last verdict is fraud, ascending.
      newest_ms: event time of the newest label.
    """

    __slots__ = ("flags", "fraud", "ids", "labelled", "newest_ms", "target_ids", "targets", "times")

    def __init__(
        self,
        targets: array[int],
        target_ids: bytes,
        times: array[int],
        ids: bytes,
        flags: bytes,
        labelled: array[int],
        fraud: array[int],
        newest_ms: int,
    ) -> None:
        self.targets = targets
        self.target_ids = target_ids
        self.times = times
        self.ids = ids
        self.flags = flags
        self.labelled = labelled
        self.fraud = fraud
        self.newest_ms = newest_ms

    @classmethod
    def empty(cls) -> Verdicts:
        """No labels."""
        return cls(array("q"), b"", array("q"), b"", b"", array("q"), array("q"), 0)

    def __len__(self) -> int:
        return len(self.times)

    def add(self, target_ms: int, target_id: bytes, time_ms: int, label_id: bytes, flags: int) -> bool:
        """Adds a label; False where it is known already."""
        if find(self.ids, label_id) >= 0:
            return False
        i = bisect_right(self.targets, target_ms)
        self.targets.insert(i, target_ms)
        self.target_ids = self.target_ids[: 8 * i] + target_id + self.target_ids[8 * i :]
        self.times.insert(i, time_ms)
        self.ids = self.ids[: 8 * i] + label_id + self.ids[8 * i :]
        self.flags = self.flags[:i] + bytes((flags,)) + self.flags[i:]
        self._refresh()
        return True

    def match(self, target_id: bytes, target_ms: int) -> None:
        """The payment has come: labels that wait for it count from now on, at its own time."""
        if b"\0" not in self.flags and b"\1" not in self.flags:
            return
        i = find(self.target_ids, target_id)
        waiting = []
        while i >= 0:
            if not self.flags[i] & MATCHED:
                waiting.append((self.times[i], self.ids[8 * i : 8 * i + 8], self.flags[i]))
            i = find(self.target_ids, target_id, i + 1)
        if waiting:
            self._keep([i for i in range(len(self)) if self.target_ids[8 * i : 8 * i + 8] != target_id])
            for time_ms, label_id, flags in waiting:
                self.add(target_ms, target_id, time_ms, label_id, flags | MATCHED)

    def as_of(self, now_ms: int) -> tuple[array[int], array[int]]:
        """`labelled` and `fraud` as they were known at a time."""
        if now_ms >= self.newest_ms:
            return self.labelled, self.fraud
        return _columns(list(self._last(now_ms)))

    def tied(self, time_ms: int, now_ms: int) -> list[tuple[bytes, bool]]:
        """Id hash and verdict of the payments at exactly a time that have one."""
        return [(target_id, fraud) for at, target_id, fraud in self._last(now_ms) if at == time_ms]

    def drop_before(self, target_ms: int) -> int | None:
        """Forgets the labels of payments at a time or before. Returns the time of the last of them, if there were."""
        count = bisect_right(self.targets, target_ms)
        if not count:
            return None
        last_ms = self.targets[count - 1]
        self._keep(list(range(count, len(self))))
        self._refresh()
        return last_ms

    def pop_oldest(self) -> tuple[int, bool | None]:
        """Forgets the oldest payment's labels. Returns its time and last verdict, None if it never came."""
        at, target_id = self.targets[0], self.target_ids[:8]
        verdict = next((fraud for _, known, fraud in self._last(self.newest_ms) if known == target_id), None)
        self._keep([i for i in range(len(self)) if self.target_ids[8 * i : 8 * i + 8] != target_id])
        self._refresh()
        return at, verdict

    def _refresh(self) -> None:
        self.newest_ms = max(self.times, default=0)
        self.labelled, self.fraud = _columns(list(self._last(self.newest_ms)))

    def _last(self, now_ms: int) -> Iterator[tuple[int, bytes, bool]]:
        """Time, id hash and last verdict of each payment that has one, in the order of time."""
        last: dict[bytes, tuple[int, bytes, int, int]] = {}
        for i, flags in enumerate(self.flags):
            if flags & MATCHED and self.times[i] <= now_ms:
                key = self.target_ids[8 * i : 8 * i + 8]
                word = (self.times[i], self.ids[8 * i : 8 * i + 8], flags, self.targets[i])
                if key not in last or last[key] < word:
                    last[key] = word
        for key, (_, _, flags, target_ms) in last.items():
            yield target_ms, key, bool(flags & FRAUD)

    def _keep(self, kept: list[int]) -> None:
        self.targets = array("q", [self.targets[i] for i in kept])
        self.target_ids = b"".join([self.target_ids[8 * i : 8 * i + 8] for i in kept])
        self.times = array("q", [self.times[i] for i in kept])
        self.ids = b"".join([self.ids[8 * i : 8 * i + 8] for i in kept])
        self.flags = bytes([self.flags[i] for i in kept])


def _columns(last: list[tuple[int, bytes, bool]]) -> tuple[array[int], array[int]]:
    labelled = sorted(target_ms for target_ms, _, _ in last)
    return array("q", labelled), array("q", sorted(target_ms for target_ms, _, fraud in last if fraud))


def between(times: array[int], after_ms: int, until_ms: int) -> int:
    """How many times lie in `(after_ms, until_ms]`."""
    return bisect_right(times, until_ms) - bisect_right(times, after_ms)


def tie(times: array[int], time_ms: int) -> bool:
    """Whether one of the times is just that."""
    i = bisect_left(times, time_ms)
    return i < len(times) and times[i] == time_ms
