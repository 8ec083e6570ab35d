"""What a results file says, as numbers: one entry for each model, batch size and runner. Computes on reading; no text, no torch.

`report` prints these numbers as tables, `page` draws them. A number that cannot be had is None.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from deploybench import checks, facts, models, panel, record, stats
from deploybench.checks import PROBLEM, WARNING
from deploybench.rounds import BASELINE

Sound = dict[tuple[str, str], list[record.Record]]  # runs by model and runner


@dataclass(frozen=True)
class Column:
    """A number of an entry: its name in CSV, with the unit in it; what a person reads, with title, unit and factor to it."""

    name: str
    title: str
    unit: str = ""
    factor: float = 1.0
    digits: int = 3  # significant ones


# What an entry is; COLUMNS are its numbers.
DESCRIBED = ("model", "runner", "runtime", "route", "precision", "device", "batch_size", "instances", "threads")
COLUMNS = (
    Column("median_seconds", "median", "ms", 1e3, 4),
    Column("median_low_seconds", "median, 95 % from", "ms", 1e3, 4),
    Column("median_high_seconds", "to", "ms", 1e3, 4),
    Column("p90_seconds", "p90", "ms", 1e3),
    Column("p99_seconds", "p99", "ms", 1e3),
    Column("images_per_second", "throughput", "images/s"),
    Column("speedup", "speed-up", "×"),
    Column("speedup_low", "speed-up, 95 % from", "×"),
    Column("speedup_high", "to", "×"),
    Column("load_seconds", "load", "ms", 1e3),
    Column("first_call_seconds", "call 1", "ms", 1e3),
    Column("cold_start_seconds", "cold start", "ms", 1e3),
    Column("steady_from_call", "steady from", "call"),
    Column("peak_rss_bytes", "peak RSS", "MB", 1e-6),
    Column("artifact_bytes", "file", "MB", 1e-6),
    Column("cosine", "cosine", "", 1.0, 5),
    Column("max_logit_difference", "logits off by", "", 1.0, 2),
    Column("top1", "top-1", "%", 100, 4),
    Column("top1_change", "change of top-1", "points", 100, 2),
    Column("calls", "calls"),
    Column("rounds", "rounds"),
)


def of_batch(results: dict[str, Any], size: int) -> dict[str, Any]:
    """The part of the results that was measured with this batch size."""
    runs = [run for run in results["runs"] if run.get("batch_size", size) == size]
    return {**results, "config": {**results["config"], "batch_size": size}, "runs": runs}


def by_batch(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The results in parts, one for each batch size."""
    config = results["config"]
    return [of_batch(results, size) for size in config.get("batch_sizes", [config["batch_size"]])]


def measured_models(results: dict[str, Any]) -> list[str]:
    """The models that have runs, in order."""
    return list(dict.fromkeys(run["model"] for run in results["runs"]))


def arriving(results: dict[str, Any]) -> bool:
    """Whether images arrived by themselves, so that the times are latencies under load."""
    return bool(results["config"].get("rate") or results["config"].get("latency_bound"))


def all_sound(results: dict[str, Any]) -> bool:
    """Whether every run ended well and agreed with eager, save those that a route does not undertake."""
    return all(trouble([run]) == "" or unsupported([run]) for run in results["runs"])


def unsupported(runs: list[record.Record]) -> bool:
    """Whether the route says that it is not made for this model or CPU."""
    return all(run.get("error", {}).get("code") == "unsupported" for run in runs)


def trouble(runs: list[record.Record]) -> str:
    """Why these runs give no speed number; empty when they do."""
    for run in runs:
        if "error" in run:
            return f"{run['error']['code']}: {run['error']['message']}"
        if run.get("parity") is None:
            return "no eager output to compare with"
        if not run["parity"]["ok"]:
            return f"not equal to eager: {run['parity']['reason']}"
    return "" if runs else "not measured yet"


def by_runner(results: dict[str, Any], model: str) -> dict[str, list[record.Record]]:
    """The runs of each runner that was asked for, in order; none where it was not measured yet."""
    found: dict[str, list[record.Record]] = {runner: [] for runner in results["config"]["runners"]}
    for run in results["runs"]:
        if run["model"] == model and run["runner"] in found:
            found[run["runner"]].append(run)
    return found


def sound_runs(results: dict[str, Any]) -> Sound:
    """The runs that ended well and agreed with eager, by model and runner."""
    found: Sound = {}
    for run in results["runs"]:
        if not trouble([run]):
            found.setdefault((run["model"], run["runner"]), []).append(run)
    return found


def against(runner: str) -> str:
    """What its speed-up is measured against: eager, or for the second of a self-check its first."""
    return runner.removesuffix("#2") if runner.endswith("#2") else BASELINE


def speedup(sound: Sound, model: str, base: str, runner: str) -> stats.Ratio | None:
    """How much faster `runner` is than `base`, over the rounds that both have."""
    return stats.between(sound.get((model, base), []), sound.get((model, runner), []), panel.beside(sound, model))


def throughput(runs: list[record.Record]) -> float:
    """Images a second."""
    return float(runs[0]["batch_size"] / statistics.median(time for run in runs for time in stats.times_of_calls(run)))


