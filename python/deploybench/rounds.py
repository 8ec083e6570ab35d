"""A round: the workers of one model, alive together, taking turns. Fresh processes, both languages; imports no torch.

`bench`, `matrix`, `search` and `remeasure` measure through this; docs/measuring.md is the protocol.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deploybench import child, record, routes
from deploybench.cases import Case, key_of

BASELINE = "python/eager"
# Flags that go to the workers as they are; their meaning stands in worker.py and its twin.
WORKER_FLAGS = (
    "batch_size",
    "instances",
    "threads",
    "interop_threads",
    *record.KNOBS,
    "warmup",
    "min_seconds",
    "max_seconds",
    "turn",
)
LOAD_FLAGS = ("rate", "latency_bound", "load_seconds", "batch_delay")  # where images arrive by themselves
REFERENCE = "reference.npy"  # eager's output
DRIFT = 1e-3  # of the largest |logit|: the last output is held to parity.TOLERANCES, the others to it within this
# OpenMP's idle threads spin for a while after each call, GNU's for about 5 ms, and would disturb the next worker.
SPIN_SECONDS = 0.01
MEMORY_SHARE = 0.8  # of what is free, for workers that are alive together
WORKER_BYTES = 500 << 20  # of a worker beside its model; a Python one with torch and torchvision takes 350 MB
COPIES = 3  # of the artifact in its worker's memory at most: while loading, the file and the weights, and activations


Older = tuple[Case, dict[str, Any]]  # what runners named `#old` run, with the flags of its own config


def run_round(
    case: Case, runners: list[str], config: dict[str, Any], scratch: Path, older: Older | None = None
) -> Iterator[tuple[str, Path, record.Record]]:
    """Each of `runners` once: (runner, its last output, its record or that of its failure), in the order they end.

    All are loaded and warmed up, one after the other, and wait; then they measure in turns of a few calls, in the order
    given and backwards by turns (ABBA). Where memory does not hold them all, in groups.
    """
    for group in _groups(case, runners):
        workers = []
        try:
            for runner in group:
                what = older if older and runner.endswith(record.OLD) else (case, config)
                workers.append(worker := Worker(what[0], runner, what[1], scratch))
                worker.wait()
            forwards = True
            while waiting := [worker for worker in workers if worker.record is None]:
                for worker in waiting if forwards else reversed(waiting):
                    time.sleep(SPIN_SECONDS)
                    worker.turn()
                forwards = not forwards
            for worker in workers:
                yield worker.runner, worker.output, worker.result()
        finally:
            child.stop(*(worker.process for worker in workers if worker.process))
            for worker in workers:
                worker.close()


def run_rounds(
    case: Case, config: dict[str, Any], numbers: Iterable[int], scratch: Path, older: Older | None = None
) -> Iterator[list[record.Record]]:
    """Round by round, the records of the config's runners in their order, with what bench adds: parity with eager's output
    in `scratch`, the runner, the round, the batch size."""
    for number in numbers:
        runners = taking_part(config, number)
        order = runners if number % 2 == 0 else runners[::-1]  # ABBA
        lines = []
        ended = list(run_round(case, order, config, scratch, older))
        for runner, output, line in sorted(ended, key=lambda one: runners.index(one[0])):
            compare_with(line, output, scratch / REFERENCE, runner)
            about = {"model": case.model.name, "runner": runner, "round": number, "batch_size": config["batch_size"]}
            lines.append(line | about)
        yield lines


def taking_part(config: dict[str, Any], number: int) -> list[str]:
    """The runners of that round: all, but those that are measured `once` in the first alone."""
    once = config.get("once", ()) if number else ()  # an older file has none
    return [runner for runner in config["runners"] if runner not in once]


def _groups(case: Case, runners: list[str]) -> list[list[str]]:
    """`runners` in as few groups as fit into memory side by side."""
    free = MEMORY_SHARE * record.available_memory()
    groups: list[list[str]] = [[]]
    taken = 0.0
    for runner in runners:
        path = case.artifacts.get(key_of(routes.runner(runner)))
        needs = WORKER_BYTES + COPIES * path.stat().st_size if path else 0
        if groups[-1] and taken + needs > free:
            groups.append([])
            taken = 0
        groups[-1].append(runner)
        taken += needs
    return groups


class Worker:
    """One fresh process of `runner`. It says `ready` when it wants a turn, waits for a line, and ends with its record."""

    def __init__(self, case: Case, runner: str, config: dict[str, Any], scratch: Path) -> None:
        """Starts it, or settles its record where there is nothing to start."""
        self.runner = runner
        one = routes.runner(runner)
        name = runner.replace("/", "-")
        self.output, self.errors = scratch / f"{name}.npy", scratch / f"{name}.stderr"
        self.record: record.Record | None = None
        self.process: subprocess.Popen[str] | None = None
        self.runtime, self.artifact = one.runtime, case.artifacts.get(key_of(one))
        if why := case.errors.get(key_of(one)):
            self.record = record.failure(one.runtime, None, why.code, str(why))
            return
        flags = {
            "artifact": self.artifact,
            "route": one.route.name,
            "input": case.input,
            "output": self.output,
            # the timed runs of a runner are spread evenly over its rounds
            "runs": -(-config["runs"] // config["rounds"]),
            **{name: config[name] for name in WORKER_FLAGS if name in config},  # an older file knows fewer
            **{name: config[name] for name in LOAD_FLAGS if config.get(name)},
        }
        command = case.checkout.worker(one.runtime)
        command += [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        command += ["--json", *(["--strict"] if config["strict"] else [])]
        self.output.unlink(missing_ok=True)
        self.cold_start_seconds: float | None = None  # until it says that it has answered
        self.start = time.perf_counter()
        with self.errors.open("w", encoding="utf-8") as errors:  # a file, which cannot fill up as a pipe does
            pipe = subprocess.PIPE
            environment, folder = case.checkout.environment(one.runtime), case.checkout.folder
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=pipe,
                stdout=pipe,
                stderr=errors,
                text=True,
                errors="replace",
            )

    def turn(self) -> None:
        """Lets it make its calls, and waits until it has."""
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died while it waited; its record will say so
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        self.wait()

    def wait(self) -> None:
        """Until it is ready for a turn, or has ended with its record."""
        if self.record is not None:
            return
        assert self.process is not None
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:  # what a model prints in between is not for us
            if (word := line.strip()) == "ready":
                return
            if word == "answered":
                self.cold_start_seconds = time.perf_counter() - self.start
            elif line.startswith("{"):
                said = line
        code = self.process.wait()
        if code in child.INTERRUPTED:
            raise KeyboardInterrupt
        found = _record_in(said, code, self.errors.read_text(encoding="utf-8", errors="replace"), self)
        self.record = found if "error" in found else {**found, "cold_start_seconds": self.cold_start_seconds}

    def result(self) -> record.Record:
        """The record; the worker has ended."""
        assert self.record is not None
        return self.record

    def close(self) -> None:
        """The pipes to it; it has ended."""
        for stream in (self.process.stdin, self.process.stdout) if self.process else ():
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


def _record_in(said: str, code: int, errors: str, worker: Worker) -> record.Record:
    """The one JSON line on the worker's stdout; a worker that died without one becomes a failure record."""
    try:
        line: record.Record = json.loads(said)
        if line["schema"] == record.SCHEMA:
            return line
    except (ValueError, KeyError, TypeError):
        pass
    last = (errors.strip().splitlines() or [""])[-1].removeprefix("error: ")
    how = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
    kind = "out_of_memory" if code == -9 else "runtime"  # 9: what the kernel sends when memory is out
    return record.failure(worker.runtime, str(worker.artifact), kind, f"{how}; {last}" if last else how)


