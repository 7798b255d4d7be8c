"""Places on Earth."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt
from typing import Final

EARTH_RADIUS_KM: Final = 6371.0088
"""Mean radius R1 of the Earth (IUGG, Moritz 1980)."""


def distance_km(a: tuple[float, ...], b: tuple[float, float]) -> float:
    """Great-circle distance between two places in degrees, by the haversine formula (Sinnott 1984)."""
    if a[0] == b[0] and a[1] == b[1]:
        return 0.0
    lat_a, lat_b = radians(a[0]), radians(b[0])
    half_lat, half_lon = (lat_b - lat_a) / 2, radians(b[1] - a[1]) / 2
    h = sin(half_lat) ** 2 + cos(lat_a) * cos(lat_b) * sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(h)))
