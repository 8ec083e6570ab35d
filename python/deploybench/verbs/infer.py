"""`deploybench infer`: the top classes of photos, of folders of photos, or of a tensor file. Twin of cpp/apps/infer.cpp, which
prints the same, and faster: Python's threads wait for each other."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploybench import (
    answers,
    artifact,
    images,
    job,
    models,
    options,
    parity,
    paths,
    routes,
    running,
    stream,
    tensor_file,
    terminal,
)
from deploybench.answers import Answer
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError

if TYPE_CHECKING:
    import numpy

EXAMPLE = "infer --model squeezenet1_1 data/images/chelsea.jpg"
Image = tuple[
    Path, int, "Callable[[], numpy.ndarray]"
]  # its file, its number there, and what gives it as float32 [3, H, W]
MANY = 2  # images for each CPU, from which on small instances give more images a second than one that has all CPUs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "inputs",
        nargs="*",
        type=Path,
        metavar="PHOTO",
        help="photos, folders of photos, or one .npy or .dat file (default a photo in data/)",
    )
    parser.add_argument("--list", metavar="FILE", help="a file that names photos, one a line, or - for standard input")
    what = parser.add_argument_group("what classifies")
    what.add_argument(
        "--model", "--models", default="resnet50", metavar="MODEL", help="made when it is not there (default resnet50)"
    )
    what.add_argument("--artifact", type=Path, metavar="FILE", help="or this very file")
    what.add_argument(
        "--route",
        choices=list(routes.ROUTES),
        metavar="NAME",
        help=f"{', '.join(routes.ROUTES)} (default script, or the file's)",
    )
    what.add_argument("--precision", choices=routes.PRECISIONS, default="fp32", help="of the model made (default fp32)")
    options.add_weights(what)
    options.add_artifacts(what)
    where = parser.add_argument_group("where it runs")
    where.add_argument("--device", choices=["cpu", "cuda", "auto"], help="default: the artifact's, or cpu")
    where.add_argument(
        "--instances", type=options.threads, metavar="N",
        help="images, or batches, that are classified at the same time (default 1, for many images as many as usable CPUs)",
    )  # fmt: skip
    where.add_argument(
        "--threads", type=options.threads, metavar="N",
        help="intra-op threads (default: usable CPUs, shared out among the instances)",
    )  # fmt: skip
    where.add_argument(
        "--batch-size", type=options.batch, default=1, metavar="N",
        help="images that are classified together at most (default 1)",
    )  # fmt: skip
    where.add_argument(
        "--strict", action="store_true", help="refuse an artifact of another torch version instead of warning"
    )
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--top-k", type=options.positive, metavar="K", help="how many classes (default 5, or all)")
    shape = shown.add_mutually_exclusive_group()
    shape.add_argument(
        "--json", dest="format", action="store_const", const="json", help="a line of JSON for each image"
    )
    shape.add_argument("--csv", dest="format", action="store_const", const="csv", help="CSV, a line for each class")
    parser.set_defaults(format="text")
    options.add_own_model(parser)


def run(args: argparse.Namespace) -> int:
    """Prints, for each image, the top classes with their probabilities; 1 where a photo could not be read."""
    about, count, found = classify(args)
    if about["weights_origin"] == "random":
        terminal.notice("notice: random weights: the labels mean nothing (see docs/troubleshooting.md)")
    broken = 0
    terminal.write(answers.begin(args.format))
    for answer in found:
        if answer.problem:
            broken += 1
            terminal.error(answer.problem)
        terminal.write(answers.lines(answer, args.format, about, count > 1))
    return 1 if broken else 0


def classify(args: argparse.Namespace) -> tuple[dict[str, Any], int, Iterator[Answer]]:
    """What is to be said about the classifier, the number of images, and an answer for each as it is asked for."""
    options.refuse_beside_artifact(args, add_arguments)
    given = [*args.inputs, *(stream.listed_files(args.list) if args.list else [])]
    inputs = stream.photo_files(given or [paths.PHOTO])
    path = args.artifact or _make(args)
    metadata = artifact.read_metadata(path)
    labels = options.read_labels(args.labels, metadata.classes) if args.labels else metadata.labels
    top_k = args.top_k or min(5, metadata.classes)
    if top_k > metadata.classes:
        raise DeploybenchError(
            "usage", f"--top-k {args.top_k}: the model has {metadata.classes} classes; ask for fewer"
        )
    wish = None if args.device is None else options.resolve_device(args.device)
    running.check_device(path, metadata, wish)
    route = running.choose_route(path, metadata, args.route)
    images_of = _reader(inputs, path, metadata)
    instances, threads = _crew(args, len(images_of), metadata)
    warnings = [
        *running.version_warnings(path, metadata, args.strict),
        *running.packing_warnings(path, metadata, threads),
    ]
    _set_threads(threads)
    forward, _ = running.load(path, metadata, route, instances)
    about = {
        "model": metadata.model, "artifact": str(path), "device": metadata.device,
        "torch_version": _torch_version(), "weights_origin": metadata.weights["origin"], "warnings": warnings,
    }  # fmt: skip
    size = min(max(args.batch_size, metadata.batches[0]), metadata.batches[1])
    batches = [images_of[at : at + size] for at in range(0, len(images_of), size)]
    classified = partial(_classified, path, metadata, forward, labels, top_k)
    found = stream.in_order(batches, classified, instances, partial(_set_threads, threads))
    return about, len(images_of), chain.from_iterable(found)


def _crew(args: argparse.Namespace, count: int, metadata: Metadata) -> tuple[int, int]:
    """Instances, and threads of each, for so many images; not many of one thread each where the weights are packed for more."""
    cpus = options.usable_cpus()
    many = count >= MANY * cpus and metadata.device != "cuda" and metadata.built_for.get("threads", 1) == 1
    instances = args.instances or (cpus if many else 1)
    return instances, args.threads or max(1, cpus // instances)


def _set_threads(threads: int) -> None:
    """Of the thread that calls, which torch keeps for each."""
    import torch

    torch.set_num_threads(threads)


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


def _classified(
    path: Path, metadata: Metadata, forward: routes.Forward, labels: list[str], top_k: int, batch: list[Image]
) -> list[Answer]:
    """The answers to a batch of images, in order; one that cannot be read gets none, and the others go without it."""
    problems: dict[int, DeploybenchError] = {}
    read: dict[int, numpy.ndarray] = {}
    for at, (_, _, image) in enumerate(batch):
        try:
            read[at] = image()
        except DeploybenchError as problem:
            if problem.code not in ("input_missing", "input_invalid", "out_of_memory"):
                raise  # what is wrong with the model is wrong for every photo
            problems[at] = problem
    found = dict(zip(read, _logits(path, metadata, forward, list(read.values())), strict=True)) if read else {}
    return [
        Answer(name, number, problem=problems[at])
        if at in problems
        else Answer(name, number, _predictions(found[at], labels, top_k))
        for at, (name, number, _) in enumerate(batch)
    ]


def _logits(path: Path, metadata: Metadata, forward: routes.Forward, images: list[numpy.ndarray]) -> numpy.ndarray:
    """float32 [N, classes] of N images. An artifact for larger batches only gets the last one as often as it wants."""
    import numpy
    import torch

    batch = numpy.empty(
        (max(len(images), metadata.batches[0]), *images[0].shape), numpy.float32
    )  # C order; stack keeps theirs
    for number in range(len(batch)):
        batch[number] = images[min(number, len(images) - 1)]
    with torch.inference_mode():
        logits: numpy.ndarray = running.answer(path, metadata, forward, torch.from_numpy(batch).to(metadata.device))
    logits = logits[: len(images)]
    if not numpy.isfinite(logits).all():
        raise DeploybenchError(
            "runtime", f"{paths.shown(path)}: its output holds NaN or infinity; check the weights it was made with"
        )
    return logits


def _predictions(logits: numpy.ndarray, labels: list[str], k: int) -> list[dict[str, Any]]:
    probabilities, best = parity.softmax(logits[None])[0], parity.top_k(logits[None], k)[0]
    return [{"index": int(i), "label": labels[i], "probability": float(probabilities[i])} for i in best]


def _make(args: argparse.Namespace) -> Path:
    """The artifact of --model and --route, generated if it is not up to date."""
    chosen = models.select([args.model])
    if len(chosen) != 1:
        raise DeploybenchError("usage", f"--model {args.model}: names {len(chosen)} models; name one")
    device = options.resolve_device(args.device or "cpu")
    overrides = dataclasses.replace(
        options.overrides(args), labels_file=None
    )  # --labels is for this print, not for the file
    row = routes.route(args.route or "script")
    wanted = job.Job(
        chosen[0], row.kind.name, args.precision, device, args.weights, overrides, args.artifacts, False, threads=args.threads
    )  # fmt: skip
    job.make(wanted)
    return wanted.path


def _reader(inputs: list[Path], path: Path, metadata: Metadata) -> list[Image]:
    """Each image, float32 [3, H, W], as something to call for it: photos through the own transform of the artifact at
    `path`, or those of one tensor file as they are."""
    tensors = [path for path in inputs if path.suffix in answers.TENSOR_FILES]
    if tensors:
        if len(inputs) > 1:
            raise DeploybenchError(
                "usage", f"{tensors[0]}: goes alone; give either one tensor file or photos, not both"
            )
        values = tensor_file.read(tensors[0], *metadata.input_shape[2:])
        return [(tensors[0], number, partial(values.__getitem__, number)) for number in range(len(values))]
    preprocessing = images.Preprocessing.from_json(metadata.preprocessing, paths.shown(path))
    if [preprocessing.crop] * 2 != metadata.input_shape[2:]:
        raise DeploybenchError(
            "artifact_invalid",
            f"{paths.shown(path)}: preprocessing.crop {preprocessing.crop} is not its input's size "
            f"{metadata.input_shape[2:]}; {routes.making(path, metadata)} --force",
        )
    models.import_torchvision()  # here, not by each of the threads that read: they would find it half imported
    return [(photo, 0, partial(images.load, photo, preprocessing)) for photo in inputs]
