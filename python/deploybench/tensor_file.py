"""Tensor files: float32 arrays on disk, the twin of cpp/deploybench/tensor_file. numpy only, no torch.

`.npy` names its shape; `.dat` is the article's headerless float32, whose N follows from the file's size. What is read
here was written by somebody else, so nothing is trusted: no pickle, no size that the file does not have, no leftover
bytes. Not a general npy reader: little-endian float32 in C order is the one kind that both languages take as it is.
"""

from __future__ import annotations

import re
import secrets
import stat
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from deploybench.errors import DeploybenchError

Format = Literal["npy", "dat"]
Tensor = NDArray[np.float32]

FLOAT32_BYTES = 4
CHANNELS = 3
MAX_DIMENSIONS = 8
MAGIC = b"\x93NUMPY"
# Bytes that hold the header's length, by format version; 3.0 is 2.0 in UTF-8.
LENGTH_BYTES: dict[tuple[int, ...], int] = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
# numpy refuses longer headers too (numpy.lib.format, max_header_size); ours need about 60.
MAX_HEADER_BYTES = 10_000
# A pattern instead of Python's own parser: that one answers hostile text with warnings, deep recursion and MemoryError.
# `++` never gives back what it took, so that a header full of blanks costs linear time.
HEADER = re.compile(
    r"\{\s*+(?:(?:"
    r"'descr'\s*+:\s*+(?:'(?P<descr>[^']*+)'|(?P<structure>\[[^\]]*+\]))"
    r"|'fortran_order'\s*+:\s*+(?P<fortran>True|False)"
    r"|'shape'\s*+:\s*+\((?P<shape>(?:\s*+\d{1,18}+\s*+,)*+(?:\s*+\d{1,18}+)?+)\s*+\)"
    r")\s*+(?:,\s*+)?+)++\}\s*+"
)
MAKE_INPUT = "make it again: deploybench preprocess --model MODEL PHOTO"
MAKE_OUTPUT = "write it again: run the worker with --output FILE"


def read(path: Path, height: int, width: int) -> Tensor:
    """The images of a `.npy` or `.dat` tensor file: float32 [N, 3, height, width], N >= 1, all finite.

    Raises DeploybenchError input_missing or input_invalid.
    """
    with _open(path, MAKE_INPUT) as file:
        if path.suffix == ".npy":
            tensor = _read_npy(path, file, MAKE_INPUT)
        elif path.suffix == ".dat":
            tensor = _read_dat(path, file, height, width)
        else:
            raise _invalid(path, "a tensor file ends in .npy or .dat", MAKE_INPUT)
    if tensor.ndim != 4 or tensor.shape[1:] != (CHANNELS, height, width):
        raise _invalid(path, f"its shape is {list(tensor.shape)}, not [N,{CHANNELS},{height},{width}]", MAKE_INPUT)
    finite = np.isfinite(tensor).reshape(len(tensor), -1).all(axis=1)
    if not finite.all():
        raise _invalid(path, f"image {int(np.argmin(finite))} holds NaN or infinite values", MAKE_INPUT)
    return tensor


def write(path: Path, tensor: Tensor, format: Format = "npy") -> None:
    """Write float32 [N, 3, H, W] atomically, as `.npy` or as the headerless `.dat`; the extension must say the same.

    Raises DeploybenchError output_unwritable, or usage where the extension, by which readers go, is not the format's.
    """
    if tensor.ndim != 4 or tensor.shape[1] != CHANNELS:
        raise ValueError(f"a tensor file holds [N,{CHANNELS},H,W], not {list(tensor.shape)}")
    if path.suffix != f".{format}":
        raise DeploybenchError("usage", f"{path}: not the extension of --format {format}; name it {path.stem}.{format}")
    _write(path, tensor, with_header=format == "npy")


def read_array(path: Path) -> Tensor:
    """Any non-empty float32 `.npy`, such as a worker's outputs [N, classes]. NaN and Inf pass.

    Raises DeploybenchError input_missing or input_invalid.
    """
    with _open(path, MAKE_OUTPUT) as file:
        if path.suffix != ".npy":
            raise _invalid(path, "an array file ends in .npy", MAKE_OUTPUT)
        return _read_npy(path, file, MAKE_OUTPUT)


def write_array(path: Path, array: Tensor) -> None:
    """Write a float32 array of any shape as `.npy`, atomically. Raises DeploybenchError output_unwritable."""
    _write(path, array, with_header=True)


def _invalid(path: Path, what: str, remedy: str) -> DeploybenchError:
    return DeploybenchError("input_invalid", f"{path}: {what}; {remedy}")


