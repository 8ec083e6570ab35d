"""Instructions of a call, counted: what a small, noisy machine can compare where its clock cannot. Two processes that differ
only in their number of calls are counted from outside, so that starting and loading fall out of the difference. Their
records' times mean nothing. Imports no torch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploybench import child, record, routes
from deploybench.cases import Case, key_of
from deploybench.errors import DeploybenchError


@dataclass(frozen=True)
class Counter:
    """A program that counts. `calls`: of the two processes; TorchScript profiles in its first call, compiles in its second and
    is steady from the third. `pattern` finds the count in what it wrote to the file."""

    name: str
    command: Callable[[Path], list[str]]
    pattern: str
    calls: tuple[int, int]


# perf counts what the CPU did, start-up and its chance included, at full speed: many calls make that small. callgrind counts
# in a CPU that it plays, without AVX-512, some thousand times slower: the same to 1e-6, so that a call is enough.
COUNTERS = (
    Counter(
        "perf",
        lambda file: ["perf", "stat", "-x", ",", "-e", "instructions:u", "-o", str(file), "--"],
        r"^(\d+),[^,]*,instructions",
        (20, 220),
    ),
    Counter(
        "callgrind",
        lambda file: ["valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={file}"],
        r"^(?:summary|totals): (\d+)",
        (3, 4),
    ),
)
# The worker's own flags beside the knobs; one thread, since waiting threads spin, and spinning counts.
FLAGS = {
    "instances": 1,
    "threads": 1,
    "interop_threads": 1,
    "warmup": 0,
    "turn": 0,
    "min_seconds": 0,
    "max_seconds": 1e9,
}


def choose() -> Counter:
    """The first counter that counts on this machine. Raises `unsupported`."""
    for counter in COUNTERS:
        if shutil.which(counter.command(Path())[0]) and _works(counter):
            return counter
    raise DeploybenchError(
        "unsupported",
        "--count-instructions: neither `perf stat -e instructions:u true` nor valgrind counts here; apt-get install valgrind",
    )


def _works(counter: Counter) -> bool:
    with tempfile.TemporaryDirectory(prefix="deploybench-") as folder:
        file = Path(folder) / "count"
        done = subprocess.run([*counter.command(file), "true"], capture_output=True)
        return done.returncode == 0 and _count(counter, file) is not None


def _count(counter: Counter, file: Path) -> int | None:
    """What the counter wrote; None where it could not count."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    found = re.search(counter.pattern, text, re.MULTILINE)
    return int(found[1]) if found else None


def count(case: Case, runner: str, config: dict[str, Any], counter: Counter) -> dict[str, Any]:
    """The line of a runner in `instructions` of a results file, or that of its failure."""
    about = {"model": case.model.name, "runner": runner, "batch_size": config["batch_size"]}
    one = routes.runner(runner)
    if why := case.errors.get(key_of(one)):
        return about | {"error": {"code": why.code, "message": str(why)}}
    counts: list[int | None] = []
    last: record.Record = {}
    for calls in counter.calls:
        found, last = _counted(case, one, {**config, **FLAGS, "runs": calls}, counter)
        if "error" in last:
            return about | {"error": last["error"]}
        counts.append(found)
    if not counts[0] or not counts[1] or counts[0] >= counts[1]:
        what = (
            f"{counter.calls[1]} calls took no more instructions than {counter.calls[0]}: starting alone varies by more"
        )
        return about | {"error": {"code": "runtime", "message": what}}
    told = {name: last[name] for name in ("torch_version", "cpu_capability", "build_type")}
    return about | {"counter": counter.name, "calls": list(counter.calls), "counts": counts} | told


def _counted(
    case: Case, one: routes.Runner, config: dict[str, Any], counter: Counter
) -> tuple[int | None, record.Record]:
    flags = {
        "artifact": case.artifacts[key_of(one)],
        "route": one.route.name,
        "input": case.input,
        "runs": config["runs"],
    }
    flags |= {name: config[name] for name in ("batch_size", *record.KNOBS, *FLAGS) if name in config}
    worker = [*case.checkout.worker(one.runtime), "--json"]
    worker += [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    # dictionaries of Python in the same order in both processes
    environment = {**case.checkout.environment(one.runtime), "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory(prefix="deploybench-") as folder:
        file = Path(folder) / "count"
        done = subprocess.run(
            [*counter.command(file), *worker], env=environment, capture_output=True, text=True, errors="replace"
        )
        if done.returncode in child.INTERRUPTED:
            raise KeyboardInterrupt
        found = _count(counter, file)
    try:
        line: record.Record = json.loads(done.stdout)
    except ValueError:
        line = {}
    if "error" not in line and (found is None or "cpu_capability" not in line):
        what = f"it ended with {done.returncode} under {counter.name}"
        if counter.name == "callgrind":
            what += ", which knows no AVX-512; compiled routes need --portable"
        line = record.failure(one.runtime, None, "unsupported", what)
    return found, line


def count_all(
    case: Case, config: dict[str, Any], lines: list[dict[str, Any]], save: Callable[[], None], counter: Counter
) -> None:
    """Adds to `lines` what they lack of the runners of `config`; what failed is tried again."""
    lines[:] = [line for line in lines if "error" not in line]
    has = {(line["model"], line["runner"], line["batch_size"]) for line in lines}
    for runner in config["runners"]:
        if "#" not in runner and (case.model.name, runner, config["batch_size"]) not in has:
            lines.append(count(case, runner, config, counter))
            save()
