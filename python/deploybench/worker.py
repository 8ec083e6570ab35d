"""`deploybench worker`: one measured run of one artifact in this process. The twin of cpp/apps/bench.cpp: same flags, same
clock, same record. It compares nothing and knows no other runner."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import platform
import resource
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploybench import artifact, models, options, record, routes, stats
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError
from deploybench.paths import shown

if TYPE_CHECKING:
    import numpy
    import torch

LEAST_RUNS = 3  # even when --max-seconds is over: a median of fewer says nothing


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
    add("--device", choices=["cpu", "cuda"], help="default: the artifact's")
    add("--threads", type=options.threads, metavar="N", help="intra-op threads (default: usable CPUs)")
    add("--interop-threads", type=options.threads, default=1, metavar="N", help="inter-op threads (default 1)")
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
        "--seed",
        type=options.seed,
        default=0,
        metavar="N",
        help="of the input that is made without --input (default 0)",
    )
    add("--output", type=Path, metavar="FILE", help="write the last timed output, float32 [N, classes], as .npy")
    add("--strict", action="store_true", help="refuse an artifact of another torch version instead of warning")
    add("--json", action="store_true", help="print the record as one line")


@dataclass
class Measured:
    """What the calls took, in seconds, and what they gave."""

    warmup: list[float] = field(default_factory=list)
    steady: bool = False
    runs: list[float] = field(default_factory=list)
    device: list[float] = field(default_factory=list)  # CUDA only
    finite: bool = True  # all of them
    drift: float = 0.0  # largest difference between the first timed output and another
    output: Any = None  # the last one, numpy float32 [N, classes]


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
    import torch

    torch.set_num_threads(args.threads or options.usable_cpus())
    torch.set_num_interop_threads(args.interop_threads)
    warnings = version_warnings(args.artifact, metadata, args.strict)
    images = batch(args, metadata)
    with torch.inference_mode():
        forward, load_seconds = load(args.artifact, metadata)
        measured = time_calls(forward, torch.from_numpy(images).to(device), args, metadata)
    if args.output:
        from deploybench import tensor_file

        tensor_file.write_array(args.output, measured.output)
    return to_record(args, metadata, images, load_seconds, measured, warnings)


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


def check_device(path: Path, metadata: Metadata, wish: str | None) -> str:
    """The artifact's device, if it is there and not another than the one asked for."""
    if wish not in (None, metadata.device):
        raise DeploybenchError(
            "artifact_device",
            f"{shown(path)}: made for {metadata.device}, not for {wish}; "
            f"deploybench generate --models {metadata.model} --device {wish}",
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
    if not metadata.dynamic_batch and size != metadata.input_shape[0]:
        raise DeploybenchError(
            "input_invalid",
            f"{shown(path)}: takes batches of {metadata.input_shape[0]} only, not {size}; "
            f"use --batch-size {metadata.input_shape[0]} or --capture script",
        )


def load(path: Path, metadata: Metadata) -> tuple[routes.Forward, float]:
    """The artifact ready to be called, and the seconds it took."""
    if metadata.route == "eager" and metadata.factory.startswith("torchvision."):
        models.import_torchvision()  # as importing torch, a cost of the process, not of the artifact
    if metadata.route not in routes.ROUTES:
        raise DeploybenchError(
            "artifact_invalid",
            f"{shown(path)}: its route {metadata.route!r} is none of {', '.join(routes.ROUTES)}; {artifact.REMAKE} MODEL",
        )
    start = time.perf_counter()
    try:
        metadata = artifact.read_metadata(path)
        forward = routes.route(metadata.route).load(path, metadata)
    except DeploybenchError:
        raise
    except Exception as error:  # torch has a dozen words for a file that is damaged
        raise _torch_error(f"{shown(path)}: cannot be loaded", error, metadata.model) from error
    return forward, time.perf_counter() - start


def _torch_error(what: str, error: Exception, model: str, code: str = "artifact_invalid") -> DeploybenchError:
    from deploybench.routes.torchscript import first_line

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


def time_calls(forward: routes.Forward, images: torch.Tensor, args: argparse.Namespace, metadata: Metadata) -> Measured:
    """Warm-up calls, then timed ones. Between the two clock reads is `forward` alone, and on CUDA a synchronise."""
    import numpy

    call = _cuda_call(forward, images) if images.is_cuda else _cpu_call(forward, images)
    measured, first, spent = Measured(), None, 0.0
    try:
        over = args.warmup == 0
        while not over:
            measured.warmup.append(call()[0])
            over, measured.steady = stats.warmed_up(measured.warmup, args.warmup)
        while len(measured.runs) < args.runs or spent < args.min_seconds:
            seconds, device_seconds, output = call()
            measured.runs.append(seconds)
            measured.device.append(device_seconds)
            spent += seconds
            measured.output = to_host(args.artifact, metadata, len(images), output)
            measured.finite = measured.finite and bool(numpy.isfinite(measured.output).all())
            first = measured.output if first is None else first
            if not numpy.array_equal(first, measured.output):
                measured.drift = max(measured.drift, float(numpy.nan_to_num(abs(first - measured.output)).max()))
            if spent >= args.max_seconds and len(measured.runs) >= LEAST_RUNS:
                break
    except DeploybenchError:
        raise
    except Exception as error:  # a user's own module may raise anything
        raise _torch_error(f"{shown(args.artifact)}: failed when run", error, metadata.model, "runtime") from error
    return measured


Call = Callable[[], "tuple[float, float, torch.Tensor]"]  # seconds, seconds on the device, output


def _cpu_call(forward: routes.Forward, images: torch.Tensor) -> Call:
    clock = time.perf_counter_ns

    def call() -> tuple[float, float, torch.Tensor]:
        start = clock()
        output = forward(images)
        return (clock() - start) / 1e9, 0.0, output

    return call


def _cuda_call(forward: routes.Forward, images: torch.Tensor) -> Call:
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
    images: numpy.ndarray,
    load_seconds: float,
    measured: Measured,
    warnings: list[str],
) -> dict[str, Any]:
    """The record, its keys in the order of data/record.schema.json."""
    import torch

    return {
        "schema": record.SCHEMA,
        "runner": f"python/{metadata.route}/{metadata.precision}",
        "runtime": "python",
        "route": metadata.route,
        "precision": metadata.precision,
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
        "load_seconds": load_seconds,
        "warmup_seconds": measured.warmup,
        "warmup_steady": measured.steady,
        "run_seconds": measured.runs,
        "device_seconds": measured.device if metadata.device == "cuda" else None,
        "output_drift": measured.drift,
        "output_finite": measured.finite,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "torch_version": str(torch.__version__),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "toolchain": f"CPython {platform.python_version()}",
        "build_type": None,
        "warnings": warnings,
    }
