"""`deploybench generate`: models in, artifacts out, each proven equal to eager before it gets its name."""

from __future__ import annotations

import argparse
import contextlib
import copy
import datetime
import gc
import hashlib
import importlib.util
import json
import math
import os
import resource
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deploybench
from deploybench import artifact, models, options, paths, routes
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError
from deploybench.models import Model

if TYPE_CHECKING:
    import torch
    from torch import nn

    from deploybench import weights
    from deploybench.images import Preprocessing

CODE_BYTES = 4 << 20  # of an artifact beside its weights; a traced ResNet-50 has 0.6 MB
CALLS = 15  # to choose a memory format; the first third warms up
SEED = 1  # of the input on which the saved file is compared with eager; not that of the weights
RANDOM = (
    "notice: RANDOM WEIGHTS in {names}: torchvision's could not be had. Speed and parity are real, "
    "the labels mean nothing. With a network: make download, then generate again."
)


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

    @property
    def path(self) -> Path:
        """Where the artifact goes."""
        suffix = routes.KINDS[self.kind].suffix
        return artifact.path_for(self.folder, self.model.name, self.kind, self.precision, self.device, suffix)

    @property
    def format(self) -> str:
        """The memory format that it gets."""
        return self.memory_format or routes.KINDS[self.kind].memory_format


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `error` is empty when it went well."""

    job: Job
    error: str = ""
    made: bool = False  # False: it was up to date
    origin: str = ""  # of the weights
    seconds: float = 0.0
    bytes: int = 0
    peak_rss_bytes: int = 0  # of the process that made it, so far


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    options.add_models(parser, default="resnet50")
    parser.add_argument(
        "--routes", "--capture", default="script", metavar="LIST",
        help="for which routes to write files: script (default), frozen, aoti, ... or several by comma, or all; "
        "--capture is the same",
    )  # fmt: skip
    options.add_precisions(parser)
    parser.add_argument(
        "--memory-format", choices=["contiguous", "channels_last", "auto"], metavar="FORMAT",
        help="contiguous, channels_last, or auto: the one that measures faster (default: the kind's own)",
    )  # fmt: skip
    parser.add_argument(
        "--portable", action="store_true", help="compile for any x86-64 CPU with AVX2, not for this one"
    )
    options.add_weights(parser)
    options.add_device(parser)
    options.add_artifacts(parser)
    parser.add_argument("--jobs", type=options.positive, default=1, metavar="N", help="models at a time (default 1)")
    parser.add_argument("--force", action="store_true", help="make it again even if it is up to date")
    options.add_own_model(parser)


def run(args: argparse.Namespace) -> int:
    """Makes every artifact asked for; exit code 1 if one failed."""
    device = options.resolve_device(args.device)
    kinds = _kinds(args.routes)
    jobs = [
        Job(
            model, kind, precision, device, args.weights, options.overrides(args), args.artifacts, args.force,
            args.memory_format or "", args.portable,
        )
        for model in models.select(args.models)
        for precision in args.precisions
        for kind in kinds
    ]  # fmt: skip
    if args.weights not in ("auto", "pretrained", "random") and len({job.model.name for job in jobs}) > 1:
        raise DeploybenchError("usage", "--weights FILE: fits one model; name one with --models")
    sweep(args.artifacts)
    start = time.perf_counter()
    outcomes = list(_progress(make_all(jobs, args.jobs), len(jobs)))
    _summarise(outcomes, time.perf_counter() - start)
    return 1 if any(outcome.error for outcome in outcomes) else 0


def _kinds(wanted: str) -> list[str]:
    """The kinds of file that the routes of a comma list run."""
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if not names:
        raise DeploybenchError("usage", f"--routes: names no route; there are {', '.join(routes.ROUTES)}")
    rows = list(routes.ROUTES.values()) if names == ["all"] else [routes.route(name) for name in names]
    return list(dict.fromkeys(row.kind.name for row in rows))


def make_all(jobs: list[Job], parallel: int) -> Iterator[Outcome]:
    """The outcome of each job, as they finish. `parallel` processes, one model in memory in each."""
    parallel = min(parallel, len(jobs))
    if parallel == 1:
        yield from map(attempt, jobs)
        return
    threads = max(1, options.usable_cpus() // parallel)
    pool = ProcessPoolExecutor(parallel, get_context("spawn"), _set_threads, (threads,))
    try:
        # Ctrl-C reaches every process of the terminal. Those of the pool inherit that they ignore it; this one ends them.
        heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            futures: dict[Future[Outcome], Job] = {pool.submit(attempt, job): job for job in jobs}
        finally:
            signal.signal(signal.SIGINT, heard)
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield Outcome(futures[future], f"{futures[future].model.name}: a process died; use fewer --jobs")
    except BaseException:
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        sweep(jobs[0].folder)


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def attempt(job: Job) -> Outcome:
    """`make`, with an error as data: one model's failure must not stop the others."""
    try:
        return make(job)
    except DeploybenchError as error:
        return Outcome(job, str(error))
    except MemoryError:
        return Outcome(job, f"{job.model.name}: out of memory; use fewer --jobs or a smaller model")


