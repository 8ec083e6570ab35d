"""Which runner to take: what `advise` keeps, and what it names best. Arithmetic on records; measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from deploybench import panel, record, stats

Runs = dict[str, list[record.Record]]  # of one model, by runner; sound ones alone
KEPT = 1.15  # of the fastest: one call in a round of a few moves by less on a machine of two noisy cores


def seconds(runs: list[record.Record]) -> float:
    """A call: the median over rounds of each round's median turn."""
    return statistics.median(statistics.median(stats.times_of_turns(run)) for run in runs)


def p99_seconds(runs: list[record.Record]) -> float:
    """99 of 100 calls take at most so long, over all rounds."""
    return stats.quantile([one for run in runs for one in run["run_seconds"]], 0.99)


def images_per_second(runs: list[record.Record]) -> float:
    """The median over rounds."""
    return float(runs[0]["batch_size"]) / seconds(runs)


def cold_start_seconds(runs: list[record.Record]) -> float:
    """From the start of the process to its first answer: the median over rounds."""
    return float(statistics.median(run["cold_start_seconds"] for run in runs))


def near(measured: Runs, within: float = KEPT) -> list[str]:
    """The runners whose calls take at most `within` times those of the fastest, the fastest first."""
    times = {name: seconds(runs) for name, runs in measured.items()}
    bound = within * min(times.values(), default=0.0)
    return sorted((name for name, time in times.items() if time <= bound), key=times.__getitem__)


def undecided(measured: Runs, within: float) -> list[str]:
    """The fastest, and those that may well be as fast by their interval and would be more than `within` faster then;
    empty when only one is left."""
    if not measured:
        return []
    fastest, *others = near(measured)
    close = [name for name in others if _may_win(measured[name], measured[fastest], within)]
    return [fastest, *close] if close else []


def _may_win(candidate: list[record.Record], fastest: list[record.Record], within: float) -> bool:
    ratio = stats.between(candidate, fastest)  # how much slower the candidate is
    return ratio is None or ratio.low < 1 / (1 + within)


def best(names: Iterable[str], figure: Callable[[str], float]) -> str | None:
    """The runner with the least figure; among equals the one with C++, then with full precision."""
    return min(names, key=lambda name: (figure(name), not name.startswith("cpp/"), panel.parts(name)[2]), default=None)
