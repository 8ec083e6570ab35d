"""What an evaluation says: how often each runner is right, against eager, with intervals. Computes on reading; no torch.

The file is written by `evaluate`; data/evaluation.schema.json and docs/record.md say what is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploybench import proportions, record
from deploybench.errors import DeploybenchError
from deploybench.paths import shown
from deploybench.proportions import Share
from deploybench.rounds import BASELINE

KIND, SCHEMA = "evaluation", 1
MANY = 1000  # photos, from which on shares have two decimals
LEAST_SECONDS = 1.0  # for a rate: the first answers come in bursts
COLUMNS = {"top-1": "%", "change": "points"}  # that join a table of times, with their units
LEGEND = "change: of top-1 against python/eager; ~ its 95 % interval spans 0"
Run = dict[str, Any]


@dataclass(frozen=True)
class Accuracy:
    """Of one runner. `trouble`: why there are no shares."""

    photos: int  # that it answered
    broken: int
    images_per_second: float | None
    top1: Share | None = None
    top5: Share | None = None
    agreement: Share | None = None  # the same first class as eager, over the photos that both answered
    difference: Share | None = None  # of top-1, over the same photos
    trouble: str = ""

    def to_json(self) -> dict[str, Any]:
        """In plain JSON types; null where there is no value."""
        shares = ("top1", "top5", "agreement", "difference")
        found: dict[str, Any] = {
            "photos": self.photos, "broken": self.broken, "images_per_second": self.images_per_second
        }  # fmt: skip
        for name in shares:
            share: Share | None = getattr(self, name)
            found[name] = share and {"value": share.value, "low": share.low, "high": share.high}
        return found | {"trouble": self.trouble}


def of_model(results: dict[str, Any], model: str) -> dict[str, Accuracy]:
    """Of each runner, in the order of the configuration."""
    runs = {run["runner"]: run for run in results["runs"] if run["model"] == model}
    classes = results["models"].get(model, {}).get("classes", {})
    truth = [classes.get(photo.partition("/")[0]) for photo in results["photos"]]
    return {
        runner: _of_run(runs.get(runner), runs.get(BASELINE), runner, truth) for runner in results["config"]["runners"]
    }


def _of_run(run: Run | None, baseline: Run | None, runner: str, truth: list[int]) -> Accuracy:
    if run is None:
        return Accuracy(0, 0, None, trouble="not evaluated yet")
    answered = [(top, right) for top, right in zip(run["top5"], truth, strict=False) if top]
    broken = len(run["top5"]) - len(answered)
    rate = run["timed_images"] / run["timed_seconds"] if run["timed_seconds"] >= LEAST_SECONDS else None
    if "error" in run:
        return Accuracy(len(answered), broken, rate, trouble=f"{run['error']['code']}: {run['error']['message']}")
    if len(run["top5"]) < len(truth):
        return Accuracy(len(answered), broken, rate, trouble=f"{len(run['top5'])} of {len(truth)} photos so far")
    if not answered:
        return Accuracy(0, broken, rate, trouble="no photo could be read")
    count = len(answered)
    top1 = proportions.wilson(sum(top[0] == right for top, right in answered), count)
    top5 = proportions.wilson(sum(right in top for top, right in answered), count)
    agreement, difference = _against(run, baseline, truth) if baseline and runner != BASELINE else (None, None)
    return Accuracy(count, broken, rate, top1, top5, agreement, difference)


def _against(run: Run, baseline: Run, truth: list[int]) -> tuple[Share | None, Share | None]:
    """(the share of the same first class, the difference of top-1) over the photos that both answered."""
    pairs = [
        (ours[0], theirs[0], right)
        for ours, theirs, right in zip(run["top5"], baseline["top5"], truth, strict=False)
        if ours and theirs
    ]
    if not pairs or len(baseline["top5"]) < len(truth):
        return None, None
    hits = [(ours == right, theirs == right) for ours, theirs, right in pairs]
    table = [hits.count(both) for both in ((True, True), (True, False), (False, True), (False, False))]
    same = sum(ours == theirs for ours, theirs, _ in pairs)
    return proportions.wilson(same, len(pairs)), proportions.paired_difference(*table)


def places(photos: int) -> int:
    """The decimals that shares of so many photos are shown with."""
    return 2 if photos >= MANY else 1


def percent(share: Share, decimals: int) -> str:
    """Its value and interval, in percent."""
    value, low, high = (f"{100 * one:.{decimals}f}" for one in (share.value, share.low, share.high))
    return f"{value} {low}-{high}"


def points(share: Share, decimals: int) -> str:
    """A difference and its interval in points of percent; `~` where the interval spans 0."""
    low, high = (f"{100 * one:.{decimals}f}" for one in (share.low, share.high))
    return f"{_signed(share, decimals)} {low}..{high}{_unsure(share)}"


def _signed(share: Share, decimals: int) -> str:
    return f"{100 * share.value:+.{decimals}f}" if share.value else "0"


def _unsure(share: Share) -> str:
    return " ~" if share.low <= 0 <= share.high else ""


def joined(path: Path, timed: dict[str, Any]) -> dict[str, Any]:
    """What the evaluation in `path` adds to `timed`, the results of bench: `cells`, a value for each of COLUMNS by model and
    runner, and `notes`, lines below the tables."""
    results = load(path)
    cells = {}
    notes = [LEGEND, f"accuracy: of {len(results['photos'])} photos, {shown(path)}"]
    for model in dict.fromkeys(run["model"] for run in timed["runs"]):
        if model not in results["models"]:
            notes.append(f"warning: it has nothing of {model}: deploybench evaluate --models {model} --data FOLDER")
            continue
        origins = {run.get("weights_origin") for run in timed["runs"] if run["model"] == model and "error" not in run}
        evaluated = results["models"][model]["weights_origin"]
        if origins - {evaluated}:
            others = ", ".join(map(str, sorted(map(str, origins))))
            notes.append(f"warning: {model}: the accuracy is of {evaluated} weights, the times of {others} ones")
        for runner, one in of_model(results, model).items():
            if one.top1:
                decimals = places(one.photos)
                change = f"{_signed(one.difference, decimals)}{_unsure(one.difference)}" if one.difference else "-"
                cells[model, runner] = {"top-1": f"{100 * one.top1.value:.{decimals}f}", "change": change}
    return {"cells": cells, "notes": notes}


def load(path: Path) -> dict[str, Any]:
    """The evaluation in `path`. Raises input_missing or input_invalid."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DeploybenchError(
            "input_missing", f"{shown(path)}: no such evaluation; make one with: deploybench evaluate --data FOLDER"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise _invalid(path, str(error)[:100]) from error
    for why in _flaws(results):
        raise _invalid(path, why)
    return dict(results)


