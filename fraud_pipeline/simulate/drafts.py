"""Events before they are sent: typed, with their client's way of writing times and the attack behind them."""

from __future__ import annotations

from random import Random

import msgspec

from fraud_pipeline.simulate.network import Device, Origin, token
from transforms.events import Event, Login, Payment

LUCK_BITS = 120


class Attack(msgspec.Struct, frozen=True):
    """One attack: what its events are labelled with."""

    attack_id: str
    scenario: str
    intensity: float


class Draft(msgspec.Struct, frozen=True):
    """An event on the client's side.

    Attributes:
      time_style: how its client writes times, as in `network`.
      utc_offset_minutes: of the client's clock.
      luck: `LUCK_BITS` random bits that decide what happens to it on its way. Being drawn with the event,
        they leave the rest of the traffic as it is when attacks are added or taken away.
      attack: the attack that it is part of, or None.
    """

    event: Event
    time_style: int
    utc_offset_minutes: int
    luck: int
    attack: Attack | None = None


def login(
    rng: Random,
    user_id: str,
    time_ms: int,
    device: Device,
    origin: Origin,
    *,
    success: bool,
    attack: Attack | None = None,
) -> Draft:
    """A login attempt."""
    shares_place = device.shares_place
    return Draft(
        Login(
            event_id=token(rng, "e-"),
            user_id=user_id,
            event_time_ms=time_ms,
            outcome="success" if success else "failure",
            ip=origin.ip,
            device_id=device.device_id,
            user_agent=device.user_agent,
            country=origin.country,
            latitude=origin.latitude if shares_place else None,
            longitude=origin.longitude if shares_place else None,
        ),
        device.time_style,
        origin.utc_offset_minutes,
        rng.getrandbits(LUCK_BITS),
        attack,
    )


def payment(
    rng: Random,
    user_id: str,
    time_ms: int,
    device: Device,
    origin: Origin,
    *,
    amount_minor: int,
    currency: str,
    merchant_id: str | None = None,
    payee_id: str | None = None,
    card_id: str | None = None,
    expected_amount_minor: int | None = None,
    attack: Attack | None = None,
) -> Draft:
    """A payment, to a merchant by card or to a payee."""
    shares_place = device.shares_place
    return Draft(
        Payment(
            event_id=token(rng, "e-"),
            user_id=user_id,
            event_time_ms=time_ms,
            amount_minor=amount_minor,
            currency=currency,
            ip=origin.ip,
            device_id=device.device_id,
            user_agent=device.user_agent,
            country=origin.country,
            latitude=origin.latitude if shares_place else None,
            longitude=origin.longitude if shares_place else None,
            merchant_id=merchant_id,
            payee_id=payee_id,
            card_id=card_id,
            expected_amount_minor=expected_amount_minor,
        ),
        device.time_style,
        origin.utc_offset_minutes,
        rng.getrandbits(LUCK_BITS),
        attack,
    )
