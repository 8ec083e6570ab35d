"""Images that arrive by themselves, as those of a server's clients do, and how long each one waits for its answer. Twin of
cpp/deploybench/load, and of the part of cpp/deploybench/pool that it needs. Knows nothing of torch."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from deploybench import stats
from deploybench.measurement import Measured

HALVINGS = 7  # to within 1 % of what the pool can do
LONGEST = 8  # a turn of the search, by the first one, at most: FEWEST images at a 128th of what it can do take for ever
PERCENTILE = 0.99
FEWEST = 20  # images of a turn: a percentile of fewer says nothing
ALONE = 3  # images, one after the other, of which the fastest says what an answer takes
MASK = (1 << 64) - 1

Answer = Callable[[int], None]  # classifies so many images together


@dataclass(frozen=True)
class LoadLimits:
    """What arrives."""

    rate: float  # images a second in the mean; 0: the highest that keeps the bound is searched for
    latency_bound: float  # seconds that 99 of 100 answers take at most; 0: none
    seconds: float  # of arrivals in each turn
    seed: int


def poisson_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """When images arrive, in seconds from the begin, in the first `seconds`: a Poisson process, whose gaps are exponential (by
    inversion, of the splitmix64 generator's upper 53 bits). The same numbers in both languages."""
    arrivals: list[float] = []
    at, state = 0.0, seed
    while True:
        # Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014)
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        at -= math.log1p(-(z >> 11) * 2.0**-53) / rate
        if at >= seconds and len(arrivals) >= FEWEST:
            return arrivals
        arrivals.append(at)


class Pool:
    """Threads, an instance each, that take what waits, up to `most_batch` images together, and wait `most_delay` seconds for more."""

    def __init__(self, instances: int, make: Callable[[int], Answer], most_batch: int, most_delay: float) -> None:
        """`make(i)` is called on the thread of instance i. Raises what one of them raised."""
        self.waiting: queue.SimpleQueue[Callable[[BaseException | None], None]] = queue.SimpleQueue()
        self._most_batch, self._most_delay = most_batch, most_delay
        made: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        for number in range(instances):
            threading.Thread(target=self._work, args=(number, make, made), daemon=True).start()
        problems = [made.get() for _ in range(instances)]
        for problem in problems:
            if problem:
                raise problem

    def _work(self, number: int, make: Callable[[int], Answer], made: queue.SimpleQueue[BaseException | None]) -> None:
        try:
            answer = make(number)
        except BaseException as error:  # handed to who waits
            made.put(error)
            return
        made.put(None)
        while True:
            jobs = [self.waiting.get()]
            end = time.perf_counter() + self._most_delay
            while len(jobs) < self._most_batch:
                try:
                    jobs.append(self.waiting.get(timeout=max(0.0, end - time.perf_counter())))
                except queue.Empty:
                    break
            problem = None
            try:
                answer(len(jobs))
            except BaseException as error:  # handed to who waits
                problem = error
            for job in jobs:
                job(problem)


def burst(pool: Pool, arrivals: list[float]) -> tuple[float, list[float]]:
    """Hands an image over at each of the arrivals and waits for all answers: seconds to the last one, and the latencies in the
    order of arrival, from when the image should have arrived: one that is handed over late has waited all the same."""
    latencies = [0.0] * len(arrivals)
    answered: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    begin = time.perf_counter()

    def job(number: int) -> Callable[[BaseException | None], None]:
        def done(problem: BaseException | None) -> None:
            latencies[number] = time.perf_counter() - begin - arrivals[number]
            answered.put(problem)

        return done

    for number, at in enumerate(arrivals):
        time.sleep(max(0.0, begin + at - time.perf_counter()))
        pool.waiting.put(job(number))
    problems = [answered.get() for _ in arrivals]
    seconds = time.perf_counter() - begin
    for problem in problems:
        if problem:
            raise problem
    return seconds, latencies


def measure_load(pool: Pool, limits: LoadLimits, measured: Measured) -> None:
    """One turn at limits.rate, or a search: all at once first, which shows what the pool can do at most, then up to seven
    halvings between nothing and that: none where an image alone takes longer than the bound, and none whose turn would take
    LONGEST times as long as the first. Each turn is kept, with its rate, the first one with what came out; runs are latencies."""
    measured.rates = []

    def keep(turn: tuple[float, list[float]], rate: float) -> None:
        measured.runs += turn[1]
        measured.turns.append(len(turn[1]))
        measured.turn_seconds.append(turn[0])
        assert measured.rates is not None
        measured.rates.append(rate)

    if limits.rate > 0:
        keep(burst(pool, poisson_arrivals(limits.rate, limits.seconds, limits.seed)), limits.rate)
        return
    few, _ = burst(pool, [0.0] * FEWEST)
    seconds, latencies = burst(pool, [0.0] * max(FEWEST, int(limits.seconds * FEWEST / few)))
    low, high = 0.0, len(latencies) / seconds
    keep((seconds, latencies), high)
    if min(burst(pool, [0.0])[0] for _ in range(ALONE)) > limits.latency_bound:
        return
    slowest = FEWEST / (LONGEST * max(limits.seconds, seconds))
    for number in range(HALVINGS):
        rate = (low + high) / 2
        if rate < slowest:
            return
        turn = burst(pool, poisson_arrivals(rate, limits.seconds, limits.seed + number))
        keep(turn, rate)
        if stats.quantile(turn[1], PERCENTILE) <= limits.latency_bound:
            low = rate
        else:
            high = rate
