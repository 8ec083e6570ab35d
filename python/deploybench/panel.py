"""The best of ours against the best peer, model by model: is LibTorch the right choice on this machine? Imports no torch."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from deploybench import routes, stats

PEERS = ("onnxruntime", "openvino")  # routes that are no LibTorch


@dataclass(frozen=True)
class Line:
    """One model at one precision. `ratio`: milliseconds of ours over those of the peer; below 1 we are faster."""

    model: str
    precision: str
    ours: str
    ours_ms: float
    peer: str
    peer_ms: float
    ratio: float
    low: float
    high: float


def parts(runner: str) -> tuple[str, str, str]:
    """Its runtime, route and precision."""
    runtime, route, *precision = runner.partition("#")[0].split("/")
    return runtime, route, precision[0] if precision else "fp32"


def lines(sound: dict[tuple[str, str], list[dict[str, Any]]]) -> list[Line]:
    """A line for each model and precision that has a C++ runner and a peer. `sound`: runs by model and runner."""
    found = []
    for model in dict.fromkeys(model for model, _ in sound):
        for precision in routes.PRECISIONS:
            runners = [name for one, name in sound if one == model and parts(name)[2] == precision and "#" not in name]
            ours = [name for name in runners if parts(name)[0] == "cpp"]
            peers = [name for name in runners if parts(name)[1] in PEERS]
            if ours and peers:
                found.append(_line(model, precision, _best(sound, model, ours), _best(sound, model, peers), sound))
    return found


def beside(sound: dict[tuple[str, str], list[dict[str, Any]]], model: str) -> list[list[dict[str, Any]]]:
    """The runs of each runner of the model."""
    return [runs for (one, _), runs in sound.items() if one == model]


def _median_ms(runs: list[dict[str, Any]]) -> float:
    return 1e3 * float(statistics.median(second for run in runs for second in stats.times_of_calls(run)))


def _best(sound: dict[tuple[str, str], list[dict[str, Any]]], model: str, names: list[str]) -> str:
    return min(names, key=lambda name: _median_ms(sound[model, name]))


def _line(model: str, precision: str, ours: str, peer: str, sound: dict[tuple[str, str], list[dict[str, Any]]]) -> Line:
    times = [_median_ms(sound[model, name]) for name in (ours, peer)]
    ratio = stats.between(sound[model, ours], sound[model, peer], beside(sound, model))
    value = ratio.value if ratio else times[0] / times[1]
    low, high = (ratio.low, ratio.high) if ratio else (math.nan, math.nan)
    return Line(model, precision, ours, times[0], peer, times[1], value, low, high)


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers, at least one."""
    return math.exp(statistics.fmean(map(math.log, values)))
