"""What a LibTorch folder is: the files that make one, its version, build and architecture, and its marker.

Reads files only; nothing of LibTorch is loaded.
"""

from __future__ import annotations

import json
import platform
import re
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from deploybench import paths
from deploybench.errors import DeploybenchError

PARTS = ("include", "lib", "share")
LIBRARIES = ("lib/libtorch.so", "lib/libtorch_cpu.so", "lib/libc10.so")
REQUIRED = ("include/torch/script.h", "share/cmake/Torch/TorchConfig.cmake", *LIBRARIES)
VERSION_HEADERS = (
    "include/torch/headeronly/version.h",  # the numbers, since torch 2.9
    "include/torch/csrc/api/include/torch/version.h",  # until then; now it only includes the other
    "include/torch/version.h",
)
MARKER = "libtorch.json"
SCHEMA = 1

# e_machine of the ELF header (System V ABI) by platform.machine().
ELF_MACHINES = {"x86_64": 62, "aarch64": 183, "ppc64le": 21, "s390x": 22, "riscv64": 243}


@dataclass(frozen=True)
class Marker:
    """The content of libtorch.json."""

    version: str  # public, of the headers: 2.13.0
    variant: str  # cpu, cu130, ...: what is there
    source: str  # wheel, zip, path
    sha256: str | None  # of the wheel or the archive; None for a path
    origin: str  # file name, url or folder
    asked: str  # the variant that was asked for; pip may have had another only
    schema: int = SCHEMA


def read_marker(folder: Path) -> Marker | None:
    """The marker of `folder`; None where there is none or it is not one of ours."""
    try:
        values = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return Marker(**values) if values["schema"] == SCHEMA else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_marker(folder: Path, marker: Marker) -> None:
    """Write libtorch.json, the schema first."""
    values = {"schema": marker.schema, **asdict(marker)}
    (folder / MARKER).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def installed(folder: Path = paths.LIBTORCH) -> Marker | None:
    """The marker of a whole LibTorch in `folder`, whatever its source; None: there is none, type `make libtorch`."""
    return None if missing(folder) else read_marker(folder)


def missing(folder: Path) -> list[str]:
    """The files of REQUIRED that `folder` lacks."""
    return [name for name in REQUIRED if not (folder / name).is_file()]


def check(folder: Path, name: str, mend: str) -> str:
    """The version of the LibTorch in `folder`, or an error about `name`: no LibTorch, or of another architecture."""
    if lacks := missing(folder):
        raise DeploybenchError("runtime", f"{name}: is no LibTorch, it lacks {', '.join(lacks)}; {mend}")
    for library in LIBRARIES:
        _check_architecture(folder / library, f"{name}: {library}", mend)
    version = read_version(folder)
    if version is None:
        raise DeploybenchError("runtime", f"{name}: is no LibTorch, no {VERSION_HEADERS[0]} tells its version; {mend}")
    return version


def read_version(folder: Path) -> str | None:
    """`2.13.0`, from the headers (the file build-version is not in a wheel)."""
    for name in VERSION_HEADERS:
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
            numbers = [re.search(rf"#define TORCH_VERSION_{part} (\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
            if all(numbers):
                return ".".join(number.group(1) for number in numbers if number)
    build = folder / "build-version"
    return release(build.read_text(encoding="utf-8")) if build.is_file() else None


def release(version: str) -> str:
    """`2.13.0` of `2.13.0+cpu`, `2.13.0rc1`, ...: what the headers say of themselves."""
    found = re.match(r"\d+(\.\d+)*", version.strip())
    return found.group() if found else version.strip()


def read_variant(folder: Path) -> str:
    """The build in `folder`, by build-version (official archive) or version.py (package), else `cpu` or `cuda`."""
    lib = (folder / "lib").resolve()
    for name in (lib.parent / "build-version", lib.parent / "version.py"):
        if name.is_file() and (variant := variant_in(name.read_text(encoding="utf-8", errors="replace"))):
            return variant
    return "cuda" if (lib / "libtorch_cuda.so").exists() else "cpu"


def variant_in(text: str) -> str | None:
    """`cu130` of `2.13.0+cu130`, also inside torch/version.py; None where the text does not say."""
    found = re.search(r"\d\+(cpu|cu\d+|rocm[\d.]+|xpu)\b", text)
    return found.group(1) if found else None


def _check_architecture(library: Path, name: str, mend: str) -> None:
    with library.open("rb") as file:
        head = file.read(20)
    if len(head) < 20 or head[:4] != b"\x7fELF":
        raise DeploybenchError("runtime", f"{name} is corrupt, no ELF library; {mend}")
    # Byte 5 is the byte order of the rest, bytes 18-19 are e_machine.
    (machine,) = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)
    here = platform.machine()
    if here in ELF_MACHINES and machine != ELF_MACHINES[here]:
        theirs = next((key for key, number in ELF_MACHINES.items() if number == machine), f"ELF machine {machine}")
        raise DeploybenchError(
            "runtime", f"{name} is for the wrong architecture, {theirs}, and this machine is {here}; {mend}"
        )
