"""What tests of the runtimes share: a worker's record, checked, and whether its answer is eager's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy
import pytest
from conftest import Artifact, locked, native, python
from deploybench import parity, paths, tensor_file

GENERATED = [
    "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mobilenet_v3_small",
    "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vit_b_32",
]  # fmt: skip
SCHEMA = json.loads((paths.DATA / "record.schema.json").read_text(encoding="utf-8"))
FEW = ("--warmup", 0, "--runs", 3, "--json")  # three calls: TorchScript profiles, optimises, runs
TensorOf = Callable[[str], Path]


def measured(runtime: str, *arguments: object) -> dict[str, Any]:
    """The record of one worker, checked against the schema. One thread unless the test says more: another test runs beside."""
    threads = () if {"--threads", "--bind"} & set(arguments) else ("--threads", 1)
    done = native("bench", *threads, *arguments) if runtime == "cpp" else python("worker", *threads, *arguments)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(record, SCHEMA)
    assert list(record) == SCHEMA["$defs"]["run"]["required"], "the twins print the same keys in the same order"
    return record


def agrees(
    runner: str, model: str, artifact: Artifact, tensor: TensorOf, eager: numpy.ndarray, folder: Path
) -> dict[str, Any]:
    """The record of `runner` on the photos, or on the first where it takes one, after its answer was compared with eager's."""
    runtime, route, precision = (*runner.split("/"), "fp32")[:3]
    file, output = artifact(model, route, precision), folder / "output.npy"
    count = len(eager) if route == "script" else 1
    flags = ("--artifact", file, "--route", route, "--input", tensor(model), "--batch-size", count, "--output", output)
    line = measured(runtime, *flags, *FEW)
    assert (line["route"], line["precision"]) == (route, precision)
    verdict = parity.compare(eager[:count], tensor_file.read_array(output), precision, "cpu")
    assert verdict.ok, f"{runner}: {verdict}"
    return line


@pytest.fixture(scope="session")
def eager_of(artifacts: Path, artifact: Artifact, tensor: TensorOf) -> Callable[[str], numpy.ndarray]:
    """eager_of(model): its answer to the photos, by the Python worker, asked once a run."""

    def run(model: str) -> numpy.ndarray:
        output = artifacts / f"{model}.eager.npy"
        flags = ("--artifact", artifact(model, "eager"), "--input", tensor(model), "--output", output)
        with locked(artifacts / f".{model}.eager.lock"):
            if not output.exists():
                measured("python", *flags, *FEW)
        return tensor_file.read_array(output)

    return run


EagerOf = Callable[[str], numpy.ndarray]
