"""An artifact made ready to be called, or refused in one line: its device, route, batch, machine and versions; and one call
between two readings of the clock. Twin of cpp/deploybench/artifact and routes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deploybench import artifact, models, options, record, routes, terminal
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError, first_line
from deploybench.measurement import Call
from deploybench.paths import shown

if TYPE_CHECKING:
    import numpy
    import torch

Clocked = Callable[[], "tuple[float, float | None, torch.Tensor]"]


def check_device(path: Path, metadata: Metadata, wish: str | None) -> str:
    """The artifact's device, if it is there and not another than the one asked for."""
    if wish not in (None, metadata.device):
        raise DeploybenchError(
            "artifact_device",
            f"{shown(path)}: made for {metadata.device}, not for {wish}; {routes.making(path, metadata, device=wish)}",
        )
    return options.resolve_device(metadata.device)


def version_warnings(path: Path, metadata: Metadata, strict: bool) -> list[str]:
    """A warning where the running torch is not the one that made the artifact; artifact_version under --strict."""
    import torch

    if torch.__version__.partition("+")[0] == metadata.torch_version.partition("+")[0]:
        return []
    text = (
        f"{shown(path)}: made by torch {metadata.torch_version}, running torch {torch.__version__}; "
        f"{routes.making(path, metadata)}"
    )
    if strict:
        raise DeploybenchError("artifact_version", text)
    terminal.warn(text)
    return [text]


def packing_warnings(path: Path, metadata: Metadata, threads: int) -> list[str]:
    """A warning where weights are packed for another number of threads than run them."""
    packed = metadata.built_for.get("threads", threads)
    if packed == threads:
        return []
    text = (
        f"{shown(path)}: packed for {packed} thread{'s' * (packed != 1)}, run with {threads}: oneDNN may pack weights again in every "
        f"call; {routes.making(path, metadata, threads=threads)}"
    )
    terminal.warn(text)
    return [text]


def check_batch(path: Path, metadata: Metadata, size: int) -> None:
    """Refuses a batch that the artifact was not made for."""
    least, most = metadata.batches
    if not least <= size <= most:
        takes = f"{least} only" if least == most else f"{least} to {most}"
        raise DeploybenchError(
            "input_invalid",
            f"{shown(path)}: takes batches of {takes}, not {size}; use --batch-size {least}, --routes script, or generate "
            "--routes aoti --dynamic-batch MIN:MAX",
        )


def choose_route(path: Path, metadata: Metadata, wish: str | None) -> routes.Route:
    """The route that `wish` names, or the first for this kind of file, if it can run this artifact."""
    if metadata.route not in routes.KINDS:
        raise DeploybenchError(
            "artifact_invalid",
            f"{shown(path)}: its route {metadata.route!r} is none of {', '.join(routes.KINDS)}; {artifact.REMAKE}",
        )
    row = routes.route(wish) if wish else routes.of_kind(metadata.route)
    if row.kind.name != metadata.route:
        raise DeploybenchError(
            "usage",
            f"--route {row.name}: runs {row.kind.name} files, {shown(path)} is {metadata.route}; "
            f"{routes.making(path, metadata, row.name)}",
        )
    if wish is None and metadata.precision not in row.precisions:
        row = next(
            one for one in routes.ROUTES.values() if one.kind == row.kind and metadata.precision in one.precisions
        )
    for what, value, known in (
        ("precision", metadata.precision, row.precisions),
        ("device", metadata.device, row.devices),
    ):
        if value not in known:
            raise DeploybenchError(
                "usage", f"--route {row.name}: cannot run {what} {value}; it can: {', '.join(known)}"
            )
    return row


def choose_cuda_graph(path: Path, metadata: Metadata, row: routes.Route, wish: str) -> str:
    """`on` where it is wished and this route can be recorded; refuses an artifact for the CPU. The record says what is."""
    if wish == "on" and metadata.device != "cuda":
        raise DeploybenchError(
            "usage", f"--cuda-graph on: {shown(path)} is for the CPU; {routes.making(path, metadata, device='cuda')}"
        )
    return "on" if wish == "on" and row.cuda_graph else "off"


