"""A report as one HTML page: the numbers, the figures, the library that draws them, and nothing fetched. No torch.

The pictures are drawn in the reader's browser by Vega-Lite, for the model that is chosen: 80 models by 8 routes as ready
pictures would be 4,000 of them. vl-convert carries Vega-Lite's own JavaScript (0.9 MB) in a wheel.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import deploybench
from deploybench import panel, record, stats, summary
from deploybench.charts import CONFIG, ROUTES
from deploybench.errors import DeploybenchError
from deploybench.figures import FIGURES, Figure
from deploybench.paths import shown
from deploybench.summary import COLUMNS, Column

VEGA_LITE = "6.4"
TICKS = 101  # calls of a case that are drawn one by one, evenly by rank
CURVE = 40  # calls of the warm-up curve: warm-up ends after 30 at the usual settings
DETAILS = (  # numbers of figures, which the table of all numbers does without
    Column("fastest_seconds", "fastest", "ms", 1e3, 4),
    Column("p25_seconds", "p25", "ms", 1e3, 4),
    Column("p75_seconds", "p75", "ms", 1e3, 4),
    Column("slowest_seconds", "slowest", "ms", 1e3),
    Column("second_call_seconds", "call 2", "ms", 1e3),
    Column("third_call_seconds", "call 3", "ms", 1e3),
    Column("fifth_call_seconds", "call 5", "ms", 1e3),
    Column("cold_rest_seconds", "process and libraries", "ms", 1e3),
    Column("disagreement", "logits off by", "", 1.0, 2),
    Column("twin", "C++ / Python"),
    Column("twin_low", "95 % from"),
    Column("twin_high", "to"),
    Column("many", "throughput", "images/s"),
    Column("load_top", "highest rate", "images/s"),
    Column("most", "at most", "images/s"),
)
TEXTS = ("model", "runner", "setting_text", "precision", "ours", "peer")
TITLES = {"setting_text": "setting", "ours": "C++"}
PEERS = (
    Column("ours_ms", "median", "ms", 1.0, 4), Column("peer_ms", "median", "ms", 1.0, 4), Column("ratio", "ratio"),
    Column("low", "95 % from"), Column("high", "to"),
)  # fmt: skip
RANGES = {"median_low": "median_high", "speedup_low": "speedup_high", "twin_low": "twin_high", "low": "high"}
READING = (
    ("Median", "of all timed calls of all rounds, each round a fresh process; its 95 % interval is a bootstrap over rounds."),
    ("Speed-up", "the median over rounds of the ratios of neighbouring turns, eager / runner. Where its 95 % interval holds 1, "
     "these data do not show which one is faster."),
    ("Cold start", "from starting the process to its first answer, by a clock from outside."),
    ("Steady from", "the first call from which calls stay within 10 % of the later median."),
    ("Peak RSS", "the largest resident memory of the process; in Python with the interpreter and all libraries."),
    ("Cosine, logits off by", "the outputs of the timed calls against eager's at fp32. A runner that is not equal within the tolerance "
     "has no numbers, and its row says why."),
)  # fmt: skip


def key(column: Column) -> str:
    """Its name in the page, where numbers are in the unit that is shown."""
    return re.sub(r"_(seconds|bytes)$", "", column.name)


def render(files: Sequence[tuple[Path, dict[str, Any]]]) -> str:
    """The page. Raises usage where the files are of unlike machines, runtime where Vega-Lite is missing."""
    refuse_unlike(files)
    library = _library()
    cases, settings = _cases(files)
    peers = [{**one, "setting": index} for _, results in files for part in summary.by_batch(results)
             for index in [settings.index(_setting(files, part))] for one in _peers(part)]  # fmt: skip
    figures = [one for one in FIGURES if _has_data(one, peers if one.data == "peers" else cases)]
    data = {
        "cases": _columnar(cases), "peers": _columnar(peers), "settings": settings, "shades": [*ROUTES],
        "columns": _columns(), "table": _table(settings, cases), "config": CONFIG,
        "figures": [{**dataclasses.asdict(one), "columns": _figure_columns(one)} for one in figures],
    }  # fmt: skip
    models = list(dict.fromkeys(case["model"] for case in cases))
    runners = list(dict.fromkeys(case["runner"] for case in cases))
    title = models[0] if len(models) == 1 else f"{len(models)} models"
    parts = {
        "version": html.escape(deploybench.__version__),
        "title": html.escape(title),
        "below": html.escape(
            f"{len(runners)} runners; {_machine(files[0][1])}; {settings[0] if len(settings) == 1 else f'{len(settings)} settings'}"
        ),
        "warnings": _warnings(files),
        "environment": "".join(_environment(files, path, results) for path, results in files),
        "reading": "".join(f"<p><b>{name}:</b> {text}</p>" for name, text in READING),
        "footer": html.escape(
            f"deploybench {deploybench.__version__}, from {', '.join(shown(path) for path, _ in files)}"
        ),
        "css": _beside("page.css"),
        "script": _beside("page.js"),
        "library": library,
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    }
    # in one pass, so that nothing of a record is taken for a place to fill
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _beside("page.html"))


def refuse_unlike(files: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    """Raises usage where the files were not all made in the same environment: their numbers do not compare."""
    (first, results), *others = files
    for path, other in others:
        if unlike := record.unlike(results["environment"], other["environment"]):
            raise DeploybenchError(
                "usage",
                f"{shown(first)} and {shown(path)}: made in unlike environments ({unlike}); report them one by one",
            )


def _library() -> str:
    try:
        import vl_convert
    except ImportError:
        raise DeploybenchError(
            "runtime",
            "vl-convert: not found, and it carries Vega-Lite, which draws the page; type `pip install vl-convert-python`",
        ) from None
    code = vl_convert.javascript_bundle(None, VEGA_LITE)  # type: ignore[arg-type]  # its stub forgets that None is all
    return "(() => {" + re.sub(r"<(/script|!--)", r"<\\\1", code) + "})();"  # its hundreds of names stay its own


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _setting(files: Sequence[tuple[Path, dict[str, Any]]], part: dict[str, Any]) -> str:
    """What the cases of a part have in common, and by which they differ from those of other parts."""
    config = part["config"]
    threads = f"{config['threads']} thread{'s' * (config['threads'] != 1)}"
    instances = config.get("instances") or 1
    crew = f"{instances} instances × {threads}" if instances > 1 else threads
    text = f"batch {config['batch_size']}, {config['device']}, {crew}"
    if bound := config.get("latency_bound"):
        return f"{text}, p99 within {bound * 1e3:g} ms"
    return f"{text}, {config['rate']:g} images/s arrive" if config.get("rate") else text


def _cases(files: Sequence[tuple[Path, dict[str, Any]]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The cases of all files in the units that are shown, and the settings in order."""
    settings: dict[str, int] = {}
    cases = []
    for _, results in files:
        for part in summary.by_batch(results):
            text = _setting(files, part)
            index = settings.setdefault(text, len(settings))
            for model in summary.measured_models(part):
                twins, runs = summary.twins(part, model), summary.by_runner(part, model)
                for case in summary.cases(part, model):
                    case = _detailed(case, runs[case["runner"]], twins, part)
                    cases.append({**_in_units(case), "setting": index, "setting_text": text, "best": False})
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for case in cases:
        of = case["model"], case["setting"]
        if case["median"] is not None and (of not in best or case["median"] < best[of]["median"]):
            best[of] = case
    for case in best.values():
        case["best"] = True
    return cases, list(settings)


