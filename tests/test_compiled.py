"""Do compiled routes give eager's answer on whole architectures, in both languages?"""

from __future__ import annotations

from pathlib import Path

import pytest
from agreement import GENERATED, EagerOf, TensorOf, agrees
from conftest import Artifact
from deploybench import record

COMPILED = [  # 10 to 40 s each
    "googlenet", "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1",
    "vit_b_32",
]  # fmt: skip


@pytest.mark.parametrize("model", GENERATED)
def test_generated_code_agrees(
    model: str, artifact: Artifact, tensor: TensorOf, eager_of: EagerOf, tmp_path: Path
) -> None:
    bf16 = ("cpp/direct/bf16",) if "avx512_bf16" in record.cpu_flags() else ()
    eager = eager_of(model)
    for runner in ("python/direct", "cpp/direct", *bf16):
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