def make(job: Job) -> Outcome:
    """Writes the artifact of `job` unless it is up to date."""
    from deploybench import weights

    start = time.perf_counter()
    existing = _existing(job)
    source = None
    if existing is None or existing.weights["origin"] == "random" != job.weights or job.weights == "pretrained":
        source = weights.resolve(job.weights, job.model)
    if existing and (source is None or source.origin == existing.weights["origin"]):
        return Outcome(job, origin=existing.weights["origin"], bytes=job.path.stat().st_size)
    source = source or weights.resolve(job.weights, job.model)
    module, preprocessing, sha256 = _build(job, source)
    write(job, module.to(job.device), preprocessing, {"origin": source.origin, "name": source.name, "sha256": sha256})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = time.perf_counter() - start
    return Outcome(job, "", True, source.origin, seconds, job.path.stat().st_size, peak)


_last: list[Any] = []  # the model built last, kept for its next route; one model in memory at a time


def _build(job: Job, source: weights.Source) -> tuple[nn.Module, Preprocessing, str]:
    from deploybench import weights

    key = (job.model, source, job.overrides, job.device)
    if not _last or _last[0] != key:
        _last.clear()
        gc.collect()  # modules hang in cycles, which Python counts as few objects, whatever their bytes
        with warnings.catch_warnings(), _users_code(job):
            warnings.simplefilter("ignore")  # a factory's own remarks
            preprocessing = job.overrides.preprocessing(job.model)
            module, sha256 = weights.build(job.model, source, preprocessing.crop)
        _last[:] = [key, module, preprocessing, sha256]
    return _last[1], _last[2], _last[3]


