"""Where people live and fly to: cities with their country, currency and time of day."""

from __future__ import annotations

import math

import msgspec

MINUTE_MS = 60_000


class City(msgspec.Struct, frozen=True):
    """A place that people live in or travel to.

    Attributes:
      country: ISO 3166-1 alpha-2.
      utc_offset_minutes: standard time; the simulation has no summer time.
      weight: share of the users who live there, relative to the others.
    """

    name: str
    country: str
    latitude: float
    longitude: float
    utc_offset_minutes: int
    weight: int


class Currency(msgspec.Struct, frozen=True):
    """A currency.

    Attributes:
      per_dollar: roughly how many units buy what a US dollar buys.
      exponent: decimals of the minor unit (ISO 4217).
    """

    code: str
    per_dollar: float
    exponent: int


CITIES: tuple[City, ...] = (
    City("London", "GB", 51.5072, -0.1276, 0, 9),
    City("Manchester", "GB", 53.4808, -2.2426, 0, 4),
    City("Edinburgh", "GB", 55.9533, -3.1883, 0, 3),
    City("Berlin", "DE", 52.5200, 13.4050, 60, 6),
    City("Munich", "DE", 48.1351, 11.5820, 60, 4),
    City("Hamburg", "DE", 53.5488, 9.9872, 60, 4),
    City("Paris", "FR", 48.8575, 2.3514, 60, 7),
    City("Lyon", "FR", 45.7640, 4.8357, 60, 3),
    City("Madrid", "ES", 40.4168, -3.7038, 60, 5),
    City("Barcelona", "ES", 41.3874, 2.1686, 60, 4),
    City("Milan", "IT", 45.4642, 9.1900, 60, 4),
    City("Rome", "IT", 41.9028, 12.4964, 60, 4),
    City("Amsterdam", "NL", 52.3676, 4.9041, 60, 5),
    City("Warsaw", "PL", 52.2297, 21.0122, 60, 4),
    City("Stockholm", "SE", 59.3293, 18.0686, 60, 3),
    City("Zurich", "CH", 47.3769, 8.5417, 60, 3),
    City("New York", "US", 40.7128, -74.0060, -300, 6),
    City("Chicago", "US", 41.8781, -87.6298, -360, 3),
    City("San Francisco", "US", 37.7749, -122.4194, -480, 3),
    City("Toronto", "CA", 43.6532, -79.3832, -300, 3),
    City("Mexico City", "MX", 19.4326, -99.1332, -360, 2),
    City("São Paulo", "BR", -23.5558, -46.6396, -180, 3),
    City("Lagos", "NG", 6.5244, 3.3792, 60, 2),
    City("Johannesburg", "ZA", -26.2041, 28.0473, 120, 2),
    City("Kuwait City", "KW", 29.3759, 47.9774, 180, 1),
    City("Mumbai", "IN", 19.0760, 72.8777, 330, 3),
    City("Singapore", "SG", 1.3521, 103.8198, 480, 2),
    City("Tokyo", "JP", 35.6764, 139.6500, 540, 2),
    City("Sydney", "AU", -33.8688, 151.2093, 600, 2),
)

_CURRENCIES = {
    "AUD": Currency("AUD", 1.4, 2),
    "BRL": Currency("BRL", 2.6, 2),
    "CAD": Currency("CAD", 1.25, 2),
    "CHF": Currency("CHF", 1.0, 2),
    "EUR": Currency("EUR", 0.75, 2),
    "GBP": Currency("GBP", 0.7, 2),
    "INR": Currency("INR", 22.0, 2),
    "JPY": Currency("JPY", 98.0, 0),
    "KWD": Currency("KWD", 0.2, 3),
    "MXN": Currency("MXN", 10.0, 2),
    "NGN": Currency("NGN", 240.0, 2),
    "PLN": Currency("PLN", 1.9, 2),
    "SEK": Currency("SEK", 8.7, 2),
    "SGD": Currency("SGD", 0.85, 2),
    "USD": Currency("USD", 1.0, 2),
    "ZAR": Currency("ZAR", 7.0, 2),
}

CURRENCY_OF: dict[str, Currency] = {
    country: _CURRENCIES[code]
    for country, code in {
        "AU": "AUD",
        "BR": "BRL",
        "CA": "CAD",
        "CH": "CHF",
        "DE": "EUR",
        "ES": "EUR",
        "FR": "EUR",
        "GB": "GBP",
        "IN": "INR",
        "IT": "EUR",
        "JP": "JPY",
        "KW": "KWD",
        "MX": "MXN",
        "NG": "NGN",
        "NL": "EUR",
        "PL": "PLN",
        "SE": "SEK",
        "SG": "SGD",
        "US": "USD",
        "ZA": "ZAR",
    }.items()
}
"""The currency of each country that has a city here."""

COUNTRIES: tuple[str, ...] = tuple(sorted(CURRENCY_OF))


def distance_km(a: City, b: City) -> float:
    """Great-circle distance between two cities, in km."""
    lat_a, lat_b = math.radians(a.latitude), math.radians(b.latitude)
    half_dlat = (lat_b - lat_a) / 2
    half_dlon = math.radians(b.longitude - a.longitude) / 2
    h = math.sin(half_dlat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_dlon) ** 2
    return 2 * 6371.0 * math.asin(math.sqrt(h))


def flight_ms(a: City, b: City) -> int:
    """Door to door by plane, in ms: 820 km/h in the air and three hours around it."""
    return int((distance_km(a, b) / 820 + 3) * 60 * MINUTE_MS)
