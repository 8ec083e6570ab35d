"""What the page shows, as numbers: the entries of all files in the units that are shown, with the lists that figures draw.

`summary` has the numbers of one file, in seconds and bytes; `page` puts these here into HTML.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploybench import panel, record, stats, summary
from deploybench.charts import ROUTES
from deploybench.summary import COLUMNS, Column

Files = Sequence[tuple[Path, dict[str, Any]]]
TICKS = 101  # calls of an entry that are drawn one by one, evenly by rank
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
PEERS = (
    Column("ours_ms", "median", "ms", 1.0, 4), Column("peer_ms", "median", "ms", 1.0, 4), Column("ratio", "ratio"),
    Column("low", "95 % from"), Column("high", "to"),
)  # fmt: skip


def key(column: Column) -> str:
    """Its name in the page, where numbers are in the unit that is shown."""
    return re.sub(r"_(seconds|bytes)$", "", column.name)


def _setting(part: dict[str, Any]) -> str:
    """What the entries of a part have in common, and by which they differ from those of other parts."""
    config = part["config"]
    threads = f"{config['threads']} thread{'s' * (config['threads'] != 1)}"
    instances = config.get("instances") or 1
    crew = f"{instances} instances × {threads}" if instances > 1 else threads
    text = f"batch {config['batch_size']}, {config['device']}, {crew}"
    if bound := config.get("latency_bound"):
        return f"{text}, p99 within {bound * 1e3:g} ms"
    return f"{text}, {config['rate']:g} images/s arrive" if config.get("rate") else text


def settings(files: Files) -> list[tuple[str, dict[str, Any]]]:
    """The parts of all files, each with its name: what was set, and the file where two files were set alike."""
    parts = [(_setting(part), path.stem, part) for path, results in files for part in summary.by_batch(results)]
    alike = collections.Counter(text for text, _, _ in parts)
    return [(f"{text}, {stem}" if alike[text] > 1 else text, part) for text, stem, part in parts]


def entries(files: Files) -> list[dict[str, Any]]:
    """The entries of all files, by the names of `key`; `setting` is their place in `settings`."""
    found = []
    for index, (text, part) in enumerate(settings(files)):
        for model in summary.measured_models(part):
            twins, runs = summary.twins(part, model), summary.by_runner(part, model)
            of_model = [
                {
                    **_in_units(_detailed(entry, runs[entry["runner"]], twins, part)),
                    "setting": index,
                    "setting_text": text,
                }
                for entry in summary.entries(part, model)
            ]
            least = min((entry["median"] for entry in of_model if entry["median"] is not None), default=None)
            found += [{**entry, "best": entry["median"] is not None and entry["median"] == least} for entry in of_model]
    return found


def peers(files: Files) -> list[dict[str, Any]]:
    """The lines of panel.py at each setting, with the colour of ours."""
    return [{**line, "setting": index} for index, (_, part) in enumerate(settings(files)) for line in _peers(part)]


def _detailed(
    entry: dict[str, Any], runs: list[record.Record], twins: dict[str, stats.Ratio], part: dict[str, Any]
) -> dict[str, Any]:
    """The entry with the numbers of DETAILS, None where there are none, and the lists that figures draw."""
    route = entry["route"]
    entry = {
        **dict.fromkeys(column.name for column in DETAILS),
        **entry,
        "shade": route if route in ROUTES else "other",
    }
    entry |= {"call_times": [], "warm_times": [], "load_rates": [], "load_p99s": [], "bound": None}
    if summary.trouble(runs):  # not that of the entry: where no rate kept the bound the curve says why
        return entry
    if summary.arriving(part):
        return entry | _loaded(runs, part["config"].get("latency_bound"))
    calls = sorted(second for run in runs for second in run["run_seconds"])
    chosen = calls if len(calls) <= TICKS else [calls[round(i * (len(calls) - 1) / (TICKS - 1))] for i in range(TICKS)]
    curve = _curve(runs)
    nth = dict(
        zip(("second", "third", "fifth"), (curve[k] if len(curve) > k else None for k in (1, 2, 4)), strict=True)
    )
    many = entry["instances"] * entry["batch_size"] > 1
    entry |= {
        "fastest_seconds": calls[0], "slowest_seconds": calls[-1],
        "p25_seconds": stats.quantile(calls, 0.25), "p75_seconds": stats.quantile(calls, 0.75),
        **{f"{name}_call_seconds": second for name, second in nth.items()},
        "cold_rest_seconds": max(0.0, entry["cold_start_seconds"] - entry["load_seconds"] - entry["first_call_seconds"]),
        "many": entry["images_per_second"] if many else None,
        "disagreement": entry["max_logit_difference"] or None,  # a logarithm has no place for 0
        "call_times": [_round(second * 1e3) for second in chosen], "warm_times": [_round(second * 1e3) for second in curve],
        "top": _round(1e3 * (entry["median_high_seconds"] or entry["median_seconds"])),
    }  # fmt: skip
    if ratio := twins.get(entry["runner"]):
        entry |= {"twin": ratio.value, "twin_low": ratio.low, "twin_high": ratio.high}
    return entry


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
    """Seconds of call 1, 2, ..., each the median of the processes that came so far, as long as half of them did."""
    calls = [run["warmup_seconds"] + run["run_seconds"] for run in runs]
    came = [[one[k] for one in calls if len(one) > k] for k in range(CURVE)]
    return [statistics.median(seconds) for seconds in came if 2 * len(seconds) >= len(calls)]


def _round(value: float) -> float | None:
    """Six digits, which is more than a clock on a shared machine is worth; None for what JSON cannot say."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _in_units(entry: dict[str, Any]) -> dict[str, Any]:
    columns = {column.name: column for column in (*COLUMNS, *DETAILS)}
    found = {}
    for name, value in entry.items():
        column = columns.get(name)
        found[key(column) if column else name] = (
            value if column is None or value is None else _round(value * column.factor)
        )
    return found


def _peers(part: dict[str, Any]) -> list[dict[str, Any]]:
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
