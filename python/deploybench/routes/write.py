"""Writing an artifact: exported, loaded again, compared with eager, and only then given its name."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import os
import statistics
import time
import warnings
import weakref
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

import deploybench
from deploybench import artifact, parity, routes
from deploybench.artifact import MOST_IMAGES, Metadata
from deploybench.errors import DeploybenchError, first_line
from deploybench.images import Preprocessing
from deploybench.job import Job, fingerprint, users_code
from deploybench.routes import border, graph, inductor

CODE_BYTES = 4 << 20  # of an artifact beside its weights; a traced ResNet-50 has 0.6 MB
# In what torch's zip writer says of a disk or a folder: "[enforce fail at inline_container.cc:672] . unexpected pos 832 vs 726".
ZIP_WRITER = ("inline_container", "PytorchStreamWriter", "iostream error", "Parent directory")
CALLS = 15  # to choose a memory format; the first third warms up
SEED = 1  # of the input on which the saved file is compared with eager; not that of the weights


def write(job: Job, module: nn.Module, preprocessing: Preprocessing, weights: dict[str, str]) -> None:
    """Exports `module`, loads the file again, compares it with eager, and only then gives it its name."""
    crop = preprocessing.crop
    images = torch.randn(
        max(2, job.batches[0] if job.batches else 2), 3, crop, crop, generator=torch.Generator().manual_seed(SEED)
    ).to(job.device)
    images, expected = _eager(job, module, images)
    if job.batches and len(images) < job.batches[0]:
        raise DeploybenchError("runtime", f"{job.model.name}: takes one image at a time; leave --dynamic-batch out")
    kind = routes.KINDS[job.kind]
    any_size = (kind.capture != "export" or kind.converts) and len(images) > 1
    least, most = job.batches or (1, MOST_IMAGES if any_size else 1)
    about = Metadata(
        job.model.name, job.model.factory, kind.name, kind.capture, job.precision, job.format, job.device,
        [1, 3, crop, crop], [least, most], expected.shape[1],
        job.overrides.labels(job.model, expected.shape[1]), preprocessing.to_json(), weights,
        version("torch"), version("torchvision"), deploybench.__version__,
        datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        inductor.built_for(job.device, job.portable, job.packed_for) if kind.suffix == ".pt2" else {}, fingerprint(job),
    )  # fmt: skip
    with artifact.written_atomically(job.path) as partial:
        if job.format != "auto":
            _attempt(job, module, about, images, expected, partial)
            return
        seconds = {}
        for memory_format in border.MEMORY_FORMATS:
            about = dataclasses.replace(about, memory_format=memory_format)
            seconds[memory_format] = _seconds(_attempt(job, module, about, images, expected, partial), images[:least])
        fastest = min(seconds, key=seconds.__getitem__)
        if fastest != about.memory_format:  # the file that stands there is the slower one
            _attempt(job, module, dataclasses.replace(about, memory_format=fastest), images, expected, partial)


def _attempt(
    job: Job, module: nn.Module, about: Metadata, images: torch.Tensor, expected: torch.Tensor, path: Path
) -> routes.Forward:
    """Writes `path` and gives it loaded and proven equal to eager: for any batch size, or for one if its code knows but one."""
    least, most = about.batches
    fitted = _fitted(job, module, images[:least] if least == most else images[:1], about.memory_format)
    any_size = most > 1 and not job.batches
    for batches in [about.batches, [1, 1]] if any_size else [about.batches]:
        about = dataclasses.replace(about, batches=batches)
        asked = images[: batches[1]]
        _reserve(path, fitted)
        _export(job, fitted, asked if job.batches else images[:1], path, about)
        reason = ""
        try:
            with torch.inference_mode():
                forward = _route(about).load(path, about, 1)
                found = forward(asked)
        except RuntimeError as error:
            reason = first_line(error)
        else:
            wanted, got = (tensor.float().cpu().numpy() for tensor in (expected[: len(asked)], found))
            reason = parity.compare(wanted, got, about.precision, about.device).reason
        if not reason:
            return forward
    raise DeploybenchError("runtime", f"{job.model.name}: {job.kind} is not equal to eager ({reason}); not kept")


def _route(about: Metadata) -> routes.Route:
    """The route to try the file with: the first that runs this kind at this precision."""
    rows = [row for row in routes.ROUTES.values() if row.kind.name == about.route]
    return next((row for row in rows if about.precision in row.precisions), rows[0])


def _seconds(forward: routes.Forward, images: torch.Tensor) -> float:
    """The median seconds of a call."""
    seconds = []
    with torch.inference_mode():
        for _ in range(CALLS):
            start = time.perf_counter()
            forward(images).cpu()  # which waits for a GPU; a call of its own only queues kernels
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[CALLS // 3 :])


def _fitted(job: Job, module: nn.Module, example: torch.Tensor, memory_format: str) -> nn.Module:
    """`module` as its kind of file wants it. Rewriting comes before converting: what is folded, is folded at fp32."""
    kind = routes.KINDS[job.kind]
    if kind.name == "onnx" or (not kind.rewritten and (job.precision, memory_format) == ("fp32", "contiguous")):
        return module
    ranging = job.batches and job.batches[0] < job.batches[1]
    if kind.rewritten and (kind.converts or not ranging):  # the rewriting is for one shape
        try:
            module = _specialised(module, example)
        except Exception as error:  # the exporter raises a dozen kinds
            raise DeploybenchError(
                "runtime", f"{job.model.name}: cannot be exported ({first_line(error)}); try --routes trace"
            ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, on how graphs are copied
        fitted = copy.deepcopy(module)  # the next kind of file wants it as it is
    return fitted if kind.converts else border.fit(fitted, job.precision, memory_format)


# Of a module, by the shape of its input: 2 to 6 s of a core, the same for every kind of file and every precision.
_graphs: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, ...], nn.Module]] = weakref.WeakKeyDictionary()


def _specialised(module: nn.Module, example: torch.Tensor) -> nn.Module:
    """The graph of `module`, not to be changed."""
    graphs = _graphs.setdefault(module, {})
    shape = tuple(example.shape)
    if shape not in graphs:
        graphs[shape] = graph.specialise(module, example)
    return graphs[shape]


def _reserve(path: Path, module: nn.Module) -> None:
    """Takes the disk space that the file will need, or raises OSError.

    A disk that fills up while TorchScript is written ends the process: torch's writer throws again in its destructor.
    """
    size = sum(tensor.nbytes for tensor in module.state_dict().values() if isinstance(tensor, torch.Tensor))
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size + CODE_BYTES)


def _export(job: Job, module: nn.Module, example: torch.Tensor, path: Path, metadata: Metadata) -> None:
    """Errors of the disk come out of torch as RuntimeError with a word of its zip writer; they become OSError again."""
    try:
        routes.KINDS[job.kind].export(module, example, path, metadata)
    except DeploybenchError as error:
        raise DeploybenchError(error.code, f"{job.model.name}: {error}") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch's compiler, on code that it was not made for
        if isinstance(error, RuntimeError) and any(word in str(error) for word in ZIP_WRITER):
            raise OSError(None, first_line(error)[:160]) from error
        what = f"cannot be captured ({type(error).__name__}: {first_line(error)})"
        raise DeploybenchError("runtime", f"{job.model.name}: {what}; try --capture trace") from error


def _eager(job: Job, module: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The images that the module itself takes, all of them or only one at a time, and its answer on them."""
    with torch.inference_mode(), users_code(job):
        try:
            expected = module(images)
        except RuntimeError:
            images = images[:1]
            expected = module(images)
    _check_output(job, expected)
    return images, expected


def _check_output(job: Job, output: object) -> None:
    if not isinstance(output, torch.Tensor) or output.ndim != 2:
        shape = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise DeploybenchError(
            "runtime", f"{job.model.name}: gives {shape}, a classifier gives one tensor [N, classes]; wrap the model"
        )
