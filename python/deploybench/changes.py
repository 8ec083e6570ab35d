"""What changed from one measurement to another: cases matched, their ratios with intervals, a verdict on each. Prints
nothing and measures nothing. docs/compare.md says why each step is as it is."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deploybench import panel, ranks, stats
from deploybench.ranks import Shift
from deploybench.record import OLD, Record
from deploybench.rounds import BASELINE

PASS, WIN, REGRESSION, INCONCLUSIVE = "PASS", "WIN", "REGRESSION", "INCONCLUSIVE"
MARGIN = 0.05  # a change that matters, unless --fail-above says another
# A change below this is none, whatever the interval says. Of time: where code and memory happen to lie makes as much
# (Mytkowicz 2009, doi:10.1145/1508244.1508275).
LEAST = {"time": 0.01, "instructions": 0.002}
# Of a call's instructions, for what moves memory: a longer path, another environment variable.
COUNTING_ERROR = 0.001
# Of a process's instructions, by how much two that do the same may differ: twice and more what was seen (docs/compare.md).
STARTING_ERROR = {"python": 2e-4, "cpp": 1e-6}
RESAMPLES = 1000

Series = dict[float, float]  # by round: the logarithm of seconds a call, or of a ratio of them
Key = tuple[str, str, int]  # model, runner, batch size


@dataclass(frozen=True)
class Change:
    """One case. `ratio`: new / old, above 1 it got slower; `low` and `high` its 95 % interval, infinite where there is none.
    `old` and `new`: the median seconds of a call, or the instructions of one. `rounds`: of both."""

    model: str
    runner: str
    batch_size: int
    old: float
    new: float
    ratio: float
    low: float
    high: float
    rounds: tuple[int, int]
    interleaved: bool = False
    verdict: str = INCONCLUSIVE


@dataclass(frozen=True)
class Case:
    """What a change is computed from: `views` of old and new, each by itself a way to see the change."""

    key: Key
    old: list[Record]
    new: list[Record]
    views: list[tuple[Series, Series]]
    interleaved: bool


def judge(change: Change, metric: str, margin: float) -> Change:
    """With its verdict: REGRESSION or WIN where the whole interval lies beyond the least change, PASS where none of it lies
    above the margin, else INCONCLUSIVE."""
    least = min(LEAST[metric], margin)
    if change.low > 1 + least:
        return replace(change, verdict=REGRESSION)
    if change.high < 1 / (1 + least):
        return replace(change, verdict=WIN)
    return replace(change, verdict=PASS if change.high <= 1 + margin else INCONCLUSIVE)


def cases(old: dict[Key, list[Record]], new: dict[Key, list[Record]]) -> list[Case]:
    """Of two files: those that both have, in the order of the new one."""
    found = []
    for key in new:
        if key in old:
            views = [
                (_absolute(old[key]), _absolute(new[key])),
                (_relative(old[key], old.get(_baseline(key), [])), _relative(new[key], new.get(_baseline(key), []))),
            ]
            found.append(Case(key, old[key], new[key], views, interleaved=False))
    return found


def pairs(runs: dict[Key, list[Record]]) -> list[Case]:
    """Of one file in which old programs ran beside new ones: each new runner that has its old one."""
    found = []
    for (model, runner, size), new in runs.items():
        old = runs.get((model, runner + OLD, size))
        if old:
            differences = _relative(new, old)
            view = (dict.fromkeys(differences, 0.0), differences)
            found.append(Case((model, runner, size), old, new, [view], interleaved=True))
    return found


def _baseline(key: Key) -> Key:
    return key[0], BASELINE, key[2]


def _absolute(runs: list[Record]) -> Series:
    """The mean of the logarithms of a round's turns."""
    return {run["round"]: statistics.fmean(map(math.log, stats.times_of_turns(run))) for run in runs}


def _relative(runs: list[Record], beside: list[Record]) -> Series:
    """Against another runner of the same rounds, turn by turn."""
    others = {run["round"]: stats.times_of_turns(run) for run in beside}
    return {
        run["round"]: statistics.median(
            math.log(ours / theirs)
            for ours, theirs in zip(stats.times_of_turns(run), others[run["round"]], strict=False)
        )
        for run in runs
        if run["round"] in others
    }


def change(case: Case) -> Change:
    """Of a case of times, without a verdict yet.

    Interleaved: by the ratios of the rounds. Of two files: the machine, too, may have become slower or faster, and a runner
    then suffers between nothing and all of what eager suffers; so the true change lies between the ratio of the times and
    that ratio relative to eager, and the interval is that of both together.
    """
    shifts = [_shift(case, *view) for view in case.views if all(view)]
    both = len(shifts) == len(case.views)
    low, high = (min(one.low for one in shifts), max(one.high for one in shifts)) if both else (-math.inf, math.inf)
    value = statistics.fmean(one.value for one in shifts)
    model, runner, size = case.key
    old, new = (
        statistics.median(time for run in runs for time in stats.times_of_calls(run)) for runs in (case.old, case.new)
    )
    counts = (len(case.old), len(case.new))
    return Change(
        model, runner, size, old, new, math.exp(value), math.exp(low), math.exp(high), counts, case.interleaved
    )


