"""`deploybench infer`: the top classes of photos or of a tensor file. Twin of cpp/apps/infer.cpp, which prints the same."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from deploybench import artifact, images, job, models, options, parity, paths, routes, running, tensor_file
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "inputs", nargs="*", type=Path, default=[paths.PHOTO], metavar="PHOTO", help="photos, or one .npy or .dat file"
    )
    parser.add_argument(
        "--model", "--models", default="resnet50", metavar="MODEL", help="made when it is not there (default resnet50)"
    )
    parser.add_argument("--artifact", type=Path, metavar="FILE", help="or this very file")
    parser.add_argument(
        "--route",
        choices=list(routes.ROUTES),
        metavar="NAME",
        help=f"{', '.join(routes.ROUTES)} (default script, or the file's)",
    )
    parser.add_argument(
        "--precision", choices=routes.PRECISIONS, default="fp32", help="of the model made (default fp32)"
    )
    options.add_weights(parser)
    parser.add_argument("--device", choices=["cpu", "cuda", "auto"], help="default: the artifact's, or cpu")
    parser.add_argument("--threads", type=options.threads, metavar="N", help="intra-op threads (default: usable CPUs)")
    options.add_artifacts(parser)
    parser.add_argument("--top-k", type=options.positive, metavar="K", help="how many classes (default 5, or all)")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument(
        "--strict", action="store_true", help="refuse an artifact of another torch version instead of warning"
    )
    options.add_own_model(parser)


def run(args: argparse.Namespace) -> int:
    """Prints, for each image, the top classes with their probabilities."""
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
    tensor = read_inputs(args.inputs, path, metadata)
    import numpy
    import torch

    torch.set_num_threads(args.threads or options.usable_cpus())
    warnings = running.version_warnings(path, metadata, args.strict)
    running.check_batch(path, metadata, len(tensor))
    forward, _ = running.load(path, metadata, route)
    with torch.inference_mode():
        logits = running.answer(path, metadata, forward, torch.from_numpy(tensor).to(metadata.device))
    if not numpy.isfinite(logits).all():
        raise DeploybenchError(
            "runtime", f"{paths.shown(path)}: its output holds NaN or infinity; check the weights it was made with"
        )
    if metadata.weights["origin"] == "random":
        print("notice: random weights: the labels mean nothing (see docs/troubleshooting.md)", file=sys.stderr)
    predictions = _predictions(logits, labels, top_k)
    if args.json:
        about = {
            "model": metadata.model, "artifact": str(path), "input": ", ".join(map(str, args.inputs)),
            "device": metadata.device, "torch_version": str(torch.__version__),
            "weights_origin": metadata.weights["origin"], "predictions": predictions, "warnings": warnings,
        }  # fmt: skip
        print(json.dumps(about))
        return 0
    for index, rows in enumerate(predictions):
        if len(predictions) > 1:
            print(f"image {index}:")
        for row in rows:
            print(f"{row['probability'] * 100:.2f}% {row['label']}")
    return 0


def _predictions(logits: Any, labels: list[str], k: int) -> list[list[dict[str, Any]]]:
    probabilities, best = parity.softmax(logits), parity.top_k(logits, k)
    return [
        [{"index": int(i), "label": labels[i], "probability": float(probabilities[n, i])} for i in row]
        for n, row in enumerate(best)
    ]


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


def read_inputs(inputs: list[Path], path: Path, metadata: Metadata) -> Any:
    """Photos through the own transform of the artifact at `path`, or one tensor file as it is: float32 [N, 3, H, W]."""
    tensors = [path for path in inputs if path.suffix in (".npy", ".dat")]
    if tensors:
        if len(inputs) > 1:
            raise DeploybenchError(
                "usage", f"{tensors[0]}: goes alone; give either one tensor file or photos, not both"
            )
        return tensor_file.read(tensors[0], *metadata.input_shape[2:])
    preprocessing = images.Preprocessing.from_json(metadata.preprocessing, paths.shown(path))
    if [preprocessing.crop] * 2 != metadata.input_shape[2:]:
        raise DeploybenchError(
            "artifact_invalid",
            f"{paths.shown(path)}: preprocessing.crop {preprocessing.crop} is not its input's size "
            f"{metadata.input_shape[2:]}; {artifact.REMAKE} {metadata.model} --force",
        )
    return images.load_batch(inputs, preprocessing)
