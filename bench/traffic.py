"""Traffic that the benches share: simulated, parsed, in order of arrival."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

from fraud_pipeline.simulate import SimulationConfig, simulate
from fraud_pipeline.sources import ReadMessagesFromFiles, match_files
from transforms.events import Envelope, Label, Message
from transforms.parsing import parse
from transforms.stamping import stamped


def envelopes(users: int, days: int, seed: int = 7) -> list[Envelope]:
    """Valid logins and payments of a simulation, in order of arrival."""
    config = SimulationConfig(users=users, days=1, history_days=days - 1, seed=seed)
    parsed = (parse(Message(a.payload, a.received_ms, "bench")) for a in simulate(config))
    return [e for e in parsed if isinstance(e, Envelope) and not isinstance(e.event, Label)]


def write_lines(events: Iterable[Envelope], path: Path) -> Path:
    """A file of the events' payloads, a line each, in the order given."""
    path.write_bytes(b"".join(e.payload + b"\n" for e in events))
    return path


class ReadEvents(beam.PTransform[PBegin, PCollection[Envelope]]):
    """Reads the events of such a file as the job does, stamped with event time."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def expand(self, begin: PBegin) -> PCollection[Envelope]:
        """Wires it."""
        return begin | ReadMessagesFromFiles(match_files([str(self._path)])) | "Parse" >> beam.ParDo(_Parse())


class _Parse(beam.DoFn):
    def process(self, message: Message) -> Iterator[Any]:
        envelope = parse(message)
        assert isinstance(envelope, Envelope), envelope
        yield stamped(envelope, envelope.event.event_time_ms)


def by_user(events: list[Envelope]) -> dict[str, list[Envelope]]:
    """The events of each user, in the order given."""
    users: dict[str, list[Envelope]] = defaultdict(list)
    for event in events:
        users[event.event.user_id].append(event)
    return users


def session(length: int, user_id: str = "u", start_ms: int = 1_750_000_000_000, step_ms: int = 2_000) -> list[Envelope]:
    """One session of logins and payments, evenly spaced, from the values a user has: one device, a few merchants."""
    out: list[Envelope] = []
    for i in range(length):
        at = start_ms + i * step_ms
        if i % 2:
            payload = (
                f'{{"event_type":"payment","event_id":"{user_id}-{i}","user_id":"{user_id}","event_time":{at},'
                f'"amount_minor":{1_000 + i % 700},"currency":"EUR","merchant_id":"m{i % 7}","card_id":"c1",'
                f'"device_id":"d1","ip":"192.0.2.{i % 3}","country":"DE","latitude":52.5,"longitude":13.4}}'
            )
        else:
            payload = (
                f'{{"event_type":"login","event_id":"{user_id}-{i}","user_id":"{user_id}","event_time":{at},'
                f'"outcome":"success","device_id":"d1","ip":"192.0.2.{i % 3}","country":"DE",'
                f'"latitude":52.5,"longitude":13.4}}'
            )
        envelope = parse(Message(payload.encode(), at, "bench"))
        assert isinstance(envelope, Envelope), envelope
        out.append(envelope)
    return out
