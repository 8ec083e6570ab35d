"""A runner's `infer` as a process that answers photos, in Python or in C++: the same flags, the same lines of JSON, libraries
kept apart. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploybench import child, library_paths, paths, routes
from deploybench.errors import DeploybenchError

FLAGS = ("batch_size", "instances", "threads")  # that go on to `infer` where they are given


def answers(runner: str, artifact: Path, photos: list[Path], config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What `runner` says to each photo, in order: `predictions`, or an `error` where it cannot be read (docs/record.md). Raises
    what ended it before the last one."""
    with tempfile.TemporaryDirectory(prefix="deploybench-") as folder:
        listed, errors = Path(folder, "photos.txt"), Path(folder, "stderr.txt")
        listed.write_bytes(b"".join(os.fsencode(photo) + b"\n" for photo in photos))
        process = _started(runner, artifact, listed, errors, config)
        assert process.stdout is not None
        answered = 0
        try:
            for line in process.stdout:
                found = _object(line)
                if "input" in found:  # else the failure record of C++
                    answered += 1
                    yield found
            code = process.wait()
        finally:
            process.stdout.close()  # first: nobody reads what it still says, and it would wait for that
            child.stop(process)
        if code in child.INTERRUPTED:
            raise KeyboardInterrupt
        if answered < len(photos):
            raise _failure(runner, code, errors.read_text(encoding="utf-8", errors="replace"))


def _started(runner: str, artifact: Path, listed: Path, errors: Path, config: dict[str, Any]) -> subprocess.Popen[str]:
    one = routes.runner(runner)
    cpp = one.runtime == "cpp"
    command = [str(paths.CPP_BIN / "infer"), str(artifact)] if cpp else [
        sys.executable, "-m", "deploybench", "infer", "--artifact", str(artifact),
    ]  # fmt: skip
    command += ["--route", one.route.name, "--list", str(listed), "--json"]
    command += [part for name in FLAGS if config[name] for part in (f"--{name.replace('_', '-')}", str(config[name]))]
    environment = library_paths.cpp_environment() if cpp else library_paths.python_environment()
    with errors.open("w", encoding="utf-8") as stderr:  # a file, which cannot fill up as a pipe does
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True,
            encoding="utf-8", errors="replace",
        )  # fmt: skip


def _object(line: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


def _failure(runner: str, code: int, errors: str) -> DeploybenchError:
    """Why it ended before the last photo. What is said of photos comes before that."""
    lines = errors.strip().splitlines() or [""]
    if code > 0 and lines[-1].startswith("error: "):
        return DeploybenchError("runtime", lines[-1].removeprefix("error: "))
    kind = "out_of_memory" if code == -signal.SIGKILL else "runtime"  # what the kernel sends when memory is out
    how = f"by signal {-code}" if code < 0 else f"with code {code}"
    return DeploybenchError(kind, f"{runner}: infer ended {how}{'; ' if lines[-1] else ''}{lines[-1]}")
