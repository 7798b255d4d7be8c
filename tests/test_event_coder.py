"""Bytes between steps: read back whole, the same for ever, found by type hint."""

from __future__ import annotations

import apache_beam as beam
import msgspec
import pytest
from apache_beam import coders
from apache_beam.coders.typecoders import registry
from apache_beam.typehints import Tuple
from hypothesis import given
from hypothesis import strategies as st
from messages import CLAIM, LABEL, LOGIN, PAYMENT, RECEIVED_MS, SIGNUP, with_fields

from transforms.event_coder import DeadLetterCoder, EnvelopeCoder, IntakeCountCoder, MessageCoder
from transforms.events import DeadLetter, Envelope, IntakeCount, Message
from transforms.parsing import decode_accepted, parse

PAYLOAD = b'{"event_id":"e","event_type":"login","user_id":"u","event_time":1772368496789,"outcome":"failure"}'
ENVELOPE = Envelope(decode_accepted(PAYLOAD), PAYLOAD, RECEIVED_MS, "f:é", 2**64 - 1)
DEAD_LETTER = DeadLetter("NOT_JSON", None, "broken", b"\x00\xff", RECEIVED_MS, "f:2", None, "u-1", 1_772_368_496_789)
GOLDEN = {
    EnvelopeCoder: (ENVELOPE, "010000019ca9651520ffffffffffffffff0004663ac3a9" + PAYLOAD.hex()),
    MessageCoder: (Message(b"\x00\xff", RECEIVED_MS, "f:1"), "0193c40200ffcf0000019ca9651520a3663a31"),
    DeadLetterCoder: (
        DEAD_LETTER,
        "0199a84e4f545f4a534f4ec0a662726f6b656ec40200ffcf0000019ca9651520a3663a32c0a3752d31cf0000019ca9650895",
    ),
    IntakeCountCoder: (IntakeCount("c-1", RECEIVED_MS, 3), "0193a3632d31cf0000019ca965152003"),
}

ms = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
maybe = st.none() | texts


@pytest.mark.parametrize("coder", GOLDEN, ids=lambda coder: coder.__name__)
def test_golden_bytes(coder: type[coders.Coder]) -> None:
    """Running jobs hold these bytes: a new format needs a new version, and the old one must still be read."""
    value, encoded = GOLDEN[coder]

    assert coder().encode(value).hex() == encoded
    assert coder().decode(bytes.fromhex(encoded)) == value


@given(
    st.lists(st.none() | st.booleans() | st.floats(allow_nan=False) | ms, max_size=40).map(tuple), st.booleans(), texts
)
def test_an_envelope_comes_back_with_what_is_known_of_its_entities(
    features: tuple[object, ...], approximate: bool, source: str
) -> None:
    envelope = msgspec.structs.replace(
        ENVELOPE, entity_features=features, entity_approximate=approximate, source=source
    )
    decoded = EnvelopeCoder().decode(EnvelopeCoder().encode(envelope))

    assert decoded == envelope
    assert [type(value) for value in decoded.entity_features] == [type(value) for value in features]


def test_golden_bytes_of_an_envelope_with_entity_features() -> None:
    envelope = msgspec.structs.replace(ENVELOPE, entity_features=(3, None, 0.5, True), entity_approximate=True)
    encoded = "020000019ca9651520ffffffffffffffff00040000000d01663ac3a99403c0cb3fe0000000000000c3" + PAYLOAD.hex()

    assert EnvelopeCoder().encode(envelope).hex() == encoded
    assert EnvelopeCoder().decode(bytes.fromhex(encoded)) == envelope


@pytest.mark.parametrize("event", [LOGIN, PAYMENT, SIGNUP, CLAIM, LABEL])
def test_an_envelope_comes_back_whole(event: dict[str, object]) -> None:
    envelope = parse(Message(with_fields(event, user_id="Jürgen", extra=[1]), RECEIVED_MS, "topic"))
    assert isinstance(envelope, Envelope)

    assert EnvelopeCoder().decode(EnvelopeCoder().encode(envelope)) == envelope


@given(st.binary(), ms, texts)
def test_any_message_comes_back_whole(payload: bytes, received_ms: int, source: str) -> None:
    message = Message(payload, received_ms, source)

    assert MessageCoder().decode(MessageCoder().encode(message)) == message


@given(st.builds(DeadLetter, texts, maybe, texts, st.binary(), ms, texts, maybe, maybe, st.none() | ms))
def test_any_dead_letter_comes_back_whole(dead_letter: DeadLetter) -> None:
    assert DeadLetterCoder().decode(DeadLetterCoder().encode(dead_letter)) == dead_letter


@pytest.mark.parametrize("coder", GOLDEN, ids=lambda coder: coder.__name__)
@pytest.mark.parametrize("encoded", [b"", b"\x03", b"\x80\x04\x95"])
def test_bytes_of_another_version_are_refused_by_name(coder: type[coders.Coder], encoded: bytes) -> None:
    with pytest.raises(ValueError, match=r"encoded as version .* can't read"):
        coder().decode(encoded)


def test_a_source_that_does_not_fit_is_refused() -> None:
    envelope = Envelope(ENVELOPE.event, ENVELOPE.payload, 1, "s" * 65_536, 2)

    with pytest.raises(ValueError, match="source has 65536 bytes"):
        EnvelopeCoder().encode(envelope)


@pytest.mark.parametrize("coder", GOLDEN, ids=lambda coder: coder.__name__)
def test_type_hints_find_the_coder(coder: type[coders.Coder]) -> None:
    struct_type = type(GOLDEN[coder][0])

    assert registry.get_coder(struct_type) == coder()
    assert registry.get_coder(Tuple[str, struct_type]) == coders.TupleCoder([coders.StrUtf8Coder(), coder()])
    assert coder().is_deterministic()


def test_keyed_envelopes_travel_by_these_coders() -> None:
    with beam.Pipeline(runner="BundleBasedDirectRunner") as pipeline:
        keyed = pipeline | beam.Create([("u", ENVELOPE)]).with_output_types(tuple[str, Envelope])
        grouped = keyed | beam.GroupByKey()
        (grouped | beam.MapTuple(lambda user_id, envelopes: (user_id, list(envelopes))) | beam.Map(_check_grouped))


def _check_grouped(grouped: tuple[str, list[Envelope]]) -> None:
    assert grouped == ("u", [ENVELOPE])
