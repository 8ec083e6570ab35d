"""What `doctor` looks at, as plain facts: the machine, processes, installs, a program, an artifact, records. It judges
nothing; checks/ does. What imports torch runs in a process of its own (probe.py), which may fail or crash."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from deploybench import artifact, elf, library_paths, libtorch_folder, machine, options, paths, record
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError, first_line
from deploybench.paths import shown

SAMPLE_SECONDS = 0.5  # 50 ticks a CPU
PROBE_SECONDS = 120
# std::string of before GCC 5, in a mangled name.
OLD_STRING = re.compile(r"^_ZNK?Ss|RKSs")
LIBRARY = re.compile(r"\s(/\S.*\.so(?:\.[\w.]+)?)(?: \(deleted\))?$", re.MULTILINE)


@dataclass(frozen=True)
class Machine:
    """This machine, now, as a process started from this shell finds it."""

    cpus: int  # of the affinity
    quota: float | None  # CPUs' worth of time that the cgroup allows
    stolen: float  # shares of the CPU time in a sample
    others: float
    busiest: tuple[str, ...]  # programs in that sample
    governor: str | None
    turbo: bool | None
    huge_pages: bool | None
    torch_on_path: tuple[tuple[str, str], ...]  # variable of the linker, its entry that leads to a LibTorch


@dataclass(frozen=True)
class Process:
    """A process by what is mapped into it; `why` says what is not known of it."""

    name: str
    libraries: tuple[str, ...]
    threads: int | None  # that torch would start by itself
    usable_cpus: int
    why: str = ""


@dataclass(frozen=True)
class Install:
    """PyTorch and LibTorch, as installed and as they load."""

    torch: str | None  # by its package
    imported: str | None  # what `import torch` gives
    import_error: str
    cuda: str | None  # that torch was built for
    torchvision: str | None
    torchvision_wants: str | None  # of torch: 2.13.0
    libtorch: str | None
    libtorch_variant: str | None
    libtorch_folder: str
    compiler: str  # of Inductor
    compiler_error: str
    driver: str | None


@dataclass(frozen=True)
class Program:
    """A C++ program and the libraries that this shell would give it; `why` says why nothing else is known."""

    path: str
    why: str = ""
    build_type: str | None = None  # CMake's
    optimised: bool | None = None  # as its debug information tells
    runs_torchscript: bool = False
    guarded: bool = False  # enters InferenceMode or NoGradGuard anywhere
    lacking: tuple[str, ...] = ()  # libraries that are not found
    undefined: tuple[str, ...] = ()  # symbols that no library has
    old_abi: bool = False  # uses std::string of before GCC 5
    libtorch: str | None = None  # version of the LibTorch that is mapped
    libtorch_folder: str = ""
    expected: str | None = None  # Python's torch


@dataclass(frozen=True)
class Artifact:
    """One artifact."""

    path: str
    metadata: Metadata | None
    weights: int | None  # numbers
    denormal: int
    cudnn: tuple[str, ...]  # flags that a trace recorded and that are not torch's defaults
    convolutions: int | None  # that hold such flags; None: no graph of TorchScript
    why: str  # nothing is known of its numbers
    cpu_flags: tuple[str, ...]  # this machine's
    torch: str | None  # this machine's


@dataclass(frozen=True)
class Results:
    """A results file, or records that stand alone: then without environment and config."""

    results: dict[str, Any]


@dataclass(frozen=True)
class Side:
    """The runs of one runner of a model."""

    name: str
    runs: tuple[dict[str, Any], ...]
    environment: dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two sides that should be alike but for one thing."""

    first: Side
    second: Side


