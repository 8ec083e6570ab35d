"""How child processes are stopped, and what one says that was. Ground floor: the standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

CLEANING_SECONDS = 10  # torch does not hear Ctrl-C while it writes a file, and the largest artifact has 1.3 GB
INTERRUPTED = (128 + signal.SIGINT, -signal.SIGINT)  # Ctrl-C reaches the child before it reaches us


def stop(*processes: subprocess.Popen[Any]) -> None:
    """Ends those that still run, after Ctrl-C or an error in this process: all are asked first, so that each removes what it half
    made while the others do, and those that take more than CLEANING_SECONDS are killed."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGINT)  # where it was this process alone that was told
    deadline = time.monotonic() + CLEANING_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def imports_torch(frame: FrameType | None) -> bool:
    """Whether a signal came while torch is being imported, which catches what a handler raises, and goes on with half a numpy."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") in ("torch", "torchvision", "numpy"):
            return True
        frame = frame.f_back
    return False


_compiles = False  # whether what this process starts are compilers


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """What this process starts meanwhile is a compiler, which `end_compilers` ends."""
    global _compiles
    _compiles = True
    try:
        yield
    finally:
        _compiles = False


def end_compilers() -> None:
    """For a handler that raises an interruption, before it does. Afterwards is too late: subprocess.run kills the compiler's driver,
    and cc1plus goes on without it, beside what is measured next, and leaves its file."""
    told: set[int] = set()
    deadline = time.monotonic() + CLEANING_SECONDS
    while _compiles and time.monotonic() < deadline:
        below = [process for process in list(family(os.getpid()))[1:] if _runs(process)]
        if not below:
            break
        for process in set(below) - told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        told.update(below)
        time.sleep(0.005)


def family(process: int) -> Iterator[int]:
    """Numbers of the process and of all below it."""
    yield process
    for thread in Path("/proc", str(process)).glob("task/*/children"):
        with contextlib.suppress(OSError):  # it has ended
            for one in thread.read_text(encoding="ascii").split():
                yield from family(int(one))


def _runs(process: int) -> bool:
    """Whether it has not ended; one that nobody has waited for has."""
    try:
        status = Path("/proc", str(process), "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
