"""Signatures of webhooks: `X-Signature: t=<epoch seconds>,v1=<hex>`, HMAC-SHA256 of `<t>.<body>`.

The scheme is that of Stripe's webhooks (https://docs.stripe.com/webhooks#verify-manually), so that receivers find code
for it. Each secret gives a `v1`, so that secrets can be changed: give both while receivers change over.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

HEADER = "X-Signature"
TOLERANCE_SECONDS = 300
"""How old, or how far ahead, a signature may be for a receiver."""


def sign(secrets: Sequence[bytes], body: bytes, now: float) -> str:
    """The header's value.

    Args:
      now: epoch seconds.
    """
    at = int(now)
    return ",".join([f"t={at}", *(f"v1={_digest(secret, body, at)}" for secret in secrets)])


def verify(secret: bytes, body: bytes, header: str, now: float, tolerance_seconds: float = TOLERANCE_SECONDS) -> bool:
    """Whether a request is ours: one of its signatures is of this secret, and it isn't old, as a replayed one is.

    Args:
      body: the request's, byte for byte as received.
      header: the value of `X-Signature`.
      now: epoch seconds.
    """
    parts = [part.partition("=")[::2] for part in header.split(",")]
    times = [value for name, value in parts if name == "t"]
    if len(times) != 1 or not times[0].isascii() or not times[0].isdigit():
        return False
    at = int(times[0])
    if abs(now - at) > tolerance_seconds:
        return False
    expected = _digest(secret, body, at).encode()
    return any(hmac.compare_digest(expected, value.encode()) for name, value in parts if name == "v1")


def _digest(secret: bytes, body: bytes, at: int) -> str:
    return hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
