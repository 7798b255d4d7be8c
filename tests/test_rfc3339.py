"""RFC 3339 times: the standard library is the oracle wherever it is strict."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.rfc3339 import epoch_ms, format_ms

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
offsets = st.integers(-(24 * 60 - 1), 24 * 60 - 1).map(lambda m: timezone(timedelta(minutes=m)))


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=offsets), st.sampled_from("Tt "))
def test_equals_the_standard_library(moment: datetime, separator: str) -> None:
    assert epoch_ms(moment.isoformat(separator)) == (moment - EPOCH) // timedelta(milliseconds=1)


@given(st.integers(0, 253_402_300_799_999), st.text("0123456789", max_size=12))
def test_digits_below_the_millisecond_are_cut_off_towards_the_past(ms: int, digits: str) -> None:
    text = format_ms(ms)

    assert epoch_ms(text[:-1] + digits + "Z") == ms


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.500Z"),
        ("2017-01-01T01:59:60+02:00", "2017-01-01T00:00:00Z"),
        ("2020-02-29T12:00:60Z", "2020-02-29T12:01:00Z"),
        ("2020-01-01T00:00:00-00:00", "2020-01-01T00:00:00Z"),
        ("2020-01-01t00:00:00z", "2020-01-01T00:00:00Z"),
        ("2020-01-01T00:00:00.5Z", "2020-01-01T00:00:00.500Z"),
        ("2020-01-01T00:00:00.50+00:00", "2020-01-01T00:00:00.500Z"),
        ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
        ("2020-01-01T00:00:00.123456789+05:30", "2019-12-31T18:30:00.123Z"),
    ],
)
def test_spellings_of_the_same_instant(text: str, same_as: str) -> None:
    assert epoch_ms(text) == epoch_ms(same_as)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not RFC 3339"),
        ("2026-03-01", "not RFC 3339"),
        ("20260301T123456Z", "not RFC 3339"),
        ("2026-W10-1T00:00:00Z", "not RFC 3339"),
        ("2026-03-01T12:34Z", "not RFC 3339"),
        ("2026-03-01_12:34:56Z", "not RFC 3339"),
        ("٢٠٢٦-03-01T12:34:56Z", "not RFC 3339"),
        ("02026-03-01T12:34:56Z", "not RFC 3339"),
        ("-026-03-01T12:34:56Z", "not RFC 3339"),
        ("2026-03-01T12:34:\n6Z", "no seconds"),
        ("2026-02-30T12:34:56Z", "no day and time"),
        ("2026-13-01T12:34:56Z", "no day and time"),
        ("0000-01-01T12:34:56Z", "no day and time"),
        ("2026-03-01T24:00:00Z", "no day and time"),
        ("2026-03-01T12:34:56.7Z\0Z", "neither Z nor"),
        ("2026-03-01T12:60:00Z", "no day and time"),
        ("2026-03-01T12:34:61Z", "no seconds"),
        ("2026-03-01T12:34:5", "no seconds"),
        ("2026-03-01T12:34:", "no seconds"),
        ("2026-03-01T12:34:56", "no offset"),
        ("2026-03-01T12:34:56.789", "no offset"),
        ("2026-03-01T12:34:56.", "neither Z nor"),
        ("2026-03-01T12:34:56.Z", "neither Z nor"),
        ("2026-03-01T12:34:56,789Z", "neither Z nor"),
        ("2026-03-01T12:34:56ZZ", "neither Z nor"),
        ("2026-03-01T12:34:56Z ", "neither Z nor"),
        ("2026-03-01T12:34:56Z\n", "neither Z nor"),
        ("2026-03-01T12:34:56.7Z\n", "neither Z nor"),
        ("2026-03-01T12:34:56+0200", "neither Z nor"),
        ("2026-03-01T12:34:56+02", "neither Z nor"),
        ("2026-03-01T12:34:56+24:00", "neither Z nor"),
        ("2026-03-01T12:34:56+02:60", "neither Z nor"),
        ("2026-03-01T12:34:56 Europe/Berlin", "neither Z nor"),
    ],
)
def test_anything_else_is_refused_with_the_fault(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        epoch_ms(text)


@given(st.text())
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert format_ms(epoch_ms(text))


@given(st.integers(0, 253_402_300_799_999))
def test_formatted_times_are_read_back(ms: int) -> None:
    assert epoch_ms(format_ms(ms)) == ms
