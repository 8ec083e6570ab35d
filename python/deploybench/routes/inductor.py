"""Inductor: `torch.compile` in the process, and AOTInductor, which compiles ahead of time into a .pt2 package that C++ loads
without Python. Twin of cpp/deploybench/artifact."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploybench import record
from deploybench.artifact import ENTRY, Metadata
from deploybench.errors import DeploybenchError, first_line
from deploybench.paths import shown
from deploybench.routes import eager

if TYPE_CHECKING:
    import torch
    from torch import nn

    from deploybench.routes import Forward

# Flags of /proc/cpuinfo that -march=native turns into instructions.
COMPILED_FLAGS = ("avx", "amx", "fma", "f16c", "bmi", "gfni", "vaes", "vpclmulqdq", "movbe", "abm", "adx")
PORTABLE_FLAGS = ["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"]  # x86-64-v3
# Inductor has no option for flags of one's own but `cpp.march`, whose text goes into the command line as it is.
# With g++'s unique symbols the library of a package would stay in memory, weights included, after its model is gone.
UNLOADABLE = "-fno-gnu-unique"
ALIGNED = f"-include {shlex.quote(str(Path(__file__).with_name('aligned_weights.hpp')))}"
# What LibTorch says of a sound package that it cannot unpack: no folder, no room, no leave to run code there.
UNPACKING = ("generating temporary directory", "write callback failed", "failed to map segment from shared object")
UNPACKING_REMEDY = "set TMPDIR to a folder that can be written to, has room for it, and is not mounted noexec"
OPTIONS: dict[str, Any] = {
    "freezing": True,  # weights are constants: packed for oneDNN, batch norm folded
    "aot_inductor.precompile_headers": False,  # which live in the shared cache: see _own_cache
}


def need_compiler() -> None:
    """Raises an error that says what to install where Inductor finds no C++ compiler."""
    from torch._inductor import config

    compiler = config.cpp.cxx[1]
    if shutil.which(compiler) is None:
        raise DeploybenchError(
            "runtime", f"{compiler}: no C++ compiler, which Inductor needs; install g++ or set CXX to another one"
        )


def built_for(device: str, portable: bool, threads: int = 0) -> dict[str, Any]:
    """What the compiled code needs, for the metadata: flags of the CPU, the GPU's architecture, the threads that its weights are
    packed for (0: it does not matter), and what compiled it."""
    import torch
    from torch._inductor import config

    compiler = config.cpp.cxx[1]
    version = ""
    if shutil.which(compiler):
        version = subprocess.run([compiler, "-dumpfullversion"], capture_output=True, text=True).stdout.strip()
    own = sorted(flag for flag in record.cpu_flags() if flag.startswith(COMPILED_FLAGS))
    found: dict[str, Any] = {
        "cpu_flags": PORTABLE_FLAGS if portable else own,
        "compiler": f"{compiler} {version}".strip(),
    }
    if threads:
        found["threads"] = threads
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        found["gpu"] = f"sm_{major}{minor}"
    return found


def export(module: nn.Module, example: torch.Tensor, path: Path, metadata: Metadata) -> None:
    """Exports the graph at the shape of `example`, or for the range of batches that the metadata says, compiles it, and
    writes the package."""
    import torch
    from torch._inductor import aoti_compile_and_package

    need_compiler()
    configuration = _options(metadata)
    logging.getLogger("torch").setLevel(logging.ERROR)
    try:
        with torch.no_grad():
            least, most = metadata.batches
            size = torch.export.Dim("batch", min=least, max=most) if least < most else None
            program = torch.export.export(module, (example,), dynamic_shapes=({0: size} if size else None,))
    except Exception as error:  # the exporter raises a dozen kinds
        raise DeploybenchError("runtime", f"cannot be exported ({first_line(error)})") from error
    with _own_cache(), tempfile.TemporaryDirectory(prefix="deploybench-") as folder:
        package = Path(folder, "model.pt2")  # the packager insists on the suffix
        try:
            with torch.no_grad(), warnings.catch_warnings(), _threads(metadata.built_for.get("threads")):
                warnings.simplefilter("ignore")  # advice to allow TF32, which the workers' --tf32 does
                aoti_compile_and_package(program, package_path=str(package), inductor_configs=configuration)
        except Exception as error:
            raise DeploybenchError("runtime", f"cannot be compiled by Inductor ({_essence(error)})") from error
        keep(package, path, metadata)


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Torch with so many: oneDNN cuts weights into blocks by their number, and Inductor writes it into its loops."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _own_cache() -> Iterator[None]:
    """Inductor with a cache for this process alone. In the shared one, /tmp/torchinductor_USER, whatever a killed compiler left
    half-written (a precompiled header takes it 10 s) counts as made, also for whoever compiles meanwhile; and the packages of
    all models stay there, weights included."""
    name, folder = "TORCHINDUCTOR_CACHE_DIR", _cache_folder().name
    before = os.environ.get(name)
    os.environ[name] = folder
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
        for file in Path(folder).rglob("*.so"):
            file.unlink()  # the weights are in it


@functools.cache
def _cache_folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when this process ends: Inductor remembers paths in it."""
    return tempfile.TemporaryDirectory(prefix="deploybench-inductor-")


