"""Keeping PyTorch's and LibTorch's libraries apart: the environment of every process that is started.

Both sides have files of the same names (libc10.so, libtorch_cpu.so, ...). Whichever copy the dynamic linker meets first
serves the whole process, and one side's code on the other side's library ends in undefined symbols or worse
(pytorch/pytorch#102272, #137247). LD_LIBRARY_PATH is searched before a library's own RUNPATH, and LD_PRELOAD before
everything, so these two are cleaned. Nothing is loaded here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from deploybench import paths
from deploybench.errors import DeploybenchError

TORCH_LIBRARY = re.compile(r"lib(c10|torch|caffe2)\w*\.so")
"""A library of PyTorch's or LibTorch's by its file name, with any suffix (.so.2); its content does not matter: the
linker also stops at a broken one."""

SEARCHED_BY_LINKER = {"LD_LIBRARY_PATH": "[:;]", "LD_PRELOAD": "[: ]"}
"""Each variable with the characters that ld.so takes as separators in it (man 8 ld.so)."""

_RESTARTED = "_DEPLOYBENCH_RESTARTED_PID"


def cpp_environment(libtorch: Path = paths.LIBTORCH, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a C++ process: `base` (default: this one's), LibTorch's lib first, other torch folders out."""
    environment = python_environment(base)
    rest = environment.get("LD_LIBRARY_PATH")
    environment["LD_LIBRARY_PATH"] = ":".join([os.path.abspath(libtorch / "lib"), *([rest] if rest else [])])
    return environment


def python_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a Python process: `base` (default: this process's) with every LibTorch folder taken out.

    Python's torch needs no search path: its libraries name each other relative to themselves ($ORIGIN).
    Empty entries, which mean the current folder, go too; a variable left with nothing is removed.
    """
    environment = dict(os.environ if base is None else base)
    for variable, separators in SEARCHED_BY_LINKER.items():
        if variable not in environment:
            continue
        entries = re.split(separators, environment.pop(variable))
        kept = [entry for entry in entries if entry and not _leads_to_torch(variable, entry)]
        if kept:
            environment[variable] = ":".join(kept)
    return environment


def leads_to_torch(base: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """What `python_environment` takes out of `base` because torch libraries lie there: (variable, entry), in order."""
    environment = os.environ if base is None else base
    return [
        (variable, entry)
        for variable, separators in SEARCHED_BY_LINKER.items()
        for entry in re.split(separators, environment.get(variable, ""))
        if entry and _leads_to_torch(variable, entry)
    ]


def restart_clean() -> None:
    """Start this very command again in `python_environment()`, unless it is in it. Call before torch is imported.

    ld.so reads LD_LIBRARY_PATH once, when a process starts: taking a folder out of os.environ later changes nothing.
    """
    clean = python_environment()
    if (
        all(os.environ.get(variable) == clean.get(variable) for variable in SEARCHED_BY_LINKER)
        or "torch" in sys.modules
    ):
        return
    # A wrapper around Python that sets the path again would make this a loop. exec keeps the process id.
    if os.environ.get(_RESTARTED) == str(os.getpid()):
        raise DeploybenchError(
            "runtime",
            f"LD_LIBRARY_PATH: {os.environ.get('LD_LIBRARY_PATH')} holds another LibTorch and is set again whenever "
            f"{sys.executable} starts; type `unset LD_LIBRARY_PATH` or take it out of the wrapper that sets it",
        )
    clean[_RESTARTED] = str(os.getpid())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], clean)


def require_clean() -> None:
    """For a process that is not ours to start again: raises where `restart_clean` would."""
    if "torch" not in sys.modules and any(
        python_environment().get(name) != os.environ.get(name) for name in SEARCHED_BY_LINKER
    ):
        raise DeploybenchError(
            "runtime",
            "LD_LIBRARY_PATH or LD_PRELOAD: leads to another LibTorch, which Python's torch would take for its own; "
            "type `unset LD_LIBRARY_PATH LD_PRELOAD` and start Python again",
        )


def _leads_to_torch(variable: str, entry: str) -> bool:
    return _holds_torch(entry) if variable == "LD_LIBRARY_PATH" else _is_torch(entry)


def _is_torch(library: str) -> bool:
    return TORCH_LIBRARY.match(os.path.basename(library)) is not None


def _holds_torch(folder: str) -> bool:
    try:
        return any(_is_torch(name) for name in os.listdir(folder))
    except OSError:
        # Not there, or not to be listed; the linker can still open a file by name in a folder that it cannot list.
        return any(
            os.path.lexists(os.path.join(folder, name)) for name in ("libc10.so", "libtorch_cpu.so", "libtorch.so")
        )
