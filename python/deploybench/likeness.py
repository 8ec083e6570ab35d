"""Whether two measurements were made alike: the same machine, versions and settings. No statistics repair it where not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deploybench import panel
from deploybench.record import Record

# What must be equal, by where it stands.
ENVIRONMENT = ("cpu", "cpus", "gpu", "python", "torch", "torchvision", "libtorch")
SETTINGS = ("device", "threads", "interop_threads", "instances", "turn", "allocator", "bind", "executor",
            "fusion_strategy", "flush_denormal", "tf32", "cudnn_benchmark", "cuda_graph")  # fmt: skip
OF_A_RUN = ("threads", "interop_threads", "instances", "input_shape", "weights_origin", "memory_format", "torch_version",
            "cpu_capability", "toolchain", "build_type")  # fmt: skip
OF_A_COUNT = ("counter", "calls", "cpu_capability", "torch_version", "build_type")


def unlike(
    old: dict[str, Any],
    new: dict[str, Any],
    settings: Iterable[str],
    shared: Iterable[tuple[Record, Record]],
    fields: Iterable[str],
) -> list[str]:
    """What is not equal in two results files, and in `fields` of a run of each `shared` case: `cpu was A, is B`. Fields that
    one of them lacks were not known yet when it was written."""
    found = _differences(old["environment"], new["environment"], ENVIRONMENT)
    found += _differences(old["config"], new["config"], settings)
    for before, after in shared:
        where = panel.parts(after["runner"])[0]
        found += [f"{where}: {text}" for text in _differences(before, after, fields) if text not in found]
    return list(dict.fromkeys(found))


def _differences(old: Record, new: Record, fields: Iterable[str]) -> list[str]:
    return [
        f"{name} was {old[name]}, is {new[name]}"
        for name in fields
        if name in old and name in new and old[name] != new[name]
    ]
