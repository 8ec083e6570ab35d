"""`deploybench infer`: the top classes of photos, of folders of photos, or of a tensor file. Twin of cpp/apps/infer.cpp, which
prints the same, and faster: here one image comes after the other."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
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
    tensor_file,
    terminal,
)
from deploybench.answers import Answer
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError

if TYPE_CHECKING:
    import numpy

EXAMPLE = "infer --model squeezenet1_1 data/images/chelsea.jpg"
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "inputs",
        nargs="*",
        type=Path,
        default=[paths.PHOTO],
        metavar="PHOTO",
        help="photos, folders of photos, or one .npy or .dat file",
    )
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
    where.add_argument("--threads", type=options.threads, metavar="N", help="intra-op threads (default: usable CPUs)")
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
    sys.stdout.write(answers.begin(args.format))
    for answer in found:
        if answer.problem:
            broken += 1
            terminal.error(answer.problem)
        sys.stdout.write(answers.lines(answer, args.format, about, count > 1))
        sys.stdout.flush()
    return 1 if broken else 0


def classify(args: argparse.Namespace) -> tuple[dict[str, Any], int, Iterator[Answer]]:
    """What is to be said about the classifier, the number of images, and an answer for each as it is asked for."""
    inputs = photo_files(args.inputs)
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
    import torch

    torch.set_num_threads(args.threads or options.usable_cpus())
    warnings = running.version_warnings(path, metadata, args.strict)
    forward, _ = running.load(path, metadata, route)
    about = {
        "model": metadata.model, "artifact": str(path), "device": metadata.device,
        "torch_version": str(torch.__version__), "weights_origin": metadata.weights["origin"], "warnings": warnings,
    }  # fmt: skip

    def answer(name: Path, number: int, image: Callable[[], numpy.ndarray]) -> Answer:
        try:
            logits = _answer(path, metadata, forward, image())
        except DeploybenchError as problem:
            if problem.code not in ("input_missing", "input_invalid"):
                raise  # what is wrong with the model is wrong for every photo
            return Answer(name, number, problem=problem)
        return Answer(name, number, _predictions(logits, labels, top_k))

    return about, len(images_of), (answer(*one) for one in images_of)


def photo_files(inputs: list[Path]) -> list[Path]:
    """What is given, in its order; in the place of a folder its photos, those of its folders too, sorted by name."""
    photos: list[Path] = []
    for given in inputs:
        if not given.is_dir():
            photos.append(given)
            continue
        found = [path for path in given.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()]
        if not found:
            raise DeploybenchError("input_missing", f"{given}: no photo in it; give a folder with .jpg or .png files")
        photos += sorted(found, key=os.fsencode)
    return photos


def _answer(path: Path, metadata: Metadata, forward: routes.Forward, image: numpy.ndarray) -> numpy.ndarray:
    """The logits of one image, float32 [classes]. An artifact for larger batches only gets it as often as it wants."""
    import numpy
    import torch

    images = torch.from_numpy(numpy.repeat(image[None], metadata.batches[0], axis=0)).to(metadata.device)
    with torch.inference_mode():
        logits: numpy.ndarray = running.answer(path, metadata, forward, images)[0]
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
    wanted = job.Job(chosen[0], row.kind.name, args.precision, device, args.weights, overrides, args.artifacts, False)
    job.make(wanted)
    return wanted.path


def _reader(inputs: list[Path], path: Path, metadata: Metadata) -> list[tuple[Path, int, Callable[[], numpy.ndarray]]]:
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
            f"{metadata.input_shape[2:]}; {artifact.REMAKE} {metadata.model} --force",
        )
    return [(photo, 0, partial(images.load, photo, preprocessing)) for photo in inputs]
