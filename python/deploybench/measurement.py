"""The loop of the worker: warm up, then time, and watch outside of the clock whether the output stays the same. Twin of
cpp/deploybench/measurement. Knows nothing of torch: what is called is handed in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploybench import stats
from deploybench.errors import DeploybenchError

if TYPE_CHECKING:
    import numpy

LEAST_RUNS = 3  # even when max_seconds is over: a median of fewer says nothing

Call = Callable[[], "tuple[float, float | None, numpy.ndarray]"]  # seconds, on the device, output float32 [N, classes]


@dataclass(frozen=True)
class Limits:
    """How many calls."""

    warmup: int  # untimed at least, see stats.warmed_up
    runs: int  # timed at least
    min_seconds: float  # timed at least so long in sum
    max_seconds: float  # and no longer, but not before LEAST_RUNS
    turn: int  # timed calls a turn; 0: all in one, without waiting


@dataclass
class Measured:
    """What the calls took, in seconds, and what they gave."""

    warmup: list[float] = field(default_factory=list)
    steady: bool = False  # warm-up ended because the times had settled
    runs: list[float] = field(default_factory=list)
    device: list[float] | None = None  # for each timed call, by the device's own events; None on the CPU
    settle: list[float] = field(default_factory=list)  # the untimed first call of each turn
    turns: list[int] = field(default_factory=list)  # timed calls of each turn
    finite: bool = True  # no NaN and no infinity in any timed output
    drift: float = 0.0  # largest |difference| of any timed output from the first timed one
    output: Any = None  # the last one, numpy float32 [N, classes]


def measure(call: Call, limits: Limits, await_turn: Callable[[], None]) -> Measured:
    """Warm-up calls, then timed ones, in turns: each waits for `await_turn` and begins with one untimed call, because
    another process has used the caches since."""
    measured, spent = Measured(), 0.0
    over = limits.warmup == 0
    while not over:
        measured.warmup.append(call()[0])
        over, measured.steady = stats.warmed_up(measured.warmup, limits.warmup)
    first = None
    while not _done(len(measured.runs), spent, limits):
        if limits.turn and (not measured.turns or measured.turns[-1] == limits.turn):
            await_turn()
            measured.settle.append(call()[0])
            measured.turns.append(0)
        elif not measured.turns:
            measured.turns.append(0)
        seconds, device_seconds, output = call()
        measured.turns[-1] += 1
        measured.runs.append(seconds)
        if device_seconds is not None:
            measured.device = measured.device or []
            measured.device.append(device_seconds)
        spent += seconds
        first = output.copy() if first is None else first  # OpenVINO gives each answer in the same memory
        _compare(first, output, measured)
    return measured


def _done(count: int, spent: float, limits: Limits) -> bool:
    if count >= LEAST_RUNS and spent >= limits.max_seconds:
        return True
    return count >= limits.runs and spent >= limits.min_seconds


def _compare(first: numpy.ndarray, output: numpy.ndarray, measured: Measured) -> None:
    import numpy

    measured.output = output
    measured.finite = measured.finite and bool(numpy.isfinite(output).all())
    if not numpy.array_equal(first, output):
        measured.drift = max(measured.drift, float(numpy.nan_to_num(abs(first - output), posinf=0).max()))


def announced(call: Call) -> Call:
    """`call` that says `answered` after its first answer: who waits for turns measures the cold start from outside."""
    said = False

    def announcing() -> Any:
        nonlocal said
        result = call()
        if not said:
            print("answered", flush=True)
            said = True
        return result

    return announcing


def await_turn() -> None:
    """Says `ready` and waits for a line: the sign that this process may use the machine."""
    print("ready", flush=True)
    if not sys.stdin.readline():
        raise DeploybenchError(
            "runtime", "standard input: ended before the run; with --turn it gives a line for each turn"
        )
