"""`deploybench worker`: one measured run of one artifact in this process. The twin of cpp/apps/bench.cpp: same flags, same
clock, same record. It compares nothing and knows no other runner."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import json
import os
import platform
import resource
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploybench import artifact, measurement, models, options, record, routes
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError, first_line
from deploybench.measurement import Call, Limits, Measured
from deploybench.paths import shown
from deploybench.routes.cuda_graph import Replayed

if TYPE_CHECKING:
    import numpy
    import torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, the same as those of cpp/build/bin/bench."""
    add = parser.add_argument
    add("--artifact", type=Path, required=True, metavar="FILE", help="what to run")
    add("--input", type=Path, metavar="FILE", help="tensor file; without it a seeded standard-normal input")
    add(
        "--batch-size",
        type=options.batch,
        metavar="N",
        help="images a call, taken cyclically (default: the file's, or 1)",
    )
    add(
        "--route", metavar="NAME", help="how to run it: fused, compile, openvino, ... (default: the first for its kind)"
    )
    add("--device", choices=["cpu", "cuda"], help="default: the artifact's")
    add("--threads", type=options.threads, metavar="N", help="intra-op threads (default: usable CPUs)")
    add("--interop-threads", type=options.threads, default=1, metavar="N", help="inter-op threads (default 1)")
    options.add_knobs(parser)
    add(
        "--warmup",
        type=options.count,
        default=10,
        metavar="N",
        help="untimed calls at least, until steady (default 10)",
    )
    add("--runs", type=options.positive, default=100, metavar="N", help="timed calls at least (default 100)")
    add(
        "--min-seconds",
        type=options.seconds,
        default=0.0,
        metavar="S",
        help="timed at least so long in sum (default 0)",
    )
    add(
        "--max-seconds",
        type=options.some_seconds,
        default=60.0,
        metavar="S",
        help="no longer than this in sum (default 60)",
    )
    add(
        "--turn",
        type=options.count,
        default=0,
        metavar="N",
        help="pause after every N timed calls until standard input gives a line (default: never)",
    )
    add(
        "--seed",
        type=options.seed,
        default=0,
        metavar="N",
        help="of the input that is made without --input (default 0)",
    )
    add("--output", type=Path, metavar="FILE", help="write the last timed output, float32 [N, classes], as .npy")
    add("--strict", action="store_true", help="refuse an artifact of another torch version instead of warning")
    add("--json", action="store_true", help="print the record as one line")


def run(args: argparse.Namespace) -> int:
    """Loads, warms up, measures, prints; a failure is printed as a record too when --json is given."""
    try:
        line = measure(args)
    except DeploybenchError as error:
        if args.json:
            with contextlib.suppress(OSError):  # a full disk or a closed pipe: the error itself is the news
                print(json.dumps(record.failure("python", str(args.artifact), error.code, str(error))))
        raise
    if args.json:
        print(json.dumps(line))
    else:
        print(record.describe(line))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The record of one run."""
    if args.output:
        check_writable(args.output)
    metadata = artifact.read_metadata(args.artifact)
    device = check_device(args.artifact, metadata, args.device)
    route = choose_route(args.artifact, metadata, args.route)
    args.cuda_graph = choose_cuda_graph(args.artifact, metadata, route, args.cuda_graph)
    set_up(args)
    import torch

    warnings = version_warnings(args.artifact, metadata, args.strict)
    images = batch(args, metadata)
    with torch.inference_mode():
        forward, load_seconds = load(args.artifact, metadata, route)
        if args.cuda_graph == "on":
            forward = Replayed(forward)
        call = timed_call(args.artifact, metadata, forward, torch.from_numpy(images).to(device))
        if args.turn:
            call = measurement.announced(call)
        limits = Limits(args.warmup, args.runs, args.min_seconds, args.max_seconds, args.turn)
        measured = measurement.measure(call, limits, measurement.await_turn)
    if args.output:
        from deploybench import tensor_file

        tensor_file.write_array(args.output, measured.output)
    return to_record(args, metadata, route, images, load_seconds, measured, warnings)


def set_up(args: argparse.Namespace) -> None:
    """The runtime as the flags say, before anything else of torch is used."""
    if args.bind == "on" and "OMP_PROC_BIND" not in os.environ:  # read by OpenMP when torch loads it
        os.environ |= {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}
    set_allocator(args.allocator)
    import torch

    torch.set_flush_denormal(args.flush_denormal == "on")
    torch.set_num_threads(args.threads or options.usable_cpus())
    torch.set_num_interop_threads(args.interop_threads)
    torch._C._set_graph_executor_optimize(args.executor == "profiling")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32 == "on"
    torch.backends.cudnn.benchmark = args.cudnn_benchmark == "on"


def set_allocator(allocator: str) -> None:
    """Before torch is loaded. "keep": freed memory stays in the process, so that the next call finds its pages mapped;
    "huge": so, and torch asks for pages of 2 MB; "system": glibc's own way, which returns large blocks at once."""
    if allocator == "system":
        return
    if allocator == "huge":
        os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # read by torch at its first allocation
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block of its own for large sizes, which would be unmapped when freed
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def check_writable(path: Path) -> None:
    """Refuses an --output that cannot be written before the work is done instead of after. Raises output_unwritable."""
    try:
        artifact.refuse_special(path)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            path.parent.stat()
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not path.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise DeploybenchError("output_unwritable", f"{path}: {error.strerror}; choose another --output") from error


