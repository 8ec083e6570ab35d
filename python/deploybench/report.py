"""`deploybench report`: tables from a results file. Computes on reading, prints and keeps nothing. Imports no torch."""

from __future__ import annotations

import argparse
import math
import statistics
import textwrap
from pathlib import Path
from typing import Any

import tabulate

from deploybench import panel, paths, record, stats
from deploybench.paths import shown
from deploybench.stats import digits

BASELINE = "python/eager"
LEGEND = "speed-up: against python/eager, with its 95 % interval; ~ inconclusive, the interval spans 1"
# tabulate's own formats put two spaces or a bar between columns; twelve columns fit 80 characters only with one
NARROW = tabulate.TableFormat(
    lineabove=None, linebelowheader=None, linebetweenrows=None, linebelow=None,
    headerrow=tabulate.DataRow("", " ", ""), datarow=tabulate.DataRow("", " ", ""), padding=0, with_header_hide=None,
)  # fmt: skip
UNITS = {
    "runner": "", "median": "ms", "p90": "ms", "p99": "ms", "img/s": "", "load": "ms", "call1": "ms", "cold": "ms", "from": "call",
    "RSS": "MB", "file": "MB", "cosine": "", "speed-up": "95 % interval",
}  # fmt: skip
WIDTH = 80
DISPENSABLE = (
    "cold",
    "p90",
    "from",
    "img/s",
    "call1",
)  # what a terminal's table does without, in this order; Markdown has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a results file (default: the last)")
    parser.add_argument(
        "--results", type=Path, default=paths.RESULTS, metavar="FOLDER", help="where the last is looked for"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown")


def run(args: argparse.Namespace) -> int:
    """Prints the tables; 1 where a runner failed or was not equal to eager."""
    path = args.file or record.latest(args.results)
    results = record.load(path)
    if args.markdown:
        print(markdown(results))
    else:
        for part in by_batch(results):
            for model in measured_models(part):
                print(model_table(part, model) + "\n")
            if against := peers_table(part):
                print(against + "\n")
        print(footer(results, path))
    return 0 if all_sound(results) else 1


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
    return ""


def model_table(results: dict[str, Any], model: str, style: Any = NARROW) -> str:
    """The table of one model with its caption and, below, the runners that gave no number."""
    if arriving(results):
        return load_table(results, model, style)
    runners = results["config"]["runners"]
    columns = [name for name in UNITS if name != "cosine" or any(panel.parts(one)[2] != "fp32" for one in runners)]
    rows, failures = [], []
    for runner in runners:
        runs = [run for run in results["runs"] if run["model"] == model and run["runner"] == runner]
        why = trouble(runs) if runs else "not measured yet"
        if why:
            failures.append(f"{runner}: {why}")
            said = "not for this" if runs and unsupported(runs) else "no number"
            rows.append({"runner": runner, "speed-up": f"{said}, see below"})
        else:
            rows.append(_cells(results, model, runner, runs))
    if style is NARROW:
        for column in DISPENSABLE:
            if max(len(line) for line in _lines(rows, columns)) > WIDTH:
                columns.remove(column)
        table = "\n".join(_lines(rows, columns))
        failures = [line for text in failures for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
        twins = textwrap.wrap(twins_line(results, model), WIDTH, subsequent_indent="  ")
    else:
        headers = [f"{name} {UNITS[name]}".strip() for name in columns]
        cells = [[row.get(name, "-") for name in columns] for row in rows]
        table = tabulate.tabulate(cells, headers, style, disable_numparse=True, colalign=_aligned(columns))
        twins = ["", line] if (line := twins_line(results, model)) else []
        failures = ["", *(f"- {text}" for text in failures)] if failures else []
    return "\n".join([caption(results, model), table, *twins, *failures])


def _aligned(columns: list[str]) -> list[str]:
    return ["left" if name in ("runner", "speed-up") else "right" for name in columns]


def _lines(rows: list[dict[str, str]], columns: list[str]) -> list[str]:
    """The table for a terminal. tabulate widens a column by two for a header; as rows headers cost nothing."""
    cells = [columns, [UNITS[name] for name in columns], *([row.get(name, "-") for name in columns] for row in rows)]
    return tabulate.tabulate(cells, [], NARROW, disable_numparse=True, colalign=_aligned(columns)).splitlines()


def caption(results: dict[str, Any], model: str) -> str:
    """What the table's runs have in common."""
    config = results["config"]
    origins = {run.get("weights_origin") for run in results["runs"] if run["model"] == model} - {None}
    weights = "RANDOM weights" if "random" in origins else f"{'/'.join(sorted(origins))} weights" if origins else ""
    threads = f"{config['threads']} thread{'s' * (config['threads'] != 1)}"
    if config.get("instances", 1) > 1:
        threads = f"{config['instances']} instances x {threads}"
    precisions = " and ".join(dict.fromkeys(panel.parts(runner)[2] for runner in config["runners"]))
    return ", ".join(
        filter(None, [model, f"batch {config['batch_size']}", config["device"], precisions, threads, weights])
    )


def _cells(results: dict[str, Any], model: str, runner: str, runs: list[record.Record]) -> dict[str, str]:
    """The numbers of one runner, pooled over its rounds."""
    timed = [second for run in runs for second in run["run_seconds"]]
    calls = [run["warmup_seconds"] + run["run_seconds"] for run in runs]
    median = statistics.median(timed)
    return {
        "runner": runner,
        "median": digits(median * 1e3, 4),
        "p90": digits(stats.quantile(timed, 0.90) * 1e3, 3),
        "p99": digits(stats.quantile(timed, 0.99) * 1e3, 3),
        "img/s": digits(throughput(runs), 3),
        "load": digits(statistics.median(run["load_seconds"] for run in runs) * 1e3, 3),
        "call1": digits(statistics.median(one[0] for one in calls) * 1e3, 3),
        "cold": digits(statistics.median(run["cold_start_seconds"] for run in runs) * 1e3, 3),
        "from": f"{statistics.median(map(stats.steady_from_call, calls)):.0f}",
        "RSS": f"{max(run['peak_rss_bytes'] for run in runs) / 1e6:.0f}",
        "file": digits(runs[0]["artifact_bytes"] / 1e6, 3),
        "cosine": f"{min(run['parity'].get('cosine', 1.0) for run in runs):.5f}",
        "speed-up": _speedup(results, model, runner),
    }


def throughput(runs: list[record.Record]) -> float:
    """Images a second."""
    return float(runs[0]["batch_size"] / statistics.median(time for run in runs for time in stats.times_of_calls(run)))


def arriving(results: dict[str, Any]) -> bool:
    """Whether images arrived by themselves, so that the times are latencies under load."""
    return bool(results["config"].get("rate") or results["config"].get("latency_bound"))


def load_table(results: dict[str, Any], model: str, style: Any = NARROW) -> str:
    """Latencies under load: a row for each runner, at the rate that was asked for, or at the highest of the search at which
    99 of 100 answers kept the bound (the median over rounds), beside what the instances can do at most."""
    bound = results["config"].get("latency_bound")
    rows, failures = [], []
    for runner in results["config"]["runners"]:
        runs = [run for run in results["runs"] if run["model"] == model and run["runner"] == runner]
        if why := trouble(runs) if runs else "not measured yet":
            failures.append(f"{runner}: {why}")
            rows.append([runner, "no number"])
            continue
        best = [stats.highest_rate(run, bound) for run in runs]
        kept = [turn for turn in best if turn]
        if not kept:
            rows.append([runner, "none"])
            continue
        latencies = [second for turn in kept for second in turn[1]]
        shares = [digits(stats.quantile(latencies, q) * 1e3, 3) for q in (0.5, 0.9, 0.99, 0.999)]
        most = statistics.median(max(run["turn_rates"]) for run in runs)
        rate = statistics.median(turn[0] for turn in kept)
        rows.append([runner, digits(rate, 3), *shares, *([digits(most, 3)] if bound else [])])
    headers = ["runner", "images/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", *(["at most"] if bound else [])]
    kind = "simple" if style is NARROW else style
    table = tabulate.tabulate(
        rows, headers, kind, disable_numparse=True, colalign=["left", *["right"] * (len(headers) - 1)]
    )
    how = f"p99 within {bound * 1e3:g} ms" if bound else f"{results['config']['rate']:g} images/s"
    notes = [line for text in failures for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
    return "\n".join([f"{caption(results, model)}, images arrive by themselves: {how}", table, *notes])


def _speedup(results: dict[str, Any], model: str, runner: str) -> str:
    """`ratio low-high`; a second run of the same runner is compared with the first."""
    against = runner.removesuffix("#2") if runner.endswith("#2") else BASELINE
    if runner == against:
        return "1 baseline"
    ratio = speedup(results, model, against, runner)
    if ratio is None:
        return "one round, no interval"
    return f"{ratio.value:.2f} {ratio.low:.2f}-{ratio.high:.2f}{'' if ratio.conclusive else ' ~'}"


def speedup(results: dict[str, Any], model: str, against: str, runner: str) -> stats.Ratio | None:
    """How much faster `runner` is than `against`, over the rounds that both have."""
    sound = sound_runs(results)
    return stats.between(sound.get((model, against), []), sound.get((model, runner), []))


def twins_line(results: dict[str, Any], model: str) -> str:
    """How long a call takes in C++ against Python, on the same file by the same route; empty where no route ran in both."""
    parts = []
    for runner in results["config"]["runners"]:
        runtime, route, precision = panel.parts(runner)
        twin = runner.replace("cpp/", "python/", 1)
        if runtime == "cpp" and "#" not in runner and (ratio := speedup(results, model, runner, twin)):
            name = route if precision == "fp32" else f"{route}/{precision}"
            parts.append(f"{name} {ratio.value:.2f} {ratio.low:.2f}-{ratio.high:.2f}{'' if ratio.conclusive else ' ~'}")
    return f"time of C++ / Python, same file: {', '.join(parts)}" if parts else ""


def counted_line(results: dict[str, Any], model: str, size: int) -> str:
    """Instructions of a call of each runner, where they were counted."""
    parts = [
        f"{one['runner']} {'no number: ' + one['error']['message'] if 'error' in one else digits(stats.per_call(one) / 1e6, 4)}"
        for one in results.get("instructions", [])
        if (one["model"], one["batch_size"]) == (model, size)
    ]
    how = {one["counter"] for one in results.get("instructions", []) if "counter" in one}
    line = f"million instructions of a call, one thread, by {'/'.join(sorted(how)) or 'none'}: {', '.join(parts)}"
    return "\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="  "))


def sound_runs(results: dict[str, Any]) -> dict[tuple[str, str], list[record.Record]]:
    """The runs that ended well and agreed with eager, by model and runner."""
    found: dict[tuple[str, str], list[record.Record]] = {}
    for run in results["runs"]:
        if not trouble([run]):
            found.setdefault((run["model"], run["runner"]), []).append(run)
    return found


def peers_table(results: dict[str, Any], style: Any = "simple") -> str:
    """The best C++ runner of each model and precision against the best peer; empty where there are no such pairs."""
    lines = [] if arriving(results) else panel.lines(sound_runs(results))
    if not lines:
        return ""
    rows = [
        [
            line.model, line.precision, line.ours.split("/")[1], digits(line.ours_ms, 4), line.peer.split("/")[1],
            digits(line.peer_ms, 4), f"{line.ratio:.2f}", "" if math.isnan(line.low) else f"{line.low:.2f}-{line.high:.2f}",
        ]
        for line in lines
    ]  # fmt: skip
    headers = ["model", "", "C++", "ms", "peer", "ms", "ratio", "95 %"]
    right = ["left", "left", "left", "right", "left", "right", "right", "left"]
    table = tabulate.tabulate(rows, headers, style, disable_numparse=True, colalign=right)
    means = []
    for precision in panel.PRECISIONS:
        ratios = [line.ratio for line in lines if line.precision == precision]
        if ratios:
            mean, worst = panel.geometric_mean(ratios), max(ratios)
            means.append(f"{precision}: geometric mean {mean:.2f} over {len(ratios)} models, the largest {worst:.2f}")
    return "\n".join(["the best of C++ / the best peer, below 1 we are faster", "", table, "", *means])


def footer(results: dict[str, Any], path: Path | None) -> str:
    """The legend, the machine, what to be careful about, and where the file is."""
    where = results["environment"]
    lines = [
        LEGEND,
        f"{where['cpus']} x {where['cpu']}{', ' + where['gpu'] if where['gpu'] else ''}",
        f"torch {where['torch']}, LibTorch {where['libtorch']}, Python {where['python']}",
        *warnings(results),
    ]
    if path:
        lines.append(f"{shown(path)}{'' if results['complete'] else ' (not complete: deploybench bench --resume)'}")
    return "\n".join(lines)


def warnings(results: dict[str, Any]) -> list[str]:
    """What a reader must know before trusting the numbers, each with the remedy."""
    found = list(dict.fromkeys(text for run in results["runs"] for text in run.get("warnings", [])))
    stolen = results.get("stolen_fraction", 0)
    if stolen > 0.02:
        found.append(f"{stolen:.0%} of the time was stolen by other guests of the host: measure again when it is quiet")
    if results["environment"]["load_average_1min"] > results["environment"]["cpus"]:
        found.append("other programs were busy at the start (load average above the CPUs): measure again without them")
    if any(run.get("build_type") not in (None, "Release") for run in results["runs"]):
        found.append("the C++ program is not a Release build: make build")
    if any(run.get("weights_origin") == "random" for run in results["runs"]):
        found.append("RANDOM weights: speed and parity are real, labels mean nothing (make download)")
    return [f"warning: {text}" for text in found]


def markdown(results: dict[str, Any]) -> str:
    """The same tables for a page."""
    parts = []
    for part in by_batch(results):
        for model in measured_models(part):
            text, _, rest = model_table(part, model, "github").partition("\n")
            parts.append(f"**{text}**\n\n{rest}\n")
        if against := peers_table(part, "github"):
            parts.append(against + "\n")
    return "\n".join(parts) + "\n" + "\n".join(f"- {line}" for line in footer(results, None).splitlines()) + "\n"
