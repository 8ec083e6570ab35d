"""Tables of what `bench` found, for a terminal, a page, a spreadsheet and a program. Computes on reading and keeps nothing."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tabulate

from deploybench import accuracy, panel, record, results_file, routes, stats, summary
from deploybench.paths import shown
from deploybench.stats import digits

LEGEND = "speed-up: against python/eager, with its 95 % interval; ~ inconclusive, the interval spans 1"
# tabulate's own formats put two spaces or a bar between columns; twelve columns fit 80 characters only with one
NARROW = tabulate.TableFormat(
    lineabove=None, linebelowheader=None, linebetweenrows=None, linebelow=None,
    headerrow=tabulate.DataRow("", " ", ""), datarow=tabulate.DataRow("", " ", ""), padding=0, with_header_hide=None,
)  # fmt: skip
UNITS = {
    "runner": "", "median": "ms", "p90": "ms", "p99": "ms", "img/s": "", "load": "ms", "call1": "ms", "cold": "ms", "from": "call",
    "RSS": "MB", "file": "MB", "cosine": "", "speed-up": "95 % interval", **accuracy.COLUMNS,
}  # fmt: skip
FROM = "From [{name}]({name}), by `deploybench report {name} --format markdown`\n"
WIDTH = 80
DISPENSABLE = (
    "cold",
    "p90",
    "from",
    "img/s",
    "call1",
)  # what a terminal's table does without, in this order; Markdown has all


def each(results: dict[str, Any]) -> Iterator[str]:
    """For a terminal: the table of each model and batch size, and those of ours against the peers."""
    for part in summary.by_batch(results):
        for model in summary.measured_models(part):
            yield model_table(part, model)
            if counted := counted_line(part, model):
                yield counted
        if against := peers_table(part):
            yield against


def as_json(results: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """The tables as plain data: docs/record.md says what each field is."""
    return {
        "schema": record.SCHEMA, "file": str(path) if path else None, "complete": results["complete"],
        "environment": results["environment"], "warnings": summary.warnings(results), "rows": summary.rows(results),
        "instructions": results.get("instructions", []),
    }  # fmt: skip


def csv_lines(files: Sequence[tuple[Path, dict[str, Any]]]) -> str:
    """A line for each file, model, batch size and runner: raw numbers, in seconds and bytes, empty where there are none."""
    rows = [{"file": shown(path), **entry} for path, results in files for entry in summary.rows(results)]
    said = io.StringIO()
    names = ["file", *summary.DESCRIBED, *(column.name for column in summary.COLUMNS), "trouble"]
    writer = csv.DictWriter(said, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return said.getvalue().rstrip("\n")


def model_table(results: dict[str, Any], model: str, style: Any = NARROW) -> str:
    """The table of one model with its caption and, below, the runners that gave no number."""
    if summary.arriving(results):
        return load_table(results, model, style)
    entries = summary.entries(results, model)
    right = results.get("accuracy", {}).get("cells", {})
    left_out = set() if "accuracy" in results else set(accuracy.COLUMNS)
    if all(entry["precision"] == "fp32" for entry in entries):
        left_out.add("cosine")
    columns = [name for name in UNITS if name not in left_out]
    rows = [_cells(entry) | right.get((model, entry["runner"].partition("#")[0]), {}) for entry in entries]
    failures = [f"{entry['runner']}: {entry['trouble']}" for entry in entries if entry["trouble"]]
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


def _cells(entry: dict[str, Any]) -> dict[str, str]:
    """The numbers of one runner as text."""
    if entry["trouble"]:
        said = "not for this" if entry["refused"] else "no number"
        return {"runner": entry["runner"], "speed-up": f"{said}, see below"}
    return {
        "runner": entry["runner"],
        "median": digits(entry["median_seconds"] * 1e3, 4),
        "p90": digits(entry["p90_seconds"] * 1e3, 3),
        "p99": digits(entry["p99_seconds"] * 1e3, 3),
        "img/s": digits(entry["images_per_second"], 3),
        "load": digits(entry["load_seconds"] * 1e3, 3),
        "call1": digits(entry["first_call_seconds"] * 1e3, 3),
        "cold": digits(entry["cold_start_seconds"] * 1e3, 3),
        "from": f"{entry['steady_from_call']:.0f}",
        "RSS": f"{entry['peak_rss_bytes'] / 1e6:.0f}",
        "file": digits(entry["artifact_bytes"] / 1e6, 3),
        "cosine": f"{entry['cosine']:.5f}",
        "speed-up": _speedup(entry),
    }


def load_table(results: dict[str, Any], model: str, style: Any = NARROW) -> str:
    """Latencies under load: a row for each runner, at the rate that was asked for, or at the highest of the search at which
    99 of 100 answers kept the bound (the median over rounds), beside what the instances can do at most."""
    bound = results["config"].get("latency_bound")
    rows, failures = [], []
    for runner, runs in summary.by_runner(results, model).items():
        if why := summary.trouble(runs):
            failures.append(f"{runner}: {why}")
            rows.append([runner, "no number"])
            continue
        found = summary.under_load(runs, bound)
        if found is None:
            rows.append([runner, "none"])
            continue
        shares = [digits(stats.quantile(found["latencies"], q) * 1e3, 3) for q in (0.5, 0.9, 0.99, 0.999)]
        rows.append([runner, digits(found["rate"], 3), *shares, *([digits(found["most"], 3)] if bound else [])])
    headers = ["runner", "images/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", *(["at most"] if bound else [])]
    kind = "simple" if style is NARROW else style
    table = tabulate.tabulate(
        rows, headers, kind, disable_numparse=True, colalign=["left", *["right"] * (len(headers) - 1)]
    )
    how = f"p99 within {bound * 1e3:g} ms" if bound else f"{results['config']['rate']:g} images/s"
    notes = [line for text in failures for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
    return "\n".join([f"{caption(results, model)}, images arrive by themselves: {how}", table, *notes])


def _speedup(entry: dict[str, Any]) -> str:
    """`ratio low-high`; a second run of the same runner is compared with the first."""
    if summary.against(entry["runner"]) == entry["runner"]:
        return "1 baseline"
    if entry["speedup"] is None:
        return "one round, no interval"
    return _interval(stats.Ratio(entry["speedup"], entry["speedup_low"], entry["speedup_high"]))


def _interval(ratio: stats.Ratio) -> str:
    return f"{ratio.value:.2f} {ratio.low:.2f}-{ratio.high:.2f}{'' if ratio.conclusive else ' ~'}"


def twins_line(results: dict[str, Any], model: str) -> str:
    """How long a call takes in C++ against Python, on the same file by the same route; empty where no route ran in both."""
    parts = []
    for runner, ratio in summary.twins(results, model).items():
        _, route, precision = panel.parts(runner)
        name = route if precision == "fp32" else f"{route}/{precision}"
        parts.append(f"{name} {_interval(ratio)}")
    return f"time of C++ / Python, same file: {', '.join(parts)}" if parts else ""


def counted_line(part: dict[str, Any], model: str) -> str:
    """Instructions of a call of each runner, of a part of one batch size; empty where none were counted."""
    counted = [one for one in part.get("instructions", []) if one["batch_size"] == part["config"]["batch_size"]]
    parts = [
        f"{one['runner']} {'no number: ' + one['error']['message'] if 'error' in one else digits(stats.per_call(one) / 1e6, 4)}"
        for one in counted
        if one["model"] == model
    ]
    if not parts:
        return ""
    how = {one["counter"] for one in counted if "counter" in one}
    line = f"million instructions of a call, one thread, by {'/'.join(sorted(how)) or 'none'}: {', '.join(parts)}"
    return "\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="  "))


def peers_table(results: dict[str, Any], style: Any = "simple") -> str:
    """The best C++ runner of each model and precision against the best peer; empty where there are no such pairs."""
    lines = [] if summary.arriving(results) else panel.lines(summary.sound_runs(results))
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
    for precision in routes.PRECISIONS:
        ratios = [line.ratio for line in lines if line.precision == precision]
        if ratios:
            mean, worst = panel.geometric_mean(ratios), max(ratios)
            means.append(f"{precision}: geometric mean {mean:.2f} over {len(ratios)} models, the largest {worst:.2f}")
    return "\n".join(["the best of C++ / the best peer, below 1 we are faster", "", table, "", *means])


def footer(results: dict[str, Any], path: Path | None, page: bool = False) -> str:
    """The legend, the machine, what to be careful about, and where the file is, which a `page` says in its heading."""
    where = results["environment"]
    lines = [
        LEGEND,
        f"{where['cpus']} x {where['cpu']}{', ' + where['gpu'] if where['gpu'] else ''}",
        f"torch {where['torch']}, LibTorch {where['libtorch']}, Python {where['python']}",
        *results.get("accuracy", {}).get("notes", []),
        *(f"warning: {text}" for text in summary.warnings(results)),
    ]
    if path and (unfinished := results_file.incomplete(path, results)):
        lines.append(unfinished)
    elif path and not page:
        lines.append(shown(path))
    return "\n".join(lines)


def markdown(results: dict[str, Any], path: Path | None = None) -> str:
    """The same tables for a page; with a heading that names the file it is made of."""
    parts = [] if path is None else [f"# {path.stem}\n", FROM.format(name=path.name)]
    for part in summary.by_batch(results):
        models = summary.measured_models(part)
        tables = []
        for model in models:
            text, _, rest = model_table(part, model, "github").partition("\n")
            counted = counted_line(part, model)
            tables.append(f"**{text}**\n\n{rest}\n" + (f"\n{counted}\n" if counted else ""))
        if against := peers_table(part, "github"):
            tables.insert(0 if len(models) > 1 else len(tables), against + "\n")  # of many models the sum comes first
        parts += tables
    return (
        "\n".join(parts)
        + "\n"
        + "\n".join(f"- {line}" for line in footer(results, path, page=True).splitlines())
        + "\n"
    )
