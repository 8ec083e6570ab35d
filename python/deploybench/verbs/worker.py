"""`deploybench worker`: one measured run of one artifact in this process. The twin of cpp/apps/bench.cpp: same flags, same
clock, same record. It compares nothing and knows no other runner."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import os
import platform
import resource
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploybench import artifact, load, measurement, options, record, routes, running, terminal
from deploybench.artifact import Metadata
from deploybench.crew import Crew
from deploybench.errors import DeploybenchError
from deploybench.load import LoadLimits
from deploybench.measurement import Announcement, Call, Limits, Measured
from deploybench.routes.cuda_graph import Replayed

if TYPE_CHECKING:
    import numpy
    import torch

EXAMPLE = "worker --artifact artifacts/resnet50.script-fp32-cpu.ts --runs 20"
# Of torch's own default, and with its 20 compilations (pytorch issue 52286) spent on one sort. Twin of fusion_strategy in
# cpp/deploybench/artifact.
FUSION_STRATEGIES = {
    "mixed": [("STATIC", 2), ("DYNAMIC", 10)],
    "static": [("STATIC", 20)],
    "dynamic": [("DYNAMIC", 20)],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, the same as those of cpp/build/bin/bench."""
    what = parser.add_argument_group("what runs").add_argument
    what("--artifact", type=Path, required=True, metavar="FILE", help="file of `deploybench generate` (required)")
    what(
        "--route", metavar="NAME", help="how to run it: fused, compile, openvino, ... (default: the first for its kind)"
    )
    what("--input", type=Path, metavar="FILE", help="tensor file; without it a seeded standard-normal input")
    what(
        "--batch-size", type=options.batch, metavar="N",
        help="images a call, taken cyclically (default: the file's, or as few as can be)",
    )  # fmt: skip
    what(
        "--seed", type=options.seed, default=0, metavar="N",
        help="of the input that is made without --input (default 0)",
    )  # fmt: skip
    what("--output", type=Path, metavar="FILE", help="write the last timed output, float32 [N, classes], as .npy")
    where = parser.add_argument_group("where it runs").add_argument
    where("--device", choices=["cpu", "cuda"], help="default: the artifact's")
    where("--threads", type=options.threads, metavar="N", help="intra-op threads (default: usable CPUs)")
    where(
        "--instances", type=options.threads, default=1, metavar="N",
        help="make calls at the same time, each on a Python thread with its own intra-op threads (default 1)",
    )  # fmt: skip
    where("--interop-threads", type=options.threads, default=1, metavar="N", help="inter-op threads (default 1)")
    where("--strict", action="store_true", help="refuse an artifact of another torch version instead of warning")
    options.add_knobs(parser.add_argument_group("how the runtime is set up"))
    long = parser.add_argument_group("how long it runs").add_argument
    long(
        "--warmup", type=options.count, default=10, metavar="N",
        help="untimed calls at least, until steady (default 10)",
    )  # fmt: skip
    long("--runs", type=options.positive, default=100, metavar="N", help="timed calls at least (default 100)")
    long(
        "--min-seconds", type=options.seconds, default=0.0, metavar="S",
        help="timed at least so long in sum (default 0)",
    )  # fmt: skip
    long(
        "--max-seconds", type=options.some_seconds, default=60.0, metavar="S",
        help="no longer than this in sum (default 60)",
    )  # fmt: skip
    long(
        "--turn", type=options.count, default=0, metavar="N",
        help="pause after every N timed calls until standard input gives a line (default: never)",
    )  # fmt: skip
    options.add_load(parser.add_argument_group("images that arrive by themselves"))


