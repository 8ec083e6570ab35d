"""Shifts between samples, with 95 % intervals that assume no distribution: one slow process in six moves them little. Of
numbers alone; what they are of, changes.py knows."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95
MOST_COUNTED = 10_000  # pairs of which the distribution is counted; beyond, the normal one is within a rank


@dataclass(frozen=True)
class Shift:
    """How far one sample lies above another. `low` and `high` are infinite where there are too few values for an interval:
    fewer than 4 and 4, or than 6 pairs."""

    value: float
    low: float
    high: float


def between(old: Sequence[float], new: Sequence[float]) -> Shift:
    """How far `new` lies above `old`, one value or more of each, by Hodges and Lehmann (1963,
    doi:10.1214/aoms/1177704172): the median of all differences. The interval leaves out as many of them at each end as the
    Mann-Whitney test does."""
    differences = sorted(after - before for before in old for after in new)
    return _shift(differences, _left_out(_rank_sums(len(old), len(new))))


def of_pairs(differences: Sequence[float]) -> Shift:
    """How far the differences of pairs lie above 0: the median of their means by two, each with itself too. The interval
    leaves out as many as Wilcoxon's signed-rank test does."""
    count = len(differences)
    means = sorted((differences[i] + differences[j]) / 2 for i in range(count) for j in range(i, count))
    return _shift(means, _left_out(_signed_ranks(count)))


def _shift(ordered: list[float], left_out: int) -> Shift:
    value = statistics.median(ordered)
    if left_out == 0:
        return Shift(value, -math.inf, math.inf)
    return Shift(value, ordered[left_out - 1], ordered[-left_out])


def _left_out(ways: tuple[int, ...]) -> int:
    """The rank of the interval's ends, from 1: the most for which so few of all `ways` (those to each value of the
    statistic, if nothing differs) lie outside. 0: there is none."""
    outside, rank, bound = 0, 0, (1 - LEVEL) / 2 * sum(ways)
    while outside + ways[rank] <= bound:
        outside += ways[rank]
        rank += 1
    return rank


@functools.cache
def _rank_sums(old: int, new: int) -> tuple[int, ...]:
    """In how many orders of both samples so many pairs have the new one before the old: the coefficients of the Gaussian
    binomial, the product over i of (1 - q^(new + i)) / (1 - q^i)."""
    pairs = old * new
    if pairs > MOST_COUNTED:
        return _normal(pairs, pairs * (old + new + 1) / 12)
    ways = [1] + [0] * pairs
    for i in range(1, old + 1):
        for j in range(pairs, new + i - 1, -1):
            ways[j] -= ways[j - new - i]
        for j in range(i, pairs + 1):
            ways[j] += ways[j - i]
    return tuple(ways)


@functools.cache
def _signed_ranks(count: int) -> tuple[int, ...]:
    """In how many choices of signs the ranks 1 to `count` of one sign add up to 0, 1, 2...: product over i of (1 + q^i)."""
    most = count * (count + 1) // 2
    if most > MOST_COUNTED:
        return _normal(most, count * (count + 1) * (2 * count + 1) / 24)
    ways = [1] + [0] * most
    for i in range(1, count + 1):
        for j in range(most, i - 1, -1):
            ways[j] += ways[j - i]
    return tuple(ways)


def _normal(most: int, variance: float) -> tuple[int, ...]:
    """As many ways as the normal distribution gives to each of 0 to `most`, of some 1e15 in all."""
    distribution = statistics.NormalDist(most / 2, math.sqrt(variance))
    return tuple(round(1e15 * distribution.pdf(value)) for value in range(most + 1))
