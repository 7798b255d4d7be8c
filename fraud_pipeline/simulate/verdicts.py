"""What later turns out: chargebacks, analysts' and customers' reports, as `label` events days after."""

from __future__ import annotations

from random import Random
from typing import Literal

from fraud_pipeline.simulate.config import DAY_MS
from fraud_pipeline.simulate.drafts import LUCK_BITS, Draft
from fraud_pipeline.simulate.network import UTC_Z, token
from transforms.events import Label, Payment

_HOUR_MS = 3_600_000


def verdict(rng: Random, draft: Draft) -> Draft | None:
    """The label event that an event brings about later, or None: most of what is honest stays unlabelled.

    Args:
      rng: any; it is seeded by the event's luck.
      draft: a login or payment.
    """
    event = draft.event
    rng.seed(1 << LUCK_BITS | draft.luck)
    luck = rng.random()
    source: Literal["chargeback", "analyst", "customer"]
    if draft.attack is None:
        if not isinstance(event, Payment) or luck > 0.003:
            return None
        source, delay_ms = "analyst", rng.uniform(0.5, 48) * _HOUR_MS
    elif isinstance(event, Payment) and luck < 0.6:
        source, delay_ms = "chargeback", min(45.0, rng.lognormvariate(2.0, 0.5)) * DAY_MS
    elif luck < 0.75:
        source, delay_ms = "customer", rng.uniform(0.2, 5) * DAY_MS
    elif luck < 0.9:
        source, delay_ms = "analyst", rng.uniform(0.5, 48) * _HOUR_MS
    else:
        return None
    label = Label(
        event_id=token(rng, "e-"),
        user_id=event.user_id,
        event_time_ms=event.event_time_ms + int(delay_ms),
        target_event_id=event.event_id,
        target_event_time_ms=event.event_time_ms,
        is_fraud=draft.attack is not None,
        source=source,
        merchant_id=event.merchant_id if isinstance(event, Payment) else None,
    )
    return Draft(label, UTC_Z, 0, rng.getrandbits(LUCK_BITS))
