"""Lists of values and networks that people keep: who is denied, allowed, watched, or only to be asked about by rules.

A list is a dictionary, as a look-up must cost next to nothing for a million entries. Networks are kept by length of
prefix, one dictionary for each that occurs: a look-up shifts the address and asks each of them, so its cost grows with
the number of different lengths and not with that of the networks.
"""

from __future__ import annotations

import hashlib
import pickle
import socket
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_network
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from transforms.records import FiredRule

ListKind: TypeAlias = Literal["allow", "deny", "watch", "reference"]
LIST_KINDS: tuple[str, ...] = get_args(ListKind)

ACTIONS: Mapping[str, str] = {"deny": "block", "allow": "allow", "watch": "review"}
"""What being on a list of a kind demands; a `reference` demands nothing."""

FIRED_PREFIX = "list."
"""A list that an event is on stands among its fired rules as `list.<name>`, which no rule can be called."""

NEVER_MS = 1 << 62
"""Expiry of an entry that has none."""

_EFFECTS = {"deny": ("critical", 1.0), "watch": ("medium", 0.5), "allow": ("low", 0.0)}


class Entry(NamedTuple):
    """What is known of an entry: when it ends to count, in event time (epoch ms), and who put it there.

    Entries with the same of both share one, which is why a list of a million takes little more than its values.
    """

    expires_ms: int
    source: str


class ListHead(msgspec.Struct, frozen=True):
    """What a list is.

    Attributes:
      field: the event's field, or declared attribute, that its entries are values of.
      mode: `shadow` for a list on trial: what it would do is recorded and has no effect.
    """

    name: str
    kind: ListKind
    field: str
    mode: Literal["live", "shadow"] = "live"
    description: str = ""


class ValueList:
    """A list with its entries. Made by `transforms.list_file`; immutable afterwards.

    Args:
      entries: values with what is known of them; a value that comes twice counts until the later of its expiries.
        Where the field is `ip` they are addresses or networks in CIDR form.

    Raises:
      ValueError: an entry of a list of addresses is neither address nor network.
    """

    def __init__(self, head: ListHead, entries: Iterable[tuple[str, Entry]]) -> None:
        self.head = head
        self._values: dict[str, Entry] = {}
        by_prefix: dict[tuple[int, int], dict[int, Entry]] = {}
        shared: dict[Entry, Entry] = {}
        of_networks = head.field == "ip"
        for value, entry in entries:
            entry = shared.setdefault(entry, entry)
            if of_networks:
                bits, shift, number = parse_network(value)
                _keep(by_prefix.setdefault((bits, shift), {}), number, entry)
            else:
                _keep(self._values, value, entry)
        self._networks = {
            bits: [(shift, by_prefix[b, shift]) for b, shift in sorted(by_prefix) if b == bits] for bits in (32, 128)
        }
        self.size = len(self._values) + sum(len(d) for d in by_prefix.values())
        self.version = self._hash(by_prefix)
        severity, weight = _EFFECTS.get(head.kind, ("low", 0.0))
        reason = f"{head.kind}_list_{head.name}".upper()
        action = ACTIONS.get(head.kind)
        self.fired = FiredRule(FIRED_PREFIX + head.name, reason, severity, weight, (head.field,), action)

    def find(self, value: str, at_ms: int) -> Entry | None:
        """The entry that a value is on the list by at a time (event time, epoch ms), if it is."""
        if self.head.field == "ip":
            address = parse_address(value)
            return None if address is None else self.find_address(address, at_ms)
        entry = self._values.get(value)
        return entry if entry is not None and at_ms < entry.expires_ms else None

    def find_address(self, address: tuple[int, int], at_ms: int) -> Entry | None:
        """As `find`, for an address as `parse_address` gives it; the most specific network first."""
        bits, number = address
        for shift, networks in self._networks[bits]:
            entry = networks.get(number >> shift)
            if entry is not None and at_ms < entry.expires_ms:
                return entry
        return None

    def _hash(self, by_prefix: Mapping[tuple[int, int], Mapping[int, Entry]]) -> str:
        # A sum, as sorting a million entries would hold up the threads that score. Sources and descriptions decide
        # nothing and have no part.
        total = 0
        tables: list[tuple[str, Mapping[Any, Entry]]] = [("", self._values)]
        tables += [(f"{bits}>>{shift} ", table) for (bits, shift), table in by_prefix.items()]
        for prefix, table in tables:
            for value, entry in table.items():
                content = f"{prefix}{value}\0{entry.expires_ms}".encode("utf-8", "surrogatepass")
                total += int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little")
        head = self.head
        content = f"{head.name}\0{head.kind}\0{head.field}\0{head.mode}\0{total % (1 << 128)}".encode()
        return hashlib.sha256(content).hexdigest()[:12]


