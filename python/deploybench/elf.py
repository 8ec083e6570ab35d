"""What a program and its libraries say of themselves in their ELF headers, and which files the dynamic loader maps for them.

Reads only: nothing is loaded into this process, and no code of the program runs.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deploybench import library_paths
from deploybench.errors import DeploybenchError, first_line
from deploybench.paths import shown

Version = tuple[int, ...]

# The C library is the one thing that a bundle takes from where it runs: it must fit the kernel and the loader there, and
# a program's loader is named by an absolute path.
OF_GLIBC = re.compile(r"(ld(-linux[\w-]*|64)|linux-(vdso|gate)|lib(c|m|mvec|dl|pthread|rt|util|resolv|anl))\.so\.\d+")
# A marker in place of a number, of the linker's packed relocations: glibc knows it since 2.36.
MARKERS = {"GLIBC_ABI_DT_RELR": "GLIBC_2.36"}


def needed(file: BinaryIO) -> list[str]:
    """The libraries that an ELF file asks for by name (DT_NEEDED), in its order."""
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    dynamic = ELFFile(file).get_section_by_name(".dynamic")
    tags = dynamic.iter_tags("DT_NEEDED") if isinstance(dynamic, DynamicSection) else []
    return [tag.needed for tag in tags]  # type: ignore[attr-defined]  # which pyelftools adds to such a tag


def glibc_needed(file: BinaryIO) -> Version:
    """The oldest glibc that has all symbols that an ELF file takes from it: (2, 28); (0,) where it takes none."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    versions: list[Version] = [(0,)]
    for section in ELFFile(file).iter_sections():
        if isinstance(section, GNUVerNeedSection):
            names = (entry.name for _, entries in section.iter_versions() for entry in entries)
            found = (re.fullmatch(r"GLIBC_([\d.]+)", MARKERS.get(name, name)) for name in names)
            versions += [tuple(map(int, match[1].split("."))) for match in found if match]
    return max(versions)


def mapped(program: Path) -> dict[str, Path]:
    """Name and file of every library that the dynamic loader maps for `program`, the C library's own left out.

    It is asked itself (`ld.so --list`, as ldd does): what RPATH, RUNPATH and ld.so.cache together mean only it knows. The
    environment's search path is left out; it would not be there on another machine. Raises `runtime`.
    """
    environment = {
        name: value
        for name, value in library_paths.python_environment().items()
        if name not in library_paths.SEARCHED_BY_LINKER
    }
    command = [loader(program), "--list", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", env=environment)
    if done.returncode != 0:
        said = first_line(RuntimeError(done.stderr)).rpartition("shared libraries: ")[2]
        raise DeploybenchError("runtime", f"{shown(program)}: cannot be loaded, {said}; build it again")
    lines = re.findall(r"^\t(\S+) => (.+) \(0x[0-9a-f]+\)$", done.stdout, re.MULTILINE)
    return {name: Path(file) for name, file in lines if not OF_GLIBC.fullmatch(name)}


@dataclass(frozen=True)
class Loaded:
    """What the dynamic loader says it would do with a program."""

    files: tuple[str, ...]  # that it maps
    lacking: tuple[str, ...]  # libraries that it does not find
    undefined: tuple[str, ...]  # symbols that none of the files has


def traced(program: Path) -> Loaded:
    """What the dynamic loader maps for `program` in this very environment, and what is missing then, as ldd -r tells it. Raises
    `runtime`."""
    asking = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes", "LD_BIND_NOW": "yes"}
    done = subprocess.run(
        [loader(program), str(program)],
        capture_output=True, text=True, errors="surrogateescape", env={**os.environ, **asking},
    )  # fmt: skip
    said = done.stdout + done.stderr
    files = re.findall(r"^\t(?:\S+ => )?(/.+) \(0x[0-9a-f]+\)$", said, re.MULTILINE)
    lacking = re.findall(r"^\t(\S+) => not found$", said, re.MULTILINE)
    undefined = re.findall(r"(?:undefined symbol|symbol lookup error.*undefined symbol): (\S+)", said)
    return Loaded(tuple(files), tuple(dict.fromkeys(lacking)), tuple(dict.fromkeys(undefined)))


def imported(program: Path) -> frozenset[str]:
    """The symbols that `program` takes from libraries, mangled. Raises `runtime`."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    try:
        with program.open("rb") as file:
            section = ELFFile(file).get_section_by_name(".dynsym")
            symbols = section.iter_symbols() if isinstance(section, SymbolTableSection) else []
            return frozenset(one.name for one in symbols if one["st_shndx"] == "SHN_UNDEF")
    except ELFError as error:
        raise DeploybenchError("runtime", f"{shown(program)}: is no program ({error}); build it again") from error


def optimised(program: Path) -> bool | None:
    """Whether the compiler was told to optimise, by the flags that g++ notes in debug information; None: none are noted."""
    from elftools.common.exceptions import DWARFError, ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with program.open("rb") as file:
            whole = ELFFile(file)
            if not whole.has_dwarf_info(strict=True):
                return None
            for unit in whole.get_dwarf_info().iter_CUs():
                said = unit.get_top_DIE().attributes.get("DW_AT_producer")
                text = said.value.decode("utf-8", "replace") if said else ""
                if text.startswith("GNU C++"):
                    return re.search(r" -O(?!0)", text) is not None
    except (ELFError, DWARFError, AttributeError):  # damaged, or packed in a way that pyelftools does not know
        return None
    return None


def loader(program: Path) -> str:
    """The dynamic loader that `program` names (PT_INTERP): /lib64/ld-linux-x86-64.so.2. Raises `runtime`."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.segments import InterpSegment

    try:
        with program.open("rb") as file:
            for segment in ELFFile(file).iter_segments("PT_INTERP"):
                if isinstance(segment, InterpSegment):
                    return str(segment.get_interp_name())
    except ELFError as error:
        raise DeploybenchError("runtime", f"{shown(program)}: is no program ({error}); build it again") from error
    raise DeploybenchError("runtime", f"{shown(program)}: is no program that loads libraries; build it again")
