"""Where alerts go: `--alerts-to` read, checked, and made into what sends."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from fraud_pipeline.alerting.secrets import Place
from fraud_pipeline.alerting.topics import Topic, check_topic
from fraud_pipeline.alerting.webhooks import Failure, Policy, Webhook, label
from fraud_pipeline.errors import UsageError

PUBSUB = "pubsub:"
WEBHOOK = "webhook:"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TOPIC = re.compile(r"projects/[a-z][-a-z0-9:.]{4,61}[a-z0-9]/topics/[^/]+")


class Sender(Protocol):
    """What sends notifications, for a bounded time."""

    def send(self, bodies: list[bytes]) -> list[Failure | None]:
        """For each notification why it didn't arrive, or None where it did."""


class TopicDestination(msgspec.Struct, frozen=True):
    """A Pub/Sub topic, `projects/P/topics/T`."""

    topic: str

    @property
    def label(self) -> str:
        """What dead letters call it."""
        return PUBSUB + self.topic

    def sender(self) -> Sender:
        """What sends to it, made once a process."""
        return _topic(self)

    def new_sender(self) -> Sender:
        """Another one, which knows nothing of earlier failures."""
        return Topic(self.topic)

    def check(self) -> None:
        """Looks whether it is there.

        Raises:
          UsageError: it isn't.
        """
        check_topic(self.topic)


class WebhookDestination(msgspec.Struct, frozen=True):
    """A receiver of HTTP POSTs.

    Attributes:
      url: where; None where `place` holds it, as a chat's URL is a secret.
      secrets: where the secrets are that requests are signed with; none for unsigned ones.
    """

    url: str | None
    place: Place | None = None
    secrets: tuple[Place, ...] = ()
    policy: Policy = Policy()

    @property
    def label(self) -> str:
        """What dead letters call it: nothing secret, the same in each run."""
        return label(self.url) if self.url is not None else f"{WEBHOOK}{self.place.name if self.place else ''}"

    def sender(self) -> Sender:
        """What sends to it; made once a process, with the secrets read then.

        Raises:
          UsageError: a secret isn't there.
        """
        return _webhook(self)

    def new_sender(self) -> Sender:
        """Another one, which knows nothing of earlier failures.

        Raises:
          UsageError: a secret isn't there.
        """
        if self.url is not None:
            url = self.url
        else:
            assert self.place is not None
            url = self.place.read().decode("utf-8", "replace")
            check_url(url, f"the URL in {self.place.name}")
        return Webhook(url, [place.read() for place in self.secrets], self.policy)

    def check(self) -> None:
        """Looks whether its secrets are there.

        Raises:
          UsageError: one isn't.
        """
        self.new_sender()


Destination = TopicDestination | WebhookDestination


@functools.cache
def _topic(destination: TopicDestination) -> Sender:
    return destination.new_sender()


@functools.cache
def _webhook(destination: WebhookDestination) -> Sender:
    return destination.new_sender()


def destination(text: str, secrets: tuple[Place, ...], option: str) -> Destination:
    """A destination as it is given on the command line.

    Args:
      text: `pubsub:projects/P/topics/T`, `https://…`, or `webhook:` and where the URL is: `env:NAME` or a file.
      option: what to call it in errors.

    Raises:
      UsageError: it is none of these.
    """
    if text.startswith(PUBSUB):
        topic = text.removeprefix(PUBSUB)
        if not _TOPIC.fullmatch(topic):
            raise UsageError(f"{option} {text!r} names no topic; give pubsub:projects/PROJECT/topics/TOPIC")
        return TopicDestination(topic)
    if text.startswith(WEBHOOK):
        name = text.removeprefix(WEBHOOK)
        if not name or ("://" in name and not name.startswith("gs://")):
            raise UsageError(f"{option} webhook: names no place; give webhook:env:NAME, or webhook: and a file's path")
        return WebhookDestination(None, Place(name), secrets)
    if "://" not in text:
        raise UsageError(
            f"{option} {text!r} is no destination; give pubsub:projects/P/topics/T, https://… or webhook:…"
        )
    check_url(text, option)
    return WebhookDestination(text, None, secrets)


def check_url(url: str, what: str) -> None:
    """Refuses what is no URL to POST to, and what would go over the network in the clear.

    Args:
      what: what to call it in errors, which don't show it, as it may be a secret.

    Raises:
      UsageError: it is such a one.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{what} is no URL; give https://host/path") from error
    if parts.scheme not in ("https", "http") or not host:
        raise UsageError(f"{what} is no URL for a webhook; give https://host/path")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise UsageError(f"{what} would be sent in the clear; give https://")
    if parts.username or parts.password:
        raise UsageError(f"{what} holds a password; put the URL into a file and give webhook:PATH")


def check_destinations(destinations: Iterable[Destination], *, by_workers: bool) -> None:
    """Refuses destinations that can't be sent to.

    Args:
      by_workers: whether other machines send, as on Dataflow: then secrets must be where they can read them.

    Raises:
      UsageError: a topic or a secret isn't there, or isn't where it can be read.
    """
    for each in destinations:
        if by_workers and isinstance(each, WebhookDestination):
            if each.place is not None:
                each.place.check_reachable_by_workers("--alerts-to webhook:")
            for secret in each.secrets:
                secret.check_reachable_by_workers("--alerts-secret")
        elif not by_workers:
            each.check()
