"""How child processes are stopped, and what one says that was. Ground floor: the standard library only."""

from __future__ import annotations

import signal
import subprocess
import time
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
