"""Arithmetic on lists of seconds. No data, no files; every number in a table is computed here, on reading."""

from __future__ import annotations

import collections
import functools
import math
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

RESAMPLES = 4000
# Rounds from which on a median is resampled. Its interval never leaves their range, which holds the true median with probability
# 1 - 2 / 2^n: of 2 rounds 50 times in 100, of 5 rounds 94, of 6 rounds 97.
RESAMPLED = 6
# What other runners of the same rounds tell of the spread counts as so many degrees of freedom at most, as runners differ in it,
# and nothing below so many: with 6 and 31 runners, 2 to 5 rounds, and spreads that differ by a factor of 2 (one deviation), an
# interval holds the truth 92 to 98 times in 100, by simulation.
LENT, TELLING = 4, 5
WINDOW = 5  # calls; the median of five shrugs off two interruptions


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile, 0 <= q <= 1, linear between order statistics (Hyndman and Fan 1996, type 7: NumPy's default)."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def digits(value: float, significant: int) -> str:
    """`value` with so many significant digits, below 1 with so many decimals; never in powers of ten."""
    whole = len(str(int(value))) if value >= 1 else 0
    return f"{value:.{max(0, significant - whole)}f}"


def warmed_up(calls: Sequence[float], least: int) -> tuple[bool, bool]:
    """(whether warm-up is over, whether because the calls became steady). Twin of cpp/deploybench/timing.

    Over at `least` calls once the medians of the last five and of the five before are within 5 %; at 3 x `least` anyway.
    """
    if len(calls) < least:
        return False, False
    if least and len(calls) >= 2 * WINDOW:
        now = statistics.median(calls[-WINDOW:])
        before = statistics.median(calls[-2 * WINDOW : -WINDOW])
        if abs(now - before) <= 0.05 * before:
            return True, True
    return len(calls) >= 3 * least, False


def steady_from_call(calls: Sequence[float]) -> int:
    """The first call, counted from 1, that is as fast as those of the second half: it, and the median of the five from
    it on, lie within 10 % above their median."""
    bound = 1.10 * statistics.median(calls[len(calls) // 2 :])
    for index, call in enumerate(calls):
        if call <= bound and statistics.median(calls[index : index + WINDOW]) <= bound:
            return index + 1
    return len(calls)


@dataclass(frozen=True)
class Ratio:
    """How many times faster than the baseline, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def conclusive(self) -> bool:
        """Whether 1, "no difference", lies outside the interval."""
        return self.low > 1 or self.high < 1


@dataclass(frozen=True)
class Spread:
    """How much the logarithm of a ratio of two runners varies from round to round."""

    variance: float
    freedom: int


def medians_of_turns(seconds: Sequence[float], turns: Sequence[int]) -> list[float]:
    """The median call of each turn; `turns` says how many calls each has."""
    medians, begin = [], 0
    for calls in turns:
        medians.append(statistics.median(seconds[begin : begin + calls]))
        begin += calls
    return medians


def _together(run: dict[str, Any]) -> list[float] | None:
    """Of instances that call at the same time, each turn's time by its calls, the inverse of the throughput; None: of one."""
    if run.get("instances", 1) == 1 or run.get("turn_rates"):
        return None
    return [seconds / calls for seconds, calls in zip(run["turn_seconds"], run["turn_calls"], strict=True)]


def times_of_turns(run: dict[str, Any]) -> list[float]:
    """What a call takes in each turn of a run: the median, or of several instances what it takes of the whole."""
    return _together(run) or medians_of_turns(run["run_seconds"], run["turn_calls"])


def times_of_calls(run: dict[str, Any]) -> list[float]:
    """What each call takes, or of several instances what one takes of the whole, turn by turn."""
    return _together(run) or list(run["run_seconds"])


def highest_rate(run: dict[str, Any], bound: float | None) -> tuple[float, list[float]] | None:
    """Of the turns of a run under load, the one with the highest rate whose 99 % quantile is within `bound` seconds: its rate
    in images a second and its latencies. None: no turn kept the bound. Without a bound, the first turn."""
    begin, found = 0, None
    for rate, calls in zip(run["turn_rates"], run["turn_calls"], strict=True):
        latencies = run["run_seconds"][begin : begin + calls]
        begin += calls
        if bound and quantile(latencies, 0.99) > bound:
            continue
        if found is None or rate > found[0]:
            found = rate, latencies
    return found


def spread(runners: Iterable[Sequence[dict[str, Any]]]) -> Spread | None:
    """Of the runs of all runners of the same rounds, what is left of it once each runner and each round has its mean. None where
    that is too little to tell."""
    logs = [{run["round"]: math.log(statistics.median(times_of_turns(run))) for run in runs} for runs in runners]
    most = max(map(len, logs), default=0)
    logs = [one for one in logs if len(one) == most]  # some are measured once, some failed in a round
    numbers = set.intersection(*map(set, logs)) if logs else set()
    freedom = (len(logs) - 1) * (len(numbers) - 1)
    if freedom < TELLING:
        return None
    rows = [[one[number] for number in sorted(numbers)] for one in logs]
    rounds = [statistics.fmean(column) for column in zip(*rows, strict=True)]
    rest = [
        value - statistics.fmean(row) - of_round + statistics.fmean(rounds)
        for row in rows
        for value, of_round in zip(row, rounds, strict=True)
    ]
    return Spread(2 * sum(one**2 for one in rest) / freedom, freedom)  # of a difference of two logarithms


def speedup(
    baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]], lent: Spread | None = None
) -> Ratio | None:
    """baseline / candidate, from the medians of their turns, round by round; None without a round, and of a single one where
    nothing is `lent`.

    Turns of one round were taken side by side, so what slows the machine for a moment slows both: the ratio of a round is
    the median over its pairs of turns. The value is the median of the rounds' ratios, the interval that of `_interval`. `lent`:
    what other runners of the same rounds tell of their spread.
    """
    logs = [
        statistics.median(math.log(b / c) for b, c in zip(base, ours, strict=False))  # pairs only: one may need more
        for base, ours in zip(baseline, candidate, strict=True)
    ]
    if not logs or (len(logs) == 1 and lent is None):
        return None
    value = statistics.median(logs)
    low, high = _interval(logs, value, lambda drawn: statistics.median([logs[index] for index in drawn]), lent)
    return Ratio(math.exp(value), math.exp(low), math.exp(high))


def median_interval(rounds: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """The 95 % interval of the median of all calls, in seconds; None with fewer than three rounds.

    `rounds` has the calls of each. Rounds are drawn and their calls pooled, as the median itself pools them: calls of one
    process lie closer to each other than to those of another, so drawing single calls would promise too much.
    """
    if len(rounds) < 3:  # Student's would be 12.7 standard errors wide to each side
        return None
    logs = [[math.log(second) for second in calls] for calls in rounds]

    def pooled(drawn: Iterable[int]) -> float:
        return statistics.median([log for index in drawn for log in logs[index]])

    low, high = _interval([statistics.median(calls) for calls in logs], pooled(range(len(logs))), pooled)
    return math.exp(low), math.exp(high)


def _interval(
    rounds: Sequence[float], value: float, statistic: Callable[[tuple[int, ...]], float], lent: Spread | None = None
) -> tuple[float, float]:
    """95 % of `value`, a kind of median over rounds, each of which says what stands in `rounds`, a logarithm.

    Of few rounds by Student's t, as if they were drawn from a normal distribution, and never without the value itself; with the
    variance of the rounds and the one that is `lent`, weighed by their degrees of freedom (a moderated t: Smyth 2004,
    doi:10.2202/1544-6115.1027, with a fixed weight). Of RESAMPLED rounds and more the bootstrap of `statistic`, of the rounds
    drawn, between the percentiles that `tail` says.
    """
    n = len(rounds)
    if n < RESAMPLED:
        more = min(lent.freedom, LENT) if lent else 0
        own = (n - 1) * statistics.variance(rounds) if n > 1 else 0.0
        variance = own + (more * lent.variance if lent else 0.0)
        reach = student_t_975(n - 1 + more) * math.sqrt(variance / (n - 1 + more) / n)
        middle = statistics.fmean(rounds)
        return min(value, middle - reach), max(value, middle + reach)
    medians = [found for drawn, times in _resamples(n) for found in [statistic(drawn)] * times]
    return quantile(medians, tail(n)), quantile(medians, 1 - tail(n))


@functools.cache
def _resamples(rounds: int) -> list[tuple[tuple[int, ...], int]]:
    """The rounds of each resample, in order, and how often they were drawn: 462 instead of 4,000 for 6 rounds, so that a
    report of 80 models by 8 routes takes a second and not ten."""
    generator = random.Random(0)
    drawn = (tuple(sorted(generator.choices(range(rounds), k=rounds))) for _ in range(RESAMPLES))
    return list(collections.Counter(drawn).items())


def tail(rounds: int) -> float:
    """The share of the bootstrap's medians below the 95 % interval of so many rounds, two or more; above it lie as many.

    Less than 2.5 %, by which the interval would cover 85 % (Hesterberg 2015, doi:10.1080/00031305.2015.1089789, "expanded
    percentile").
    """
    return statistics.NormalDist().cdf(-math.sqrt(rounds / (rounds - 1)) * student_t_975(rounds - 1))


def per_call(line: dict[str, Any]) -> float:
    """Instructions of a call, by a line of `instructions`: of two processes that differ only in their number of calls."""
    (few, many), (less, more) = line["counts"], line["calls"]
    return float((many - few) / (more - less))


def between(
    baseline: Sequence[dict[str, Any]],
    candidate: Sequence[dict[str, Any]],
    beside: Iterable[Sequence[dict[str, Any]]] = (),
) -> Ratio | None:
    """baseline / candidate of two runners' runs, over the rounds that both have. `beside`: the runs of all runners that took
    part in them, whose spread counts where rounds are few."""
    base, ours = ({run["round"]: times_of_turns(run) for run in runs} for runs in (baseline, candidate))
    both = sorted(base.keys() & ours.keys())
    lent = spread(beside) if 1 <= len(both) < RESAMPLED else None
    return speedup([base[number] for number in both], [ours[number] for number in both], lent)


def student_t_975(freedom: int) -> float:
    """The 97.5 % quantile of Student's t with `freedom` degrees of freedom, by tables up to 10, then within 0.2 %."""
    table = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
    if freedom <= len(table):
        return table[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
