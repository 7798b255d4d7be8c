"""Messages as lines: every payload comes back byte for byte."""

from base64 import b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transforms.events import Message
from transforms.message_lines import plain_or_wrapped_line, timed_line, unwrap_line, wrap_line

times = st.integers(0, 253_402_300_799_999)


@given(st.binary(), times, st.text(st.characters(exclude_categories=["Cs"])))
def test_a_wrapped_message_comes_back_whole(payload: bytes, received_ms: int, source: str) -> None:
    line = wrap_line(Message(payload, received_ms, source))

    assert b"\n" not in line
    assert unwrap_line(line, 5, "elsewhere") == Message(payload, received_ms, source)


@given(st.binary())
@example(b"")
@example(b"\n")
@example(b'{"a": 1}\r')
@example(b'{"payload_base64": ""}')
@example(b'{"payload": "x"}')
@example(wrap_line(Message(b"nested", 1, "s")))
def test_a_payload_alone_comes_back_whole(payload: bytes) -> None:
    line = plain_or_wrapped_line(payload)

    assert line
    assert line.splitlines() == [line.strip()]
    assert unwrap_line(line, 5, "f:1") == Message(payload, 5, "f:1")


def test_an_ordinary_event_stays_readable() -> None:
    payload = '{"event_id": "é1"}'.encode()

    assert plain_or_wrapped_line(payload) == payload


@pytest.mark.parametrize(
    "line",
    [
        b'{"payload_base64": "not base64"}',
        b'{"payload_base64": "aGk=", "other": 1}',
        b'{"payload_base64": "aGk=", "payload": "hi"}',
        b'{"payload": "hi", "other": 1}',
        b'{"payload": {"event_id": "e1"}}',
        b'{"payload": "\\ud800"}',
        b'{"received_ms": 5, "source": "payload"}',
        b'{"payload_base64": 3}',
        b'{"payload_base64": "aGk=", "received_ms": "soon"}',
        b'{"payload_base64": "aGk=", "received_ms": 253402300800000}',
        b'{"payload_base64": "aGk="',
        b'{"payload_base64": "a\xff"}',
        b'{"x":' + b"[" * 100_000 + b'"payload_base64"',
    ],
)
def test_what_is_not_exactly_a_wrapped_message_is_a_payload_itself(line: bytes) -> None:
    assert unwrap_line(line, 7, "f:2") == Message(line, 7, "f:2")


def test_a_wrapped_line_may_leave_time_and_source_to_the_reader() -> None:
    line = b'{"payload_base64": "' + b64encode(b"hi") + b'"}'

    assert unwrap_line(line, 7, "f:3") == Message(b"hi", 7, "f:3")


@given(st.binary(), times)
@example('{"event_id": "é1"}\n'.encode(), 5)
def test_a_timed_line_leaves_the_source_to_the_reader(payload: bytes, received_ms: int) -> None:
    assert unwrap_line(timed_line(payload, received_ms), 5, "f:4") == Message(payload, received_ms, "f:4")


def test_text_stays_readable_when_wrapped_and_the_rest_is_base64() -> None:
    assert timed_line('{"id": "é"}'.encode(), 7) == '{"received_ms":7,"payload":"{\\"id\\": \\"é\\"}"}'.encode()
    assert timed_line(b"\xff", 7) == b'{"received_ms":7,"payload_base64":"/w=="}'


def test_without_a_time_a_line_counts_as_received_now() -> None:
    first, second = unwrap_line(b"{}", None, "f"), unwrap_line(b"{}", None, "f")

    assert 1_700_000_000_000 < first.received_ms <= second.received_ms
