"""Does the loop of the Python worker count, wait and watch the output as its twin does? The cases are those of
cpp/tests/test_measurement.cpp."""

from __future__ import annotations

import time

import numpy
import pytest
from deploybench.crew import Crew
from deploybench.measurement import Limits, Measured, measure, measure_crew


def measured(outputs: list[list[float]], warmup: int, runs: int) -> Measured:
    """Of a model that answers call i with outputs[i], the last one ever after, always in the same memory, as OpenVINO does.
    Call i takes i seconds."""
    memory, calls = numpy.zeros((1, len(outputs[0])), numpy.float32), 0

    def call() -> tuple[float, None, numpy.ndarray]:
        nonlocal calls
        memory[:] = outputs[min(calls, len(outputs) - 1)]
        calls += 1
        return float(calls), None, memory

    return measure(call, Limits(warmup, runs, 0, 1e9, 0), lambda: pytest.fail("without turns it never waits"))


def test_every_call_is_recorded_in_its_list() -> None:
    result = measured([[1]], warmup=2, runs=3)
    assert (result.warmup, result.steady) == ([1, 2, 3, 4, 5, 6], False)
    assert (result.runs, result.device, result.settle, result.turns) == ([7, 8, 9], None, [], [3])


def test_drift_is_the_largest_difference_from_the_first_timed_output() -> None:
    # the warm-up outputs (100) must not count
    result = measured([[100, 100], [100, 100], [100, 100], [1, 2], [1.5, 2], [1, -1], [1.5, 2]], warmup=1, runs=4)
    assert (len(result.warmup), result.drift, result.finite) == (3, 3, True)
    assert measured([[1, 2]], warmup=0, runs=4).drift == 0


def test_a_nan_in_any_timed_output_is_seen() -> None:
    nan, infinity = float("nan"), float("inf")
    assert not measured([[nan]], 0, 2).finite
    for bad in (nan, infinity):
        result = measured([[1, 2], [1, 2], [bad, 3], [1, 2]], 0, 4)
        assert (result.finite, result.drift) == (False, 1), "the drift itself stays a number"


def test_each_turn_waits_and_begins_with_an_untimed_call() -> None:
    calls, waited = 0, []

    def call() -> tuple[float, float, numpy.ndarray]:
        nonlocal calls
        calls += 1
        return float(calls), calls / 2, numpy.zeros((1, 1), numpy.float32)

    result = measure(call, Limits(1, 5, 0, 1e9, 2), lambda: waited.append(calls))
    assert waited == [3, 6, 9]  # the calls made when each wait began
    assert (result.settle, result.runs, result.turns) == ([4, 7, 10], [5, 6, 8, 9, 11], [2, 2, 1])
    assert result.device == [2.5, 3, 4, 4.5, 5.5]


def test_the_limits() -> None:
    for limits, calls in (
        (Limits(0, 10, 2.0, 60.0, 0), 20),  # calls of 0.1 s: at least 2 s
        (Limits(0, 10, 0.0, 60.0, 0), 10),
        (Limits(0, 100, 0.0, 0.7, 0), 7),
        (Limits(0, 100, 0.0, 0.05, 0), 3),  # no fewer than three
        (Limits(0, 1, 0.0, 60.0, 0), 1),
    ):
        call = lambda: (0.1 + 1e-9, None, numpy.zeros((1, 1), numpy.float32))  # noqa: E731 (a row of the table)
        assert len(measure(call, limits, lambda: None).runs) == calls


def test_the_time_of_several_instances_is_limited() -> None:
    """2 ms a call: without an end in time 4,000 of them take 8 s."""

    def call() -> tuple[float, None, numpy.ndarray]:
        time.sleep(0.002)
        return 0.002, None, numpy.zeros((1, 1), numpy.float32)

    crew = Crew(2, lambda _: call)

    def calls(seconds: float) -> int:
        result = measure_crew(crew, Limits(0, 4000, 0, seconds, 0), lambda: None)
        assert len(result.turns) == 1
        assert 6 <= len(result.runs) == result.turns[0] < 1000
        return result.turns[0]

    # Three of each instance, however short; an instance goes on while the other is kept from its three, so once of ten
    for seconds, most in ((0.1, 200), (1e-6, 20)):
        assert any(calls(seconds) < most for _ in range(10))