def of_machine(root: Path = machine.ROOT, environment: Mapping[str, str] | None = None) -> Machine:
    """This machine; takes SAMPLE_SECONDS."""
    before, used = machine.ticks(root), machine.ticks_of_processes(root)
    time.sleep(SAMPLE_SECONDS)
    stolen, others = machine.shares(before, machine.ticks(root))
    return Machine(
        len(os.sched_getaffinity(0)),
        machine.cpu_quota(root),
        stolen,
        others,
        tuple(machine.busiest(used, machine.ticks_of_processes(root))),
        machine.governor(root),
        machine.turbo(root),
        machine.huge_pages(root),
        tuple(library_paths.leads_to_torch(environment)),
    )


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _probe(what: str, *arguments: str) -> tuple[dict[str, Any], str]:
    """What probe.`what` prints, in a process of its own with no LibTorch on its path; and why there is nothing."""
    command = [sys.executable, "-c", f"from deploybench import probe; probe.{what}()", *arguments]
    try:
        done = subprocess.run(
            command, env=library_paths.python_environment(), capture_output=True, timeout=PROBE_SECONDS, text=True, errors="replace"
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {PROBE_SECONDS} s"
    try:
        return dict(json.loads(done.stdout.splitlines()[-1])), ""
    except (ValueError, IndexError, TypeError):
        last = (done.stderr.strip().splitlines() or [""])[-1]
        how = f"ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with code {done.returncode}"
        return {}, last or how


def of_install(libtorch: Path) -> tuple[Install, Process]:
    """Both installs, and a Python process that has imported torch (3 s)."""
    found, error = _probe("torch_process")
    marker = libtorch_folder.read_marker(libtorch)
    compiler = os.environ.get("CXX", "g++")  # as torch/_inductor/config.py says, which takes another 1.3 s to import
    wants = [re.fullmatch(r"torch\s*\(?==\s*([\w.+]+)\)?.*", one) for one in _requirements("torchvision")]
    install = Install(
        _package("torch"),
        found.get("torch"),
        error,
        found.get("cuda"),
        _package("torchvision"),
        next((match[1] for match in wants if match), None),
        libtorch_folder.read_version(libtorch),
        (marker.variant if marker else libtorch_folder.read_variant(libtorch)) if libtorch.exists() else None,
        shown(libtorch),
        compiler,
        _compiler_error(compiler),
        machine.nvidia_driver(),
    )
    process = Process(
        "Python with torch", tuple(found.get("libraries", ())), found.get("threads"), options.usable_cpus(), error
    )
    return install, process


def _compiler_error(compiler: str) -> str:
    """Why `compiler` does not work; empty when it does."""
    if shutil.which(compiler) is None:
        return "is not on PATH"
    try:
        done = subprocess.run([compiler, "-dumpversion"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run ({error})"
    return "" if done.returncode == 0 and done.stdout.strip() else "is no C++ compiler"


def _requirements(package: str) -> list[str]:
    try:
        return requires(package) or []
    except PackageNotFoundError:
        return []


def of_process(pid: int) -> Process:
    """A process that runs now. Raises input_missing."""
    try:
        maps = Path("/proc", str(pid), "maps").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DeploybenchError(
            "input_missing", f"--pid {pid}: cannot be looked at ({error.strerror}); name a process of your own, see ps"
        ) from None
    return Process(f"process {pid}", mapped(maps), None, options.usable_cpus())


def mapped(maps: str) -> tuple[str, ...]:
    """The shared libraries in the text of a /proc/PID/maps, each once."""
    return tuple(dict.fromkeys(LIBRARY.findall(maps)))


def of_program(path: Path) -> tuple[Program, Process]:
    """A C++ program: its headers and symbols, and what the dynamic loader would map; none of its code runs."""
    name = shown(path)
    expected = _package("torch")
    nothing = Process(name, (), None, options.usable_cpus())
    if not path.exists():
        return Program(name, "not built; make build"), nothing
    try:
        loaded = elf.traced(path)
        symbols = elf.imported(path)
        optimised = elf.optimised(path)
    except ImportError:
        return Program(name, "pyelftools is not installed: pip install pyelftools"), nothing
    except DeploybenchError as error:
        raise DeploybenchError("input_invalid", str(error)) from error
    folder = next((Path(file).parent.parent for file in loaded.files if file.endswith("/libtorch_cpu.so")), None)
    program = Program(
        name,
        "",
        _cmake_build_type(path),
        optimised,
        any("3jit4loadE" in one or "3jit6Method" in one for one in symbols),
        # InferenceMode and NoGradGuard are inline: these are what they call
        any("AutogradState13set_tls_state" in one or "GradMode11set_enabled" in one for one in symbols),
        loaded.lacking,
        loaded.undefined,
        any(OLD_STRING.search(one) for one in (*symbols, *loaded.undefined)),
        libtorch_folder.read_version(folder) if folder else None,
        shown(folder) if folder else "",
        expected,
    )
    return program, Process(name, loaded.files, None, options.usable_cpus())


def _cmake_build_type(program: Path) -> str | None:
    """CMAKE_BUILD_TYPE of the build folder that `program` lies in; None where it lies in none."""
    for folder in list(program.resolve().parents)[:3]:
        cache = folder / "CMakeCache.txt"
        if cache.is_file():
            found = re.search(r"^CMAKE_BUILD_TYPE:\w+=(\w*)", cache.read_text("utf-8", "replace"), re.MULTILINE)
            return found[1] if found else None
    return None


def of_artifact(path: Path) -> Artifact:
    """An artifact, also one that deploybench did not make. Raises artifact_missing, artifact_invalid."""
    metadata, why_no_stamp = None, ""
    try:
        metadata = artifact.read_metadata(path)
    except DeploybenchError as refusal:
        if "not made by deploybench" not in str(refusal):
            raise
        why_no_stamp = str(refusal)
    if bad := artifact.damaged(path):
        raise DeploybenchError("artifact_invalid", f"{shown(path)}: is damaged ({bad}); {artifact.REMAKE} --force")
    found, error = _probe("weights", str(path))
    why = str(found.get("why", error))
    if not metadata and why:
        raise DeploybenchError("artifact_invalid", f"{why_no_stamp}; and torch: {first_line(RuntimeError(why))}")
    return Artifact(
        shown(path),
        metadata,
        found.get("weights"),
        found.get("denormal", 0),
        tuple(found.get("cudnn", ())),
        found.get("convolutions"),
        why,
        tuple(record.cpu_flags()),
        _package("torch"),
    )


def default_program() -> Path:
    """The C++ program that `bench` starts."""
    return paths.CPP_BIN / "bench"
