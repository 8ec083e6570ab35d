"""The results file, which holds the records of many runs: made, saved, found and read. No torch."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploybench import record, soundness
from deploybench.errors import DeploybenchError
from deploybench.paths import shown, typed
from deploybench.record import OLD

EVALUATION_KIND = "evaluation"
EVALUATION = f".{EVALUATION_KIND}.json"  # how results of `evaluate` are called, which lie beside those of `bench`


def new_path(folder: Path, suffix: str = ".json") -> Path:
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
            if not path.stat().st_size:  # as new_path made it
                path.unlink()
        raise DeploybenchError(
            "output_unwritable",
            f"{shown(path)}: cannot be written ({error.strerror}); free space or choose --results FOLDER",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def read(path: Path, kind: str, make: str, flaw: Callable[[object], str]) -> dict[str, Any]:
    """The JSON in `path`, in which `flaw` finds nothing wrong. `kind`: what it should be; `make`: the command that writes one.
    Raises input_missing or input_invalid."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        why = flaw(results)
    except FileNotFoundError:
        raise DeploybenchError("input_missing", f"{shown(path)}: no such {kind}; make one with: {make}") from None
    except (OSError, ValueError, RecursionError) as error:
        why = str(error)[:100]
    if why:
        article = "an" if kind[0] in "aeiou" else "a"
        raise DeploybenchError("input_invalid", f"{shown(path)}: not {article} {kind} ({why}); make one with: {make}")
    return dict(results)


def load(path: Path) -> dict[str, Any]:
    """The results of `bench` in `path`. Raises input_missing or input_invalid."""

    def flaw(results: object) -> str:
        if isinstance(results, dict) and results.get("kind") == EVALUATION_KIND:
            return f"it is one of evaluate, whose name ends in {EVALUATION}"
        return soundness.flaw(results)

    return read(path, "results file", "make bench", flaw)


def load_lines(path: Path) -> dict[str, Any]:
    """A results file, or the lines that workers printed with --json, as results without environment and config. Raises
    input_missing or input_invalid."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError):
        return load(path)  # which says what is wrong, or reads a file that has been laid out over several lines
    if (len(lines) == 1 and isinstance(lines[0], dict) and "runs" in lines[0]) or not lines:
        return load(path)
    bare = {
        name: check
        for name, check in {**soundness.RUN, **soundness.MEASURED}.items()
        if name not in ("round", "cold_start_seconds")
    }
    parts: list[tuple[str, object, soundness.Checks]] = []
    for number, line in enumerate(lines, 1):
        where, fields = f"line {number}", line if isinstance(line, dict) else {}
        if fields.get("schema") != record.SCHEMA:
            raise DeploybenchError(
                "input_invalid",
                f"{shown(path)}: {where} is no record of schema {record.SCHEMA}; give a results file, or what `bench --json` printed",
            )
        parts.append((where, line, {"runtime": soundness.TEXT} if "error" in fields else bare))
    measured = [(f"line {number}", line) for number, line in enumerate(lines, 1) if "error" not in line]
    if why := soundness.first_wrong(parts) or soundness.first_wrong(
        [(where, line, soundness.that_it_has(line, "run")) for where, line in measured]
    ):
        raise DeploybenchError("input_invalid", f"{shown(path)}: not a record ({why}); run the worker again")
    runs = [{"round": 0, **line} for line in lines if "error" not in line]
    return {"schema": record.SCHEMA, "complete": True, "environment": {}, "config": {}, "runs": runs}


def has_old_programs(results: dict[str, Any]) -> bool:
    """Whether `compare --remeasure` wrote it: with runners of another checkout or other settings."""
    return any(runner.endswith(OLD) for runner in results["config"]["runners"])


def incomplete(path: Path, results: dict[str, Any]) -> str:
    """That a run was interrupted, and how to go on; empty where it was not."""
    if results["complete"]:
        return ""
    go_on = (
        "measure again by compare --remeasure"
        if has_old_programs(results)
        else f"deploybench bench --resume {typed(path)}"
    )
    return f"{shown(path)}: not complete; {go_on}"


def latest(
    folder: Path,
    suffix: str = ".json",
    make: str = "make bench",
    suits: Callable[[dict[str, Any]], bool] | None = None,
) -> Path:
    """The newest results file in `folder`, of bench or of the kind that this suffix says. With `suits` the newest whose
    content does, or the newest of all where none does."""
    files = [file for file in folder.glob(f"*{suffix}") if file.stat().st_size]
    if suffix != EVALUATION:
        files = [file for file in files if not file.name.endswith(EVALUATION)]
    if not files:
        raise DeploybenchError("input_missing", f"{shown(folder)}: holds no results; make some with: {make}")
    files.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
    return next((file for file in files if suits and _fits(file, suits)), files[0])


def _fits(file: Path, suits: Callable[[dict[str, Any]], bool]) -> bool:
    with contextlib.suppress(DeploybenchError):  # one that cannot be read is not looked for
        return suits(load(file))
    return False
