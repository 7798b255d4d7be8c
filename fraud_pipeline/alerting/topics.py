"""Notifications to a Pub/Sub topic: by Beam's own write on Dataflow, elsewhere by a bounded one of ours.

Beam's write outside of Dataflow waits five minutes for Pub/Sub and then fails the job: an outage of what tells people
would stop what finds fraud.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apache_beam.io.gcp.pubsub import PubsubMessage

from fraud_pipeline.alerting.notifications import SCHEMA, head
from fraud_pipeline.alerting.webhooks import Failure
from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from google.cloud.pubsub_v1 import PublisherClient

PUBLISH_SECONDS = 10.0
"""How long a publication is tried."""
_MARGIN_SECONDS = 5.0


def message(body: bytes) -> PubsubMessage:
    """A notification as a message, with attributes to filter subscriptions by and to know duplicates."""
    return PubsubMessage(body, attributes(body))


def attributes(body: bytes) -> dict[str, str]:
    """The attributes of a notification's message."""
    said = head(body)
    return {
        "alert_id": said.alert_id,
        "version": str(said.version),
        "status": said.status,
        "change": said.change,
        "action": said.action,
        "severity": said.severity,
        "schema": SCHEMA,
    }


class Topic:
    """A topic. Thread-safe.

    Args:
      path: `projects/P/topics/T`.
    """

    def __init__(self, path: str, publish_seconds: float = PUBLISH_SECONDS) -> None:
        self._path = path
        self._publish_seconds = publish_seconds

    def send(self, bodies: Sequence[bytes]) -> list[Failure | None]:
        """Publishes notifications; gives for each why that failed, or None. Blocks as long as one is tried."""
        from google.api_core.exceptions import GoogleAPIError
        from google.api_core.retry import Retry
        from google.auth.exceptions import GoogleAuthError

        try:
            client = _client()
        except GoogleAuthError as error:
            return [Failure(type(error).__name__, 0)] * len(bodies)
        retry = Retry(timeout=self._publish_seconds)
        futures = [
            client.publish(self._path, body, retry=retry, timeout=self._publish_seconds, **attributes(body))
            for body in bodies
        ]
        results: list[Failure | None] = []
        for future in futures:
            try:
                future.result(self._publish_seconds + _MARGIN_SECONDS)
                results.append(None)
            except (GoogleAPIError, GoogleAuthError, TimeoutError) as error:
                results.append(Failure(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", 1))
        return results


@functools.cache
def _client() -> PublisherClient:
    from google.cloud.pubsub_v1 import PublisherClient

    return PublisherClient()


def check_topic(path: str) -> None:
    """Looks whether a topic is there, before alerts go nowhere.

    Raises:
      UsageError: it isn't, may not be looked up, or Pub/Sub can't be reached.
    """
    from google.api_core.exceptions import GoogleAPIError, NotFound, PermissionDenied
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.pubsub_v1 import PublisherClient

    try:
        with PublisherClient() as client:
            client.get_topic(topic=path, timeout=20, retry=None)
    except NotFound:
        raise UsageError(f"{path} does not exist; run: gcloud pubsub topics create {path}") from None
    except PermissionDenied:
        # Who may publish needn't be one who may look.
        return
    except (GoogleAPIError, GoogleAuthError) as error:
        raise UsageError(f"{path} can't be looked up: {str(error).splitlines()[0]}") from error
