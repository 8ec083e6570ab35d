"""On a GPU: does every route give eager's answer, in both languages, and is what does not fit refused or recorded?

Made to be run side by side, since a compiled package takes a minute: pytest -n 10 --dist loadgroup tests/test_cuda.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from agreement import FEW, TensorOf, measured
from bad_input import field
from conftest import PHOTOS, native, one_line_error, python
from deploybench import parity, routes, tensor_file

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

ARCHITECTURES = [
    "convnext_tiny", "googlenet", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "swin_t",
    "vit_b_32",
]  # fmt: skip
ROUTES = [row.name for row in routes.ROUTES.values() if row.cuda_graph]  # those that both languages run
SMALL = "squeezenet1_1"
LOW = {SMALL: "bf16"}  # its low precision; that of all others is fp16
WHERE = ("--device", "cuda", "--weights", "random")
together = pytest.mark.xdist_group("small")  # these share the files of one model

Made = Callable[..., Path]
Asked = Callable[..., "tuple[dict[str, Any], numpy.ndarray]"]


@pytest.fixture(scope="session")
def made(artifacts: Path) -> Made:
    """made(model, route, precision): the file for the GPU, made with all others of the model."""

    def make(model: str, route: str, precision: str = "fp32") -> Path:
        kind = routes.route(route).kind
        file = artifacts / f"{model}.{kind.name}-{precision}-cuda{kind.suffix}"
        if not file.exists():
            what = ("--routes", ",".join(["eager", *ROUTES]), "--precisions", f"fp32,{LOW.get(model, 'fp16')}")
            done = python("generate", "--models", model, *WHERE, *what, "--artifacts", artifacts)
            assert done.returncode == 0, done.stderr
        return file

    return make


@pytest.fixture
def asked(tensor: TensorOf, tmp_path: Path) -> Asked:
    """asked(runtime, file, model, flag, ...): the record of a worker on the photos, and its answer."""

    def ask(runtime: str, file: Path, model: str, *flags: object) -> tuple[dict[str, Any], numpy.ndarray]:
        output = tmp_path / "output.npy"
        line = measured(runtime, "--artifact", file, "--input", tensor(model), "--output", output, *flags, *FEW)
        assert line["device"] == "cuda"
        assert 0 < line["device_seconds"][0] <= line["run_seconds"][0], "CUDA's events lie within the clock"
        return line, tensor_file.read_array(output)

    return ask


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_every_route_agrees(model: str, made: Made, asked: Asked) -> None:
    _, eager = asked("python", made(model, "eager"), model)
    assert len(eager) == len(PHOTOS)
    wrong = []
    for precision in ("fp32", "fp16"):
        for route in ROUTES:
            count = len(eager) if route == "script" else 1
            for runtime in ("python", "cpp"):
                _, answer = asked(runtime, made(model, route, precision), model, "--batch-size", count)
                verdict = parity.compare(eager[:count], answer, precision, "cuda")
                # with --tf32 off; TF32 would make it 1e-4 and more
                ten_bits = precision == "fp32" and verdict.max_logit_difference > 3e-5
                if ten_bits or not verdict.ok:
                    wrong.append(f"{runtime}/{route}/{precision}: {verdict}")
    assert not wrong, "\n".join(wrong)


@together
@pytest.mark.parametrize("route", ROUTES)
def test_a_cuda_graph_answers_to_fresh_images(route: str, made: Made, asked: Asked) -> None:
    """It is recorded on zeros, so eager's answer to the photos shows that each replay reads what it is given."""
    graph = ("--batch-size", 1, "--cuda-graph", "on")
    line, eager = asked("python", made(SMALL, "eager"), SMALL, *graph)
    assert line["cuda_graph"] == "off", "the baseline is eager as it is"
    for precision in ("fp32", LOW[SMALL]):
        for runtime in ("python", "cpp"):
            line, answer = asked(runtime, made(SMALL, route, precision), SMALL, *graph)
            verdict = parity.compare(eager, answer, precision, "cuda")
            assert (line["cuda_graph"], verdict.ok) == ("on", True), f"{runtime}/{precision}: {verdict}"


@together
def test_a_package_for_another_gpu(made: Made, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pt2"
    bad.write_bytes(field(built_for={"cpu_flags": [], "compiler": "g++", "gpu": "sm_50"})(made(SMALL, "aoti")))
    words = (str(bad), "compiled for a GPU of sm_50", f"generate --models {SMALL} --routes aoti")
    one_line_error(python("worker", "--artifact", bad), 1, *words)
    one_line_error(native("bench", "--artifact", bad), 1, *words)


@together
def test_infer_and_bench(made: Made, artifacts: Path, tmp_path: Path) -> None:
    made(SMALL, "eager")
    what = ("--model", SMALL, *WHERE, "--artifacts", artifacts)
    done = python("infer", *what, PHOTOS[0])
    assert done.returncode == 0, done.stderr
    flags = ("--routes", "script,frozen", "--rounds", 1, "--runs", 5, "--results", tmp_path)
    done = python("bench", *what, *flags, "--cuda-graph", "on")
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.json")
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert {run["runner"]: run["cuda_graph"] for run in runs} == {
        "python/eager": "off", "python/script": "on", "python/frozen": "on", "cpp/script": "on", "cpp/frozen": "on",
    }  # fmt: skip
    assert all(run["parity"]["ok"] for run in runs), [run["parity"] for run in runs]


@pytest.mark.parametrize("batches", ["4:4", "2:8"])
def test_batches_of_one_size_or_of_a_range(batches: str, asked: Asked, tmp_path: Path) -> None:
    flags = ("--routes", "eager,aoti", "--dynamic-batch", batches, "--out", tmp_path)
    done = python("generate", "--model", "mnasnet0_5", *WHERE, *flags)
    assert done.returncode == 0, done.stderr
    eager, package = (next(tmp_path.glob(end)) for end in ("*.pth", "*.pt2"))
    _, expected = asked("python", eager, "mnasnet0_5", "--batch-size", 4)
    for runtime in ("python", "cpp"):
        _, answer = asked(runtime, package, "mnasnet0_5", "--batch-size", 4)
        assert parity.compare(expected, answer, "fp32", "cuda").ok, runtime


def test_memory_of_the_gpu_that_runs_out(tmp_path: Path) -> None:
    """2.5 GB are left: enough for a context and 1,024 images, not for the 3.2 GB of what the first convolution makes of
    them. To be run alone: it takes the rest of the card."""
    flags = ("--model", SMALL, *WHERE, "--routes", "script", "--out", tmp_path)
    assert python("generate", *flags).returncode == 0
    (file,) = tmp_path.glob("*.ts")
    free, _ = torch.cuda.mem_get_info()
    filler = torch.empty(free - (5 << 29), dtype=torch.uint8, device="cuda")
    call = ("--artifact", file, "--batch-size", 1024, "--warmup", 0, "--runs", 1, "--json")
    for done in (python("worker", *call), native("bench", *call)):
        one_line_error(done, 1, "memory", "batch")
        assert json.loads(done.stdout)["error"]["code"] == "out_of_memory"
    del filler