def compare_with(line: record.Record, output: Path, reference: Path, runner: str) -> None:
    """Adds `parity`: the output of the timed runs, and the input they had, against eager's. The first eager run of a
    model becomes the `reference`, with its input's CRC in a file beside it. A failure record stays as it is."""
    from deploybench import parity, tensor_file

    if "error" in line:
        return

    crc = reference.with_suffix(".crc32")
    if runner == BASELINE and not reference.exists():
        shutil.copy(output, reference)
        crc.write_text(line["input_crc32"], encoding="ascii")
    elif not reference.exists():
        line["parity"] = None  # eager itself failed
        return
    expected, found = tensor_file.read_array(reference), tensor_file.read_array(output)
    verdict = parity.compare(expected, found, line["precision"], line["device"]).to_json()
    if not line["output_finite"]:
        verdict |= {"ok": False, "reason": "an output of the timed runs holds NaN or infinity"}
    elif line["output_drift"] > DRIFT * abs(expected).max():
        verdict |= {"ok": False, "reason": f"outputs of the timed runs differ by up to {line['output_drift']:.1e}"}
    elif line["input_crc32"] != crc.read_text(encoding="ascii"):
        verdict |= {"ok": False, "reason": "its input was not eager's (input_crc32)"}
    line["parity"] = verdict
