"""What later turns out: chargebacks, analysts' and customers' reports, as `label` events days after."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Literal

from fraud_pipeline.simulate.config import DAY_MS
from fraud_pipeline.simulate.drafts import LUCK_BITS, Draft
from fraud_pipeline.simulate.network import UTC_Z, token
from transforms.events import Event, Label, Payment

_HOUR_MS = 3_600_000


def verdicts(rng: Random, draft: Draft) -> Iterator[Draft]:
    """The label events that an event brings about later: none for most of what is honest.

    Honest customers dispute a payment too, now and then: goods that never came, a shop's name that they don't
    recognize. An analyst takes some of these disputes back.

    Args:
      rng: any; it is seeded by the event's luck.
      draft: any event but a label.
    """
    event = draft.event
    rng.seed(1 << LUCK_BITS | draft.luck)
    luck = rng.random()
    if draft.disputed_after_ms is not None:
        yield _label(rng, event, draft.disputed_after_ms, "chargeback", is_fraud=True)
    elif draft.attack is None:
        if not isinstance(event, Payment) or luck > 0.0045:
            return
        if luck < 0.003:
            yield _label(rng, event, rng.uniform(0.5, 48) * _HOUR_MS, "analyst", is_fraud=False)
            return
        delay_ms = _chargeback_ms(rng)
        yield _label(rng, event, delay_ms, "chargeback", is_fraud=True)
        if rng.random() < 0.4:
            yield _label(rng, event, delay_ms + rng.uniform(2, 72) * _HOUR_MS, "analyst", is_fraud=False)
    elif isinstance(event, Payment) and luck < 0.6:
        yield _label(rng, event, _chargeback_ms(rng), "chargeback", is_fraud=True)
    elif luck < 0.75:
        yield _label(rng, event, rng.uniform(0.2, 5) * DAY_MS, "customer", is_fraud=True)
    elif luck < 0.9:
        yield _label(rng, event, rng.uniform(0.5, 48) * _HOUR_MS, "analyst", is_fraud=True)


def _chargeback_ms(rng: Random) -> float:
    return min(45.0, rng.lognormvariate(2.0, 0.5)) * DAY_MS


def _label(
    rng: Random, event: Event, delay_ms: float, source: Literal["chargeback", "analyst", "customer"], *, is_fraud: bool
) -> Draft:
    label = Label(
        event_id=token(rng, "e-"),
        user_id=event.user_id,
        event_time_ms=event.event_time_ms + int(delay_ms),
        target_event_id=event.event_id,
        target_event_time_ms=event.event_time_ms,
        is_fraud=is_fraud,
        source=source,
        merchant_id=getattr(event, "merchant_id", None),
        card_id=getattr(event, "card_id", None),
        device_id=event.device_id,
        ip=event.ip,
        payee_id=getattr(event, "payee_id", None),
    )
    return Draft(label, UTC_Z, 0, rng.getrandbits(LUCK_BITS))
