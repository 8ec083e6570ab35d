"""The loop of the worker: warm up, then time, and watch outside of the clock whether the output stays the same. Twin of
cpp/deploybench/measurement. Knows nothing of torch: what is called is handed in."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploybench import stats, terminal
from deploybench.crew import Crew
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
    turn_seconds: list[float] = field(default_factory=list)  # of each turn, from its first timed call to its last
    rates: list[float] | None = None  # images a second that arrived in each turn; None: see load.py
    finite: bool = True  # no NaN and no infinity in any timed output
    drift: float = 0.0  # largest |difference| of any timed output from the first timed one
    first: Any = None  # output, numpy float32 [N, classes]
    output: Any = None  # the last one


def measure(call: Call, limits: Limits, await_turn: Callable[[], None]) -> Measured:
    """Warm-up calls, then timed ones, in turns: each waits for `await_turn` and begins with one untimed call, because
    another process has used the caches since."""
    measured, spent = Measured(), 0.0
    _warm_up(lambda: call()[0], limits, measured)
    begin = 0.0
    while not _done(len(measured.runs), spent, limits):
        if not measured.turns or measured.turns[-1] == limits.turn:
            if limits.turn:
                await_turn()
                measured.settle.append(call()[0])
            measured.turns.append(0)
            measured.turn_seconds.append(0.0)
            begin = time.perf_counter()
        seconds, device_seconds, output = call()
        measured.turn_seconds[-1] = time.perf_counter() - begin
        measured.turns[-1] += 1
        spent += seconds
        _keep(seconds, device_seconds, measured)
        watch(output, measured)
    return measured


def measure_crew(crew: Crew, limits: Limits, await_turn: Callable[[], None]) -> Measured:
    """The same for instances that call at the same time; limits.runs and limits.turn count the calls of each."""
    measured, spent, least = Measured(), 0.0, 0
    _warm_up(lambda: float(crew.turn(1)[1][0][0][0]), limits, measured)
    while not _done(least, spent, limits):
        calls = limits.turn or max(1, limits.runs - least)
        if limits.turn:
            await_turn()
            measured.settle.append(crew.turn(1)[0])
        took, instances = crew.turn(calls, limits.max_seconds - spent, max(1, LEAST_RUNS - least))
        for seconds, device_seconds, output in (call for calls in instances for call in calls):
            _keep(seconds, device_seconds, measured)
            watch(output, measured)
        measured.turns.append(sum(map(len, instances)))
        measured.turn_seconds.append(took)
        least += min(calls, *map(len, instances))
        spent += took
    return measured


def _warm_up(call: Callable[[], float], limits: Limits, measured: Measured) -> None:
    over = limits.warmup == 0
    while not over:
        measured.warmup.append(call())
        over, measured.steady = stats.warmed_up(measured.warmup, limits.warmup)


def _keep(seconds: float, device_seconds: float | None, measured: Measured) -> None:
    measured.runs.append(seconds)
    if device_seconds is not None:
        measured.device = measured.device or []
        measured.device.append(device_seconds)


def _done(count: int, spent: float, limits: Limits) -> bool:
    if count >= LEAST_RUNS and spent >= limits.max_seconds:
        return True
    return count >= limits.runs and spent >= limits.min_seconds


def watch(output: numpy.ndarray, measured: Measured) -> None:
    """Keeps the output, and what is to be known of it and those before."""
    import numpy

    if measured.first is None:
        measured.first = output.copy()  # OpenVINO gives each answer in the same memory
    measured.output = output
    measured.finite = measured.finite and bool(numpy.isfinite(output).all())
    if not numpy.array_equal(measured.first, output):
        far = numpy.nan_to_num(abs(measured.first - output), posinf=0).max()
        measured.drift = max(measured.drift, float(far))


class Announcement:
    """`answered`, said once, after the first answer: who waits for turns measures the cold start from outside."""

    def __init__(self, wanted: bool) -> None:
        self._due = wanted

    def after(self, call: Call) -> Call:
        """`call` that says so."""

        def announcing() -> Any:
            result = call()
            if self._due:
                self._due = False
                terminal.write("answered\n")
            return result

        return announcing


def await_turn() -> None:
    """Says `ready` and waits for a line: the sign that this process may use the machine."""
    terminal.write("ready\n")
    if not sys.stdin.readline():
        raise DeploybenchError(
            "runtime", "standard input: ended before the run; with --turn it gives a line for each turn"
        )