def _detailed(
    case: dict[str, Any], runs: list[record.Record], twins: dict[str, stats.Ratio], part: dict[str, Any]
) -> dict[str, Any]:
    """The case with the numbers of DETAILS, None where there are none, and the lists that figures draw."""
    route = case["route"]
    case = {**dict.fromkeys(column.name for column in DETAILS), **case, "shade": route if route in ROUTES else "other"}
    case |= {"call_times": [], "warm_times": [], "load_rates": [], "load_p99s": [], "bound": None}
    if case["trouble"] or not runs:
        return case
    if summary.arriving(part):
        return case | _loaded(runs, part["config"].get("latency_bound"))
    calls = sorted(second for run in runs for second in run["run_seconds"])
    chosen = calls if len(calls) <= TICKS else [calls[round(i * (len(calls) - 1) / (TICKS - 1))] for i in range(TICKS)]
    curve = _curve(runs)
    nth = dict(
        zip(("second", "third", "fifth"), (curve[k] if len(curve) > k else None for k in (1, 2, 4)), strict=True)
    )
    many = case["instances"] * case["batch_size"] > 1
    case |= {
        "fastest_seconds": calls[0], "slowest_seconds": calls[-1],
        "p25_seconds": stats.quantile(calls, 0.25), "p75_seconds": stats.quantile(calls, 0.75),
        **{f"{name}_call_seconds": second for name, second in nth.items()},
        "cold_rest_seconds": max(0.0, case["cold_start_seconds"] - case["load_seconds"] - case["first_call_seconds"]),
        "many": case["images_per_second"] if many else None,
        "disagreement": case["max_logit_difference"] or None,  # a logarithm has no place for 0
        "call_times": [_round(second * 1e3) for second in chosen], "warm_times": [_round(second * 1e3) for second in curve],
        "top": _round(1e3 * (case["median_high_seconds"] or case["median_seconds"])),
    }  # fmt: skip
    if ratio := twins.get(case["runner"]):
        case |= {"twin": ratio.value, "twin_low": ratio.low, "twin_high": ratio.high}
    return case


