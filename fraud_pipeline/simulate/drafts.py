"""Events before they are sent: typed, with their client's way of writing times and the attack behind them."""

from __future__ import annotations

from random import Random

import msgspec

from fraud_pipeline.simulate.network import Device, Origin, token
from transforms.events import Attributes, Claim, Event, Login, Payment, Signup

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
      disputed_after_ms: when its payer disputes it, whatever else happens, as time after it; None mostly.
    """

    event: Event
    time_style: int
    utc_offset_minutes: int
    luck: int
    attack: Attack | None = None
    disputed_after_ms: int | None = None


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
    attributes: Attributes | None = None,
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
            attributes=attributes,
        ),
        device.time_style,
        origin.utc_offset_minutes,
        rng.getrandbits(LUCK_BITS),
        attack,
    )


def signup(
    rng: Random,
    user_id: str,
    time_ms: int,
    device: Device,
    origin: Origin,
    *,
    referrer_id: str | None,
    attack: Attack | None = None,
) -> Draft:
    """An account is made."""
    shares_place = device.shares_place
    return Draft(
        Signup(
            event_id=token(rng, "e-"),
            user_id=user_id,
            event_time_ms=time_ms,
            ip=origin.ip,
            device_id=device.device_id,
            user_agent=device.user_agent,
            country=origin.country,
            latitude=origin.latitude if shares_place else None,
            longitude=origin.longitude if shares_place else None,
            referrer_id=referrer_id,
        ),
        device.time_style,
        origin.utc_offset_minutes,
        rng.getrandbits(LUCK_BITS),
        attack,
    )


def claim(
    rng: Random,
    user_id: str,
    time_ms: int,
    device: Device,
    origin: Origin,
    *,
    promotion_id: str,
    attack: Attack | None = None,
) -> Draft:
    """A promotion is claimed."""
    shares_place = device.shares_place
    return Draft(
        Claim(
            event_id=token(rng, "e-"),
            user_id=user_id,
            event_time_ms=time_ms,
            promotion_id=promotion_id,
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


def with_attributes(draft: Draft, attributes: Attributes) -> Draft:
    """The draft of a login or payment whose event has these attributes besides its own."""
    event = draft.event
    if not isinstance(event, Login | Payment):
        return draft
    merged = {**(event.attributes or {}), **attributes}
    return msgspec.structs.replace(draft, event=msgspec.structs.replace(event, attributes=merged))