def _invalid(path: Path, why: str) -> DeploybenchError:
    return DeploybenchError(
        "input_invalid", f"{shown(path)}: not an evaluation ({why}); make one with: deploybench evaluate --data FOLDER"
    )


def _whole(value: object) -> bool:
    return type(value) is int and value >= 0


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _top5(value: object) -> bool:
    return isinstance(value, list) and all(
        one is None or (isinstance(one, list) and one != [] and all(map(_whole, one))) for one in value
    )


def _classes(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    return all(isinstance(one, dict) and isinstance(one.get("classes"), dict)
               and isinstance(one.get("weights_origin"), str) and all(map(_whole, one["classes"].values()))
               for one in value.values())  # fmt: skip


CONFIG: record.Checks = {
    "models": _texts, "runners": _texts, "device": lambda value: isinstance(value, str),
    "data": lambda value: isinstance(value, str), "limit": lambda value: value is None or _whole(value),
    "classes": lambda value: value is None or isinstance(value, str),
}  # fmt: skip
PARTS: record.Checks = {
    "photos": _texts, "models": _classes, "environment": lambda value: isinstance(value, dict),
    "complete": lambda value: isinstance(value, bool), "others": _whole, "empty_folders": _texts,
    "runs": lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
}  # fmt: skip
RUN: record.Checks = {
    "model": lambda value: isinstance(value, str), "runner": lambda value: isinstance(value, str), "top5": _top5,
    "problems": lambda value: isinstance(value, dict), "fingerprint": lambda value: isinstance(value, str),
    "timed_images": _whole, "timed_seconds": lambda value: isinstance(value, int | float) and value >= 0,
}  # fmt: skip
Checks = dict[str, Callable[[Any], bool]]


def _flaws(results: object) -> Iterator[str]:
    """What is wrong with the content of a file, which anybody may have written or cut."""
    if not isinstance(results, dict) or results.get("kind") != KIND:
        yield "it is of another kind"
        return
    if results.get("schema") != SCHEMA:
        yield f"it has schema {str(results.get('schema'))[:20]}, this program reads {SCHEMA}"
        return
    yield from _missing("", results, PARTS)
    yield from _missing("config.", results.get("config"), CONFIG)
    for number, run in enumerate(results["runs"]):
        yield from _missing(f"runs[{number}].", run, RUN)
        if len(run["top5"]) > len(results["photos"]):
            yield f"runs[{number}].top5 is longer than photos"
        if "error" in run:
            yield from _missing(f"runs[{number}].error.", run["error"], record.FAILED)
    folders = {photo.partition("/")[0] for photo in results["photos"]}
    for model, about in results["models"].items():
        if not folders <= about["classes"].keys():
            yield f"models.{model}.classes lacks a folder"


def _missing(where: str, part: object, checks: Checks) -> Iterator[str]:
    for field, check in checks.items():
        if not isinstance(part, dict) or field not in part or not check(part[field]):
            yield f"{where}{field} is not what evaluate writes"
