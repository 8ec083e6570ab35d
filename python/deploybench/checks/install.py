"""Checks of what is installed and built: PyTorch, LibTorch, processes, the C++ program."""

from __future__ import annotations

import os
import re

from deploybench.checks.finding import OK, PROBLEM, UNKNOWN, WARNING, Finding, counted
from deploybench.facts import Install, Process, Program
from deploybench.libtorch_folder import release

OPENMP = re.compile(r"lib(gomp|iomp5|omp)(-[0-9a-f]+)?\.so[\w.]*")
# The oldest driver of each CUDA (docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, table 1).
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}


def threads(at: Process) -> list[Finding]:
    """Of what torch would start when nobody says a number."""
    if at.threads is None:
        return []
    said = f"{at.name} starts {counted(at.threads, 'thread')}, {counted(at.usable_cpus, 'usable CPU')}"
    if at.threads <= at.usable_cpus:
        return [Finding(OK, said)]
    return [
        Finding(PROBLEM, said, f"export OMP_NUM_THREADS={at.usable_cpus}, or torch.set_num_threads({at.usable_cpus})")
    ]


def openmp(at: Process) -> list[Finding]:
    """Of libraries mapped into one process."""
    if at.why:
        return [Finding(UNKNOWN, f"{at.name}: {at.why}")]
    found = [file for file in at.libraries if OPENMP.fullmatch(os.path.basename(file))]
    if len(found) > 1:
        return [Finding(PROBLEM, f"{at.name} has {len(found)} OpenMP runtimes: {', '.join(found)}")]
    return [Finding(OK, f"{at.name} has {'one OpenMP runtime' if found else 'no OpenMP runtime'}")]


def versions(at: Install) -> list[Finding]:
    """Of torch against itself and LibTorch."""
    if at.import_error:
        return [
            Finding(PROBLEM, f"import torch fails: {at.import_error}", "python -m pip install --force-reinstall torch")
        ]
    if at.torch is None or at.imported is None:
        return [Finding(UNKNOWN, "no torch is installed in this Python")]
    if release(at.torch) != release(at.imported):
        said = f"pip says torch {at.torch}, import torch gives {at.imported}: an upgrade by half, or two installs on one path"
        return [Finding(PROBLEM, said, "python -m pip install --force-reinstall torch")]
    if at.libtorch is None:
        return [Finding(UNKNOWN, f"torch {at.imported}; no LibTorch in {at.libtorch_folder}", "make libtorch")]
    said = f"torch {at.imported}, LibTorch {at.libtorch} {at.libtorch_variant}"
    if at.libtorch != release(at.imported):
        return [Finding(PROBLEM, said)]
    built_for = at.imported.partition("+")[2]
    if built_for and built_for != at.libtorch_variant:
        return [Finding(WARNING, f"{said}: the same version, but another build", "make libtorch && make build")]
    return [Finding(OK, said)]


def program_versions(at: Program) -> list[Finding]:
    """Of the LibTorch that the program would get."""
    if at.why:
        return []  # abi says it
    if at.libtorch is None:
        return [Finding(UNKNOWN, f"{at.path}: no LibTorch with headers is mapped into it")]
    said = f"{at.path} runs with LibTorch {at.libtorch}"
    if at.expected and release(at.expected) != at.libtorch:
        return [
            Finding(
                PROBLEM,
                f"{said} of {at.libtorch_folder}, Python's torch is {at.expected}",
                "make libtorch && make build",
            )
        ]
    return [Finding(OK, said)]


