"""The simulation: the days one after another, everybody's sessions and the attacks, in order of arrival."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from random import Random

from fraud_pipeline.simulate import attacks, gatherings, sessions, stage
from fraud_pipeline.simulate.config import SimulationConfig
from fraud_pipeline.simulate.delivery import Arrival, Postman
from fraud_pipeline.simulate.drafts import Draft
from fraud_pipeline.simulate.people import World
from fraud_pipeline.simulate.scenarios import load_scenarios
from fraud_pipeline.simulate.verdicts import verdicts


def simulate(config: SimulationConfig) -> Iterator[Arrival]:
    """All messages of a run, in order of arrival; the same for the same configuration.

    Memory grows with the number of users and of messages under way, not with the number of days.

    Raises:
      ValueError: the configuration names an attack scenario that doesn't exist.
    """
    return _run(config, attacks.AttackSchedule(config, load_scenarios()))


def _run(config: SimulationConfig, schedule: attacks.AttackSchedule) -> Iterator[Arrival]:
    world = World(config)
    mail = _Mail(config)
    rng = Random()
    taken: set[int] = set()
    for day in range(config.history_days + config.days):
        starts = [sessions.plan_day(rng, world, person, day) for person in world.people]
        agenda = sorted(
            (start_ms, index, number) for index, own in enumerate(starts) for number, start_ms in enumerate(own)
        )
        mail.send(gatherings.on_day(rng, world, day, starts))
        mail.send(stage.play(world, schedule.on_day(day), starts, taken))
        for start_ms, index, number in agenda:
            yield from mail.arrived_before(start_ms)
            mail.send(sessions.session(rng, world, world.people[index], day, number, start_ms))
    yield from mail.arrived_before(None)


class _Mail:
    """The messages under way."""

    def __init__(self, config: SimulationConfig) -> None:
        self._postman = Postman(config.delivery)
        self._rng = Random() if config.label_events else None
        self._heap: list[tuple[int, int, Arrival]] = []
        self._sent = 0

    def send(self, drafts: Iterable[Draft]) -> None:
        for draft in drafts:
            self._post(draft)
            if self._rng is not None:
                for label in verdicts(self._rng, draft):
                    self._post(label)

    def _post(self, draft: Draft) -> None:
        for arrival in self._postman.deliver(draft):
            heapq.heappush(self._heap, (arrival.received_ms, self._sent, arrival))
            self._sent += 1

    def arrived_before(self, time_ms: int | None) -> Iterator[Arrival]:
        """Takes out what arrives before a time, in order; None for all that is left."""
        heap = self._heap
        while heap and (time_ms is None or heap[0][0] < time_ms):
            yield heapq.heappop(heap)[2]
