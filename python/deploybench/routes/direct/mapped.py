"""The package of `direct` loaded without a copy of its weights: they are mapped from where they lie in it. LibTorch's own
loader, which loads it as well, first unpacks the whole library into the temporary folder. Twin of
cpp/deploybench/mapped_library."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import mmap
import os
import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from deploybench.artifact import ENTRY, NO_ZIP, Metadata
from deploybench.routes import inductor

if TYPE_CHECKING:
    import torch

    from deploybench.routes import Forward

LIBRARY = "direct.wrapper.so"
SECTION, SYMBOL = ".direct_weights", "direct_mapped"  # of network.hpp
PAGE = 4096  # of x86
LOCAL_HEADER, PADDING = 30, 0x4246  # bytes before an entry's name; torch's own tag of an extra field without meaning
_MAP_FIXED = 0x10
_numbers = itertools.count(1)


def keep(package: Path, library: Path, path: Path, metadata: Metadata) -> None:
    """Copies a package to `path`, the metadata inside, which learns where the weights are. The library, which is in it, comes
    first, its pages on those of the file."""
    metadata.built_for["mapped"] = _weights_in(library)
    with zipfile.ZipFile(package) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        entries = sorted(source.infolist(), key=lambda one: not one.filename.endswith(f"/{LIBRARY}"))
        for entry in entries:
            copy = zipfile.ZipInfo(entry.filename, entry.date_time)
            copy.file_size = entry.file_size
            if entry is entries[0]:
                large = entry.file_size * 1.05 > zipfile.ZIP64_LIMIT  # to which zipfile adds a field of its own
                padding = -(LOCAL_HEADER + len(entry.filename) + 4 + (20 if large else 0)) % PAGE
                copy.extra = struct.pack("<HH", PADDING, padding) + bytes(padding)
            with source.open(entry) as file, target.open(copy, "w") as out:
                shutil.copyfileobj(file, out, 1 << 20)
        root = entries[0].filename.partition("/")[0]
        target.writestr(f"{root}/extra/{ENTRY}", metadata.to_json())


def _weights_in(library: Path) -> list[int]:
    """Where their section begins in the file, and its bytes: whole pages. By ELF's headers (elf(5)), for 64 bits, as
    the reader that elf.py takes is installed for `bundle` alone."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as code:
        (table,) = struct.unpack_from("<Q", code, 40)
        size, count, names = struct.unpack_from("<HHH", code, 58)
        sections = [struct.unpack_from("<IIQQQQ", code, table + size * number) for number in range(count)]
        wanted = f"{SECTION}\0".encode()
        starts = {sections[names][4] + name: [offset, length] for name, _, _, _, offset, length in sections}
        return next(place for start, place in starts.items() if code[start : start + len(wanted)] == wanted)


def load(path: Path, metadata: Metadata, instances: int = 1) -> Forward:
    """The package, ready to be called by so many threads at a time."""
    from torch._C._aoti import AOTIModelContainerRunnerCpu

    with contextlib.ExitStack() as opened:
        try:
            library = opened.enter_context(_library(path))
        except (*NO_ZIP, TypeError, struct.error, OverflowError, MemoryError):
            return inductor.load(path, metadata, instances)  # which has words for what is wrong
        runner = AOTIModelContainerRunnerCpu(library, instances)

    def forward(images: torch.Tensor) -> torch.Tensor:
        return runner.run([images])[0]

    return forward


@contextlib.contextmanager
def _library(path: Path) -> Iterator[str]:
    """A name under which the dynamic loader finds it, loaded, its weights mapped. Raises what says that it cannot be done."""
    with path.open("rb") as package, zipfile.ZipFile(package) as archive:
        root = archive.namelist()[0].partition("/")[0]
        about = json.loads(archive.read(f"{root}/extra/{ENTRY}"))  # of this very file, which another may replace
        weights, size = about["built_for"]["mapped"]
        begin, whole = _entry(package, archive)
        if weights % PAGE or size % PAGE or begin % PAGE or weights + size > whole:
            raise ValueError
        memory = os.memfd_create("deploybench-direct")
        try:
            for first, last in ((0, weights), (weights + size, whole)):
                _copy(package.fileno(), begin, memory, first, last)
            name = _name(memory)
            loaded = ctypes.CDLL(name)
            try:
                address = ctypes.addressof(ctypes.c_char.in_dll(loaded, SYMBOL))
                _map(address, size, package.fileno(), begin + weights)
                yield name
            finally:
                _close(loaded)
        finally:
            os.close(memory)


def _copy(package: int, begin: int, memory: int, first: int, last: int) -> None:
    """The bytes from `first` to `last` of the library that begins there, to their places."""
    while first < last:
        data = os.pread(package, min(last - first, 1 << 20), begin + first)
        if not data or os.pwrite(memory, data, first) != len(data):
            raise OSError("the package ends too soon, or no memory is left")
        first += len(data)


def _name(descriptor: int) -> str:
    """A path to it that no other had. The loader knows libraries by their paths, and would give one that had this descriptor before."""
    marks = "".join("/." if bit == "1" else "/" for bit in f"{next(_numbers):b}")
    return f"/proc/self/fd{marks}/{descriptor}"


def _entry(package: IO[bytes], archive: zipfile.ZipFile) -> tuple[int, int]:
    """Where the library begins in the package, and its bytes."""
    entry = next((one for one in archive.infolist() if one.filename.endswith(f"/{LIBRARY}")), None)
    if entry is None or entry.compress_type != zipfile.ZIP_STORED:
        raise LookupError
    header = os.pread(package.fileno(), LOCAL_HEADER, entry.header_offset)
    name, extra = struct.unpack("<HH", header[-4:])
    return entry.header_offset + LOCAL_HEADER + name + extra, entry.file_size


def _map(address: int, size: int, descriptor: int, offset: int) -> None:
    """Pages of the file in the place of those at `address`."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    flags = mmap.MAP_PRIVATE | _MAP_FIXED
    if libc.mmap(address, size, mmap.PROT_READ, flags, descriptor, offset) != address:
        raise OSError(ctypes.get_errno(), "mmap")


def _close(library: ctypes.CDLL) -> None:
    """Gives back what ctypes would keep for ever; the runner holds the library as long as it lives."""
    import _ctypes

    _ctypes.dlclose(library._handle)
