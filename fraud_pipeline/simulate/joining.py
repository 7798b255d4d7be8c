"""How people become customers: alone, as a family, as a class; brought by somebody or not."""

from __future__ import annotations

from random import Random

import msgspec

from fraud_pipeline.simulate.config import DAY_MS, SimulationConfig
from fraud_pipeline.simulate.network import Device, new_device, office_address, token
from fraud_pipeline.simulate.places import City

_HOUR_MS = 3_600_000


class Joining(msgspec.Struct, frozen=True):
    """How somebody becomes a customer.

    Attributes:
      referrer_id: who brought them, or None.
      device: another's device that they sign up on (the family's tablet), or None for their own.
      ip: the address they sign up from (an office, a campus), or None for their usual one.
      stays: whether they come back after the first time.
    """

    referrer_id: str | None
    device: Device | None
    ip: str | None
    stays: bool


def newcomers(
    rng: Random, config: SimulationConfig, city: City, size: int, partners: tuple[str, ...], *, a_class: bool
) -> list[tuple[int | None, Joining | None]]:
    """For each of some people who belong together when and how they join; None and None for customers of before."""
    if a_class:
        # A course, a new office: one address, one afternoon, and somebody who told them all.
        start_ms = _joining_ms(rng, config, city)
        ip, referrer_id = office_address(rng, city.country), token(rng, "r-") if rng.random() < 0.7 else None
        return [
            (start_ms + int(rng.random() ** 2 * 4 * _HOUR_MS), Joining(referrer_id, None, ip, rng.random() < 0.8))
            for _ in range(size)
        ]
    if rng.random() < 0.05:
        start_ms = _joining_ms(rng, config, city)
        tablet = new_device(rng, mobile=True) if rng.random() < 0.5 else None
        referrer_id = _referrer(rng, partners)
        return [
            (start_ms + int(rng.random() ** 3 * 3 * DAY_MS), Joining(referrer_id, tablet, None, rng.random() < 0.8))
            for _ in range(size)
        ]
    return [
        (_joining_ms(rng, config, city), Joining(_referrer(rng, partners), None, None, rng.random() < 0.75))
        if rng.random() < 0.08
        else (None, None)
        for _ in range(size)
    ]


def _joining_ms(rng: Random, config: SimulationConfig, city: City) -> int:
    day = int(rng.random() * (config.days + config.history_days))
    hour = rng.gauss(16, 3) - city.utc_offset_minutes / 60
    return config.begin_ms + day * DAY_MS + int(hour * _HOUR_MS) % DAY_MS


def _referrer(rng: Random, partners: tuple[str, ...]) -> str | None:
    luck = rng.random()
    if luck < 0.5:
        return None
    return partners[int(rng.random() ** 2.5 * len(partners))] if luck < 0.85 else token(rng, "r-")