def _loaded(runs: list[record.Record], bound: float | None) -> dict[str, Any]:
    """Of images that arrive by themselves: each turn's rate and 99 % quantile, by rate."""
    points = []
    for run in runs:
        begin = 0
        for rate, count in zip(run["turn_rates"], run["turn_calls"], strict=True):
            points.append((rate, stats.quantile(run["run_seconds"][begin : begin + count], 0.99)))
            begin += count
    points.sort()
    found = summary.under_load(runs, bound)
    return {
        "load_rates": [_round(rate) for rate, _ in points],
        "load_p99s": [_round(second * 1e3) for _, second in points],
        "load_top": found["rate"] if found else 0.0,
        "most": found["most"] if found else None,
        "bound": bound * 1e3 if bound else None,
    }


def _curve(runs: list[record.Record]) -> list[float]:
    """Seconds of call 1, 2, ..., each the median of the processes that came so far."""
    calls = [run["warmup_seconds"] + run["run_seconds"] for run in runs]
    longest = min(CURVE, max(map(len, calls)))
    return [statistics.median(one[k] for one in calls if len(one) > k) for k in range(longest)]


def _round(value: float) -> float | None:
    """Six digits, which is more than a clock on a shared machine is worth; None for what JSON cannot say."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _in_units(case: dict[str, Any]) -> dict[str, Any]:
    columns = {column.name: column for column in (*COLUMNS, *DETAILS)}
    found = {}
    for name, value in case.items():
        column = columns.get(name)
        found[key(column) if column else name] = (
            value if column is None or value is None else _round(value * column.factor)
        )
    return found


def _peers(part: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of panel.py, with the colour of ours."""
    lines = [] if summary.arriving(part) else panel.lines(summary.sound_runs(part))
    found = []
    for line in lines:
        row = {
            name: _round(value) if isinstance(value, float) else value
            for name, value in dataclasses.asdict(line).items()
        }
        _, route, _ = panel.parts(line.ours)
        found.append({**row, "runtime": "cpp", "shade": route if route in ROUTES else "other"})
    return found


