"""The record: what one run of a worker says, and the results file that holds many. Plain data, raw values; no torch.

data/record.schema.json is the word on both. History of the schema: 1, the first; 2, turns.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import platform
import socket
import statistics
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deploybench import machine, paths, stats
from deploybench.errors import DeploybenchError
from deploybench.paths import shown

SCHEMA = 2
EVALUATION = ".evaluation.json"  # how results of `evaluate` are called, which lie beside those of `bench`
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
        "cpu": _cpuinfo("model name"),
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


def _cpuinfo(field: str) -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
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
    """Bytes that new processes can have without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def new_results_path(folder: Path, suffix: str = ".json") -> Path:
    """`<folder>/<UTC time>-<host><suffix>`, created empty and exclusively: a results file is never overwritten."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for again in ("", *(f"-{number}" for number in range(2, 100))):
            path = folder / f"{stamp}-{socket.gethostname()}{again}{suffix}"
            with contextlib.suppress(FileExistsError):
                path.open("x").close()
                return path
    except OSError as error:
        raise DeploybenchError(
            "output_unwritable",
            f"{shown(folder)}: no results file can be made ({error.strerror}); choose --results FOLDER",
        ) from error
    raise DeploybenchError("output_unwritable", f"{shown(folder)}: a hundred results in one second; wait and try again")


def save(path: Path, results: dict[str, Any]) -> None:
    """Writes the results file atomically."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(results) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            if not path.stat().st_size:  # as new_results_path made it
                path.unlink()
        raise DeploybenchError(
            "output_unwritable",
            f"{shown(path)}: cannot be written ({error.strerror}); free space or choose --results FOLDER",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def load(path: Path) -> dict[str, Any]:
    """The results in `path`. Raises input_missing or input_invalid."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DeploybenchError(
            "input_missing", f"{shown(path)}: no such results file; make one with: make bench"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DeploybenchError(
            "input_invalid", f"{shown(path)}: not a results file ({error}); run bench again"
        ) from error
    if why := _unsound(results):
        raise DeploybenchError("input_invalid", f"{shown(path)}: not a results file ({why}); run bench again")
    return dict(results)


# What a number of seconds, bytes or calls can be: beyond these, sums and quotients of such numbers may be infinite.
LEAST, MOST = 1e-12, 1e18


def _number(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= MOST


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(_number(one) and one >= LEAST for one in value)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


# What a reader of results takes for granted, by part of the file: field -> check.
Checks = dict[str, Callable[[Any], bool]]
TEXT: Callable[[Any], bool] = lambda value: isinstance(value, str)  # noqa: E731 (a row of the table)
TEXT_OR_NULL: Callable[[Any], bool] = lambda value: value is None or isinstance(value, str)  # noqa: E731
CONFIG: Checks = {"runners": _texts, "device": TEXT, "threads": _number, "batch_size": _number}
ENVIRONMENT: Checks = {
    "cpus": _number, "load_average_1min": _number,
    **dict.fromkeys(("host", "cpu", "gpu", "python", "torch", "torchvision", "libtorch"), TEXT_OR_NULL),
}  # fmt: skip
RUN: Checks = {"model": TEXT, "runner": TEXT, "round": _number}
MEASURED: Checks = {
    "run_seconds": lambda value: _numbers(value) and value != [],
    "warmup_seconds": _numbers,
    "turn_calls": lambda value: _numbers(value) and all(isinstance(one, int) for one in value),
    **dict.fromkeys(("batch_size", "load_seconds", "cold_start_seconds", "peak_rss_bytes", "artifact_bytes"), _number),
}
COUNTED: Checks = {"model": TEXT, "runner": TEXT, "batch_size": _number}
COUNTS: Checks = {
    "counter": TEXT,
    "runner": lambda value: TEXT(value) and value.partition("/")[0] in ("python", "cpp"),
    "calls": lambda value: _numbers(value) and len(value) == 2 and value[0] < value[1],
    "counts": lambda value: _numbers(value) and len(value) == 2 and value[0] < value[1],
}
FAILED: Checks = {"code": TEXT, "message": TEXT}
BOOLEAN: Callable[[Any], bool] = lambda value: isinstance(value, bool)  # noqa: E731
PARITY: Checks = {"ok": BOOLEAN, "reason": TEXT}
POSITIVE: Callable[[Any], bool] = lambda value: type(value) is int and value > 0  # noqa: E731
NUMBER_OR_NULL: Callable[[Any], bool] = lambda value: value is None or _number(value)  # noqa: E731
# Fields that older files or another tool's lack, and that are no less wrong where they are there.
MAY_HAVE: dict[str, Checks] = {
    "results": {"complete": BOOLEAN, **dict.fromkeys(("stolen_fraction", "others_fraction"), _number)},
    "config": {
        "batch_sizes": lambda value: _numbers(value) and value != [], "instances": _number, "rounds": _number,
        **dict.fromkeys(("rate", "latency_bound"), NUMBER_OR_NULL),
    },
    "environment": {
        **dict.fromkeys(("cpu_quota", "memory_bytes"), NUMBER_OR_NULL), **dict.fromkeys(("governor", "os"), TEXT_OR_NULL),
        "turbo": lambda value: value is None or isinstance(value, bool),
    },
    "run": {
        **dict.fromkeys(("threads", "interop_threads", "instances"), POSITIVE),
        **dict.fromkeys(("route", "precision", "device", "memory_format", "torch_version", "cpu_capability", "toolchain"), TEXT),
        **dict.fromkeys(("input_crc32", "artifact", *KNOBS), TEXT),
        **dict.fromkeys(("build_type", "weights_origin"), TEXT_OR_NULL),
        "warmup_steady": BOOLEAN, "warnings": _texts, **dict.fromkeys(("settle_seconds", "turn_seconds"), _numbers),
        "turn_rates": lambda value: value is None or _numbers(value),
    },
    "parity": {"cosine": lambda value: isinstance(value, int | float) and math.isfinite(value), "max_logit_difference": _number},
}  # fmt: skip


def _unsound(results: object) -> str:
    """What is wrong with the content of a results file, which anybody may have written or cut; empty when nothing is."""
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        schema = results.get("schema") if isinstance(results, dict) else None
        return f"it has schema {str(schema)[:20]}, this program reads {SCHEMA}"
    runs = results.get("runs")
    if not isinstance(runs, list):
        return "runs is no list"
    parts: list[tuple[str, object, Checks]] = [
        ("config", results.get("config"), CONFIG),
        ("environment", results.get("environment"), ENVIRONMENT),
    ]
    named = {"results": results, "config": results.get("config"), "environment": results.get("environment")}
    parts += [(name, part, _that_it_has(part, name)) for name, part in named.items()]
    for index, run in enumerate(runs):
        where, fields = f"runs[{index}]", run if isinstance(run, dict) else {}
        parts.append((where, run, RUN))
        if "error" in fields:
            parts.append((f"{where}.error", fields["error"], FAILED))
        else:
            parts.append((where, run, MEASURED))
        if fields.get("parity") is not None:
            parity = fields["parity"]
            parts.append((f"{where}.parity", parity, {**PARITY, **_that_it_has(parity, "parity")}))
    counted = results.get("instructions", [])
    if not isinstance(counted, list):
        return "instructions is no list"
    for index, line in enumerate(counted):
        where, failed = f"instructions[{index}]", isinstance(line, dict) and "error" in line
        parts += [
            (where, line, COUNTED),
            (f"{where}.error", line["error"], FAILED) if failed else (where, line, COUNTS),
        ]
    if why := _first_wrong(parts):
        return why
    measured = [(f"runs[{index}]", run) for index, run in enumerate(runs) if "error" not in run]
    return _first_wrong([(where, run, _that_it_has(run, "run")) for where, run in measured])


def _that_it_has(part: object, name: str) -> Checks:
    """The checks of the fields that may lack and do not; of a run also whether its turns agree with its calls."""
    if not isinstance(part, dict):
        return {}
    found = {field: check for field, check in MAY_HAVE[name].items() if field in part}
    if name == "run":
        calls, turns = len(part["run_seconds"]), len(part["turn_calls"])
        found["turn_calls"] = lambda value: sum(value) == calls
        for field in ("turn_seconds", "turn_rates"):
            if part.get(field) is not None:
                found[field] = lambda value: _numbers(value) and len(value) == turns
        if part.get("instances", 1) != 1 and not part.get("turn_rates"):  # the times are those of whole turns
            found["turn_seconds"] = lambda value: _numbers(value) and len(value) == turns > 0
    return found


def _first_wrong(parts: list[tuple[str, object, Checks]]) -> str:
    for where, part, checks in parts:
        for field, check in checks.items():
            if not isinstance(part, dict) or field not in part or not check(part[field]):
                return f"{where}.{field} is not what bench writes"
    return ""


def load_lines(path: Path) -> dict[str, Any]:
    """A results file, or the lines that workers printed with --json, as results without environment and config. Raises
    input_missing or input_invalid."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError):
        return load(path)  # which says what is wrong, or reads a file that has been laid out over several lines
    if (len(lines) == 1 and isinstance(lines[0], dict) and "runs" in lines[0]) or not lines:
        return load(path)
    bare = {name: check for name, check in {**RUN, **MEASURED}.items() if name not in ("round", "cold_start_seconds")}
    parts: list[tuple[str, object, Checks]] = []
    for number, line in enumerate(lines, 1):
        where, fields = f"line {number}", line if isinstance(line, dict) else {}
        if fields.get("schema") != SCHEMA:
            raise DeploybenchError(
                "input_invalid",
                f"{shown(path)}: {where} is no record of schema {SCHEMA}; give a results file, or what `bench --json` printed",
            )
        parts.append((where, line, {"runtime": TEXT} if "error" in fields else bare))
    measured = [(f"line {number}", line) for number, line in enumerate(lines, 1) if "error" not in line]
    if why := _first_wrong(parts) or _first_wrong(
        [(where, line, _that_it_has(line, "run")) for where, line in measured]
    ):
        raise DeploybenchError("input_invalid", f"{shown(path)}: not a record ({why}); run the worker again")
    runs = [{"round": 0, **line} for line in lines if "error" not in line]
    return {"schema": SCHEMA, "complete": True, "environment": {}, "config": {}, "runs": runs}


def latest(folder: Path, suffix: str = ".json", make: str = "make bench") -> Path:
    """The newest results file in `folder`, of bench or of the kind that this suffix says."""
    files = [file for file in folder.glob(f"*{suffix}") if file.stat().st_size]
    if suffix != EVALUATION:
        files = [file for file in files if not file.name.endswith(EVALUATION)]
    if not files:
        raise DeploybenchError("input_missing", f"{shown(folder)}: holds no results; make some with: {make}")
    return max(files, key=lambda file: file.stat().st_mtime_ns)
