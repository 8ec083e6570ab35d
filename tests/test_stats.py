"""Is the arithmetic right? Every expected number here was worked by hand or comes from the named table."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from deploybench import stats


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([3.0], 0.9, 3.0),
        ([1.0, 2.0], 0.5, 1.5),
        ([4.0, 1.0, 3.0, 2.0], 0.0, 1.0),
        ([4.0, 1.0, 3.0, 2.0], 1.0, 4.0),
        ([10.0, 20.0, 30.0, 40.0, 50.0], 0.9, 46.0),  # position 3.6: 40 + 0.6 * 10
    ],
)
def test_quantile(values: list[float], q: float, expected: float) -> None:
    assert stats.quantile(values, q) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("calls", "least", "expected"),
    [
        ([], 0, (True, False)),  # no warm-up asked for
        ([1.0] * 9, 10, (False, False)),
        ([1.0] * 10, 10, (True, True)),
        ([2.0] * 5 + [1.0] * 5, 10, (False, False)),  # medians 2 and 1: half as long, not steady
        ([1.0] * 5 + [1.04] * 5, 10, (True, True)),  # within 5 %
        ([1.0] * 5 + [1.06] * 5, 10, (False, False)),
        ([1.0, 9.0, 1.0, 9.0, 1.0] * 2, 10, (True, True)),  # medians 1 and 1, whatever the outliers
        ([float(2**i) for i in range(30)], 10, (True, False)),  # never steady: ends at 3 x 10
        ([1.0] * 5, 5, (False, False)),  # ten calls are needed to see steadiness
        ([1.0] * 15, 5, (True, True)),
        ([1.0] * 3, 1, (True, False)),
        ([float(2**i) for i in range(29)], 10, (False, False)),
        ([1.0] * 14, 15, (False, False)),  # steady, but fewer than asked for
        ([95.0] * 5 + [100.0] * 5, 10, (False, False)),  # 5 % is of the five before: 5 > 4.75
        ([9.0] * 5 + [1.0] * 10, 10, (True, True)),  # only the last ten count
    ],
)
def test_warm_up_ends(calls: list[float], least: int, expected: tuple[bool, bool]) -> None:
    assert stats.warmed_up(calls, least) == expected


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([1.0] * 10, 1),
        ([9.0, 5.0, 1.0] + [1.0] * 10, 3),
        ([9.0, 1.0, 9.0, 9.0, 9.0] + [1.0] * 20, 6),  # call 2 was luck: the median of five from it on is 9
        ([9.0, 1.09] + [1.0] * 10, 2),  # within 10 %
        ([9.0, 1.11] + [1.0] * 10, 3),
        ([1.15] * 6 + [1.0] * 6, 7),  # the bound is that of the second half, 1.1; of all calls it would be 1.18
    ],
)
def test_steady_from_call(calls: list[float], expected: int) -> None:
    assert stats.steady_from_call(calls) == expected


def test_speedup_is_the_median_of_paired_ratios() -> None:
    # turns and rounds slow down together: 2x in each, whatever the level
    ratio = stats.speedup([[2.0, 6.0], [4.0], [20.0, 2.0]], [[1.0, 3.0], [2.0], [10.0, 1.0]])
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0))
    assert ratio.conclusive


def test_speedup_interval_is_as_wide_as_few_rounds_deserve() -> None:
    # With six rounds the expanded percentile is Phi(-sqrt(6/5) * 2.571) = 0.24 %. A resample's median is the smallest
    # value when four or more of its six draws are (even count: both middle ones): P = sum_k>=4 C(6,k) 5^(6-k) / 6^6 = 0.87 %
    # > 0.24 %, so the interval is the range of the rounds.
    baseline = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
    ratio = stats.speedup([[one] for one in baseline], [[1.0]] * 6)
    assert ratio is not None
    assert (ratio.low, ratio.high) == pytest.approx((1.0, 1.5))
    assert ratio.value == pytest.approx(math.sqrt(1.2 * 1.3))  # the middle two, in logarithms
    assert not stats.speedup([[1.0], [1.2], [0.9], [1.1]], [[1.0]] * 4).conclusive  # type: ignore[union-attr]


def test_a_disturbed_turn_does_not_move_its_round() -> None:
    # three pairs of turns in each round, 2x; in one the machine was busy for one of the two
    ratio = stats.speedup([[2.0, 2.0, 9.0], [4.0, 4.0, 4.0]], [[1.0, 1.0, 1.0], [2.0, 7.0, 2.0]])
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0)


def test_turns_without_a_partner_do_not_count() -> None:
    ratio = stats.speedup([[2.0], [2.0]], [[1.0, 5.0, 5.0], [1.0]])
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0)


def test_medians_of_turns() -> None:
    assert stats.medians_of_turns([1.0, 5.0, 2.0, 7.0, 9.0], [3, 2]) == [2.0, 8.0]


def test_only_rounds_that_both_have_are_compared() -> None:
    def runs(medians: dict[int, float]) -> list[dict[str, Any]]:
        return [{"round": n, "run_seconds": [second], "turn_calls": [1]} for n, second in medians.items()]

    ratio = stats.between(runs({0: 8.0, 1: 2.0, 2: 4.0}), runs({3: 9.0, 2: 2.0, 1: 1.0}))
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0))


def test_speedup_needs_two_rounds() -> None:
    assert stats.speedup([[1.0]], [[1.0]]) is None


@pytest.mark.parametrize(("rounds", "noise"), [(6, 0.01), (6, 0.05), (10, 0.03)])
def test_equal_runners_are_rarely_called_different(rounds: int, noise: float) -> None:
    """Two runners with the same true speed and lognormal noise per round: at most 5 % false alarms, by simulation."""
    generator = random.Random(7)
    alarms = 0
    for _ in range(150):
        first, second = ([[math.exp(generator.gauss(0, noise))] for _ in range(rounds)] for _ in range(2))
        ratio = stats.speedup(first, second)
        assert ratio is not None
        alarms += ratio.conclusive
    assert alarms <= 15  # 7.5 of 150 expected at 5 %; 15 has probability 0.7 %


def test_the_interval_leaves_out_less_where_rounds_are_few() -> None:
    assert stats.tail(6) == pytest.approx(
        0.00243, abs=5e-6
    )  # Phi(-sqrt(6/5) * 2.571) = Phi(-2.816), from a table of Phi
    assert stats.tail(2) < 1e-9  # Phi(-17.97): the whole range
    assert stats.tail(100_000) == pytest.approx(0.025, rel=1e-3)


def test_student_t() -> None:
    assert stats.student_t_975(5) == 2.571
    assert stats.student_t_975(11) == pytest.approx(2.201, rel=2e-3)
    assert stats.student_t_975(30) == pytest.approx(2.042, rel=2e-3)
    assert stats.student_t_975(1000) == pytest.approx(1.962, rel=1e-3)


def test_the_interval_of_a_median_is_drawn_from_rounds() -> None:
    """By hand: of two rounds the four equal draws are a a, a b, b a, b b; their pooled medians 1, 2, 2 and 3. The ends of the
    interval lie beyond a quarter of the draws, so they are the least and the largest."""
    assert stats.median_interval([[1.0, 1.0, 1.0], [3.0, 3.0, 3.0]]) == (1.0, 3.0)
    assert stats.median_interval([[1.0, 3.0]]) is None, "one round says nothing about others"
    assert stats.median_interval([[2.0, 4.0]] * 5) == (3.0, 3.0)


def test_calls_of_one_round_are_not_taken_for_independent() -> None:
    """36 calls in 3 rounds that differ: single calls would promise that the median lies within the middle round."""
    low, high = stats.median_interval([[1.0] * 12, [2.0] * 12, [3.0] * 12]) or (0, 0)
    assert (low, high) == (1.0, 3.0)
