"""Alerts that didn't arrive, sent again out of the dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import msgspec

from fraud_pipeline.alerting.deliver import MAX_TOGETHER
from fraud_pipeline.alerting.destinations import Destination
from fraud_pipeline.alerting.notifications import head
from fraud_pipeline.alerting.webhooks import Failure
from fraud_pipeline.dead_letters import StoredDeadLetter
from fraud_pipeline.errors import UsageError


class Resend:
    """Sends the payloads of dead letters of reason DELIVERY_FAILED; a destination of `fraud_pipeline.dead_letters`.

    Args:
      destination: where to.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination

    def contains(self, dead_letter_id: str) -> bool:
        """A receiver can't be asked; it knows an alert by its id and version."""
        return False

    def put(self, dead_letters: Iterator[StoredDeadLetter], record: Callable[[Sequence[str]], None]) -> None:
        """Sends them in batches, each recorded when it has arrived; stops after one of which nothing has.

        Raises:
          UsageError: some didn't arrive, or are no notifications.
        """
        sender = self._destination.new_sender()
        failures: list[Failure] = []
        broken = 0
        while batch := list(islice(dead_letters, MAX_TOGETHER)):
            readable = [letter for letter in batch if _is_notification(letter.payload)]
            broken += len(batch) - len(readable)
            results = sender.send([letter.payload for letter in readable])
            arrived = [each.dead_letter_id for each, failure in zip(readable, results, strict=True) if failure is None]
            record(arrived)
            failures += [failure for failure in results if failure is not None]
            if readable and not arrived:
                break
        if failures:
            raise UsageError(
                f"{len(failures)} alerts didn't reach {self._destination.label}: {failures[0].why}; "
                "see to the receiver and run this again"
            )
        if broken:
            raise UsageError(f"{broken} dead letters hold no notification; were they changed by hand?")


def _is_notification(payload: bytes) -> bool:
    try:
        head(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
