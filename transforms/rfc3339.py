"""Points in time as RFC 3339 text: strictly what the standard allows, in half a microsecond."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_DIGITS = "0123456789"
_MINUTE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):")
_FEW_DIGITS = re.compile(r"\.([0-9]{1,2})(?![0-9])")
_KEPT_MINUTES = 1 << 14
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_minutes: Final[dict[str, int]] = {}
"""Minutes seen lately, by prefix: reading one anew takes fifty times as long."""

_SECOND_MS: Final = {f"{second:02}": second * 1000 for second in range(61)}
_FRACTION_MS: Final = {f".{ms:03}": ms for ms in range(1000)}
_UTC_FRACTION_MS: Final = {fraction + zone: ms for fraction, ms in ({"": 0} | _FRACTION_MS).items() for zone in "Zz"}
_ZONE_MS: Final = {"Z": 0, "z": 0} | {
    f"{sign}{hour:02}:{minute:02}": direction * (hour * 60 + minute) * 60_000
    for sign, direction in (("+", 1), ("-", -1))
    for hour in range(24)
    for minute in range(60)
}


def epoch_ms(text: str) -> int:
    """The epoch milliseconds of a date and time with an offset, such as `2026-03-01T12:34:56.789+01:00`.

    `T` may be a space, as the standard's note says. Seconds written `:60`, as in a leap second, mean the
    next second. Digits below the millisecond are cut off, which is towards the past.

    Raises:
      ValueError: the text isn't that; the message says why and gives the fix.

    >>> epoch_ms("1970-01-01T00:00:01.0019Z")
    1001
    >>> epoch_ms("2016-12-31T23:59:60Z") == epoch_ms("2017-01-01T00:00:00Z")
    True
    """
    zone = text
    try:
        try:
            ms = _minutes[text[:17]] + _SECOND_MS[text[17:19]]
        except KeyError:
            ms = _minute_ms(text[:17]) + _SECOND_MS[text[17:19]]
        utc = _UTC_FRACTION_MS.get(text[19:])
        if utc is not None:
            return ms + utc
        fraction, zone = text[19:23], text[23:]
        if fraction in _FRACTION_MS:
            ms += _FRACTION_MS[fraction]
            if zone not in _ZONE_MS:
                zone = zone.lstrip(_DIGITS)
        else:
            zone = fraction + zone
            if zone[:1] == "." and (few_digits := _FEW_DIGITS.match(zone)):
                ms += int(few_digits[1].ljust(3, "0"))
                zone = zone[few_digits.end() :]
        return ms - _ZONE_MS[zone]
    except (ValueError, KeyError):
        raise ValueError(_fault(text, zone)) from None


def format_ms(ms: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC, for people; years 1 to 9999."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _minute_ms(prefix: str) -> int:
    """The epoch milliseconds of a date and minute like `2026-03-01T12:34:`, which are then kept.

    Raises:
      ValueError: it isn't that.
    """
    match = _MINUTE.fullmatch(prefix)
    if match is None:
        raise ValueError(prefix)
    minute = datetime(*map(int, match.groups()), tzinfo=UTC)  # type: ignore[arg-type, misc]
    if len(_minutes) >= _KEPT_MINUTES:
        _minutes.clear()
    ms = _minutes[prefix] = (minute - _EPOCH) // timedelta(milliseconds=1)
    return ms


def _fault(text: str, zone: str) -> str:
    """What is wrong with a text that isn't a time, and the fix; the text itself is not shown."""
    if _MINUTE.match(text) is None:
        return "is not RFC 3339; write it like 2026-03-01T12:34:56.789Z"
    try:
        _minute_ms(text[:17])
    except ValueError:
        return "is no day and time of the calendar; check its month, day, hour and minute"
    if text[17:19] not in _SECOND_MS:
        return "has no seconds between 00 and 60; write it like 2026-03-01T12:34:56Z"
    if not zone:
        return "has no offset, so its instant is unknown; append Z if it is UTC, else the offset like +02:00"
    return "has an offset that is neither Z nor like +02:00; write it like 2026-03-01T12:34:56.789+02:00"
