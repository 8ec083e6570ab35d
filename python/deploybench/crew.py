"""Several instances of a model that make calls at the same time, each on a thread of this process, for `worker --instances`.
Twin of cpp/deploybench/crew. Knows nothing of torch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]


class Crew:
    """Its threads end with the process: a call cannot be broken off."""

    def __init__(self, instances: int, make: Callable[[int], Call]) -> None:
        """`make(i)` is called on the thread of instance i, which makes its calls. Raises what one of them raised."""
        self._changed = threading.Condition()
        self._busy, self._behind, self._least, self._fewest, self._number = instances, 0, 0, 0, 0
        self._end = math.inf  # of the turn, by time.perf_counter()
        self._problem: BaseException | None = None
        self._results: list[list[Any]] = [[] for _ in range(instances)]
        for number in range(instances):
            threading.Thread(target=self._work, args=(number, make), daemon=True).start()
        self._wait()

    def turn(self, least: int, seconds: float = math.inf, fewest: int = 1) -> tuple[float, list[list[Any]]]:
        """All begin together and go on until each has made `least` calls, or, once `seconds` are over, `fewest`, so that none ever
        runs alone: the seconds from the first call's begin to the last one's end, and what the calls of each instance gave. Raises
        what a call raised."""
        with self._changed:
            self._least, self._fewest, self._busy, self._behind = least, fewest, len(self._results), len(self._results)
            self._results = [[] for _ in self._results]
            self._number += 1
            begin = time.perf_counter()
            self._end = begin + seconds
            self._changed.notify_all()
        self._wait()
        return time.perf_counter() - begin, self._results

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0)
            problem, self._problem = self._problem, None
        if problem:
            raise problem

    def _work(self, number: int, make: Callable[[int], Call]) -> None:
        call: Call | None = None
        turn = 0
        while True:
            problem = None
            try:
                if call is None:
                    call = make(number)
                else:
                    self._call_on(call, self._results[number])
            except BaseException as error:  # handed to who waits
                problem = error
            with self._changed:
                if problem:
                    self._problem = self._problem or problem
                    self._behind = 0  # the others need not go on
                self._busy -= 1
                self._changed.notify_all()
                while self._number == turn:
                    self._changed.wait()
                turn = self._number

    def _enough(self, calls: int) -> bool:
        return calls >= self._least or (calls >= self._fewest and time.perf_counter() >= self._end)

    def _call_on(self, call: Call, results: list[Any]) -> None:
        counted = False
        while True:
            results.append(call())
            with self._changed:
                if not counted and self._enough(len(results)):
                    counted = True
                    self._behind = max(0, self._behind - 1)
                if self._behind == 0:
                    return
