"""Devices and the addresses they connect from; made alike for users and attackers, who don't stand out by form.

Addresses are from ranges that nobody can own (240.0.0.0/4 and 2001:db8::/32), so that no real one is accused.
"""

from __future__ import annotations

from random import Random

import msgspec

from fraud_pipeline.simulate.places import COUNTRIES, City

UTC_Z, UTC_OFFSET, EPOCH_MS = range(3)
"""How a client writes times: RFC 3339 in UTC, RFC 3339 in local time with its offset, epoch milliseconds."""

_COUNTRY_INDEX = {country: index for index, country in enumerate(COUNTRIES)}
_HOME, _MOBILE, _PUBLIC, _HOSTING = 240, 248, 251, 252


class Device(msgspec.Struct, frozen=True):
    """A phone or computer, and how its software reports.

    Attributes:
      device_id: None where the client blocks it.
      time_style: `UTC_Z`, `UTC_OFFSET` or `EPOCH_MS`.
      shares_place: whether events carry latitude and longitude.
      mobile: whether it can use a mobile network.
    """

    device_id: str | None
    user_agent: str
    time_style: int
    shares_place: bool
    mobile: bool


class Origin(msgspec.Struct, frozen=True):
    """Where an event comes from, as its address and place tell."""

    ip: str
    country: str
    latitude: float
    longitude: float
    utc_offset_minutes: int


_PHONES = (
    *(
        (f"PayApp/{version} ({system})", style)
        for version in ("8.1.0", "8.2.3")
        for system, style in (
            ("iOS 17.6; iPhone14,5", UTC_OFFSET),
            ("iOS 18.4; iPhone16,1", UTC_OFFSET),
            ("iOS 18.5; iPhone17,3", UTC_OFFSET),
            ("Android 13; SM-A546B", UTC_Z),
            ("Android 14; Pixel 8", UTC_Z),
            ("Android 15; SM-S931B", UTC_Z),
        )
    ),
    ("PayApp/6.9.1 (Android 11; Redmi Note 9)", EPOCH_MS),
    ("PayApp/6.9.1 (Android 12; moto g32)", EPOCH_MS),
)
_COMPUTERS = tuple(
    (f"Mozilla/5.0 ({system}) {browser}", UTC_Z)
    for system in ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64")
    for browser in (
        "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/136.0.0.0 Safari/537.36",
        "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36",
        "Gecko/20100101 Firefox/139.0",
    )
)


def token(rng: Random, prefix: str) -> str:
    """An opaque id: the prefix and 16 hex digits."""
    return f"{prefix}{rng.getrandbits(64):016x}"


def new_device(rng: Random, *, mobile: bool) -> Device:
    """A device as any user might have it."""
    user_agent, time_style = rng.choice(_PHONES if mobile else _COMPUTERS)
    return Device(
        device_id=token(rng, "d-") if rng.random() > 0.02 else None,
        user_agent=user_agent,
        time_style=time_style,
        shares_place=rng.random() > 0.08,
        mobile=mobile,
    )


def home_address(rng: Random, country: str) -> str:
    """An IPv4 address of a household's line."""
    return _ipv4(rng, _HOME + rng.getrandbits(3), country, rng.getrandbits(3), rng.getrandbits(8))


def mobile_address(rng: Random, country: str, carrier: int) -> str:
    """An address of a mobile network's pool: 1,024 of them, shared by its customers, changing often."""
    return _ipv4(rng, _MOBILE, country, 0, carrier * 4 + rng.getrandbits(2))


def public_address(rng: Random, country: str) -> str:
    """An address of a hotel, café or airport: few, and shared."""
    return f"{_PUBLIC}.{_COUNTRY_INDEX[country] * 8}.7.{rng.getrandbits(5) + 1}"


def hosting_address(rng: Random, country: str) -> str:
    """An address of a data centre: VPN exits and rented servers."""
    return _ipv4(rng, _HOSTING, country, 0, rng.getrandbits(2))


def office_address(rng: Random, country: str) -> str:
    """The one address that an office, a school or a campus shows to the world."""
    return f"{_PUBLIC}.{_COUNTRY_INDEX[country] * 8 + 1}.{rng.getrandbits(8)}.{rng.getrandbits(3) + 1}"


def ipv6_prefix(rng: Random) -> str:
    """A household's /64."""
    bits = rng.getrandbits(30)
    return f"2001:db8:{bits >> 15:x}:{bits & 0x7FFF:x}"


def ipv6_address(rng: Random, prefix: str) -> str:
    """A privacy address within a /64: another one each day."""
    bits = rng.getrandbits(64)
    return f"{prefix}:{bits >> 48:x}:{bits >> 32 & 0xFFFF:x}:{bits >> 16 & 0xFFFF:x}:{bits & 0xFFFF:x}"


def proxy_address(rng: Random, country: str, hosting_share: float) -> str:
    """An address that hides who is behind it: somebody's home line or phone, or a data centre."""
    if rng.random() < hosting_share:
        return hosting_address(rng, country)
    kind = rng.random()
    if kind < 0.15:
        return ipv6_address(rng, ipv6_prefix(rng))
    if kind < 0.4:
        return mobile_address(rng, country, rng.getrandbits(2))
    return home_address(rng, country)


def origin_in(rng: Random, city: City, ip: str, spread_degrees: float = 0.06) -> Origin:
    """Somewhere within a city, by default within some kilometres of its centre."""
    return Origin(
        ip=ip,
        country=city.country,
        latitude=round(city.latitude + (rng.random() - 0.5) * spread_degrees, 4),
        longitude=round(city.longitude + (rng.random() - 0.5) * spread_degrees, 4),
        utc_offset_minutes=city.utc_offset_minutes,
    )


def known_anonymizers() -> list[str]:
    """Networks that a list of anonymizers would hold: three of four data centres', as no list is complete."""
    return [f"{_HOSTING}.{index * 8}.{third}.0/24" for index in range(len(COUNTRIES)) for third in range(3)]


def _ipv4(rng: Random, first: int, country: str, block: int, third: int) -> str:
    return f"{first}.{_COUNTRY_INDEX[country] * 8 + block}.{third}.{rng.getrandbits(8)}"