def numbers(runs: list[record.Record]) -> dict[str, Any]:
    """The numbers of one runner, pooled over its rounds, by the names of COLUMNS; the speed-up is not among them."""
    timed = [run["run_seconds"] for run in runs]
    pooled = [second for calls in timed for second in calls]
    every = [run["warmup_seconds"] + run["run_seconds"] for run in runs]
    low, high = stats.median_interval(timed) or (None, None)
    parities = [run["parity"] for run in runs]
    return {
        "median_seconds": statistics.median(pooled),
        "median_low_seconds": low,
        "median_high_seconds": high,
        "p90_seconds": stats.quantile(pooled, 0.90),
        "p99_seconds": stats.quantile(pooled, 0.99),
        "images_per_second": throughput(runs),
        "load_seconds": statistics.median(run["load_seconds"] for run in runs),
        "first_call_seconds": statistics.median(calls[0] for calls in every),
        "cold_start_seconds": statistics.median(run["cold_start_seconds"] for run in runs),
        "steady_from_call": statistics.median(map(stats.steady_from_call, every)),
        "peak_rss_bytes": max(run["peak_rss_bytes"] for run in runs),
        "artifact_bytes": runs[0]["artifact_bytes"],
        "cosine": min(parity.get("cosine", 1.0) for parity in parities),
        "max_logit_difference": max((parity.get("max_logit_difference", 0.0) for parity in parities), default=None),
        "calls": len(pooled),
        "rounds": len(runs),
    }


def under_load(runs: list[record.Record], bound: float | None) -> dict[str, Any] | None:
    """Of images that arrive by themselves: the rate that was asked for, or the highest of the search at which 99 of 100
    answers kept the bound (the median over rounds), its latencies in seconds, and what the instances can do at most, in
    images a second. A round in which no rate kept the bound counts as one of rate 0, and then the lower of the two middle rounds
    is taken, which has been kept in at least half of them. None: there is no such rate."""
    kept = [turn for run in runs if (turn := stats.highest_rate(run, bound))]
    rates = [rate for rate, _ in kept] + [0.0] * (len(runs) - len(kept))
    rate = (statistics.median if len(kept) == len(runs) else statistics.median_low)(rates)
    if not rate:
        return None
    latencies = [second for _, seconds in kept for second in seconds]
    most = statistics.median(max(run["turn_rates"]) for run in runs)
    return {"rate": rate, "latencies": latencies, "most": most}


def entries(part: dict[str, Any], model: str) -> list[dict[str, Any]]:
    """A flat entry for each runner of a model at one batch size: what it is, the COLUMNS, and `trouble` where it has none.

    Of images that arrive by themselves the times are latencies, `images_per_second` is the rate, and there is no speed-up.
    """
    sound = sound_runs(part)
    return [_entry(part, model, runner, runs, sound) for runner, runs in by_runner(part, model).items()]


def rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of all models and batch sizes."""
    return [entry for part in by_batch(results) for model in measured_models(part) for entry in entries(part, model)]


def _entry(results: dict[str, Any], model: str, runner: str, runs: list[record.Record], sound: Sound) -> dict[str, Any]:
    config, (runtime, route, precision) = results["config"], panel.parts(runner)
    entry: dict[str, Any] = {
        "model": model, "runner": runner, "runtime": runtime, "route": route, "precision": precision,
        "device": config["device"], "batch_size": config["batch_size"], "instances": config.get("instances", 1),
        "threads": config["threads"], **{column.name: None for column in COLUMNS}, "trouble": trouble(runs),
    }  # fmt: skip
    if entry["trouble"]:
        return {**entry, "refused": bool(runs) and unsupported(runs)}
    entry |= numbers(runs)
    entry |= results.get("accuracy", {}).get("values", {}).get((model, runner.partition("#")[0]), {})
    if arriving(results):
        return entry | _latencies(runs, config.get("latency_bound"))
    base = against(runner)
    if base == runner:
        return entry | {"speedup": 1.0}
    ratio = speedup(sound, model, base, runner)
    return entry | ({"speedup": ratio.value, "speedup_low": ratio.low, "speedup_high": ratio.high} if ratio else {})


def _latencies(runs: list[record.Record], bound: float | None) -> dict[str, Any]:
    """What takes the place of the times of calls in an entry under load."""
    found = under_load(runs, bound)
    names = (
        "median_seconds", "median_low_seconds", "median_high_seconds", "p90_seconds", "p99_seconds",
        "first_call_seconds", "steady_from_call",  # which are of a call alone, and here many images come at once
    )  # fmt: skip
    empty: dict[str, Any] = {**dict.fromkeys(names), "images_per_second": None}
    if found is None:
        return {**empty, "trouble": "no rate kept the bound"}
    quantiles = {f"p{q}_seconds": stats.quantile(found["latencies"], q / 100) for q in (90, 99)}
    return {
        **empty,
        "median_seconds": statistics.median(found["latencies"]),
        **quantiles,
        "images_per_second": found["rate"],
    }


def warnings(results: dict[str, Any]) -> list[str]:
    """What a reader must know before trusting the numbers, each with the remedy."""
    judged = checks.examine(facts.Results(results))
    found = [f"{one.found}: {checks.remedy(name, one)}" for name, one in judged if one.level in (WARNING, PROBLEM)]
    if any(run.get("weights_origin") == "random" for run in results["runs"]):
        remedy = models.where_weights_come_from(results["config"].get("models", []))
        found.append(f"RANDOM weights: speed and parity are real, labels mean nothing ({remedy})")
    return [*found, *results.get("accuracy", {}).get("warnings", [])]


def twins(results: dict[str, Any], model: str) -> dict[str, stats.Ratio]:
    """How long a call takes in C++ against Python, on the same file by the same route; by C++ runner that has its twin."""
    sound, found = sound_runs(results), {}
    for runner in results["config"]["runners"]:
        twin = runner.replace("cpp/", "python/", 1)
        if runner.startswith("cpp/") and "#" not in runner and (ratio := speedup(sound, model, runner, twin)):
            found[runner] = ratio
    return found
