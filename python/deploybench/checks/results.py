"""Checks of what was measured. `report` prints their warnings below its tables. Records that stand alone have no environment, and
what wants one says nothing of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from deploybench.checks.finding import OK, PROBLEM, UNKNOWN, WARNING, Finding, counted, share
from deploybench.checks.machine import BUSY, STOLEN
from deploybench.facts import Results

Run = dict[str, Any]
OPTIMISING = ("script", "trace", "frozen", "fused", "compile")  # routes that optimise in their first calls
OPTIMISED_FROM = 3  # profiled in call 1, optimised in call 2
COLD = 1.5  # times the median


def measured(at: Results) -> list[Run]:
    """The runs that gave numbers."""
    return [run for run in at.results["runs"] if "error" not in run]


def _runners(runs: list[Run]) -> str:
    """The runners of these runs, in order: the first three, and how many more."""
    names = list(dict.fromkeys(run["runner"] for run in runs))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _all_but(bad: list[Run], say: Callable[[list[Run]], Finding], fine: str) -> list[Finding]:
    return [say(bad)] if bad else [Finding(OK, fine)]


def load(at: Results) -> list[Finding]:
    """Of other programs before and during the run."""
    where = at.results["environment"]
    others = at.results.get("others_fraction")
    if not where:
        return []
    if others is not None and others > BUSY:
        return [
            Finding(WARNING, f"{share(others)} of the time was taken by other programs", "measure again without them")
        ]
    if where.get("load_average_1min", 0) > where.get("cpus", 1):
        said = "other programs were busy at the start (load average above the CPUs)"
        return [Finding(WARNING, said, "measure again without them")]
    return [Finding(OK, "no other programs were busy" if others is not None else "the load was low at the start")]


def steal(at: Results) -> list[Finding]:
    """Of other guests of the host during the run."""
    stolen = at.results.get("stolen_fraction")
    if not at.results["environment"]:
        return []
    if stolen is None:
        return [Finding(UNKNOWN, "nothing says how much time other guests of the host took")]
    said = f"{share(stolen)} of the time was stolen by other guests of the host"
    return [Finding(WARNING if stolen > STOLEN else OK, said, "measure again when it is quiet")]


def governor(at: Results) -> list[Finding]:
    """Of the machine that measured."""
    said = at.results["environment"].get("governor")
    if not at.results["environment"]:
        return []
    if said is None:
        return [Finding(UNKNOWN, "nothing says which frequency governor there was")]
    return [Finding(OK if said == "performance" else WARNING, f"the frequency governor was {said}")]


def threads(at: Results) -> list[Finding]:
    """Of threads, all instances together, against the CPUs."""
    where = at.results["environment"]
    if "cpus" not in where:
        return []
    quota = where.get("cpu_quota")
    cpus = where["cpus"] if quota is None else max(1, min(where["cpus"], round(quota)))
    runs = [run for run in measured(at) if run.get("device", "cpu") == "cpu"]
    bad = [run for run in runs if run.get("threads", 1) * run.get("instances", 1) > cpus]

    def say(bad: list[Run]) -> Finding:
        most = max(run["threads"] * run.get("instances", 1) for run in bad)
        whose = "" if quota is None or quota >= where["cpus"] else " of the cgroup's quota"
        limit = counted(cpus, "CPU") + whose
        return Finding(PROBLEM, f"{_runners(bad)}: {most} threads on {limit}", f"--threads {cpus}")

    return _all_but(bad, say, f"no more threads than the {counted(cpus, 'CPU')}")


def versions(at: Results) -> list[Finding]:
    """What the workers said of versions, and whether all had the same torch."""
    said = list(dict.fromkeys(text for run in measured(at) for text in run.get("warnings", [])))
    found = [Finding(PROBLEM, *_split(text)) for text in said]
    torches = dict.fromkeys(run["torch_version"].partition("+")[0] for run in measured(at) if run.get("torch_version"))
    if len(torches) > 1:
        found.append(Finding(PROBLEM, f"runs of torch {' and '.join(torches)} in one file"))
    return found or [Finding(OK, f"torch {', '.join(torches) or 'is not named'} in all runs")]


def _split(text: str) -> tuple[str, str]:
    """A worker's warning as what is wrong and the command."""
    what, _, command = text.rpartition("; ")
    return (what, command) if what else (text, "")


def debug_build(at: Results) -> list[Finding]:
    """Of what the C++ workers say of themselves."""
    runs = [run for run in measured(at) if run.get("build_type") is not None]
    if not runs:
        return []
    bad = [run for run in runs if run["build_type"] != "Release"]
    kinds = "/".join(dict.fromkeys(run["build_type"] or "untyped" for run in bad))
    return _all_but(
        bad,
        lambda _: Finding(PROBLEM, f"the C++ program is a {kinds} build, not Release", "make build"),
        "a Release build",
    )


def cold(at: Results) -> list[Finding]:
    """Of timed calls among the first: too few before the clock, or the first timed one clearly slower in most runs."""
    by_runner: dict[tuple[str, str], list[Run]] = {}
    for run in measured(at):
        if not run.get("turn_rates"):  # of images that arrive, the warm-up's calls are not kept
            by_runner.setdefault((run["model"], run["runner"]), []).append(run)
    bad = [run for runs in by_runner.values() for run in runs[:1] if sum(map(_is_cold, runs)) * 2 > len(runs)]

    def say(bad: list[Run]) -> Finding:
        worst = max(bad, key=_first_to_median)
        median, first = statistics.median(worst["run_seconds"]), worst["run_seconds"][0]
        whose = f" of {worst['runner']}" if len(bad) > 1 else ""
        return Finding(
            PROBLEM,
            f"{_runners(bad)}: cold when the clock started, {counted(_before(worst), 'call')} before it; the first timed "
            f"call{whose} took {first * 1e3:.3g} ms, the median is {median * 1e3:.3g}",
        )

    return _all_but(bad, say, "warm when the clock started")


def _before(run: Run) -> int:
    return len(run["warmup_seconds"]) + len(run.get("settle_seconds", [])[:1])


def _first_to_median(run: Run) -> float:
    return float(run["run_seconds"][0] / statistics.median(run["run_seconds"]))


def _is_cold(run: Run) -> bool:
    optimises = run.get("route") in OPTIMISING and run.get("executor", "profiling") == "profiling"
    if optimises and _before(run) < OPTIMISED_FROM:
        return True
    return not run.get("warmup_steady", True) and _first_to_median(run) > COLD