def _open(path: Path, remedy: str) -> BinaryIO:
    """An open regular file. Looked at first, because opening a pipe would wait for ever for its other end."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise _invalid(path, "is a folder" if stat.S_ISDIR(mode) else "is not a plain file", remedy)
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise DeploybenchError("input_missing", f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise _invalid(path, f"cannot be read ({error.strerror})", remedy) from error


def _bytes_left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here


def _read_dat(path: Path, file: BinaryIO, height: int, width: int) -> Tensor:
    size = _bytes_left(file)
    image_bytes = FLOAT32_BYTES * CHANNELS * height * width
    if size == 0:
        raise _invalid(path, "is empty", MAKE_INPUT)
    if size % image_bytes:
        what = f"its {size} bytes are no multiple of {image_bytes}, one float32 image [{CHANNELS},{height},{width}]"
        raise _invalid(path, f"{what}: it is truncated or was made for another model", MAKE_INPUT)
    return _read_values(path, file, (size // image_bytes, CHANNELS, height, width), MAKE_INPUT)


def _read_npy(path: Path, file: BinaryIO, remedy: str) -> Tensor:
    header = HEADER.fullmatch(_header_text(path, file, remedy))
    if header is None or None in (header["descr"] or header["structure"], header["fortran"], header["shape"]):
        raise _invalid(path, "its npy header is malformed", remedy)
    if header["descr"] != "<f4":
        dtype = header["descr"] or "a structure"
        raise _invalid(path, f"its dtype is {dtype!r}, not '<f4' (little-endian float32)", remedy)
    if header["fortran"] == "True":
        raise _invalid(path, "it is in Fortran order, not in C order", remedy)
    shape = tuple(int(size) for size in re.findall(r"\d+", header["shape"]))
    if 0 in shape or len(shape) > MAX_DIMENSIONS:
        raise _invalid(path, f"its {len(shape)} sizes {list(shape[:MAX_DIMENSIONS])} are no shape of ours", remedy)
    return _read_values(path, file, shape, remedy)


def _header_text(path: Path, file: BinaryIO, remedy: str) -> str:
    start = file.read(len(MAGIC) + 2)
    if not start:
        raise _invalid(path, "is empty", remedy)
    if not start.startswith(MAGIC):
        raise _invalid(path, "is not a npy file, whatever its name says", remedy)
    length_bytes = LENGTH_BYTES.get(tuple(start[len(MAGIC) :]))
    if length_bytes is None:
        raise _invalid(path, "its npy format is none of 1.0, 2.0, 3.0", remedy)
    length = int.from_bytes(file.read(length_bytes), "little")
    if length > min(MAX_HEADER_BYTES, _bytes_left(file)):
        raise _invalid(path, f"its npy header claims {length} bytes: it is truncated or damaged", remedy)
    # Latin-1 decodes every byte; letters beyond ASCII then fail to match HEADER.
    return file.read(length).decode("latin-1")


def _read_values(path: Path, file: BinaryIO, shape: tuple[int, ...], remedy: str) -> Tensor:
    """The rest of `file` as `shape`. Its size is compared first, so that a lying header cannot ask for memory."""
    count = 1
    for size in shape:
        count *= size
    missing = FLOAT32_BYTES * count - _bytes_left(file)
    if missing > 0:
        raise _invalid(path, f"is truncated: {missing} bytes of {list(shape)} are missing", remedy)
    if missing < 0:
        raise _invalid(path, f"has {-missing} bytes too many behind {list(shape)}", remedy)
    try:
        values = np.fromfile(file, dtype="<f4", count=count)
    except MemoryError:
        what = f"{FLOAT32_BYTES * count} bytes do not fit into memory"
        raise DeploybenchError("out_of_memory", f"{path}: {what}; use a smaller batch") from None
    if values.size != count:
        raise _invalid(path, "changed while it was read", remedy)
    return values.reshape(shape)


def _write(path: Path, array: Tensor, with_header: bool) -> None:
    """Write beside `path` and rename: a reader sees the old file or the new one, never half of one."""
    if array.dtype != np.float32 or array.size == 0:
        raise ValueError(f"a tensor file holds float32 values, not {array.dtype} {list(array.shape)}")
    values = np.ascontiguousarray(array, dtype="<f4")
    # Not from tempfile: its files are for the owner's eyes only, a result should follow the umask.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                if with_header:
                    npy_format.write_array_header_1_0(file, npy_format.header_data_from_array_1_0(values))
                file.write(values.data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise DeploybenchError("output_unwritable", f"{path}: {what}; choose another file or make room") from error
