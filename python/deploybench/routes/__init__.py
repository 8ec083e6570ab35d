"""The routes: one row a way to deploy. A kind is a file that `generate` writes; a route is a way to run such a file. To
add one, write its functions and its row.

torch is imported by the functions, not here: the driver reads these tables without it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploybench import artifact, options, paths
from deploybench.errors import DeploybenchError
from deploybench.models import Model
from deploybench.routes import direct, eager, inductor, onnx, torchscript

if TYPE_CHECKING:
    import torch
    from torch import nn

    from deploybench.artifact import Metadata

    Forward = Callable[[torch.Tensor], torch.Tensor]

BOTH = ("python", "cpp")
PYTHON = ("python",)
PRECISIONS = artifact.PRECISIONS


@dataclass(frozen=True)
class Kind:
    """A kind of artifact. `export(module, example, path, metadata)` writes it, the metadata inside; `module` is in eval mode
    and takes and gives float32, whatever its weights are."""

    name: str
    suffix: str
    capture: str  # how the graph is made: script, trace, export, or none
    export: Callable[[nn.Module, torch.Tensor, Path, Metadata], None]
    memory_format: str = "contiguous"  # of activations and weights, on the CPU: what measured best
    rewritten: bool = False  # by graph.specialise, for one input shape
    packs: bool = False  # weights for a number of threads, on the CPU: see docs/how-it-works.md
    converts: bool = False  # to the precision and the memory format by itself; its code takes any batch size
    effort: int = 1  # of making it, about so many seconds for ResNet-50


@dataclass(frozen=True)
class Route:
    """A way to run. `load(path, metadata, instances)` gives a callable for so many threads at the same time, float32
    [N, 3, H, W] on the artifact's device -> float32 [N, classes]; the C++ side is the branch of the same name in
    cpp/deploybench/artifact."""

    name: str
    kind: Kind
    runtimes: tuple[str, ...]
    load: Callable[[Path, Metadata, int], Forward]
    precisions: tuple[str, ...] = PRECISIONS
    devices: tuple[str, ...] = ("cpu", "cuda")
    cuda_graph: bool = False  # whether --cuda-graph on records it; eager is the baseline, as it is
    compiles: bool = False  # in each process anew: ResNet-50 for 10 to 20 s


KINDS = {
    kind.name: kind
    for kind in (
        Kind("eager", ".pth", "none", eager.export),
        Kind("script", ".ts", "script", torchscript.export_script),
        Kind("trace", ".ts", "trace", torchscript.export_trace),
        Kind("frozen", ".ts", "export", torchscript.export_frozen, rewritten=True),
        Kind("aoti", ".pt2", "export", inductor.export, "channels_last", rewritten=True, packs=True, effort=20),
        Kind("direct", ".pt2", "export", direct.export, "channels_last", rewritten=True, converts=True, effort=9),
        Kind("onnx", ".onnx", "export", onnx.export, effort=5),
    )
}
ROUTES = {
    route.name: route
    for route in (
        Route("eager", KINDS["eager"], PYTHON, eager.load),
        Route("script", KINDS["script"], BOTH, torchscript.load, cuda_graph=True),
        Route("trace", KINDS["trace"], BOTH, torchscript.load, cuda_graph=True),
        Route("frozen", KINDS["frozen"], BOTH, torchscript.load, cuda_graph=True),
        Route("fused", KINDS["frozen"], BOTH, torchscript.load_fused, ("fp32", "bf16"), ("cpu",)),
        Route("compile", KINDS["eager"], PYTHON, inductor.load_compiled, compiles=True),
        Route("aoti", KINDS["aoti"], BOTH, inductor.load, cuda_graph=True),
        Route("direct", KINDS["direct"], BOTH, direct.load, ("fp32", "bf16"), ("cpu",)),
        Route("onnxruntime", KINDS["onnx"], PYTHON, onnx.load_onnxruntime, ("fp32",), ("cpu",)),
        Route("openvino", KINDS["onnx"], PYTHON, onnx.load_openvino, ("fp32", "bf16"), ("cpu",)),
    )
}


def runs(row: Route, precision: str, device: str) -> bool:
    """Whether the route can run there at all. CPUs have fp16 as a format of storage, not of arithmetic."""
    return precision in row.precisions and device in row.devices and (precision, device) != ("fp16", "cpu")


def memory_format(kind: Kind, precision: str, device: str) -> str:
    """Of its files, unless asked otherwise: what measured best. A GPU's matrix units take channels last (ResNet-50 at fp16 on
    an H200: scripted 0.79 ms instead of 0.92, frozen 0.54 instead of 0.72); at fp32 they have no part in it."""
    captured = kind.capture != "none"  # eager stays as it was trained
    return "channels_last" if device == "cuda" and precision != "fp32" and captured else kind.memory_format


def route(name: str) -> Route:
    """The row called `name`."""
    if name not in ROUTES:
        raise DeploybenchError("usage", f"{name!r}: no such route; there are {', '.join(ROUTES)}")
    return ROUTES[name]


def of_kind(kind: str) -> Route:
    """The route that runs a file of this kind where none is named: the first."""
    return next(row for row in ROUTES.values() if row.kind.name == kind)


def packed_for(kind: Kind, device: str, threads: int | None) -> int:
    """The threads that a file of this kind is packed for: so many as asked, or the usable CPUs; 0: it does not matter."""
    return (threads or options.usable_cpus()) if kind.packs and device == "cpu" else 0


def file_of(folder: Path, model: str, kind: Kind, precision: str, device: str, threads: int | None = None) -> Path:
    """Where `generate` puts it. Packed for other threads than the usable CPUs it has a name of its own, beside the other."""
    packed = packed_for(kind, device, threads)
    other = packed if packed != options.usable_cpus() else 0
    return artifact.path_for(folder, model, kind.name, precision, device, kind.suffix, other)


def making(path: Path, metadata: Metadata, route: str = "", device: str = "", threads: int = 0) -> str:
    """The command that makes what lies at `path` again, or its like for another route, device or number of threads.

    Of weights in a file it has the name alone, and nothing of what else was asked for (--mean, --labels). Twin of making() in
    cpp/deploybench/routes.
    """
    source, made = metadata.weights, metadata.route
    said = ["--models", Model(metadata.model, metadata.factory).spec]
    said += ["--routes", route or (of_kind(made).name if made in KINDS else "script")]
    if metadata.precision != "fp32":
        said += ["--precisions", metadata.precision]
    if device or metadata.device != "cpu":
        said += ["--device", device or metadata.device]
    if source["origin"] != "pretrained":
        said += ["--weights", "random" if source["origin"] == "random" else source["name"]]
    place = path.parent, metadata.model, made, metadata.precision, metadata.device, path.suffix
    packed = metadata.built_for.get("threads", 0)
    named = packed and path.name == artifact.path_for(*place, packed).name
    if threads or named:
        said += ["--threads", str(threads or packed)]
    if (named or path.name == artifact.path_for(*place).name) and path.parent.resolve() != paths.ARTIFACTS:
        said += ["--artifacts", paths.shown(path.parent)]
    return shlex.join(["deploybench", "generate", *said])


@dataclass(frozen=True)
class Runner:
    """A route in a runtime at a precision: `cpp/fused/bf16`. `again`: the second of a pair of --self-check."""

    runtime: str
    route: Route
    precision: str = "fp32"
    again: bool = False

    @property
    def name(self) -> str:
        """As tables and results files write it; fp32 goes without saying."""
        precision = "" if self.precision == "fp32" else f"/{self.precision}"
        return f"{self.runtime}/{self.route.name}{precision}{'#2' if self.again else ''}"


def runner(name: str) -> Runner:
    """The runner called `name`."""
    plain, _, again = name.partition("#")
    runtime, _, rest = plain.partition("/")
    row, _, precision = rest.partition("/")
    return Runner(runtime, route(row), precision or "fp32", bool(again))


def runners(device: str, precisions: tuple[str, ...] = ("fp32",)) -> list[Runner]:
    """Every runner there is on `device` at these precisions."""
    return [
        Runner(runtime, row, precision)
        for precision in precisions
        for row in ROUTES.values()
        if runs(row, precision, device)
        for runtime in row.runtimes
    ]
