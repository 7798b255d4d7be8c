"""Dead letters put back in: where they are kept, what was put back before, and where they go.

Each goes back once. For a file that is certain: it is replaced as a whole, and each line names the dead letter
that it was, so that what a killed run did without noting it is seen by the next one. To Pub/Sub it is at least
once: a killed run may have published up to 500 messages that it hadn't noted, and the next one publishes those
again, with the same attribute `dead_letter_id`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from fraud_pipeline.dead_letters.destinations import Destination, FileDestination, PubsubDestination
from fraud_pipeline.dead_letters.store import Filters, Store, StoredDeadLetter

__all__ = [
    "Destination",
    "FileDestination",
    "Filters",
    "PubsubDestination",
    "Store",
    "StoredDeadLetter",
    "Summary",
    "replay",
]


class Summary(NamedTuple):
    """What became of the dead letters that the filters let through.

    Attributes:
      put_back: those put back now (or that would be), by reason.
      before: those put back by an earlier run.
      incomplete: those of which a part of the payload is missing.
    """

    put_back: Counter[str]
    before: int
    incomplete: int


def replay(store: Store, destination: Destination, filters: Filters) -> Summary:
    """Puts dead letters back, each once; with a store that is read only, only says which that would be.

    Args:
      store: where they are.
      destination: where they go.
      filters: which.

    Raises:
      UsageError: the destination can't be written to; what was put there before that is recorded.
    """
    put_back: Counter[str] = Counter()
    before: list[str] = []
    incomplete: list[str] = []
    there_already: list[str] = []

    def due() -> Iterator[StoredDeadLetter]:
        for dead_letter, was_replayed, is_whole in store.dead_letters(filters):
            if was_replayed:
                before.append(dead_letter.dead_letter_id)
            elif destination.contains(dead_letter.dead_letter_id):
                there_already.append(dead_letter.dead_letter_id)
            elif not is_whole:
                incomplete.append(dead_letter.dead_letter_id)
            else:
                put_back[dead_letter.reason] += 1
                yield dead_letter

    if store.read_only:
        for _ in due():
            pass
    else:
        destination.put(due(), store.record)
        store.record(there_already)
    return Summary(put_back, len(before) + len(there_already), len(incomplete))
