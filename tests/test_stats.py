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


def test_the_interval_of_few_rounds_is_students() -> None:
    # two rounds, ratios e^0.1 and e^0.3: mean 0.2, deviation 0.1414, t of one degree of freedom 12.706:
    # 0.2 +- 12.706 * 0.1414 / sqrt(2) = 0.2 +- 1.2706
    ratio = stats.speedup([[math.exp(0.1)], [math.exp(0.3)]], [[1.0]] * 2)
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx(
        [math.exp(one) for one in (0.2, -1.0706, 1.4706)], rel=1e-4
    )
    # three, 0.0, 0.0 and 0.3: the median 0 stays inside of 0.1 +- 4.303 * 0.1732 / sqrt(3) = 0.1 +- 0.4303
    ratio = stats.speedup([[1.0], [1.0], [math.exp(0.3)]], [[1.0]] * 3)
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx([1.0, math.exp(-0.3303), math.exp(0.5303)], rel=1e-4)


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


def test_speedup_needs_two_rounds_or_the_spread_of_others() -> None:
    assert stats.speedup([[1.0]], [[1.0]]) is None
    assert stats.speedup([], [], stats.Spread(0.04, 9)) is None
    # t of the 4 degrees of freedom that count is 2.776: 0.5 +- 2.776 * 0.2
    ratio = stats.speedup([[math.exp(0.5)]], [[1.0]], stats.Spread(0.04, 9))
    assert ratio is not None
    found = [math.log(one) for one in (ratio.value, ratio.low, ratio.high)]
    assert found == pytest.approx([0.5, -0.0552, 1.0552], abs=1e-4)


def runs_of(logs: list[float]) -> list[dict[str, Any]]:
    """A run a round, of one turn of one call that takes e^log seconds."""
    return [{"round": n, "run_seconds": [math.exp(log)], "turn_calls": [1]} for n, log in enumerate(logs)]


def test_the_spread_is_what_runners_and_rounds_leave() -> None:
    # Rounds 0.0 and 0.5 for all, runners -+0.1 around them, six of them, signs + - + - + -: each value is 0.1 off its runner's
    # and its round's mean, so 12 x 0.01 / ((6 - 1) x (2 - 1)), and of a ratio twice that.
    runners = [runs_of([3 * i + 0.1 * sign, 3 * i + 0.5 - 0.1 * sign]) for i, sign in enumerate([1, -1] * 3)]
    found = stats.spread(runners)
    assert found is not None
    assert found.variance == pytest.approx(2 * 0.12 / 5)
    assert found.freedom == 5
    assert stats.spread(runners[:5]) is None, "four degrees of freedom tell too little"
    assert stats.spread([]) is None
    once = runs_of([0.7])
    assert stats.spread([*runners, once]) == found, "who was measured once tells nothing of it"


def test_few_rounds_borrow_the_spread_of_the_others() -> None:
    # two rounds that agree, at a ratio of e^0.2: own variance 0, lent 0.048 with 4 degrees of 5, t of 5 is 2.571:
    # 0.2 +- 2.571 * sqrt(4 * 0.048 / 5 / 2) = 0.2 +- 0.35625
    runners = [runs_of([3 * i + 0.1 * sign, 3 * i + 0.5 - 0.1 * sign]) for i, sign in enumerate([1, -1] * 3)]
    ratio = stats.between(runs_of([0.2, 0.7]), runs_of([0.0, 0.5]), runners)
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx(
        [math.exp(one) for one in (0.2, -0.15625, 0.55625)], rel=1e-4
    )


@pytest.mark.parametrize(("rounds", "own", "least"), [(2, 1, 0.92), (2, 2, 0.92), (3, 3, 0.92), (5, 5, 0.92)])
def test_an_interval_of_few_rounds_holds_the_truth(rounds: int, own: int, least: float) -> None:
    """Nine runners whose spreads differ, in rounds that differ more, one of them in `own` rounds alone; by simulation, 400
    tries: 0.95 less three deviations."""
    generator = random.Random(3)
    held = 0
    for _ in range(400):
        level = [generator.gauss(0, 0.1) for _ in range(rounds)]
        spreads = [0.02 * math.exp(generator.gauss(0, 0.5)) for _ in range(9)]
        runners = [runs_of([one + generator.gauss(0, spread) for one in level]) for spread in spreads]
        del runners[1][own:]
        ratio = stats.between(runners[0], runners[1], runners)
        assert ratio is not None
        held += ratio.low <= 1 <= ratio.high
    assert held >= least * 400


@pytest.mark.parametrize(("rounds", "noise"), [(2, 0.05), (3, 0.01), (5, 0.05), (6, 0.01), (6, 0.05), (10, 0.03)])
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
    """By hand, of three rounds: logarithms 0, 0 and 0.3, so 0.1 +- 4.303 * 0.1732 / sqrt(3) = 0.1 +- 0.4303."""
    low, high = stats.median_interval([[1.0, 1.0, 1.0], [1.0], [math.exp(0.3)] * 2]) or (0, 0)
    assert (low, high) == pytest.approx((math.exp(-0.3303), math.exp(0.5303)), rel=1e-4)
    assert stats.median_interval([[1.0], [3.0]]) is None, "two rounds say next to nothing"
    assert stats.median_interval([[3.0, 3.0]] * 6) == pytest.approx((3.0, 3.0))


def test_calls_of_one_round_are_not_taken_for_independent() -> None:
    """72 calls in 6 rounds that differ: single calls would promise that the median lies within the middle ones."""
    low, high = stats.median_interval([[float(second)] * 12 for second in (1, 2, 3, 4, 5, 6)]) or (0, 0)
    assert (low, high) == pytest.approx((1.0, 6.0))
