"""What an evaluation says: how often each runner is right, against eager, with intervals. Computes on reading; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploybench import evaluation, proportions
from deploybench.paths import shown
from deploybench.proportions import Share
from deploybench.rounds import BASELINE

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
    """What the evaluation in `path` adds to `timed`, the results of bench: `cells`, a text for each of COLUMNS by model and
    runner, `values`, the same as shares of 1, `notes`, lines below the tables, and `warnings`."""
    results = evaluation.load(path)
    cells, values = {}, {}
    notes = [LEGEND, f"accuracy: of {len(results['photos'])} photos, {shown(path)}"]
    warnings = []
    there = list(dict.fromkeys(run["model"] for run in timed["runs"]))
    if lacking := [model for model in there if model not in results["models"]]:
        warnings.append(
            f"{shown(path)}: it has nothing of {', '.join(lacking[:3])}{f' and {len(lacking) - 3} more' * (len(lacking) > 3)}: "
            "deploybench evaluate --data FOLDER --models MODEL"
        )
    for model in (model for model in there if model in results["models"]):
        origins = {run.get("weights_origin") for run in timed["runs"] if run["model"] == model and "error" not in run}
        evaluated = results["models"][model]["weights_origin"]
        if origins - {evaluated}:
            others = ", ".join(map(str, sorted(map(str, origins))))
            warnings.append(f"{model}: the accuracy is of {evaluated} weights, the times of {others} ones")
        for runner, one in of_model(results, model).items():
            if one.top1:
                decimals = places(one.photos)
                change = f"{_signed(one.difference, decimals)}{_unsure(one.difference)}" if one.difference else "-"
                values[model, runner] = {"top1": one.top1.value, "top1_change": one.difference and one.difference.value}
                cells[model, runner] = {"top-1": f"{100 * one.top1.value:.{decimals}f}", "change": change}
    return {"cells": cells, "values": values, "notes": notes, "warnings": warnings}