def generate_for(metadata: Metadata, device: str) -> str:
    """The command that makes the same for another device."""
    return f"deploybench generate --models {metadata.model} --device {device}"


def check_device(path: Path, metadata: Metadata, wish: str | None) -> str:
    """The artifact's device, if it is there and not another than the one asked for."""
    if wish not in (None, metadata.device):
        raise DeploybenchError(
            "artifact_device",
            f"{shown(path)}: made for {metadata.device}, not for {wish}; {generate_for(metadata, wish)}",
        )
    return options.resolve_device(metadata.device)


def version_warnings(path: Path, metadata: Metadata, strict: bool) -> list[str]:
    """A warning where the running torch is not the one that made the artifact; artifact_version under --strict."""
    import torch

    if torch.__version__.partition("+")[0] == metadata.torch_version.partition("+")[0]:
        return []
    text = (
        f"{shown(path)}: made by torch {metadata.torch_version}, running torch {torch.__version__}; "
        f"deploybench generate --models {metadata.model}"
    )
    if strict:
        raise DeploybenchError("artifact_version", text)
    print(f"warning: {text}", file=sys.stderr)
    return [text]


def batch(args: argparse.Namespace, metadata: Metadata) -> numpy.ndarray:
    """The input, float32 [N, 3, H, W]: the tensor file's images taken cyclically, or seeded noise (same bytes in C++)."""
    import numpy
    import torch

    from deploybench import tensor_file

    _, channels, height, width = metadata.input_shape
    if args.input is None:
        size = args.batch_size or 1
        check_batch(args.artifact, metadata, size)
        torch.manual_seed(args.seed)
        try:
            return torch.randn(size, channels, height, width).numpy()
        except RuntimeError as error:
            raise _torch_error("--batch-size", error, metadata.model) from error
    images = tensor_file.read(args.input, height, width)
    size = args.batch_size or len(images)
    check_batch(args.artifact, metadata, size)
    return numpy.ascontiguousarray(numpy.take(images, range(size), axis=0, mode="wrap"))


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
            f"{shown(path)}: its route {metadata.route!r} is none of {', '.join(routes.KINDS)}; {artifact.REMAKE} MODEL",
        )
    row = routes.route(wish) if wish else routes.of_kind(metadata.route)
    if row.kind.name != metadata.route:
        raise DeploybenchError(
            "usage",
            f"--route {row.name}: runs {row.kind.name} files, {shown(path)} is {metadata.route}; "
            f"deploybench generate --models {metadata.model} --routes {row.name}",
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
            "usage", f"--cuda-graph on: {shown(path)} is for the CPU; {generate_for(metadata, 'cuda')}"
        )
    return "on" if wish == "on" and row.cuda_graph else "off"


def check_machine(path: Path, metadata: Metadata) -> None:
    """Refuses compiled code that this machine or this torch cannot run, before it ends the process by SIGILL (pytorch issue
    121516)."""
    if not metadata.built_for:
        return
    import torch

    again = f"deploybench generate --models {metadata.model} --routes {metadata.route} --force"
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
        if metadata.built_for.get("gpu") != f"sm_{major}{minor}":
            raise DeploybenchError(
                "artifact_device",
                f"{shown(path)}: compiled for a GPU of {metadata.built_for.get('gpu')}, this one is sm_{major}{minor}; {again}",
            )


