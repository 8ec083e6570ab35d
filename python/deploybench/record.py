"""The record: what one run of a worker says, and where it was made. Plain data, raw values; no torch.

data/record.schema.json is the word on both. History of the schema: 1, the first; 2, turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import statistics
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deploybench import machine, paths, stats

SCHEMA = 2
OLD = "#old"  # ends the name of a runner whose programs and settings are those of an older case, run beside the new one
Record = dict[str, Any]
# How the workers of both languages set their runtime up: what can be chosen, the default first, which measured best.
KNOBS = {
    "allocator": ("huge", "keep", "system"),
    "bind": ("off", "on"),
    "executor": ("profiling", "simple"),
    "fusion_strategy": ("mixed", "static", "dynamic"),
    "flush_denormal": ("off", "on"),
    "tf32": ("off", "on"),
    "cudnn_benchmark": ("off", "on"),
    "cuda_graph": ("off", "on"),
}

# What must be equal for runs to be compared or to be resumed: those of unlike machines do not mix.
SAME_ENVIRONMENT = ("host", "cpu", "cpus", "python", "torch", "torchvision", "libtorch")


def unlike(was: dict[str, Any], now: dict[str, Any]) -> str:
    """In what two environments differ so that their runs do not mix, for a person; empty where they do not."""
    names = [name for name in SAME_ENVIRONMENT if was[name] != now[name]]
    return ", ".join(f"{name} was {was[name]}, is {now[name]}" for name in names)


def failure(runtime: str, artifact: str | None, code: str, message: str) -> Record:
    """The record of a run that failed."""
    return {"schema": SCHEMA, "runtime": runtime, "artifact": artifact, "error": {"code": code, "message": message}}


def describe(record: Record) -> str:
    """A record for a person, as the worker prints it without --json. Twin of record_summary in cpp/deploybench/record."""
    runs, warmup = record["run_seconds"], record["warmup_seconds"]
    instances = f"  instances {record['instances']}" if record["instances"] > 1 else ""
    lines = [
        f"{record['model']}  {record['runner']}  {record['device']}  batch {record['batch_size']}  threads {record['threads']}"
        + instances,
        f"load        {record['load_seconds'] * 1e3:.3f} ms",
    ]
    if warmup:
        lines += [
            f"first call  {warmup[0] * 1e3:.3f} ms",
            f"warm-up     {len(warmup)} calls, {'steady' if record['warmup_steady'] else 'not steady'} at the end",
        ]
    lines.append(f"median      {statistics.median(runs) * 1e3:.3f} ms over {len(runs)} calls")
    if record["turn_rates"]:
        begin = 0
        for rate, calls in zip(record["turn_rates"], record["turn_calls"], strict=True):
            latency = stats.quantile(runs[begin : begin + calls], 0.99)
            lines.append(f"rate        {rate:.1f} images/s: p99 {latency * 1e3:.3f} ms")
            begin += calls
    elif record["instances"] > 1:
        images = len(runs) * record["batch_size"]
        lines.append(f"throughput  {images / sum(record['turn_seconds']):.1f} images/s")
    return "\n".join([*lines, f"peak RSS    {record['peak_rss_bytes'] // (1 << 20)} MiB"])


def environment() -> dict[str, Any]:
    """Where a results file was made. Values that cannot be had are null."""
    libtorch = None
    with contextlib.suppress(OSError, ValueError):
        libtorch = json.loads((paths.LIBTORCH / "libtorch.json").read_text(encoding="utf-8"))
    return {
        "host": socket.gethostname(),
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": _nvidia(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "torch": _installed("torch"),
        "torchvision": _installed("torchvision"),
        "libtorch": f"{libtorch['version']} {libtorch['variant']} ({libtorch['source']})" if libtorch else None,
        "load_average_1min": os.getloadavg()[0],
        "cpu_quota": machine.cpu_quota(),
        "governor": machine.governor(),
        "turbo": machine.turbo(),
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_name(root: Path = machine.ROOT) -> str:
    """What /proc/cpuinfo calls the CPU; Arm's say by numbers whose it is and which (0x41 0xd0c is a Neoverse N1)."""
    numbers = [found for field in ("CPU implementer", "CPU part") if (found := _cpuinfo(field, root))]
    return _cpuinfo("model name", root) or " ".join([platform.machine(), *numbers])


def _cpuinfo(field: str, root: Path = machine.ROOT) -> str | None:
    with contextlib.suppress(OSError):
        for line in (root / "proc" / "cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    return None


def cpu_flags() -> list[str]:
    """The instruction-set flags of /proc/cpuinfo; empty where it has none."""
    return (_cpuinfo("flags") or "").split()


def _nvidia() -> str | None:
    with contextlib.suppress(OSError):
        for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            return information.read_text(encoding="utf-8").splitlines()[0].partition(":")[2].strip()
    return None


def available_memory() -> int:
    """Bytes that new processes can have without swapping, and within the limits of this process's control groups."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) << 10
    left = machine.memory_left()
    return free if left is None else min(free, left)
