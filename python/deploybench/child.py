"""How a child process is stopped, and what one says that was. Ground floor: the standard library only."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

CLEANING_SECONDS = 10  # torch does not hear Ctrl-C while it writes a file, and the largest artifact has 1.3 GB
INTERRUPTED = (128 + signal.SIGINT, -signal.SIGINT)  # Ctrl-C reaches the child before it reaches us


def stop(process: subprocess.Popen[Any]) -> None:
    """Ends it where it still runs, after Ctrl-C or an error in this process: asked first, so that it removes what it half made,
    and killed where that takes more than CLEANING_SECONDS."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)  # where it was this process alone that was told
    try:
        process.wait(CLEANING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
