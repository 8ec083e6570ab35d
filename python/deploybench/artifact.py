"""The artifact: one self-describing file per model, route, precision and device. Twin of cpp/deploybench/metadata.

Every kind of artifact but ONNX is a zip archive, and `<archive>/extra/deploybench.json` in it holds all that a program needs
to use the model: labels, preprocessing, shapes, where the weights came from, what made it. It can be read without torch.
"""

from __future__ import annotations

import contextlib
import errno
import json
import lzma
import math
import os
import socket
import stat
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploybench.errors import DeploybenchError
from deploybench.paths import shown

SCHEMA = 2  # 1, the first; 2, memory format and what it was compiled for
ENTRY = "deploybench.json"
MAX_METADATA_BYTES = 4 << 20  # 1000 labels take 20 kB; what is larger is not ours
MAX_LABEL_BYTES = 1024
MAX_SIDE_PIXELS = 16384
MAX_IMAGE_VALUES = 1 << 28  # 1 GiB, above three channels of 8192x8192
MAX_BATCH_VALUES = 1 << 31  # 8 GiB that the smallest batch takes
MOST_THREADS = 1024  # the same limit as in cpp/deploybench/host
MOST_MAPPED = 1 << 31  # bytes of a library that code of 31 bits reaches
MAX_CPU_FLAGS = 1024  # /proc/cpuinfo has 150
MAX_CLASSES = 1_000_000
MOST_IMAGES = 1 << 20  # in a batch; the same limit as in cpp/deploybench/metadata
# What zipfile raises for a file that is no zip, is damaged, encrypted, or packed by a method that it does not know.
NO_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, LookupError, RuntimeError)
PARTIAL = ".partial"  # in the name of a file that is being written, after the process that writes it
STALE_SECONDS = 24 * 3600  # since a partial file was touched; the longest compilation takes minutes
REMAKE = "make it with: deploybench generate --models MODEL"


@dataclass(frozen=True)
class Metadata:
    """What deploybench.json says; the fields are its keys."""

    model: str
    factory: str
    route: str
    capture: str  # how the graph was made: script, trace, export, or none
    precision: str  # of the weights and of the arithmetic; input and output are float32
    memory_format: str  # of weights and activations: contiguous or channels_last
    device: str
    input_shape: list[int]  # [N, 3, H, W]
    batches: list[int]  # the smallest and the largest N that work
    classes: int
    labels: list[str]
    preprocessing: dict[str, Any]  # images.Preprocessing
    weights: dict[str, str]  # origin, name, sha256
    torch_version: str
    torchvision_version: str
    deploybench_version: str
    created: str  # UTC, ISO 8601
    built_for: dict[str, Any]  # of compiled code: cpu_flags, gpu, threads, compiler, mapped; else empty
    fingerprint: str  # of everything the file was made from: equal means up to date
    schema: int = SCHEMA

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


def path_for(folder: Path, model: str, kind: str, precision: str, device: str, suffix: str, threads: int = 0) -> Path:
    """Where the artifact of this model and kind lies in `folder`. `threads`: that it was asked to be packed for."""
    return folder / f"{model}.{kind}-{precision}-{device}{f'-threads{threads}' if threads else ''}{suffix}"


