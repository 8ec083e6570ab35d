"""Direct: C++ generated for one network, every size a constant, packaged as AOTInductor packages are. LibTorch
loads and calls it; no kernel of LibTorch runs. plan reads the graph, layout places activations, emit writes the code."""

from __future__ import annotations

import ctypes
import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from deploybench import child, record
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from deploybench.routes import Forward
    from deploybench.routes.direct.tiles import Machine

HERE = Path(__file__).parent
PORTABLE = ["-march=x86-64-v3"]
# A process may load several networks, and they must share nothing: the loader would make one of statics of the same name.
APART = ["-fno-gnu-unique", "-fvisibility=hidden"]
FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-gnu-unique"]
# Bytes. Code names its data by offsets of 31 bits, of which the code itself takes some; the linker fails beyond (RegNet-Y 128GF).
MOST_WEIGHTS = (2 << 30) - (64 << 20)

USUAL_CACHE = 1 << 20  # bytes, of the second level of a core: Skylake and Zen 4; others have half or twice as many
# package.cpp compiled, by compiler and architecture: 7 s of torch's headers, the same for all networks that a process makes.
_wrappers: dict[tuple[str, ...], bytes] = {}


def export(module: nn.Module, example: torch.Tensor, path: Path, metadata: Metadata) -> None:
    """Writes the package of `module`, a graph of graph.specialise for the shape of `example`."""
    from torch import fx
    from torch._inductor.package.package import package_aoti

    from deploybench.routes import inductor
    from deploybench.routes.direct import emit, layout, mapped, plan

    inductor.need_compiler()
    portable = metadata.built_for["cpu_flags"] == inductor.PORTABLE_FLAGS
    machine = _machine(metadata.precision, portable)
    assert isinstance(module, fx.GraphModule)
    found = layout.place_concatenations(plan.operations(module))
    places = layout.plan(found, machine.image_channels)
    source, weights = emit.program(found, places, machine)
    if len(weights) > MOST_WEIGHTS:
        what = f"weights of {len(weights) / 1e9:.1f} GB, which the code beside them cannot reach"
        raise DeploybenchError("unsupported", f"{what}; use --routes aoti")
    with tempfile.TemporaryDirectory(prefix="deploybench-") as scratch:
        folder = Path(scratch)
        (folder / "network.cpp").write_text(source, encoding="utf-8")
        (folder / "weights.bin").write_bytes(weights)
        files = _compile(folder, PORTABLE if portable else ["-march=native"])
        package = folder / "model.pt2"  # the packager insists on the suffix
        package_aoti(str(package), {"model": [str(file) for file in files]})
        mapped.keep(package, files[0], path, metadata)


def load(path: Path, metadata: Metadata, instances: int = 1) -> Forward:
    """The package, ready to be called by so many threads at a time."""
    from deploybench.routes.direct import mapped

    return mapped.load(path, metadata, instances)


def _machine(precision: str, portable: bool) -> Machine:
    from deploybench.routes.direct import tiles

    flags = record.cpu_flags()
    if precision == "bf16" and (portable or "avx512_bf16" not in flags):
        raise DeploybenchError("unsupported", "direct at bf16 wants a CPU with avx512_bf16; use --routes fused")
    if "avx2" not in flags or "fma" not in flags:
        raise DeploybenchError("unsupported", "direct wants an x86 CPU with avx2 and fma; use --routes fused")
    lanes = 16 if "avx512f" in flags and not portable else 8
    amx = precision == "bf16" and "amx_bf16" in flags and _amx_is_allowed()
    return tiles.Machine(lanes, 2 * lanes, precision, USUAL_CACHE if portable else _cache(), amx)


def _cache() -> int:
    """Bytes of the second-level cache of a core, by Linux."""
    try:
        said = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text(encoding="ascii")
        return int(said.strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return USUAL_CACHE


def _amx_is_allowed() -> bool:
    """Whether Linux gives AMX's tiles to this process, which network.hpp asks for in the same way."""
    return bool(ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0)  # 158: arch_prctl on x86-64


def _compile(folder: Path, march: list[str]) -> list[Path]:
    """The files of the package: a library, and what says which device it is for."""
    import torch
    from torch._inductor import config

    from deploybench.routes.direct import mapped

    compiler, torch_folder = config.cpp.cxx[1], Path(torch.__file__).parent
    common = [compiler, *FLAGS, *march, f"-I{HERE}"]
    interface = torch_folder / "_inductor/codegen/aoti_runtime/interface.cpp"
    headers = [f"-I{torch_folder / 'include'}", f"-I{torch_folder / 'include/torch/csrc/api/include'}"]
    commands = [[*common, *APART, "-c", "network.cpp", "-o", "network.o"]]
    wrapper, made = folder / "package.o", _wrappers.get((compiler, *march))
    if made:
        wrapper.write_bytes(made)
    else:
        own = ["-O1", *headers, f'-DINTERFACE="{interface}"']
        commands.append([*common, *own, "-c", str(HERE / "package.cpp"), "-o", str(wrapper)])
    _run(folder, *commands)
    _wrappers[compiler, *march] = wrapper.read_bytes()
    library = folder / mapped.LIBRARY
    about = library.with_name(f"{library.stem}_metadata.json")
    link = [compiler, "-shared", "-fopenmp", "-o", str(library), "network.o", "package.o"]
    _run(folder, [*link, f"-L{torch_folder / 'lib'}", "-ltorch", "-ltorch_cpu"])
    about.write_text(json.dumps({"AOTI_DEVICE_KEY": "cpu", "AOTI_PLATFORM": "linux", "AOTI_MACHINE": "x86_64"}))
    return [library, about]


def _run(folder: Path, *commands: list[str]) -> None:
    """All at a time. Raises the compiler's first error."""
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    running = [subprocess.Popen(one, cwd=folder, stdout=null, stderr=pipe, text=True) for one in commands]
    try:
        said = [one.communicate()[1] for one in running]
    finally:
        child.stop(*running)
    for command, one, errors in zip(commands, running, said, strict=True):
        if one.returncode:
            first = next((line for line in errors.splitlines() if "error" in line), errors.strip())
            raise DeploybenchError("runtime", f"cannot be compiled by {command[0]} ({first[:200]})")
