"""Checks of the difference between two sides: what is not alike, and which one is slower."""

from __future__ import annotations

import statistics
from typing import Any

from deploybench import record, stats
from deploybench.checks.finding import OK, PROBLEM, UNKNOWN, WARNING, Finding
from deploybench.facts import Pair, Side

CLEARLY = 1.02  # equal processes differ by 2 % (docs/measuring.md, A/A)
WORK = ("input_crc32", "batch_size", "precision", "device", "memory_format", "weights_origin", "artifact_bytes")
MACHINE = ("host", "cpu", "cpus", "cpu_quota", "governor", "turbo", "os")
CUDA = ("tf32", "cudnn_benchmark", "cuda_graph")


def _values(side: Side, field: str) -> str:
    """What the runs of a side say, each value once."""
    return "/".join(dict.fromkeys(str(run[field]) for run in side.runs if field in run))


def _unlike(pair: Pair, fields: tuple[str, ...]) -> list[str]:
    """`threads: 2 and 1` for each field that both sides have and that differs, the first side's value first."""
    found = []
    for field in fields:
        first, second = _values(pair.first, field), _values(pair.second, field)
        if first and second and first != second:
            found.append(f"{field}: {first} and {second}")
    return found


def _differences(pair: Pair, fields: tuple[str, ...], fine: str) -> list[Finding]:
    return [Finding(PROBLEM, one) for one in _unlike(pair, fields)] or [Finding(OK, fine)]


def threads(pair: Pair) -> list[Finding]:
    """Of what both say that they had."""
    fields = ("threads", "interop_threads", "instances")
    alike = ", ".join(f"{field} {_values(pair.first, field)}" for field in fields[:1] if _values(pair.first, field))
    return _differences(pair, fields, f"the same threads on both sides{f' ({alike})' if alike else ''}")


def versions(pair: Pair) -> list[Finding]:
    """Of torch and, where both are of one language, of what built it."""
    same_language = _values(pair.first, "runtime") == _values(pair.second, "runtime")
    fields = ("torch_version", *(("toolchain", "build_type") if same_language else ()))
    return _differences(pair, fields, "the same torch on both sides")


def cpu_features(pair: Pair) -> list[Finding]:
    """Of the instructions that torch used."""
    mend = "unset ATEN_CPU_CAPABILITY on both sides, and measure on one machine"
    unlike = [Finding(PROBLEM, one, mend) for one in _unlike(pair, ("cpu_capability",))]
    return unlike or [Finding(OK, "the same vector instructions on both sides")]


def settings(pair: Pair) -> list[Finding]:
    """Of the knobs; those of CUDA where it was used."""
    on_gpu = "cuda" in (_values(pair.first, "device"), _values(pair.second, "device"))
    fields = tuple(name for name in record.KNOBS if on_gpu or name not in CUDA)
    return _differences(pair, fields, "the same settings on both sides")


def work(pair: Pair) -> list[Finding]:
    """Of the input and the file."""
    fields = WORK if _values(pair.first, "route") == _values(pair.second, "route") else WORK[:2]
    return _differences(pair, fields, "the same input and the same file on both sides")


def machines(pair: Pair) -> list[Finding]:
    """Of where they were measured."""
    first, second = pair.first.environment, pair.second.environment
    if not first or not second:
        return [Finding(UNKNOWN, "records that stand alone do not say where they were measured")]
    unlike = [name for name in MACHINE if name in first and name in second and first[name] != second[name]]
    found = [Finding(PROBLEM, f"{name}: {first[name]} and {second[name]}") for name in unlike]
    return found or [Finding(OK, "measured on the same machine")]


def slower(pair: Pair) -> list[Finding]:
    """Of the time of the second side by that of the first: with its interval over rounds where they ran side by side."""
    times = [_median(side) for side in (pair.first, pair.second)]
    ratio = None
    if pair.first.environment is pair.second.environment:  # of one file: their turns lay side by side
        ratio = stats.between(pair.second.runs, pair.first.runs)
    value = ratio.value if ratio else times[1] / times[0]
    told = f"{pair.second.name} takes {value:.2f} of the time of {pair.first.name}"
    if ratio:
        told += f" (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"
        clear = ratio.low > 1 and value > CLEARLY
    else:
        told += f" (medians {times[1] * 1e3:.4g} and {times[0] * 1e3:.4g} ms; no interval, which wants two rounds side by side)"
        clear = value > 1.05
    return [Finding(WARNING if clear else OK, told)]


def _median(side: Side) -> float:
    times: list[Any] = [second for run in side.runs for second in stats.times_of_calls(run)]
    return float(statistics.median(times))