def load(path: Path, metadata: Metadata, row: routes.Route) -> tuple[routes.Forward, float]:
    """The artifact ready to be called by the route `row`, and the seconds it took."""
    if metadata.route == "eager" and metadata.factory.startswith("torchvision."):
        models.import_torchvision()  # as importing torch, a cost of the process, not of the artifact
    check_machine(path, metadata)
    start = time.perf_counter()
    try:
        metadata = artifact.read_metadata(path)
        forward = row.load(path, metadata)
    except DeploybenchError:
        raise
    except Exception as error:  # torch has a dozen words for a file that is damaged
        raise _torch_error(f"{shown(path)}: cannot be loaded", error, metadata.model) from error
    return forward, time.perf_counter() - start


def _torch_error(what: str, error: Exception, model: str, code: str = "artifact_invalid") -> DeploybenchError:
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        return DeploybenchError("out_of_memory", f"{what}: out of memory; use a smaller --batch-size or model")
    return DeploybenchError(code, f"{what} ({first_line(error)}); {artifact.REMAKE} {model} --force")


def answer(path: Path, metadata: Metadata, forward: routes.Forward, images: torch.Tensor) -> numpy.ndarray:
    """What the artifact says to `images`: float32 [N, classes] on the host."""
    try:
        output = forward(images)
    except Exception as error:  # a user's own module may raise anything
        raise _torch_error(f"{shown(path)}: failed when run", error, metadata.model, "runtime") from error
    return to_host(path, metadata, len(images), output)


def to_host(path: Path, metadata: Metadata, size: int, output: object) -> numpy.ndarray:
    """`output` as float32 [N, classes]. Raises artifact_invalid where it is anything else."""
    import torch

    if isinstance(output, torch.Tensor) and output.is_floating_point() and output.shape == (size, metadata.classes):
        return output.float().cpu().numpy()
    what = f"{shown(path)}: its output is not one tensor [N,{metadata.classes}]"
    raise DeploybenchError("artifact_invalid", f"{what}; {artifact.REMAKE} {metadata.model} --force")


def timed_call(path: Path, metadata: Metadata, forward: routes.Forward, images: torch.Tensor) -> Call:
    """One call between two clock reads, its output brought to the host after the second."""
    clocked = _cuda_call(forward, images) if images.is_cuda else _cpu_call(forward, images)

    def call() -> tuple[float, float | None, numpy.ndarray]:
        try:
            seconds, device_seconds, output = clocked()
        except Exception as error:  # a user's own module may raise anything
            raise _torch_error(f"{shown(path)}: failed when run", error, metadata.model, "runtime") from error
        return seconds, device_seconds, to_host(path, metadata, len(images), output)

    return call


Clocked = Callable[[], "tuple[float, float | None, torch.Tensor]"]


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


def to_record(
    args: argparse.Namespace,
    metadata: Metadata,
    route: routes.Route,
    images: numpy.ndarray,
    load_seconds: float,
    measured: Measured,
    warnings: list[str],
) -> dict[str, Any]:
    """The record, its keys in the order of data/record.schema.json."""
    import torch

    return {
        "schema": record.SCHEMA,
        "runner": f"python/{route.name}/{metadata.precision}",
        "runtime": "python",
        "route": route.name,
        "precision": metadata.precision,
        "memory_format": metadata.memory_format,
        "device": metadata.device,
        "model": metadata.model,
        "weights_origin": metadata.weights["origin"],
        "artifact": str(args.artifact),
        "artifact_bytes": os.path.getsize(args.artifact),
        "batch_size": len(images),
        "input_shape": list(images.shape),
        "input_crc32": f"{zlib.crc32(images.tobytes()):08x}",
        "seed": args.seed if args.input is None else None,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        **{name: getattr(args, name) for name in record.KNOBS},
        "load_seconds": load_seconds,
        "warmup_seconds": measured.warmup,
        "warmup_steady": measured.steady,
        "run_seconds": measured.runs,
        "device_seconds": measured.device,
        "settle_seconds": measured.settle,
        "turn_calls": measured.turns,
        "output_drift": measured.drift,
        "output_finite": measured.finite,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "torch_version": str(torch.__version__),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "toolchain": f"CPython {platform.python_version()}",
        "build_type": None,
        "warnings": warnings,
    }
