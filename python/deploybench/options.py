"""Flags that several verbs share, and what their values mean. One spelling each; the C++ twins use the same names."""

from __future__ import annotations

import argparse
import hashlib
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploybench import models, paths
from deploybench.errors import DeploybenchError
from deploybench.models import Model

if TYPE_CHECKING:
    from deploybench.images import Preprocessing


def whole(text: str, least: int) -> int:
    """`text` as an integer of at least `least`."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not least <= value < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text} is out of range, it must be at least {least}")
    return value


def positive(text: str) -> int:
    """An integer >= 1."""
    return whole(text, 1)


def count(text: str) -> int:
    """An integer >= 0."""
    return whole(text, 0)


def seconds(text: str) -> float:
    """A duration in seconds, finite and >= 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is out of range, it must be finite and at least 0")
    return value


def add_models(parser: argparse.ArgumentParser, default: str) -> None:
    """--models, also spelt --model: names, globs, sets, factories."""
    parser.add_argument(
        "--models", "--model", nargs="+", default=[default], metavar="MODEL",
        help=f"names, globs, article, all, comma lists, or package.module:factory (default {default})",
    )  # fmt: skip


def add_weights(parser: argparse.ArgumentParser) -> None:
    """--weights."""
    parser.add_argument(
        "--weights", default="auto", metavar="auto|pretrained|random|FILE",
        help="auto (default): torchvision's if cached or reachable, else seeded random ones, with a notice",
    )  # fmt: skip


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "auto"], help="where to run (default cpu)")


def add_artifacts(parser: argparse.ArgumentParser) -> None:
    """--artifacts, also spelt --out: the folder of the artifacts."""
    parser.add_argument(
        "--artifacts", "--out", type=Path, default=paths.ARTIFACTS, metavar="FOLDER",
        help="folder of the artifacts (default artifacts/)",
    )  # fmt: skip


def add_own_model(parser: argparse.ArgumentParser) -> None:
    """What torchvision cannot tell about a user's own model."""
    group = parser.add_argument_group("your own model", "for --model package.module:factory; unset: the ImageNet habit")
    group.add_argument("--labels", type=Path, metavar="FILE", help="class names, one a line")
    group.add_argument("--resize", type=positive, metavar="PIXELS", help="shorter side before the crop (default 256)")
    group.add_argument("--crop", type=positive, metavar="PIXELS", help="side of the input (default 224)")
    group.add_argument("--interpolation", choices=["bilinear", "bicubic"], help="of the resize (default bilinear)")
    group.add_argument("--mean", type=_three, metavar="R,G,B", help="subtracted, of [0, 1] (default ImageNet's)")
    group.add_argument("--std", type=_three, metavar="R,G,B", help="divided by, of [0, 1] (default ImageNet's)")


def _three(text: str) -> tuple[float, float, float]:
    """Three numbers, each also as a fraction: 127/255."""
    try:
        values = [float(a) / float(b or 1) for a, _, b in (part.partition("/") for part in text.split(","))]
        red, green, blue = values
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not three numbers like 0.485,0.456,0.406 or 127/255,..."
        ) from None
    if not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text!r} is not finite")
    return red, green, blue


@dataclass(frozen=True)
class Overrides:
    """The flags of add_own_model."""

    labels_file: Path | None = None
    resize: int | None = None
    crop: int | None = None
    interpolation: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def key(self) -> list[object]:
        """Changes when the artifact they make would."""
        file = self.labels_file
        labels = hashlib.sha256(file.read_bytes()).hexdigest() if file and file.is_file() else None
        return [labels, self.resize, self.crop, self.interpolation, self.mean, self.std]

    def preprocessing(self, model: Model) -> Preprocessing:
        """torchvision's for its models, the ImageNet habit for others, with what the flags say."""
        from deploybench.images import Preprocessing

        if model.own:
            mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of torchvision's presets
            found = Preprocessing(256, 224, "bilinear", True, mean, std)
        else:
            found = models.preprocessing(model)
        given = {name: getattr(self, name) for name in ("resize", "crop", "interpolation", "mean", "std")}
        return replace(found, **{name: value for name, value in given.items() if value is not None})

    def labels(self, model: Model, classes: int) -> list[str]:
        """The class names: the file's, torchvision's, ImageNet's for 1000 classes, else `class 0`, `class 1`..."""
        if self.labels_file is not None:
            return read_labels(self.labels_file, classes)
        known = models.imagenet_labels() if model.own else list(models.default_weights(model).meta["categories"])
        return known if len(known) == classes else [f"class {index}" for index in range(classes)]


def read_labels(file: Path, classes: int) -> list[str]:
    """The lines of `file`, exactly `classes` of them. Raises labels_invalid."""
    try:
        labels = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DeploybenchError(
            "labels_invalid", f"{file}: cannot be read ({error}); give a text file, a label a line"
        ) from error
    if len(labels) != classes:
        raise DeploybenchError(
            "labels_invalid", f"{file}: has {len(labels)} labels, the model {classes} classes; give one line a class"
        )
    return labels


def overrides(args: argparse.Namespace) -> Overrides:
    """The Overrides that the parsed flags of add_own_model say."""
    return Overrides(args.labels, args.resize, args.crop, args.interpolation, args.mean, args.std)


def usable_cpus() -> int:
    """The CPUs this process may use: its affinity, and the cgroup's quota where there is one."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, round(int(quota) / int(period))))


def resolve_device(wish: str) -> str:
    """`cpu` or `cuda`: `auto` takes CUDA where torch sees one. Raises device_unavailable."""
    if wish == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wish == "auto":
        return "cpu"
    why = "this torch is built without CUDA" if torch.version.cuda is None else "no CUDA device or driver is found"
    raise DeploybenchError(
        "device_unavailable",
        f"--device cuda: {why} (torch {torch.__version__}); use --device cpu, or make libtorch VARIANT=cu130",
    )
