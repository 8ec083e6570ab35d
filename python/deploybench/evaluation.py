"""The results file of `evaluate`: which classes each runner gave to each photo. Read and checked here; no torch.

data/evaluation.schema.json is the word on it, docs/record.md explains it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploybench import results_file, soundness

SCHEMA = 1


def load(path: Path) -> dict[str, Any]:
    """The evaluation in `path`. Raises input_missing or input_invalid."""
    return results_file.read(path, "evaluation", "deploybench evaluate --data FOLDER", lambda it: next(_flaws(it), ""))


def _whole(value: object) -> bool:
    return type(value) is int and value >= 0


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


CONFIG: soundness.Checks = {
    "models": soundness.texts, "runners": soundness.texts, "device": soundness.TEXT,
    "data": soundness.TEXT, "artifacts": soundness.TEXT, "generate": soundness.texts, "batch_size": _whole,
    "classes": soundness.TEXT_OR_NULL,
    **dict.fromkeys(("limit", "instances", "threads"), lambda value: value is None or _whole(value)),
}  # fmt: skip
PARTS: soundness.Checks = {
    "photos": soundness.texts, "models": _classes, "complete": soundness.BOOLEAN, "others": _whole, "empty_folders": soundness.texts,
    "runs": lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
}  # fmt: skip
RUN: soundness.Checks = {
    "model": soundness.TEXT, "runner": soundness.TEXT, "top5": _top5,
    "problems": lambda value: isinstance(value, dict) and soundness.texts([*value.values()]), "fingerprint": soundness.TEXT,
    "timed_images": _whole, "timed_seconds": lambda value: isinstance(value, int | float) and value >= 0,
}  # fmt: skip


def _flaws(results: object) -> Iterator[str]:
    """What is wrong with the content of a file, which anybody may have written or cut."""
    if not isinstance(results, dict) or results.get("kind") != results_file.EVALUATION_KIND:
        yield "it is of another kind"
        return
    if results.get("schema") != SCHEMA:
        yield f"it has schema {str(results.get('schema'))[:20]}, this program reads {SCHEMA}"
        return
    yield from _missing("", results, PARTS)
    yield from _missing("environment.", results.get("environment"), soundness.ENVIRONMENT)
    yield from _missing("config.", results.get("config"), CONFIG)
    for number, run in enumerate(results["runs"]):
        yield from _missing(f"runs[{number}].", run, RUN)
        if len(run["top5"]) > len(results["photos"]):
            yield f"runs[{number}].top5 is longer than photos"
        if not run["problems"].keys() <= set(map(str, range(len(run["top5"])))):
            yield f"runs[{number}].problems are not of its photos"
        if "error" in run:
            yield from _missing(f"runs[{number}].error.", run["error"], soundness.FAILED)
    folders = {photo.partition("/")[0] for photo in results["photos"]}
    for model, about in results["models"].items():
        if not folders <= about["classes"].keys():
            yield f"models.{model}.classes lacks a folder"


def _missing(where: str, part: object, checks: soundness.Checks) -> Iterator[str]:
    for field, check in checks.items():
        if not isinstance(part, dict) or field not in part or not check(part[field]):
            yield f"{where}{field} is not what evaluate writes"
