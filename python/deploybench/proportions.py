"""Arithmetic on counts: shares with their 95 % intervals. No data, no files."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Share:
    """A share, or the difference of two, with its 95 % interval; as fractions of 1."""

    value: float
    low: float
    high: float


def wilson(hits: int, count: int) -> Share:
    """`hits` of `count` >= 1, with Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953; method 3 of
    Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E). It stays within 0 and 1, and says
    something also where all or none hit."""
    value = hits / count
    middle = (hits + Z * Z / 2) / (count + Z * Z)
    half = Z * math.sqrt(count * value * (1 - value) + Z * Z / 4) / (count + Z * Z)
    return Share(value, max(0.0, middle - half) if hits else 0.0, min(1.0, middle + half) if hits < count else 1.0)


def paired_difference(both: int, first: int, second: int, neither: int) -> Share:
    """How much larger a first share is than a second one over the same things: `both` hit, or only the `first`, only the
    `second`, or `neither`; at least one thing in all.

    The interval is Newcombe's for paired data: Wilson's intervals of the two shares, joined by their correlation, which is
    corrected for continuity (Newcombe 1998, method 10,
    doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C).
    """
    count = both + first + second + neither
    one, other = wilson(both + first, count), wilson(both + second, count)
    phi = _correlation(both, first, second, neither)
    value = (first - second) / count

    def joined(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    below = joined(one.value - one.low, other.high - other.value)
    above = joined(one.high - one.value, other.value - other.low)
    return Share(value, max(-1.0, value - below), min(1.0, value + above))


def _correlation(both: int, first: int, second: int, neither: int) -> float:
    """Phi of the two, moved towards 0 by half a thing where it is positive; 0 where one of them always or never hits."""
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    if margins == 0:
        return 0.0
    excess = both * neither - first * second
    if excess > 0:
        excess = max(0, excess - (both + first + second + neither) / 2)  # type: ignore[assignment]
    return excess / math.sqrt(margins)