def enough(change: Change) -> bool:
    """Whether its rounds suffice for an interval, so that where there is none, eager's lack."""
    old, new = ([0.0] * count for count in change.rounds)
    return math.isfinite((ranks.of_pairs(new) if change.interleaved else ranks.between(old, new)).high)


def _shift(case: Case, old: Series, new: Series) -> Shift:
    if case.interleaved:
        return ranks.of_pairs(list(new.values()))
    return ranks.between(list(old.values()), list(new.values()))


def counted(old: dict[Key, Record], new: dict[Key, Record]) -> list[Change]:
    """Of counted instructions: the cases that both have. The interval is what counting may err."""
    found = []
    for (model, runner, size), line in new.items():
        if before := old.get((model, runner, size)):
            counts = stats.per_call(before), stats.per_call(line)
            ratio = counts[1] / counts[0]
            error = 1 + COUNTING_ERROR + _starting_error(before) + _starting_error(line)
            found.append(Change(model, runner, size, *counts, ratio, ratio / error, ratio * error, (1, 1)))
    return found


def _starting_error(line: Record) -> float:
    """What starting anew changes, as a fraction of the instructions of a call."""
    less, more = line["calls"]
    starting = STARTING_ERROR[panel.parts(line["runner"])[0]] * float(line["counts"][0])
    return float(starting / (more - less) / stats.per_call(line))


def overall_counted(found: Sequence[Change]) -> Change | None:
    """The geometric mean over all cases, which may err as they do. None: there is nothing to average."""
    if not found:
        return None
    value, low, high = (
        panel.geometric_mean([getattr(one, name) for one in found]) for name in ("ratio", "low", "high")
    )
    return Change("", "", 0, 1.0, value, value, low, high, (1, 1))


def overall(chosen: Sequence[Case]) -> Change | None:
    """The geometric mean over all cases, its interval by resampling whole rounds of a model, in which all runners share the
    machine's state. None: there is nothing to average. Eager is left out where it is what the machine's drift is read from."""
    usable = [case for case in chosen if all(all(view) for view in case.views)]
    usable = [case for case in usable if case.interleaved or case.key[1] != BASELINE]
    most = max(map(_rounds, usable), default=0)
    usable = [case for case in usable if _rounds(case) >= min(most, 2)]  # one that is measured once has no interval
    if not usable:
        return None
    value = statistics.fmean(statistics.fmean(_shift(case, *view).value for view in case.views) for case in usable)
    bounds = [
        _resampled([(case, case.views[min(number, len(case.views) - 1)]) for case in usable]) for number in (0, 1)
    ]
    low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
    least = min(_rounds(case) for case in usable)
    both = all(case.interleaved for case in usable)
    return Change("", "", 0, 1.0, math.exp(value), math.exp(value), math.exp(low), math.exp(high), (least, least), both)


def _rounds(case: Case) -> int:
    return min(len(series) for view in case.views for series in view)


def _resampled(views: list[tuple[Case, tuple[Series, Series]]]) -> tuple[float, float]:
    """The interval of the mean over cases of new - old medians; infinite with fewer than two rounds."""
    groups: dict[tuple[str, int, bool, int], list[Series]] = {}
    for case, view in views:
        for side, series in enumerate(view):
            groups.setdefault((case.key[0], case.key[2], case.interleaved, side), []).append(series)
    least = min(len(series) for members in groups.values() for series in members)
    if least < 2:
        return -math.inf, math.inf
    generator = random.Random(0)
    means = []
    for _ in range(RESAMPLES):
        total = 0.0
        for (*_, side), members in groups.items():
            common = sorted(set.intersection(*map(set, members)) or set())
            drawn = generator.choices(common, k=len(common)) if common else []
            sign = 1 if side else -1
            total += sign * sum(_middle(series, drawn) for series in members)
        means.append(total / len(views))
    tail = stats.tail(least)
    return stats.quantile(means, tail), stats.quantile(means, 1 - tail)


def _middle(series: Series, drawn: list[float]) -> float:
    return statistics.median([series[number] for number in drawn] if drawn else series.values())


def drift(old: dict[Key, list[Record]], new: dict[Key, list[Record]]) -> float | None:
    """How many times as long eager took in the new file: the machine's doing, where eager is the same program. The median
    over models; None without eager."""
    found = [
        ranks.between(list(_absolute(old[key]).values()), list(_absolute(new[key]).values())).value
        for key in new
        if key[1] == BASELINE and key in old
    ]
    return math.exp(statistics.median(found)) if found else None