@contextlib.contextmanager
def _users_code(job: Job) -> Iterator[None]:
    """What a model's own code raises, which may be anything, as the one line of this model's failure."""
    from deploybench.routes.torchscript import first_line

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
    named = job.weights in ("auto", "pretrained", "random")
    parts = [
        deploybench.__version__, artifact.SCHEMA, version("torch"), version("torchvision"),
        job.model.factory, job.kind, job.precision, job.device, job.format, job.portable, job.overrides.key(),
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


def write(job: Job, module: nn.Module, preprocessing: Preprocessing, weights: dict[str, str]) -> None:
    """Exports, loads again, compares with eager, and only then gives the file its name."""
    import torch

    from deploybench.routes import border, inductor

    crop = preprocessing.crop
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randn(2, 3, crop, crop, generator=generator).to(job.device)
    images, expected = _eager(job, module, images)
    labels = job.overrides.labels(job.model, expected.shape[1])
    kind = routes.KINDS[job.kind]
    formats = list(border.MEMORY_FORMATS) if job.format == "auto" else [job.format]
    dynamics = [dynamic for dynamic in (True, False) if not dynamic or (kind.capture != "export" and len(images) > 1)]
    best = math.inf
    with artifact.written_atomically(job.path) as partial:
        for memory_format in formats:
            fitted = _fitted(job, module, images[:1], memory_format)
            attempt_at = partial.with_name(
                f"{partial.name}.{memory_format}{kind.suffix}"
            )  # some exporters need the suffix
            try:
                for dynamic in dynamics:
                    metadata = Metadata(
                        job.model.name, job.model.factory, job.kind, kind.capture, job.precision, memory_format, job.device,
                        [1, 3, crop, crop], dynamic, expected.shape[1], labels, preprocessing.to_json(), weights,
                        version("torch"), version("torchvision"), deploybench.__version__,
                        datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                        inductor.built_for(job.device, job.portable) if kind.name == "aoti" else {}, fingerprint(job),
                    )  # fmt: skip
                    _reserve(attempt_at, fitted)
                    _export(job, fitted, images[:1], attempt_at, metadata)
                    reason, seconds = _differs(
                        attempt_at, metadata, images if dynamic else images[:1], expected, len(formats) > 1
                    )
                    if not reason:
                        break
                if not reason and seconds < best:
                    best = seconds
                    os.replace(attempt_at, partial)
            finally:
                attempt_at.unlink(missing_ok=True)
        if best == math.inf:
            raise DeploybenchError(
                "runtime", f"{job.model.name}: {job.kind} is not equal to eager ({reason}); not kept"
            )


def _fitted(job: Job, module: nn.Module, example: torch.Tensor, memory_format: str) -> nn.Module:
    """`module` as its kind of file wants it. Rewriting comes before converting: what is folded, is folded at fp32."""
    from deploybench.routes import border
    from deploybench.routes.torchscript import first_line

    kind = routes.KINDS[job.kind]
    if kind.name == "onnx" or (not kind.rewritten and (job.precision, memory_format) == ("fp32", "contiguous")):
        return module
    fitted = copy.deepcopy(module)  # the next kind of file wants it as it is
    if kind.rewritten:
        from deploybench.routes import graph

        try:
            fitted = graph.specialise(fitted, example)
        except Exception as error:  # the exporter raises a dozen kinds
            raise DeploybenchError(
                "runtime", f"{job.model.name}: cannot be exported ({first_line(error)}); try --routes trace"
            ) from error
    return border.fit(fitted, job.precision, memory_format)


def _reserve(path: Path, module: nn.Module) -> None:
    """Takes the disk space that the file will need, or raises OSError.

    A disk that fills up while TorchScript is written ends the process: torch's writer throws again in its destructor.
    """
    import torch

    size = sum(tensor.nbytes for tensor in module.state_dict().values() if isinstance(tensor, torch.Tensor))
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size + CODE_BYTES)


def _export(job: Job, module: nn.Module, example: torch.Tensor, path: Path, metadata: Metadata) -> None:
    """Disk-full errors come out of torch as RuntimeError with a word from its zip writer; they become OSError again."""
    from deploybench.routes.torchscript import first_line

    try:
        routes.KINDS[job.kind].export(module, example, path, metadata)
    except DeploybenchError as error:
        raise DeploybenchError(error.code, f"{job.model.name}: {error}") from error
    except RuntimeError as error:
        raise OSError(None, str(error).splitlines()[0][:160]) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch's compiler, on code that it was not made for
        what = f"cannot be captured ({type(error).__name__}: {first_line(error)})"
        raise DeploybenchError("runtime", f"{job.model.name}: {what}; try --capture trace") from error


