"""Tables of an evaluation: for a terminal of 80 columns, for a page, and as JSON. Computes on reading; no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tabulate

from deploybench import accuracy, models
from deploybench.accuracy import Accuracy
from deploybench.paths import shown, typed
from deploybench.rounds import BASELINE

WIDTH = 80
LISTED = 10  # broken photos that the terminal names; the file has all
UNITS = {
    "runner": "",
    "top-1 %": "95 % interval",
    "top-5 %": "95 % interval",
    "agree": "%",
    "change": "points, 95 %",
    "img/s": "",
}
LEGEND = "agree: the same first class as python/eager; change: of top-1 against it; ~ its 95 % interval spans 0"


def of_model(results: dict[str, Any], model: str, markdown: bool = False) -> str:
    """The table of one model with its caption and, below, the runners that gave no number."""
    found = accuracy.of_model(results, model)
    rows = [_cells(runner, one) for runner, one in found.items()]
    failures = [f"{runner}: {one.trouble}" for runner, one in found.items() if one.trouble]
    if markdown:
        headers = [f"{name} {unit}".strip() for name, unit in UNITS.items()]
        cells = [[row[name] for name in UNITS] for row in rows]
        right = ["left", "left", "left", "right", "left", "right"]
        table = tabulate.tabulate(cells, headers, "github", disable_numparse=True, colalign=right)
        return "\n".join(
            [
                f"**{_caption(results, model)}**",
                "",
                table,
                *([""] if failures else []),
                *(f"- {one}" for one in failures),
            ]
        )
    wrapped = [line for text in failures for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
    return "\n".join([_caption(results, model), *_lines(rows), *wrapped])


def text(results: dict[str, Any], path: Path, markdown: bool) -> str:
    """All tables of the evaluation in `path`, and what is below them."""
    tables = [of_model(results, model, markdown) + "\n" for model in _models(results)]
    below = footer(results, path, markdown)
    return "\n".join([*tables, "\n".join(f"- {line}" for line in below.splitlines()) if markdown else below])


def _models(results: dict[str, Any]) -> list[str]:
    """Also those whose eager could not be made, of which nothing but that is known."""
    return list(dict.fromkeys([*results["models"], *(run["model"] for run in results["runs"])]))


def _caption(results: dict[str, Any], model: str) -> str:
    config = results["config"]
    folders = {photo.partition("/")[0] for photo in results["photos"]}
    about = results["models"].get(model, {"classes": {}, "weights_origin": None})
    classes = {about["classes"].get(folder, folder) for folder in folders}
    count = len(results["photos"])
    random = about["weights_origin"] == "random"
    return ", ".join([
        model, f"{count} photo{'s' * (count != 1)} of {len(classes)} class{'es' * (len(classes) != 1)}", config["device"],
        *(["RANDOM weights"] if random else []),
    ])  # fmt: skip


def _cells(runner: str, one: Accuracy) -> dict[str, str]:
    row = dict.fromkeys(UNITS, "-") | {"runner": runner}
    if one.images_per_second:
        row["img/s"] = (
            f"{one.images_per_second:.0f}" if one.images_per_second >= 100 else f"{one.images_per_second:.1f}"
        )
    if one.trouble or one.top1 is None or one.top5 is None:
        return row | {"top-1 %": "no number"}
    decimals = accuracy.places(one.photos)
    row |= {"top-1 %": accuracy.percent(one.top1, decimals), "top-5 %": accuracy.percent(one.top5, 1)}
    if runner == BASELINE:
        row["change"] = "baseline"
    elif one.agreement and one.difference:
        row |= {
            "agree": f"{100 * one.agreement.value:.{decimals}f}",
            "change": accuracy.points(one.difference, decimals),
        }
    return row


def _lines(rows: list[dict[str, str]]) -> list[str]:
    """The rows in columns; where they are wider than a terminal, without images/s, and then without the interval of top-5."""
    names = list(UNITS)
    for lose in ("img/s", "interval", ""):
        lines = _columns(names, [dict(zip(UNITS, UNITS, strict=True)), UNITS, *rows])
        if max(map(len, lines)) <= WIDTH or not lose:
            break
        if lose == "interval":
            rows = [{**row, "top-5 %": row["top-5 %"].split()[0]} for row in rows]
        else:
            names.remove(lose)
    return lines


def _columns(names: list[str], rows: list[dict[str, str]]) -> list[str]:
    widths = {name: max(len(row[name]) for row in rows) for name in names}
    return [
        " ".join(
            row[name].rjust(widths[name]) if name in ("agree", "img/s") else row[name].ljust(widths[name])
            for name in names
        ).rstrip()
        for row in rows
    ]


def footer(results: dict[str, Any], path: Path, page: bool = False) -> str:
    """The legend, what to be careful about, the photos that could not be read, and where the file is, which a `page` says in its
    heading."""
    where = results["environment"]
    lines = [LEGEND, f"torch {where.get('torch')}, LibTorch {where.get('libtorch')}", *_warnings(results)]
    if not results["complete"]:
        lines.append(f"{shown(path)}: not complete; deploybench evaluate --resume {typed(path)}")
    elif not page:
        lines.append(shown(path))
    return "\n".join(
        part for line in lines for part in ([line] if page else textwrap.wrap(line, WIDTH, subsequent_indent="  "))
    )


def broken(results: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """(photo, why the first runner could not read it, the runners that could not)."""
    found: dict[int, tuple[str, list[str]]] = {}
    for run in results["runs"]:
        for number, why in run["problems"].items():
            found.setdefault(int(number), (why, []))[1].append(run["runner"])
    for number in sorted(found):
        why, runners = found[number]
        yield results["photos"][number], why, list(dict.fromkeys(runners))


def _warnings(results: dict[str, Any]) -> list[str]:
    """What a reader must know before trusting the numbers."""
    lines = []
    bad = list(broken(results))
    if bad:
        lines.append(f"warning: {len(bad)} of {len(results['photos'])} photos could not be read, and do not count:")
        for photo, why, runners in bad[:LISTED]:
            by = "" if len(runners) == len(results["config"]["runners"]) else f" (by {', '.join(runners)})"
            reason = why.partition(f"{photo}: ")[2].partition("; ")[0] or why
            lines.append(f"  {photo}{by}: {reason}")
        if len(bad) > LISTED:
            lines.append(f"  and {len(bad) - LISTED} more, in the file under runs[].problems")
    if empty := results["empty_folders"]:
        named = ", ".join(empty[:3]) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        lines.append(f"warning: no photo in {named}")
    if results["others"]:
        lines.append(f"note: {results['others']} other files are no photos of a class, and were left out")
    if any(about["weights_origin"] == "random" for about in results["models"].values()):
        remedy = models.where_weights_come_from(results["config"]["models"])
        lines.append(f"warning: RANDOM weights: agreement is real, accuracy means nothing ({remedy})")
    return lines


def summary(results: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same as plain JSON types."""
    return {
        "file": str(path),
        "complete": results["complete"],
        "photos": len(results["photos"]),
        "broken": [{"photo": photo, "message": why, "runners": by} for photo, why, by in broken(results)],
        "models": {
            model: {
                "weights_origin": results["models"].get(model, {}).get("weights_origin"),
                "runners": {name: one.to_json() for name, one in accuracy.of_model(results, model).items()},
            }
            for model in _models(results)
        },
    }


def all_sound(results: dict[str, Any]) -> bool:
    """Whether every runner gave numbers, save those that a route does not undertake."""
    refused = {
        (run["model"], run["runner"]) for run in results["runs"] if run.get("error", {}).get("code") == "unsupported"
    }
    return all(
        not one.trouble or (model, runner) in refused
        for model in _models(results)
        for runner, one in accuracy.of_model(results, model).items()
    )
