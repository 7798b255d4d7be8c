"""Which entity an event belongs to, and the fields that its features look at."""

from __future__ import annotations

import operator
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import mmh3

from transforms.entities import Entity
from transforms.events import Claim, Event, Label, Login, Payment, Signup

LOGIN_FAILURE, LOGIN_SUCCESS, PAYMENT, SIGNUP, CLAIM = range(5)
"""Codes of kinds, positions in `transforms.entities.KINDS`."""

FED = 8
"""Added to the code of an event in the second role: it feeds the entity, and doesn't get its features."""

_KINDS: dict[type, int] = {Payment: PAYMENT, Signup: SIGNUP, Claim: CLAIM}
_FIELDS = {
    kind: frozenset(kind.__struct_fields__) | ({"network"} if "ip" in kind.__struct_fields__ else set())
    for kind in (Login, Payment, Signup, Claim, Label)
}


@lru_cache(maxsize=1 << 16)
def hash_of(text: str) -> bytes:
    """64 bits of MurmurHash3, never zeros: the same in every process and release, unlike `hash`."""
    return mmh3.mmh3_x64_128_digest(text.encode("utf-8", "surrogatepass"))[:8].replace(_ZEROS, _NOT_ZEROS)


_ZEROS, _NOT_ZEROS = bytes(8), bytes(7) + b"\1"


def kind_of(event: Event) -> int:
    """The code of the event's kind; -1 for a label."""
    if type(event) is Login:
        return LOGIN_FAILURE if event.outcome == "failure" else LOGIN_SUCCESS
    return _KINDS.get(type(event), -1)


@lru_cache(maxsize=1 << 16)
def network_of(ip: str) -> str:
    """The network an address belongs to: the /24 of an IPv4 address (mapped into IPv6 or not), the /64 of an IPv6 one.

    Raises:
      ValueError: it is no address.
    """
    if ":" not in ip:
        return f"{ip.rpartition('.')[0]}.0/24"
    try:
        packed = socket.inet_pton(socket.AF_INET6, ip)
    except OSError:
        raise ValueError(f"ip {ip!r} is no address; only validated events have networks") from None
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        return f"{packed[12]}.{packed[13]}.{packed[14]}.0/24"
    return f"{socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8))}/64"


def _network(event: Any) -> str | None:
    return network_of(event.ip) if event.ip else None


def _attribute(name: str) -> Callable[[Any], str | None]:
    def read(event: Any) -> str | None:
        attributes = event.attributes
        value = attributes.get(name) if attributes else None
        return None if value is None or value == "" else str(value)

    return read


class FieldReader:
    """Reads a field, `network` or `attributes.<name>` from an event of any type, as a text; None where it has none.

    Of several fields the first one that is there counts.
    """

    def __init__(self, fields: Iterable[str]) -> None:
        readers: dict[type, tuple[Callable[[Any], Any], ...]] = {}
        for kind, known in _FIELDS.items():
            found: list[Callable[[Any], Any]] = []
            for field in fields:
                if field == "network" and field in known:
                    found.append(_network)
                elif field.startswith("attributes.") and "attributes" in known:
                    found.append(_attribute(field.removeprefix("attributes.")))
                elif field in known and field != "network":
                    found.append(operator.attrgetter(field))
            readers[kind] = tuple(found)
        self._readers = readers

    def __call__(self, event: Event) -> str | None:
        for read in self._readers[type(event)]:
            value = read(event)
            if value:
                return str(value)
        return None


class EntityKeys:
    """The entities of one declaration that an event belongs to."""

    def __init__(self, entity: Entity) -> None:
        self._events = frozenset(entity.events)
        self._own = FieldReader(entity.keys)
        self._fed = FieldReader([entity.fed_by]) if entity.fed_by else None
        self._fed_kinds = frozenset(k for f in entity.features if f.role for k in f.kinds)
        self._labels = any(f.aggregate in ("labelled_count", "fraud_count", "fraud_share") for f in entity.features)

    def own(self, event: Event) -> str | None:
        """The entity whose features the event gets, or that its verdict reaches; None where there is none."""
        kind = kind_of(event)
        if kind in self._events or (kind < 0 and self._labels):
            return self._own(event)
        return None

    def fed(self, event: Event) -> str | None:
        """The entity that the event updates beside its own; an event that names one entity twice updates it once."""
        if self._fed is None or kind_of(event) not in self._fed_kinds:
            return None
        fed = self._fed(event)
        return None if fed == self.own(event) else fed