def _eager(job: Job, module: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The images that the module itself takes, all of them or only one at a time, and its answer on them."""
    import torch

    with torch.inference_mode(), _users_code(job):
        try:
            expected = module(images)
        except RuntimeError:
            images = images[:1]
            expected = module(images)
    _check_output(job, expected)
    return images, expected


def _check_output(job: Job, output: object) -> None:
    import torch

    if not isinstance(output, torch.Tensor) or output.ndim != 2:
        shape = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise DeploybenchError(
            "runtime", f"{job.model.name}: gives {shape}, a classifier gives one tensor [N, classes]; wrap the model"
        )


def _differs(
    path: Path, metadata: Metadata, images: torch.Tensor, expected: torch.Tensor, timed: bool
) -> tuple[str, float]:
    """(why the file's answer on `images` is not `expected`, empty when it is; the median seconds of a call if `timed`)."""
    import torch

    from deploybench import parity
    from deploybench.routes.torchscript import first_line

    rows = [row for row in routes.ROUTES.values() if row.kind.name == metadata.route]
    row = next((row for row in rows if metadata.precision in row.precisions), rows[0])
    seconds = []
    try:
        with torch.inference_mode():
            forward = row.load(path, metadata)
            found = forward(images)
            for _ in range(CALLS if timed else 0):
                start = time.perf_counter()
                forward(images[:1])
                seconds.append(time.perf_counter() - start)
    except RuntimeError as error:
        return first_line(error), math.inf
    reference = expected[: len(images)].float().cpu().numpy()
    verdict = parity.compare(reference, found.float().cpu().numpy(), metadata.precision, metadata.device)
    return verdict.reason, statistics.median(seconds[len(seconds) // 3 :]) if seconds else 0.0


def sweep(folder: Path) -> None:
    """Removes what killed runs left behind: partial files whose process is gone."""
    for partial in folder.glob(".*.partial"):
        pid = partial.name.rsplit(".", 2)[1]
        if pid.isdigit() and not Path("/proc", pid).exists():
            partial.unlink(missing_ok=True)


def _progress(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    from tqdm import tqdm

    with tqdm(total=total, unit="artifact", disable=None, file=sys.stderr) as bar:
        for outcome in outcomes:
            bar.set_description(outcome.job.model.name)
            bar.update()
            yield outcome


def _summarise(outcomes: list[Outcome], seconds: float) -> None:
    from tabulate import tabulate

    rows = [
        [
            outcome.job.model.name, outcome.job.kind,
            "failed" if outcome.error else "made" if outcome.made else "up to date",
            f"{outcome.bytes / 1e6:.1f}" if outcome.bytes else "", f"{outcome.seconds:.1f}" if outcome.made else "",
            outcome.origin,
        ]
        for outcome in outcomes
    ]  # fmt: skip
    print(
        tabulate(
            rows,
            ["model", "route", "", "MB", "seconds", "weights"],
            disable_numparse=True,
            colalign=["left"] * 3 + ["right"] * 2 + ["left"],
        )
    )
    made = [outcome for outcome in outcomes if outcome.made]
    if made:
        peak = max(outcome.peak_rss_bytes for outcome in made)
        size = sum(outcome.bytes for outcome in made)
        print(f"{len(made)} made in {seconds:.0f} s, {size / 1e9:.2f} GB written, peak RSS {peak / 1e9:.2f} GB")
        print(f"in {paths.shown(made[0].job.folder)}{os.sep}")
    for outcome in outcomes:
        if outcome.error:
            print(f"error: {outcome.error}", file=sys.stderr)
    unasked = [outcome.job for outcome in outcomes if outcome.origin == "random" != outcome.job.weights]
    own = list(dict.fromkeys(job.model.factory for job in unasked if job.model.own))
    if own:
        print(f"notice: RANDOM WEIGHTS in {', '.join(own)}: none were given; --weights FILE", file=sys.stderr)
    without = list(dict.fromkeys(job.model.name for job in unasked if not job.model.own))
    if without:
        listed = ", ".join(without) if len(without) < 5 else f"{len(without)} models"
        print(RANDOM.format(names=listed), file=sys.stderr)