def read_metadata(path: Path) -> Metadata:
    """The metadata of the artifact at `path`, checked; no torch needed.

    Raises artifact_missing or artifact_invalid.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DeploybenchError("artifact_missing", f"{shown(path)}: no such artifact; {REMAKE}") from None
    except OSError as error:
        raise _invalid(path, f"cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its other end
        raise _invalid(path, "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a plain file")
    if status.st_size == 0:
        raise _invalid(path, "is empty")
    if path.suffix == ".onnx":
        return parse_metadata(path, _in_onnx(path))
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():  # LibTorch unpacks a package: one that leads out is no honest one
                if name.startswith("/") or ".." in name.split("/"):
                    raise _invalid(path, f"an entry of it leads out of its folder: {name}; do not use it")
            entries = [info for info in archive.infolist() if info.filename.endswith(f"/extra/{ENTRY}")]
            if not entries:
                raise _invalid(path, f"not made by deploybench: it holds no {ENTRY}")
            if entries[0].file_size > MAX_METADATA_BYTES:
                raise _invalid(path, f"its {ENTRY} is larger than {MAX_METADATA_BYTES >> 20} MiB")
            text = archive.read(entries[0])
    except NO_ZIP as error:
        raise _invalid(path, f"not an artifact, or truncated ({error})") from error
    return parse_metadata(path, text)


def _in_onnx(path: Path) -> bytes:
    """The same text in an ONNX file, which is no zip archive but one protobuf message."""
    from deploybench.routes import onnx

    try:
        text = onnx.embedded(path)
    except (ValueError, OSError) as error:
        raise _invalid(path, f"not an ONNX file, or truncated ({error})") from error
    if text is None:
        raise _invalid(path, f"not made by deploybench: it holds no {ENTRY}")
    return text


def _invalid(path: Path, what: str) -> DeploybenchError:
    return DeploybenchError("artifact_invalid", f"{shown(path)}: {what}; {REMAKE} --force")


def _text(value: object) -> bool:
    """A text of 1 to 1024 bytes. JSON can also say half a surrogate, which is no text."""
    if not isinstance(value, str):
        return False
    try:
        return 0 < len(value.encode()) <= MAX_LABEL_BYTES
    except UnicodeEncodeError:
        return False


def _whole(value: object, most: int) -> bool:
    return type(value) is int and 0 < value <= most  # a bool is an int, too


def _factory(value: object) -> bool:
    return isinstance(value, str) and ":" in value and _text(value)


def _range(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(_whole(one, MOST_IMAGES) for one in value):
        return False
    return bool(value[0] <= value[1])


def _shape(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 4 or not all(_whole(one, MAX_SIDE_PIXELS) for one in value):
        return False
    return math.prod(value[1:]) <= MAX_IMAGE_VALUES


def _built_for(value: object) -> bool:
    if not isinstance(value, dict) or not all(_text(value.get(name, "-")) for name in ("gpu", "compiler")):
        return False
    flags = value.get("cpu_flags", [])
    threads, mapped = value.get("threads", 1), value.get("mapped", [1, 1])
    return (
        isinstance(flags, list)
        and len(flags) <= MAX_CPU_FLAGS
        and all(map(_text, flags))
        and _whole(threads, MOST_THREADS)
        and isinstance(mapped, list)
        and len(mapped) == 2
        and all(_whole(one, MOST_MAPPED) for one in mapped)
    )


Check = Callable[[Any], bool]
ORIGINS = ("pretrained", "file", "random")
PRECISIONS = ("fp32", "bf16", "fp16")
# What each field must be. Twin of parse_metadata in cpp/deploybench/metadata.
CHECKS: dict[str, tuple[Check, str]] = {
    **dict.fromkeys(
        ("model", "route", "capture", "torch_version", "torchvision_version", "deploybench_version"),
        (_text, "a text"),
    ),
    "factory": (_factory, "package.module:function"),
    "precision": (lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "memory_format": (lambda value: value in ("contiguous", "channels_last"), "contiguous or channels_last"),
    "device": (lambda value: value in ("cpu", "cuda"), "cpu or cuda"),
    "input_shape": (_shape, "[N, channels, height, width] with an image of at most 2^28 values"),
    "batches": (_range, "[smallest, largest] number of images"),
    "classes": (lambda value: _whole(value, MAX_CLASSES), f"a whole number from 1 to {MAX_CLASSES}"),
    "labels": (lambda value: isinstance(value, list) and all(map(_text, value)), "a list of texts"),
    "preprocessing": (lambda value: isinstance(value, dict), "an object"),
    "weights": (
        lambda value: (
            isinstance(value, dict)
            and value.get("origin") in ORIGINS
            and "name" in value
            and all(map(_text, value.values()))
        ),
        f"an object with a name and an origin of {', '.join(ORIGINS)}",
    ),
    "created": (_text, "a time"),
    "built_for": (_built_for, "an object of cpu_flags, gpu, threads, compiler and mapped"),
    "fingerprint": (_text, "a text"),
}


def parse_metadata(path: Path, text: bytes) -> Metadata:
    """`text` as Metadata; every field present and of its type, the counts in agreement."""
    try:
        fields = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise _invalid(path, f"its {ENTRY} is not JSON ({str(error)[:100]})") from error
    if not isinstance(fields, dict):
        raise _invalid(path, f"its {ENTRY} is not an object")
    if type(fields.get("schema")) is not int or fields["schema"] != SCHEMA:
        raise _invalid(path, "made by another version of deploybench: generate it again")
    for name, (check, wanted) in CHECKS.items():
        if name not in fields or not check(fields[name]):
            raise _invalid(path, f"{ENTRY}: {name} is not {wanted}")
    if fields["batches"][0] * math.prod(fields["input_shape"][1:]) > MAX_BATCH_VALUES:
        raise _invalid(path, f"{ENTRY}: batches is not of at most 2^31 values at the smallest")
    if len(fields["labels"]) != fields["classes"]:
        raise _invalid(path, f"{ENTRY}: {len(fields['labels'])} labels for {fields['classes']} classes")
    return Metadata(**{name: fields[name] for name in Metadata.__dataclass_fields__})


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not.

    It keeps the suffix, on which some exporters insist.
    """
    partial = path.with_name(f".{path.stem}.{_processes()}-{os.getpid()}{PARTIAL}{path.suffix}")
    try:
        refuse_special(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise DeploybenchError(
            "output_unwritable",
            f"{shown(path)}: cannot be written ({error.strerror or error}); free space or choose --out",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # such as NotADirectoryError, below a file
            partial.unlink()


def damaged(path: Path) -> str:
    """Which part of an artifact is not as it was written; empty where all of it is, or where the format (.onnx) cannot tell."""
    if path.suffix == ".onnx":
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() or ""
    except NO_ZIP as error:
        return str(error)


def sweep(folder: Path) -> None:
    """Removes what killed runs left in `folder`: partial files whose process is gone, or, where it cannot be seen from here,
    that are older than any artifact takes."""
    for partial in folder.glob(f".*{PARTIAL}*"):
        place, _, pid = partial.name.partition(PARTIAL)[0].rpartition(".")[2].rpartition("-")
        with contextlib.suppress(OSError):  # its process has just given it its name, or it is somebody else's
            gone = time.time() - partial.stat().st_mtime > STALE_SECONDS
            if place == _processes():
                gone = not _lives(pid)
            if gone:
                partial.unlink()


def _lives(pid: str) -> bool:
    """Whether there is a process of this number, which /proc may hide where it is another user's."""
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


def _processes() -> str:
    """Names what process numbers are counted in: this boot of this machine, or a container on it. Folders are shared by others."""
    place = socket.gethostname()
    with contextlib.suppress(OSError):  # some sandboxes show neither
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        place = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return f"{zlib.crc32(place.encode()):08x}"


def refuse_special(path: Path) -> None:
    """Raises OSError where `path` is a folder, a pipe or a device: a rename would replace it, even /dev/null."""
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EEXIST, "is a folder" if stat.S_ISDIR(mode) else "is not a plain file", str(path))