def abi(at: Program) -> list[Finding]:
    """Of symbols."""
    if at.why:
        return [Finding(UNKNOWN, f"{at.path}: {at.why}")]
    if at.lacking:
        return [Finding(PROBLEM, f"{at.path} cannot start, not found: {', '.join(at.lacking)}")]
    if not at.undefined:
        return [Finding(OK, f"{at.path}: each symbol is found")]
    more = f" and {len(at.undefined) - 1} more" if len(at.undefined) > 1 else ""
    old = (
        "; the program has the C++ ABI of before 2015, LibTorch the one after (_GLIBCXX_USE_CXX11_ABI=0)"
        if at.old_abi
        else ""
    )
    return [Finding(PROBLEM, f"{at.path}: no library has {at.undefined[0]}{more}{old}")]


def torchvision(at: Install) -> list[Finding]:
    """Of the torch that torchvision's package asks for."""
    if at.torchvision is None:
        return [Finding(UNKNOWN, "no torchvision is installed in this Python")]
    if at.torchvision_wants is None:
        return [Finding(UNKNOWN, f"torchvision {at.torchvision} does not say which torch it was built for")]
    said = f"torchvision {at.torchvision} is built for torch {at.torchvision_wants}"
    here = at.imported or at.torch
    if here and release(here) != release(at.torchvision_wants):
        return [Finding(PROBLEM, f"{said}, installed is {here}")]
    return [Finding(OK, said)]


def compiler(at: Install) -> list[Finding]:
    """Of what Inductor would call."""
    if at.compiler_error:
        return [Finding(WARNING, f"{at.compiler}: {at.compiler_error}")]
    return [Finding(OK, f"{at.compiler} works")]


def driver(at: Install) -> list[Finding]:
    """Of CUDA's oldest driver."""
    found = re.fullmatch(r"cu(\d\d)\d+", at.libtorch_variant or "")
    built = {"torch": at.cuda, "LibTorch": f"{found[1]}" if found else None}
    wanted = {name: int(version.split(".")[0]) for name, version in built.items() if version}
    if not wanted:
        return [Finding(UNKNOWN, "no CUDA: torch and LibTorch are CPU builds")]
    if at.driver is None:
        return [
            Finding(
                UNKNOWN, f"{' and '.join(wanted)}: built for CUDA {max(wanted.values())}, and there is no NVIDIA driver"
            )
        ]
    has = int(at.driver.split(".")[0])
    for name, cuda in wanted.items():
        least = OLDEST_DRIVER.get(cuda)
        if least is None:
            return [
                Finding(UNKNOWN, f"driver {at.driver}, {name} for CUDA {cuda}: its oldest driver is not known here")
            ]
        if has < least:
            return [
                Finding(
                    PROBLEM,
                    f"the driver is {at.driver}, {name} was built for CUDA {cuda}, which wants {least} or newer",
                )
            ]
    return [Finding(OK, f"driver {at.driver}, CUDA {max(wanted.values())}")]


def debug_build(at: Program) -> list[Finding]:
    """Of the build folder's type, or else of the compiler's flags."""
    if at.why:
        return []
    if at.build_type and at.build_type not in ("Release", "RelWithDebInfo", "MinSizeRel"):
        return [Finding(PROBLEM, f"{at.path} is a {at.build_type} build")]
    if at.optimised is False:
        return [Finding(PROBLEM, f"{at.path} was compiled without -O2 (its debug information says so)")]
    if not at.build_type and at.optimised is None:
        said = f"{at.path}: it lies in no CMake build folder and has no debug information"
        return [Finding(UNKNOWN, said)]
    return [Finding(OK, f"{at.path} is {f'a {at.build_type} build' if at.build_type else 'optimised'}")]


def inference_mode(at: Program) -> list[Finding]:
    """Of a guard, which leaves a symbol in whatever uses it."""
    if at.why:
        return []
    if at.guarded:
        return [Finding(OK, f"{at.path} enters InferenceMode or NoGradGuard")]
    if at.runs_torchscript:
        return [Finding(PROBLEM, f"{at.path} runs TorchScript and nowhere enters InferenceMode or NoGradGuard")]
    return [Finding(UNKNOWN, f"{at.path} does not call TorchScript itself; a library of it may")]
