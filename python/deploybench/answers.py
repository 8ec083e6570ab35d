"""What `infer` prints: an answer for each image, as text, as lines of JSON or as CSV. Twin of cpp/deploybench/answers."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploybench.errors import DeploybenchError

FORMATS = ("text", "json", "csv")
COLUMNS = ("input", "image", "rank", "index", "label", "probability", "error")
TENSOR_FILES = (".npy", ".dat")


@dataclass(frozen=True)
class Answer:
    """Of one image: its likeliest classes, or why there are none."""

    input: Path
    image: int = 0  # in a tensor file, from 0
    predictions: list[dict[str, Any]] = field(default_factory=list)  # index, label, probability; likeliest first
    problem: DeploybenchError | None = None


def begin(format: str) -> str:
    """What comes before the first answer."""
    return ",".join(COLUMNS) + "\n" if format == "csv" else ""


def lines(answer: Answer, format: str, about: dict[str, Any], several: bool) -> str:
    """With newlines: text has a line for each class, below the name of the image where there are `several`; JSON one line,
    with what is said `about` the classifier; CSV a line for each class, or one with the error."""
    if format == "json":
        return json.dumps(record(answer, about)) + "\n"
    if format == "csv":
        return _rows(answer)
    name = f"image {answer.image}" if answer.input.suffix in TENSOR_FILES else str(answer.input)
    text = f"{name}:\n" if several else ""
    if answer.problem:
        return f"{text}error: {answer.problem}\n" if several else text  # alone it is on stderr
    return text + "".join(f"{row['probability'] * 100:.2f}% {row['label']}\n" for row in answer.predictions)


def record(answer: Answer, about: dict[str, Any]) -> dict[str, Any]:
    """The object that is a line of JSON."""
    place = {"input": str(answer.input), "image": answer.image}
    said = {name: about[name] for name in ("model", "artifact")} | place | about
    if answer.problem:
        return said | {"error": {"code": answer.problem.code, "message": str(answer.problem)}}
    return said | {"predictions": answer.predictions}


def _rows(answer: Answer) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    place = [str(answer.input), answer.image]
    if answer.problem:
        writer.writerow([*place, "", "", "", "", str(answer.problem)])
    for rank, row in enumerate(answer.predictions, 1):
        writer.writerow([*place, rank, row["index"], row["label"], row["probability"], ""])
    return text.getvalue()