def run(args: argparse.Namespace) -> int:
    """Loads, warms up, measures, prints."""
    line = measure(args)
    if args.json:
        terminal.emit(line)
    else:
        terminal.show(record.describe(line))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The record of one run."""
    options.check_together(args)
    if args.output:
        check_writable(args.output)
    metadata = artifact.read_metadata(args.artifact)
    device = running.check_device(args.artifact, metadata, args.device)
    route = running.choose_route(args.artifact, metadata, args.route)
    args.cuda_graph = running.choose_cuda_graph(args.artifact, metadata, route, args.cuda_graph)
    set_up(args)
    import torch

    warnings = running.version_warnings(args.artifact, metadata, args.strict)
    warnings += running.packing_warnings(args.artifact, metadata, args.threads)
    images = batch(args, metadata)
    with torch.inference_mode():
        forward, load_seconds = running.load(args.artifact, metadata, route, args.instances)
    one = torch.from_numpy(images).to(device)

    def instance(number: int = 0) -> Call:
        """A call of an instance, made on the thread that it will run on."""
        set_up_thread(args)
        called = Replayed(forward) if args.cuda_graph == "on" else forward
        return inferring(running.timed_call(args.artifact, metadata, called, one))

    limits = Limits(args.warmup, args.runs, args.min_seconds, args.max_seconds, args.turn)
    if args.rate or args.latency_bound:
        measured = measure_arrivals(args, metadata, forward, one)
    elif args.instances > 1:
        announce = Announcement(args.turn > 0)
        crew = Crew(args.instances, lambda number: announce.after(keeping(instance(number))))
        measured = measurement.measure_crew(crew, limits, measurement.await_turn)
    else:
        call = Announcement(args.turn > 0).after(instance())
        measured = measurement.measure(call, limits, measurement.await_turn)
    if args.output:
        from deploybench import tensor_file

        tensor_file.write_array(args.output, measured.output)
    return to_record(args, metadata, route, images, load_seconds, measured, warnings)


def keeping(call: Call) -> Call:
    """`call` whose outputs stay as they were: OpenVINO gives each answer in the same memory."""

    def kept() -> Any:
        seconds, device_seconds, output = call()
        return seconds, device_seconds, output.copy()

    return kept


def inferring(call: Call) -> Call:
    """`call` in inference mode, which each thread enters for itself."""
    import torch

    def inside() -> Any:
        with torch.inference_mode():
            return call()

    return inside


def measure_arrivals(
    args: argparse.Namespace, metadata: Metadata, forward: routes.Forward, images: torch.Tensor
) -> Measured:
    """Images that arrive by themselves: the first of the input, each on its own."""
    least, most_batch = metadata.batches[0], len(images)
    measured, lock = Measured(), threading.Lock()
    announce = Announcement(args.turn > 0)

    def instance(number: int) -> load.Answer:
        set_up_thread(args)
        calls: dict[int, Call] = {}  # by the number of images

        def answer(count: int) -> None:
            size = max(count, least)
            if size not in calls:
                batch = images[:1].expand(size, -1, -1, -1).contiguous()
                calls[size] = inferring(running.timed_call(args.artifact, metadata, forward, batch))
            output = announce.after(calls[size])()[2]
            with lock:
                for row in output:
                    measurement.watch(row[None], measured)

        return answer

    pool = load.Pool(args.instances, instance, most_batch, args.batch_delay / 1e6)
    _, latencies = load.burst(pool, [0.0] * 3 * max(1, args.warmup) * args.instances)
    measured.warmup = latencies[:1]
    measured.first, measured.finite, measured.drift = None, True, 0.0  # of what counts
    if args.turn:
        measurement.await_turn()
    load.measure_load(pool, LoadLimits(args.rate, args.latency_bound, args.load_seconds, args.seed), measured)
    return measured


def set_up_thread(args: argparse.Namespace) -> None:
    """What torch keeps for each thread: see pytorch issue 27902."""
    import torch

    torch.set_flush_denormal(args.flush_denormal == "on")
    torch._C._set_graph_executor_optimize(args.executor == "profiling")
    torch.set_num_threads(args.threads)


def set_up(args: argparse.Namespace) -> None:
    """The runtime as the flags say, before anything else of torch is used."""
    args.threads = args.threads or options.usable_cpus()  # before OpenMP binds this thread, which then sees one CPU
    if args.bind == "on" and "OMP_PROC_BIND" not in os.environ:  # read by OpenMP when torch loads it
        os.environ |= {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}
    if args.tf32 == "off":  # heard by cuDNN and cuBLAS, also where torch does not pass its own flag on: see docs/gpu.md
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    set_allocator(args.allocator)
    import torch

    set_up_thread(args)
    torch.set_num_interop_threads(args.interop_threads)
    torch._C._jit_set_fusion_strategy(FUSION_STRATEGIES[args.fusion_strategy])  # torch.jit's own warns of deprecation
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


def batch(args: argparse.Namespace, metadata: Metadata) -> numpy.ndarray:
    """The input, float32 [N, 3, H, W]: the tensor file's images taken cyclically, or seeded noise (same bytes in C++)."""
    import numpy
    import torch

    from deploybench import tensor_file

    _, channels, height, width = metadata.input_shape
    images = None if args.input is None else tensor_file.read(args.input, height, width)
    size = args.batch_size or max(0 if images is None else len(images), metadata.batches[0])
    running.check_batch(args.artifact, metadata, size)
    if images is not None:
        return numpy.ascontiguousarray(numpy.take(images, range(size), axis=0, mode="wrap"))
    torch.manual_seed(args.seed)
    try:
        return torch.randn(size, channels, height, width).numpy()
    except RuntimeError as error:
        raise running.torch_error("--batch-size", error, routes.making(args.artifact, metadata)) from error


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
        "instances": args.instances,
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
        "turn_seconds": measured.turn_seconds,
        "turn_rates": measured.rates,
        "output_drift": measured.drift,
        "output_finite": measured.finite,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "torch_version": str(torch.__version__),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "toolchain": f"CPython {platform.python_version()}",
        "build_type": None,
        "warnings": warnings,
    }
