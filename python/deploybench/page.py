"""A report as one HTML page: the numbers, the figures, the library that draws them, and nothing fetched. No torch.

The pictures are drawn in the reader's browser by Vega-Lite, for the model that is chosen: 80 models by 8 routes as ready
pictures would be 4,000 of them. vl-convert carries Vega-Lite's own JavaScript (0.9 MB) in a wheel.
"""

from __future__ import annotations

import dataclasses
import html
import json
import re
from pathlib import Path
from typing import Any

import deploybench
from deploybench import entries, record, results_file, summary
from deploybench.charts import CONFIG, ROUTES
from deploybench.entries import DETAILS, PEERS, Files, key
from deploybench.errors import DeploybenchError
from deploybench.figures import FIGURES, Figure
from deploybench.paths import shown
from deploybench.summary import COLUMNS

VEGA_LITE = "6.4"
TEXTS = ("model", "runner", "setting_text", "precision", "ours", "peer")
TITLES = {"setting_text": "setting", "ours": "C++"}
RANGES = {"median_low": "median_high", "speedup_low": "speedup_high", "twin_low": "twin_high", "low": "high"}
READING = (
    ("Median", "of all timed calls of all rounds, each round a fresh process; its 95 % interval is a bootstrap over rounds, "
               "of fewer than six Student's t."),
    ("Speed-up", "the median over rounds of the ratios of neighbouring turns, eager / runner. Where its 95 % interval holds 1, "
     "these data do not show which one is faster."),
    ("Cold start", "from starting the process to its first answer, by a clock from outside."),
    ("Steady from", "the first call from which calls stay within 10 % of the later median."),
    ("Peak RSS", "the largest resident memory of the process; in Python with the interpreter and all libraries."),
    ("Cosine, logits off by", "the outputs of the timed calls against eager's at fp32. A runner that is not equal within the tolerance "
     "has no numbers, and its row says why."),
)  # fmt: skip


def render(files: Files) -> str:
    """The page. Raises usage where the files are of unlike machines, runtime where Vega-Lite is missing."""
    refuse_unlike(files)
    library, found = _library(), entries.entries(files)
    models, runners, settings = (
        list(dict.fromkeys(one[name] for one in found)) for name in ("model", "runner", "setting_text")
    )
    below = f"{len(runners)} runners; {_machine(files[0][1])}; {settings[0] if len(settings) == 1 else f'{len(settings)} settings'}"
    names = ", ".join(shown(path) for path, _ in files)
    parts = {
        "version": html.escape(deploybench.__version__),
        "title": html.escape(models[0] if len(models) == 1 else f"{len(models)} models"),
        "below": html.escape(below),
        "warnings": _warnings(files),
        "environment": "".join(_environment(path, results) for path, results in files),
        "reading": "".join(f"<p><b>{name}:</b> {text}</p>" for name, text in READING),
        "footer": html.escape(f"deploybench {deploybench.__version__}, from {names}"),
        "css": _beside("page.css"),
        "script": _beside("page.js"),
        "library": library,
        "data": json.dumps(_data(files, found), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    }
    # in one pass, so that nothing of a record is taken for a place to fill
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _beside("page.html"))


def _data(files: Files, found: list[dict[str, Any]]) -> dict[str, Any]:
    """What page.js draws."""
    peers, settings = entries.peers(files), [text for text, _ in entries.settings(files)]
    figures = [one for one in FIGURES if _has_data(one, peers if one.data == "peers" else found)]
    return {
        "entries": _columnar(found), "peers": _columnar(peers), "settings": settings, "shades": [*ROUTES],
        "columns": _columns(), "table": _table(settings, found), "config": CONFIG,
        "figures": [
            {**dataclasses.asdict(one), "columns": [name for name in one.columns if name not in RANGES.values()]} for one in figures
        ],
    }  # fmt: skip


def refuse_unlike(files: Files) -> None:
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


def _table(settings: list[str], found: list[dict[str, Any]]) -> list[str]:
    """The columns of the table of all numbers, without those that say nothing here."""
    texts = ["model", "runner", *(["setting_text"] if len(settings) > 1 else [])]
    names = [key(column) for column in COLUMNS if key(column) not in RANGES.values()]
    return texts + [name for name in names if any(entry[name] is not None for entry in found)]


def _machine(results: dict[str, Any]) -> str:
    where = results["environment"]
    return f"{where['cpus']} × {where['cpu']}{', ' + where['gpu'] if where['gpu'] else ''}"


def _warnings(files: Files) -> str:
    found = list(dict.fromkeys(text for _, results in files for text in summary.warnings(results)))
    found += [said for path, results in files if (said := results_file.incomplete(path, results))]
    items = "".join(f"<li>{html.escape(text)}</li>" for text in found)
    return f'<ul class="warnings" aria-label="warnings">{items}</ul>' if found else ""


def _environment(path: Path, results: dict[str, Any]) -> str:
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