def check_machine(path: Path, metadata: Metadata) -> None:
    """Refuses compiled code that this machine or this torch cannot run, before it ends the process by SIGILL (pytorch issue
    121516)."""
    if not metadata.built_for:
        return
    import torch

    again = f"{routes.making(path, metadata)} --force"
    missing = sorted(set(metadata.built_for.get("cpu_flags", [])) - set(record.cpu_flags()))
    if missing:
        raise DeploybenchError(
            "artifact_device",
            f"{shown(path)}: compiled for a CPU with {', '.join(missing)}, which this one lacks; {again}, here or with --portable",
        )
    if metadata.torch_version.split(".")[:2] != torch.__version__.split(".")[:2]:
        raise DeploybenchError(
            "artifact_version",
            f"{shown(path)}: compiled for torch {metadata.torch_version}, this is torch {torch.__version__}; {again}",
        )
    if metadata.device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        built, here = metadata.built_for.get("gpu"), f"sm_{major}{minor}"
        if built and built != here:
            raise DeploybenchError(
                "artifact_device", f"{shown(path)}: compiled for a GPU of {built}, this one is {here}; {again}"
            )


def load(path: Path, metadata: Metadata, row: routes.Route, instances: int = 1) -> tuple[routes.Forward, float]:
    """The artifact ready to be called by the route `row`, from so many threads at a time, and the seconds it took."""
    if metadata.route == "eager" and metadata.factory.startswith("torchvision."):
        models.import_torchvision()  # as importing torch, a cost of the process, not of the artifact
    check_machine(path, metadata)
    start = time.perf_counter()
    try:
        metadata = artifact.read_metadata(path)
        forward = row.load(path, metadata, instances)
    except DeploybenchError:
        raise
    except Exception as error:  # torch has a dozen words for a file that is damaged
        raise torch_error(f"{shown(path)}: cannot be loaded", error, routes.making(path, metadata)) from error
    return forward, time.perf_counter() - start


def torch_error(what: str, error: Exception, again: str, code: str = "artifact_invalid") -> DeploybenchError:
    """What torch or a model said, as an error of ours; a shortage of memory has its own code."""
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        return DeploybenchError("out_of_memory", f"{what}: out of memory; use a smaller --batch-size or model")
    return DeploybenchError(code, f"{what} ({first_line(error)}); {again} --force")


def answer(path: Path, metadata: Metadata, forward: routes.Forward, images: torch.Tensor) -> numpy.ndarray:
    """What the artifact says to `images`: float32 [N, classes] on the host."""
    try:
        output = forward(images)
    except DeploybenchError:
        raise
    except Exception as error:  # a user's own module may raise anything
        raise torch_error(f"{shown(path)}: failed when run", error, routes.making(path, metadata), "runtime") from error
    return to_host(path, metadata, len(images), output)


def to_host(path: Path, metadata: Metadata, size: int, output: object) -> numpy.ndarray:
    """`output` as float32 [N, classes]. Raises artifact_invalid where it is anything else."""
    import torch

    if isinstance(output, torch.Tensor) and output.is_floating_point() and output.shape == (size, metadata.classes):
        return output.float().cpu().numpy()
    what = f"{shown(path)}: its output is not one tensor [N,{metadata.classes}]"
    raise DeploybenchError("artifact_invalid", f"{what}; {routes.making(path, metadata)} --force")


def timed_call(path: Path, metadata: Metadata, forward: routes.Forward, images: torch.Tensor) -> Call:
    """One call between two clock reads, its output brought to the host after the second."""
    clocked = _cuda_call(forward, images) if images.is_cuda else _cpu_call(forward, images)

    def call() -> tuple[float, float | None, numpy.ndarray]:
        try:
            seconds, device_seconds, output = clocked()
        except DeploybenchError:
            raise
        except Exception as error:  # a user's own module may raise anything
            raise torch_error(
                f"{shown(path)}: failed when run", error, routes.making(path, metadata), "runtime"
            ) from error
        return seconds, device_seconds, to_host(path, metadata, len(images), output)

    return call


def _cpu_call(forward: routes.Forward, images: torch.Tensor) -> Clocked:
    clock = time.perf_counter_ns

    def call() -> tuple[float, None, torch.Tensor]:
        start = clock()
        output = forward(images)
        return (clock() - start) / 1e9, None, output

    return call


def _cuda_call(forward: routes.Forward, images: torch.Tensor) -> Clocked:
    """A call returns once the work is queued; only after a synchronise has the clock seen it all."""
    import torch

    clock = time.perf_counter_ns
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def call() -> tuple[float, float, torch.Tensor]:
        torch.cuda.synchronize()
        start = clock()
        before.record()
        output = forward(images)
        after.record()
        torch.cuda.synchronize()
        seconds = (clock() - start) / 1e9
        return seconds, before.elapsed_time(after) / 1e3, output

    return call