def _keep(table: dict[Any, Entry], value: Any, entry: Entry) -> None:
    before = table.get(value)
    if before is None or before.expires_ms < entry.expires_ms:
        table[value] = entry


class ListSet:
    """All lists in use. Pickling carries them whole; where they are unpickled they are built once a process.

    Attributes:
      version: content hash of all that decides; empty without lists.
    """

    def __init__(self, lists: Iterable[ValueList] = ()) -> None:
        self.lists = tuple(sorted(lists, key=lambda one: one.head.name))
        versions = "".join(one.version for one in self.lists)
        self.version = hashlib.sha256(versions.encode()).hexdigest()[:12] if self.lists else ""
        self._by_field: dict[str, list[ValueList]] = {}
        for one in self.lists:
            self._by_field.setdefault(one.head.field, []).append(one)
        self._fields = tuple(self._by_field.items())
        self._pickled: bytes | None = None

    @property
    def size(self) -> int:
        """Entries of all lists."""
        return sum(one.size for one in self.lists)

    def names(self) -> tuple[str, ...]:
        """Names of the lists."""
        return tuple(one.head.name for one in self.lists)

    def on(self, get: Callable[[str], Any], at_ms: int) -> list[ValueList]:
        """The lists that an event is on.

        Args:
          get: gives the event's value of a field, or None.
          at_ms: time of the event, epoch ms: an entry counts until its expiry.
        """
        found: list[ValueList] = []
        for field, lists in self._fields:
            value = get(field)
            if not isinstance(value, str):
                continue
            if field == "ip":
                address = parse_address(value)
                if address is not None:
                    found += [one for one in lists if one.find_address(address, at_ms) is not None]
            else:
                found += [one for one in lists if one.find(value, at_ms) is not None]
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        if self._pickled is None:
            self._pickled = pickle.dumps(self.lists)
        return _unpickle, (self.version, self._pickled)


NO_LISTS = ListSet()


@lru_cache(maxsize=8)
def _unpickle(version: str, pickled: bytes) -> ListSet:
    return ListSet(pickle.loads(pickled))


def parse_address(text: str) -> tuple[int, int] | None:
    """An IP address as its bits (32 or 128) and number, or None if it is none; IPv4 within IPv6 counts as IPv4."""
    try:
        if ":" not in text:
            return 32, int.from_bytes(socket.inet_pton(socket.AF_INET, text))
        number = int.from_bytes(socket.inet_pton(socket.AF_INET6, text))
    except (OSError, UnicodeEncodeError, ValueError):
        return None
    return (32, number & 0xFFFFFFFF) if number >> 32 == 0xFFFF else (128, number)


def parse_network(text: str) -> tuple[int, int, int]:
    """A network or address as its bits, the bits that vary within it, and the number of those that don't.

    Raises:
      ValueError: the text is neither; the message says why and gives the fix.
    """
    address = parse_address(text)
    if address is not None:
        return address[0], 0, address[1]
    try:
        network = ip_network(text)
    except ValueError as error:
        fix = "write an address such as 192.0.2.7 or a network such as 192.0.2.0/24 or 2001:db8::/32"
        if "host bits" in str(error):
            fix = f"write {ip_network(text, strict=False)}"
        raise ValueError(f"{text!r} is neither an IP address nor a network; {fix}") from None
    shift = network.max_prefixlen - network.prefixlen
    return network.max_prefixlen, shift, int(network.network_address) >> shift
