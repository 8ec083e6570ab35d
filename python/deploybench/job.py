"""One artifact to make: what it is made from, whether it is up to date, and making it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import importlib.util
import json
import os
import resource
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deploybench
from deploybench import artifact, child, options, routes
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError, first_line
from deploybench.models import Model

if TYPE_CHECKING:
    from torch import nn

    from deploybench import weights
    from deploybench.images import Preprocessing


@dataclass(frozen=True)
class Job:
    """One artifact to make. Picklable: --jobs hands it to another process."""

    model: Model
    kind: str
    precision: str
    device: str
    weights: str  # auto, pretrained, random or a file
    overrides: options.Overrides
    folder: Path
    force: bool
    memory_format: str = ""  # empty: the kind's own
    portable: bool = False  # compiled code runs on any CPU with AVX2
    batches: tuple[int, int] | None = None  # of compiled code; None: 1 alone
    threads: int | None = None  # that weights are packed for; None: the usable CPUs

    @property
    def path(self) -> Path:
        """Where the artifact goes."""
        kind = routes.KINDS[self.kind]
        return routes.file_of(self.folder, self.model.name, kind, self.precision, self.device, self.threads)

    @property
    def packed_for(self) -> int:
        """The threads that it is packed for; 0: it does not matter."""
        return routes.packed_for(routes.KINDS[self.kind], self.device, self.threads)

    @property
    def format(self) -> str:
        """The memory format that it gets."""
        return self.memory_format or routes.memory_format(routes.KINDS[self.kind], self.precision, self.device)


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `error` is empty when it went well. `refused`: by the route, which is not made for it."""

    job: Job
    error: str = ""
    made: bool = False  # False: it was up to date
    origin: str = ""  # of the weights
    seconds: float = 0.0
    bytes: int = 0
    peak_rss_bytes: int = 0  # of the process that made it, so far
    refused: bool = False
    code: str = "runtime"  # of the error, a word of data/record.schema.json


def make(job: Job) -> Outcome:
    """Writes the artifact of `job` unless it is up to date."""
    from deploybench import weights
    from deploybench.routes import write

    start = time.perf_counter()
    _check_runnable(job)
    if kept := _kept(job):
        return kept
    existing = _existing(job)
    source = None
    if existing is None or existing.weights["origin"] == "random" != job.weights or job.weights == "pretrained":
        source = weights.resolve(job.weights, job.model)
    if existing and (source is None or source.origin == existing.weights["origin"]):
        return Outcome(job, origin=existing.weights["origin"], bytes=job.path.stat().st_size)
    source = source or weights.resolve(job.weights, job.model)
    return_freed_memory()
    module, preprocessing, sha256 = _build(job, source)
    about = {"origin": source.origin, "name": source.name, "sha256": sha256}
    with child.compiling():
        write.write(job, module.to(job.device), preprocessing, about)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = time.perf_counter() - start
    return Outcome(job, "", True, source.origin, seconds, job.path.stat().st_size, peak)


def _check_runnable(job: Job) -> None:
    """Refuses a file that no route would run."""
    rows = [row for row in routes.ROUTES.values() if row.kind.name == job.kind]
    if any(routes.runs(row, job.precision, job.device) for row in rows):
        return
    able = " and ".join(dict.fromkeys(f"{', '.join(row.precisions)} on {', '.join(row.devices)}" for row in rows))
    raise DeploybenchError(
        "unsupported",
        f"{job.model.name}: {job.kind} files run at {able}, not at {job.precision} on {job.device}; use --routes script",
    )


def _kept(job: Job) -> Outcome | None:
    """The file as it is, where the weights are to come out of the very file that would be written: it is the user's own, as
    `migrate FILE.ts` is given it. Raises usage where another file is wanted than what it is."""
    if job.weights in options.WEIGHTS:
        return None
    file = Path(os.path.expanduser(job.weights))
    if not (file.is_file() and job.path.is_file() and file.samefile(job.path)):
        return None
    with contextlib.suppress(DeploybenchError):
        found = artifact.read_metadata(file)
        is_wanted = (
            (found.factory, found.route, found.precision, found.device)
            == (job.model.factory, job.kind, job.precision, job.device)
            and job.memory_format in ("", found.memory_format)
            and job.overrides.preprocessing(job.model).to_json() == found.preprocessing
            and job.overrides.labels(job.model, found.classes) == found.labels
        )
        if is_wanted and not job.force:
            return Outcome(job, origin=found.weights["origin"], bytes=file.stat().st_size)
    what = "holds the weights that --weights names, and would be written over"
    raise DeploybenchError("usage", f"{job.path}: {what}; choose another folder by --artifacts")


def return_freed_memory() -> None:
    """Makes glibc give back every large block when it is freed. Left alone it raises its threshold with the blocks that it
    sees, up to 32 MB, and keeps what lies below: 2.8 GB after vit_l_16."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD


_last: list[Any] = []  # the model built last, kept for its next route; one model in memory at a time


def _build(job: Job, source: weights.Source) -> tuple[nn.Module, Preprocessing, str]:
    from deploybench import weights

    key = (job.model, source, job.overrides, job.device)
    if not _last or _last[0] != key:
        _last.clear()
        gc.collect()  # modules hang in cycles, which Python counts as few objects, whatever their bytes
        with warnings.catch_warnings(), users_code(job):
            warnings.simplefilter("ignore")  # a factory's own remarks
            preprocessing = job.overrides.preprocessing(job.model)
            module, sha256 = weights.build(job.model, source, preprocessing.crop)
        _last[:] = [key, module, preprocessing, sha256]
    return _last[1], _last[2], _last[3]


@contextlib.contextmanager
def users_code(job: Job) -> Iterator[None]:
    """What a model's own code raises, which may be anything, as the one line of this model's failure."""
    try:
        yield
    except (DeploybenchError, MemoryError):
        raise
    except Exception as error:
        what = f"{job.model.factory}: failed with {type(error).__name__}: {first_line(error)}"
        raise DeploybenchError("runtime", f"{what}; mend the model, it must run on [N, 3, H, W]") from error


def _existing(job: Job) -> Metadata | None:
    """The metadata of the artifact that is there, if it was made from the same things. Needs no torch."""
    if job.force or not job.path.exists():
        return None
    try:
        metadata = artifact.read_metadata(job.path)
    except DeploybenchError:
        return None
    return metadata if metadata.fingerprint == fingerprint(job) else None


def fingerprint(job: Job) -> str:
    """Of all that an artifact is made from, save the weights that `auto` and `pretrained` find."""
    source = _source(job.model) if job.model.own else b""
    file = Path(os.path.expanduser(job.weights))
    named = job.weights in options.WEIGHTS
    parts = [
        deploybench.__version__, artifact.SCHEMA, version("torch"), version("torchvision"),
        job.model.factory, job.kind, job.precision, job.device, job.format, job.portable, job.batches, job.packed_for,
        job.overrides.key(),
        hashlib.sha256(source).hexdigest(),
        "torchvision" if named else [str(file.resolve()), file.stat().st_mtime_ns if file.exists() else 0],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _source(model: Model) -> bytes:
    """The file that holds a user's factory; empty where it is not found, which building the model says better."""
    try:
        spec = importlib.util.find_spec(model.factory.partition(":")[0])
        return Path(spec.origin).read_bytes() if spec and spec.origin else b""
    except (Exception, SystemExit):  # it imports the package of the module, whose code may raise anything
        return b""
