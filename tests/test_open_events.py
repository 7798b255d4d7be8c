"""The log of open events: its bytes, and what is read back."""

from __future__ import annotations

import msgspec
import pytest

from tests.strategies import envelope_of
from transforms.events import Activity, Claim, Login, Payment, Signup
from transforms.open_events import decode_entry, encode_entry

EVENTS: tuple[Activity, ...] = (
    Login(event_id="e1", user_id="u", event_time_ms=1, outcome="failure", ip="192.0.2.1", latitude=1.5, longitude=2.5),
    Payment(event_id="e2", user_id="u", event_time_ms=2, amount_minor=10**12, currency="EUR", card_id="c"),
    Signup(event_id="e3", user_id="u", event_time_ms=3, referrer_id="r", attributes={"trip_km": 1.5, "vip": True}),
    Claim(event_id="e4", user_id="u", event_time_ms=4, promotion_id="welcome"),
)


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_an_event_is_read_back_with_what_is_known_of_its_entities(event: Activity) -> None:
    envelope = msgspec.structs.replace(
        envelope_of(event, received_ms=7), entity_features=(1, None, 2.5, True), entity_approximate=True
    )
    assert decode_entry(encode_entry(envelope)) == (event, 7, envelope.digest, (1, None, 2.5, True), True)


def test_an_entry_is_far_smaller_than_its_message() -> None:
    envelope = envelope_of(EVENTS[1])
    assert len(encode_entry(envelope)) < len(envelope.payload) / 2


def test_an_entry_of_a_release_that_knew_fewer_fields_is_read() -> None:
    number, values, *rest = msgspec.msgpack.decode(encode_entry(envelope_of(EVENTS[3])))
    older = msgspec.msgpack.encode([number, values[:-1], *rest])
    assert decode_entry(older).event == EVENTS[3]


def test_bytes_are_golden() -> None:
    entry = encode_entry(envelope_of(EVENTS[3], received_ms=9))
    assert entry == (
        b"\x96\x03\x9b\xa2e4\xa1u\x04\xa7welcome\xc0\xc0\xc0\xc0\xc0\xc0\xc0\t\xcfu`a\xd0\xfd\x87\x88\xf5\x90\xc2"
    )
