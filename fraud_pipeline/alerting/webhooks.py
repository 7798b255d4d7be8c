"""Webhooks: notifications by HTTP POST, signed, tried again for a bounded time.

`apache_beam.io.requestresponse` would do the calling, but it raises where a request fails (the bundle with it, for
ever), waits without bound for a request that hangs, and names the request in its errors.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import urlsplit

import httpx
import msgspec
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from fraud_pipeline.alerting.notifications import head
from fraud_pipeline.alerting.signing import HEADER, sign

# It logs every URL, and the URL of a chat's webhook is its secret.
logging.getLogger("httpx").setLevel(logging.WARNING)

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class Policy(msgspec.Struct, frozen=True):
    """How hard a delivery is tried.

    Attributes:
      timeout_seconds: for one request, from the connection to the answer's status.
      attempts: requests for a notification, at most.
      budget_seconds: for all that is handed over together: then, at the latest, each is delivered or has failed.
      backoff_seconds, backoff_max_seconds: wait before the second request, doubled before each further one, up to so
        much, and then shortened by up to a half at random. Where the receiver says `Retry-After`, that counts.
      concurrency: requests at a time.
      open_after, open_seconds: after so many failed deliveries in a row none is tried for so long, then one.
    """

    timeout_seconds: float = 5.0
    attempts: int = 6
    budget_seconds: float = 20.0
    backoff_seconds: float = 0.5
    backoff_max_seconds: float = 8.0
    concurrency: int = 8
    open_after: int = 3
    open_seconds: float = 60.0


class Failure(msgspec.Struct, frozen=True):
    """Why a notification didn't arrive. Neither URL nor content is in it."""

    why: str
    attempts: int


class Breaker:
    """Says whether a receiver that has failed again and again is to be tried."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._failures = 0
        self._retry_at = 0.0

    def refusal(self, now: float) -> str | None:
        """Why nothing is to be sent now; None where something is."""
        with self._lock:
            if self._failures < self._policy.open_after:
                return None
            if now < self._retry_at:
                left = self._retry_at - now
                return f"{self._failures} deliveries failed in a row; none is tried for {left:.0f} s more"
            # This one tries; the others wait for what becomes of it.
            self._retry_at = now + self._policy.open_seconds
            return None

    def note(self, arrived: bool, now: float) -> None:
        """Takes note of a delivery."""
        with self._lock:
            if arrived:
                self._failures = 0
                return
            self._failures += 1
            if self._failures >= self._policy.open_after:
                self._retry_at = now + self._policy.open_seconds


class Webhook:
    """A receiver of notifications. Thread-safe.

    Args:
      url: where to POST to. A redirect isn't followed: it counts as an answer that isn't 2xx.
      secrets: to sign with, each once; none to send unsigned.
    """

    def __init__(self, url: str, secrets: Sequence[bytes] = (), policy: Policy = Policy()) -> None:
        self._url = url
        self._secrets = tuple(secrets)
        self._policy = policy
        self._breaker = Breaker(policy)

    def send(self, bodies: Sequence[bytes]) -> list[Failure | None]:
        """Sends notifications, several at a time, those of one alert one after another. Blocks as long as the policy's
        budget, at most.

        Returns:
          For each why it failed, or None where it arrived.
        """
        return asyncio.run(self._send(bodies))

    async def _send(self, bodies: Sequence[bytes]) -> list[Failure | None]:
        results: list[Failure | None] = [None] * len(bodies)
        deadline = time.monotonic() + self._policy.budget_seconds
        by_alert: dict[str, list[int]] = defaultdict(list)
        for i, body in enumerate(bodies):
            by_alert[head(body).alert_id].append(i)
        limit = asyncio.Semaphore(self._policy.concurrency)

        async with httpx.AsyncClient(verify=_tls(), timeout=None, follow_redirects=False) as client:

            async def in_order(indices: list[int]) -> None:
                async with limit:
                    for i in indices:
                        results[i] = await self._deliver(client, bodies[i], deadline)

            await asyncio.gather(*(in_order(indices) for indices in by_alert.values()))
        return results

    async def _deliver(self, client: httpx.AsyncClient, body: bytes, deadline: float) -> Failure | None:
        refusal = self._breaker.refusal(time.monotonic())
        if refusal is not None:
            return Failure(refusal, 0)
        failure = await self._try_until(client, body, deadline)
        self._breaker.note(failure is None, time.monotonic())
        return failure

    async def _try_until(self, client: httpx.AsyncClient, body: bytes, deadline: float) -> Failure | None:
        policy = self._policy
        why = "there was no time left to try"
        for attempt in range(1, policy.attempts + 1):
            left = deadline - time.monotonic()
            if left <= 0:
                return Failure(why, attempt - 1)
            timeout = min(policy.timeout_seconds, left)
            wait = min(policy.backoff_max_seconds, policy.backoff_seconds * 2 ** (attempt - 1)) * random.uniform(0.5, 1)
            try:
                async with asyncio.timeout(timeout):
                    status, retry_after = await self._post(client, body)
            except TimeoutError:
                if timeout == policy.timeout_seconds:
                    why = f"no answer within {timeout:.1f} s"
            except httpx.TransportError as error:
                why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            else:
                if 200 <= status < 300:
                    return None
                why = f"HTTP {status}"
                if status not in _RETRIED:
                    return Failure(why, attempt)
                wait = _seconds(retry_after, wait)
            if attempt == policy.attempts:
                break
            if time.monotonic() + wait >= deadline:
                return Failure(f"{why}; the next try, in {wait:.1f} s, would be too late", attempt)
            await asyncio.sleep(wait)
        return Failure(why, policy.attempts)

    async def _post(self, client: httpx.AsyncClient, body: bytes) -> tuple[int, str | None]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "fraud-pipeline",
            "Idempotency-Key": head(body).idempotency_key,
        }
        if self._secrets:
            headers[HEADER] = sign(self._secrets, body, time.time())
        async with client.stream("POST", self._url, content=body, headers=headers) as response:
            return response.status_code, response.headers.get("Retry-After")


def _seconds(retry_after: str | None, otherwise: float) -> float:
    """How long `Retry-After` asks to wait, in seconds or as a date."""
    if retry_after is None:
        return otherwise
    try:
        return Retry().parse_retry_after(retry_after)
    except InvalidHeader:
        return otherwise


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def label(url: str) -> str:
    """A webhook's URL without what may be secret in it: its host, and a hash that tells it from others there."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}#{blake2b(url.encode(), digest_size=4).hexdigest()}"