def _has_data(figure: Figure, rows: list[dict[str, Any]]) -> bool:
    with_numbers = [row for row in rows if all(row.get(name) is not None for name in figure.needs)]
    return bool(with_numbers) and (figure.distinct is None or len({row[figure.distinct] for row in with_numbers}) > 1)


def _columnar(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _columns() -> dict[str, dict[str, Any]]:
    """What the tables call each column; a range is one column of two numbers."""
    found: dict[str, dict[str, Any]] = {
        name: {"name": name, "title": TITLES.get(name, name), "unit": "", "number": False} for name in TEXTS
    }
    for column in (*COLUMNS, *DETAILS, *PEERS):
        name = key(column)
        entry = {"name": name, "title": column.title, "unit": column.unit, "number": True, "digits": column.digits}
        if name in RANGES:
            entry |= {"to": RANGES[name], "title": "95 %"}
        found[name] = entry | {"whole": name in ("calls", "rounds", "steady_from_call")}
    for name in ("batch_size", "instances", "threads"):
        found[name] = {"name": name, "title": name.replace("_", " "), "unit": "", "number": True, "whole": True}
    return found


def _figure_columns(figure: Figure) -> list[str]:
    return [name for name in figure.columns if name not in RANGES.values()]


def _table(settings: list[str], cases: list[dict[str, Any]]) -> list[str]:
    """The columns of the table of all numbers, without those that say nothing here."""
    texts = ["model", "runner", *(["setting_text"] if len(settings) > 1 else [])]
    names = [key(column) for column in COLUMNS if key(column) not in RANGES.values()]
    return texts + [name for name in names if any(case[name] is not None for case in cases)]


def _machine(results: dict[str, Any]) -> str:
    where = results["environment"]
    return f"{where['cpus']} × {where['cpu']}{', ' + where['gpu'] if where['gpu'] else ''}"


def _warnings(files: Sequence[tuple[Path, dict[str, Any]]]) -> str:
    found = list(dict.fromkeys(text for _, results in files for text in summary.warnings(results)))
    found += [
        f"{shown(path)} is not complete: deploybench bench --resume"
        for path, results in files
        if not results["complete"]
    ]
    items = "".join(f"<li>{html.escape(text)}</li>" for text in found)
    return f'<ul class="warnings" aria-label="warnings">{items}</ul>' if found else ""


def _environment(files: Sequence[tuple[Path, dict[str, Any]]], path: Path, results: dict[str, Any]) -> str:
    """A list of facts of one file."""
    where, config = results["environment"], results["config"]
    runs = [run for run in results["runs"] if "error" not in run]
    said = {
        "file": shown(path), "host": where["host"], "CPU": f"{where['cpus']} × {where['cpu']}",
        "memory": f"{where['memory_bytes'] / 1e9:.1f} GB" if where.get("memory_bytes") else None, "GPU": where["gpu"],
        "system": where.get("os"), "Python": where["python"], "torch": where["torch"], "torchvision": where["torchvision"],
        "LibTorch": where["libtorch"], "vector instructions": _each(runs, "cpu_capability"), "compilers": _each(runs, "toolchain"),
        "load average at the start": f"{where['load_average_1min']:.2f}", "stolen time": f"{results.get('stolen_fraction', 0):.1%}",
        "rounds": config.get("rounds"), "timed calls of each": config.get("runs"), "interop threads": config.get("interop_threads"),
        "weights": _each(runs, "weights_origin"),
        **{name.replace("_", " "): config.get(name) for name in record.KNOBS},
    }  # fmt: skip
    rows = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>"
        for name, value in said.items()
        if value not in (None, "")
    )
    return f'<dl class="facts">{rows}</dl>'


def _each(runs: list[record.Record], field: str) -> str:
    return ", ".join(dict.fromkeys(str(run[field]) for run in runs if run.get(field)))