def _essence(error: Exception) -> str:
    """The first line, and where the C++ compiler failed, what it said, which comes after a command of 3,000 characters."""
    said = [line.strip() for line in str(error).partition("\nOutput:\n")[2].splitlines() if line.strip()]
    telling = [line for line in said if re.search(r"error|killed|no space", line, re.IGNORECASE)] or said[-1:]
    return ": ".join([first_line(error), *(line[:200] for line in telling[:1])])


def keep(package: Path, path: Path, metadata: Metadata) -> None:
    """Copies a package to `path`, the metadata inside."""
    with zipfile.ZipFile(package, "a", zipfile.ZIP_STORED) as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/extra/{ENTRY}", metadata.to_json())
    shutil.copyfile(package, path)


def _options(metadata: Metadata) -> dict[str, Any]:
    from torch._inductor import config

    if not hasattr(config.cpp, "march"):  # torch 2.11, which has no option for it
        if metadata.built_for["cpu_flags"] == PORTABLE_FLAGS:
            what = f"--portable: torch {metadata.torch_version} compiles aoti for this CPU alone"
            raise DeploybenchError("unsupported", f"{what}; use torch 2.13, or --routes script")
        return dict(OPTIONS)
    flags = [ALIGNED] if metadata.device == "cpu" else []
    if "clang" not in metadata.built_for["compiler"]:  # which has neither such symbols nor the flag
        flags.append(UNLOADABLE)
    # Else Inductor compiles four programs, 8 s a process, to learn whether torch and the compiler know what the CPU has.
    known = {**OPTIONS, "cpp.vec_isa_ok": True}
    if metadata.built_for["cpu_flags"] == PORTABLE_FLAGS:
        return {**known, "cpp.simdlen": 256, "cpp.march": " ".join(["x86-64-v3", *flags])}
    if platform.machine() != "x86_64":
        return dict(OPTIONS)  # Inductor chooses among several
    return {**known, "cpp.march": " ".join(["native", *flags])}


def load(path: Path, metadata: Metadata, instances: int = 1) -> Forward:
    """The package, its kernels unpacked and loaded. Not by aoti_load_package, which would compile probes of the instruction
    set for seconds (pytorch issue 191715)."""
    from torch._C._aoti import AOTIModelPackageLoader

    # Alone on CUDA without its bookkeeping for several threads: events and their queries, which no CUDA graph can record.
    alone = metadata.device == "cuda" and instances == 1
    try:
        loader = AOTIModelPackageLoader(str(path), "model", alone, instances, -1)
    except RuntimeError as error:
        if any(sign in str(error) for sign in UNPACKING):
            what = f"{shown(path)}: cannot be unpacked ({first_line(error)})"
            raise DeploybenchError("runtime", f"{what}; {UNPACKING_REMEDY}") from None
        raise

    def forward(images: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = loader.run([images])[0]
        return output

    return forward


def load_compiled(path: Path, metadata: Metadata, instances: int = 1) -> Forward:
    """The eager module through torch.compile, with its weights frozen. The first call compiles."""
    import torch
    from torch._inductor import config

    need_compiler()
    config.freezing = True
    compiled: Forward = torch.compile(eager.load(path, metadata), dynamic=False)
    return compiled
