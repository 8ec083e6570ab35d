"""`deploybench preprocess`: photos -> one tensor file, by the transform of the model that will see them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deploybench import artifact, images, models, options, paths, tensor_file, terminal
from deploybench.errors import DeploybenchError

EXAMPLE = "preprocess --model squeezenet1_1 data/images/chelsea.jpg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "photos", nargs="*", type=Path, default=[paths.PHOTO], metavar="PHOTO", help="one or more; together a batch"
    )
    whose = parser.add_argument_group("whose transform")
    whose.add_argument(
        "--model", "--models", default="resnet50", metavar="MODEL", help="whose transform (default resnet50)"
    )
    whose.add_argument("--artifact", type=Path, metavar="FILE", help="or the transform that this artifact carries")
    file = parser.add_argument_group("the file")
    file.add_argument("--format", choices=["npy", "dat"], default="npy", help="npy (default) or headerless float32")
    file.add_argument("--out", "--output", type=Path, metavar="FILE", help="default artifacts/MODEL.PHOTO.npy")
    options.add_own_model(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the tensor file and says its shape."""
    made = make(args)
    if args.json:
        terminal.emit(made)
    else:
        terminal.show(describe(made))
    return 0


def describe(made: dict[str, Any]) -> str:
    """The line for a person."""
    return f"{paths.shown(Path(made['file']))}: float32 {made['shape']}, {made['bytes']} bytes"


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the tensor file: its model, file, shape [N, 3, H, W], dtype and size in bytes."""
    if args.out and args.out.suffix != f".{args.format}":
        raise DeploybenchError(
            "usage", f"{args.out}: a file of --format {args.format} ends in .{args.format}; rename it"
        )
    options.refuse_beside_artifact(args, add_arguments)
    if args.artifact:
        metadata = artifact.read_metadata(args.artifact)
        name = metadata.model
        preprocessing = images.Preprocessing.from_json(metadata.preprocessing, paths.shown(args.artifact))
    else:
        chosen = models.select([args.model])
        if len(chosen) != 1:
            raise DeploybenchError(
                "usage", f"--model {args.model}: names {len(chosen)} models; each has its own transform, name one"
            )
        name, preprocessing = chosen[0].name, options.overrides(args).preprocessing(chosen[0])
    tensor = images.load_batch(args.photos, preprocessing)
    out = args.out or paths.ARTIFACTS / f"{name}.{args.photos[0].stem}.{args.format}"
    write(out, tensor, args.format)
    shape = list(tensor.shape)
    return {"model": name, "file": str(out), "shape": shape, "dtype": "float32", "bytes": out.stat().st_size}


def write(out: Path, tensor: tensor_file.Tensor, format: tensor_file.Format) -> None:
    """The tensor file, in a folder that is made where it is missing."""
    try:
        artifact.refuse_special(out)
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise DeploybenchError("output_unwritable", f"{out}: {what}; choose another --out") from error
    tensor_file.write(out, tensor, format)
