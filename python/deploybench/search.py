"""The runners of one model, made and measured within a budget of time: all of them once, then the best again and again.

`advise` and `migrate` look through it. It measures as `bench` does, by rounds of fresh processes, and into the same kind of results file.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploybench import cases, configuration, panel, results_file, rounds, routes, selection, summary, terminal
from deploybench.models import Model
from deploybench.rounds import BASELINE
from deploybench.verbs import bench

CALLS, WARMUP = 10, 5  # of each runner in a round
ROUNDS = 6  # more would not separate what is still close: equal processes differ by 2 % (docs/measuring.md)
MAKING, LATENCY = 0.5, 0.75  # shares of the budget that are over when making, and measuring single calls, end
CLOSE = 0.01  # a runner that could be faster by more than this is measured again
SPREAD = 1.5  # with a thread an instance, others may lead: those within this of the fastest single call are tried
# Kinds of files that a compiler makes; the others take seconds.
COMPILED = ("direct", "aoti")


def candidates(device: str, precisions: tuple[str, ...], need_cpp: bool) -> list[str]:
    """What makes sense to deploy: every route of C++, and the peers. Python's twins of them are never faster (README)."""
    peers = () if need_cpp else panel.PEERS
    return [
        one.name
        for one in routes.runners(device, precisions)
        if one.route.name in peers or (one.runtime == "cpp" and one.route.name != "trace")  # the same graph as script's
    ]


def steps(names: list[str]) -> list[list[str]]:
    """`names` in the order in which their files are made: quick ones together, then one compiled kind after the other."""
    ordered: dict[tuple[str, str], list[str]] = {}
    for name in [BASELINE, *names]:
        one = routes.runner(name)
        kind = one.route.kind.name
        ordered.setdefault((kind if kind in COMPILED else "", one.precision), []).append(name)
    order = ("", *COMPILED)
    return [ordered[key] for key in sorted(ordered, key=lambda key: (order.index(key[0]), key[1] != "fp32"))]


@dataclass
class Search:
    """Of one model. `tried`: why a runner has no number, or nothing."""

    model: Model
    flags: list[str]  # of bench, what all its measuring has in common
    budget: float  # seconds
    scratch: Path
    begin: float = field(default_factory=time.monotonic)
    tried: dict[str, str] = field(default_factory=dict)
    case: cases.Case | None = None

    def spent(self) -> float:
        """The share of the budget that is over."""
        return (time.monotonic() - self.begin) / self.budget

    def make(self, names: list[str]) -> None:
        """The files of `names`, as many as half the budget allows; those that are there take seconds."""
        config = self._configured(names)
        for step in steps(names):
            left = MAKING * self.budget - (time.monotonic() - self.begin)
            if left <= 0:
                self.tried |= dict.fromkeys(step, "its file was not made within the budget")
                continue
            terminal.notice(f"making {', '.join(step)}")
            found = cases.prepare(self.model, {**config, "runners": step}, left if self.case else None)
            self.case = found if self.case is None else _joined(self.case, found)
            for name in step:
                one = routes.runner(name)
                if why := found.errors.get((one.route.kind.name, one.precision)):
                    self.tried[name] = str(why)

    def _configured(self, names: list[str]) -> dict[str, Any]:
        return dict(configuration.configure(self._arguments(names))["config"])

    def _arguments(self, names: list[str], *more: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        bench.add_arguments(parser)
        seconds = min(60.0, self.budget / 4 / max(1, len(names)))
        sizes = ["--runs", str(CALLS), "--rounds", "1", "--warmup", str(WARMUP), "--max-seconds", f"{seconds:.3f}"]
        return parser.parse_args([*self.flags, "--runners", ",".join(names), *sizes, *more])

    def measure(self, names: list[str], until: float, *more: str, least: int = 1) -> tuple[Path, selection.Runs]:
        """All of `names` `least` times, then those that may still be the fastest, until `until` of the budget; the results
        file and the sound runs. `more`: flags of bench."""
        arguments = self._arguments(names, *more)
        results = configuration.configure(arguments)
        path = results_file.new_path(arguments.results)
        todo, took = [BASELINE, *names], 0.0
        for number in range(ROUNDS):
            terminal.notice(f"round {number + 1}: {', '.join(todo)}")
            start = time.monotonic()
            self._round(todo, number, results)
            results_file.save(path, results)
            took = (time.monotonic() - start) / len(todo)
            measured = self._sound(names, results)
            todo = names if number + 1 < least else selection.undecided(measured, CLOSE)
            if not todo or self.spent() + took * len(todo) / self.budget > until:
                break
        results["complete"] = True
        results_file.save(path, results)
        return path, measured

    def _round(self, names: list[str], number: int, results: dict[str, Any]) -> None:
        """Into the results, which count what was done."""
        assert self.case is not None
        config = results["config"]
        ended = rounds.run_round(self.case, names, {**config, "runs": CALLS, "rounds": 1}, self.scratch)
        for runner, output, line in ended:
            rounds.compare_with(line, output, self.scratch / rounds.REFERENCE, runner)
            about = {"model": self.model.name, "runner": runner, "round": number, "batch_size": config["batch_size"]}
            results["runs"].append(line | about)
        config.update(rounds=number + 1, runs=CALLS * (number + 1))

    def _sound(self, names: list[str], results: dict[str, Any]) -> selection.Runs:
        """The runs of the runners that did well; of the others, why not, into `tried`."""
        measured = {name: [run for run in results["runs"] if run["runner"] == name] for name in names}
        self.tried |= {name: why for name, runs in measured.items() if (why := summary.trouble(runs))}
        return {name: runs for name, runs in measured.items() if not summary.trouble(runs)}


def _joined(one: cases.Case, other: cases.Case) -> cases.Case:
    return replace(one, artifacts=one.artifacts | other.artifacts, errors=one.errors | other.errors)
