"""Do compiled routes give eager's answer on whole architectures, in both languages?"""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from agreement import GENERATED, EagerOf, TensorOf, agrees
from conftest import ROOT, Artifact, generate, native, python
from deploybench import options, paths, record

COMPILED = [  # 10 to 40 s each
    "googlenet", "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1",
    "vit_b_32",
]  # fmt: skip
BF16 = "avx512_bf16" in record.cpu_flags()  # which `direct` wants for it


@pytest.fixture(scope="module")
def generated(request: pytest.FixtureRequest, artifacts: Path) -> None:
    """The files of all models that are asked for here, by one process: 9 s less for each file after the first."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    models = [str(item.callspec.params["model"]) for item in items if item.function is test_generated_code_agrees]
    generate(artifacts, ",".join(models), "direct", "fp32,bf16" if BF16 else "fp32")


@pytest.mark.usefixtures("generated")
@pytest.mark.parametrize("model", GENERATED)
def test_generated_code_agrees(
    model: str, artifact: Artifact, tensor: TensorOf, eager_of: EagerOf, tmp_path: Path
) -> None:
    eager = eager_of(model)
    for runner in ("python/direct", "cpp/direct", *(["cpp/direct/bf16"] if BF16 else [])):
        agrees(runner, model, artifact, tensor, eager, tmp_path)


@pytest.mark.parametrize("model", COMPILED)
def test_what_inductor_compiles_agrees(
    model: str, artifact: Artifact, tensor: TensorOf, eager_of: EagerOf, tmp_path: Path
) -> None:
    eager = eager_of(model)
    in_the_process = (
        ["python/compile"] if model in ("resnet18", "squeezenet1_1") else []
    )  # the same compiler, 20 s more
    for runner in ("python/aoti", "cpp/aoti", *in_the_process):
        agrees(runner, model, artifact, tensor, eager, tmp_path)


def test_compiled_ahead_of_time_at_bf16_agrees(
    artifact: Artifact, tensor: TensorOf, eager_of: EagerOf, tmp_path: Path
) -> None:
    eager = eager_of("squeezenet1_1")
    for runtime in ("python", "cpp"):
        agrees(f"{runtime}/aoti/bf16", "squeezenet1_1", artifact, tensor, eager, tmp_path)


def test_the_weights_of_a_package_do_not_start_amid_a_cache_line(artifact: Artifact, tmp_path: Path) -> None:
    """They are copied into one block, by what its library asks for it: malloc's would start at any multiple of 16."""
    with zipfile.ZipFile(artifact("squeezenet1_1", "aoti")) as package:
        (library,) = (name for name in package.namelist() if name.endswith(".so"))
        file = package.extract(library, tmp_path)
    listed = subprocess.run(["nm", "-D", "--undefined-only", file], capture_output=True, text=True, check=True).stdout
    wanted = {line.split()[-1].partition("@")[0] for line in listed.splitlines()}
    assert "aligned_alloc" in wanted
    assert "madvise" in wanted
    assert "malloc" not in wanted


# With AVX2 oneDNN cuts both larger convolutions otherwise for one thread than for two.
PACKED = """
from torch import nn

def net():
    large = nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 512, 1), nn.ReLU()
    return nn.Sequential(nn.Conv2d(3, 128, 8, stride=8), *large, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))
"""

QUICK = ("--rounds", 1, "--runs", 2, "--warmup", 1, "--results")


@pytest.mark.skipif(options.usable_cpus() == 1, reason="one thread is what all files are packed for here")
def test_weights_are_packed_for_the_threads_that_run_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN packs fewest again, by its own log; a file for other threads lies beside, and both languages say what they meet."""
    (tmp_path / "packed.py").write_text(PACKED)
    environment = {"PYTHONPATH": f"{ROOT / 'python'}:{tmp_path}"}
    mine = ("--model", "packed:net", "--weights", "random", "--artifacts", tmp_path / "made")
    cpus = options.usable_cpus()
    for asked in ((), ("--threads", 1)):
        done = python("generate", *mine, "--routes", "aoti,script", "--jobs", 2, *asked, env=environment)
        assert done.returncode == 0, done.stderr
    files = {cpus: tmp_path / "made/net.aoti-fp32-cpu.pt2", 1: tmp_path / "made/net.aoti-fp32-cpu-threads1.pt2"}
    for packed, file in files.items():
        for threads in (1, cpus):
            flags = ("--artifact", file, "--threads", threads, "--runs", 1, "--warmup", 1, "--json")
            for line in (python("worker", *flags, env=environment), native("bench", *flags)):
                said: list[str] = json.loads(line.stdout)["warnings"]
                assert len(said) == (packed != threads), said
                assert all(f"run with {threads}: oneDNN" in one and f"--threads {threads}" in one for one in said)
        again = {threads: packings(file, threads, monkeypatch) for threads in (1, cpus)}
        assert again[packed] == min(again.values()), "fewest with the threads that it was made for"
    files[1].unlink()
    done = python(
        "bench", *mine, "--runners", "cpp/aoti", "--threads", 1, *QUICK, tmp_path / "results", env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "packed for" not in done.stdout + done.stderr
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4 * cpus):
        shutil.copy(paths.PHOTO, photos / f"{number}.jpg")
    for done in (
        native("infer", files[cpus], photos),
        python("infer", "--artifact", files[cpus], photos, env=environment),
    ):
        assert done.returncode == 0, done.stderr
        assert "packed for" not in done.stderr, "one instance of all threads, however many photos"


def packings(file: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many weights oneDNN packs in calls with so many threads, by its log."""
    with monkeypatch.context() as verbose:
        verbose.setenv("ONEDNN_VERBOSE", "1")
        done = native("bench", "--artifact", file, "--threads", threads, "--runs", 1, "--warmup", 1)
    lines = (done.stdout + done.stderr).splitlines()
    assert any("exec,cpu,convolution" in line for line in lines), "its log was read"
    return sum("exec,cpu,reorder" in line for line in lines)
