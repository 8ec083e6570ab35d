"""Flags that several verbs share, and what their values mean. One spelling each; the C++ twins use the same names."""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploybench import machine, models, paths, record
from deploybench.artifact import MAX_LABEL_BYTES, MOST_IMAGES, MOST_THREADS
from deploybench.errors import DeploybenchError
from deploybench.models import Model

if TYPE_CHECKING:
    from deploybench.images import Preprocessing


# The same limits as in cpp/deploybench/options. More threads than MOST_THREADS would only make OpenMP end the process when it
# cannot start them.
MOST_CALLS = 1_000_000_000
MOST_DELAY_US = 10_000_000
MOST_RATE = 100_000  # images a second
MOST_LOAD_SECONDS = 600


def whole(text: str, least: int, most: int = MOST_CALLS) -> int:
    """`text` as an integer from `least` to `most`. Digits alone, as in C++: Python's own int() takes 1_0, too."""
    if not re.fullmatch(r"-?[0-9]{1,30}", text) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from {least} to {most}")
    return int(text)


def positive(text: str) -> int:
    """An integer >= 1."""
    return whole(text, 1)


def count(text: str) -> int:
    """An integer >= 0."""
    return whole(text, 0)


def threads(text: str) -> int:
    """A number of threads."""
    return whole(text, 1, MOST_THREADS)


def batch(text: str) -> int:
    """A number of images."""
    return whole(text, 1, MOST_IMAGES)


def batch_sizes(text: str) -> list[int]:
    """argparse type: batch sizes by comma, each once."""
    return list(dict.fromkeys(batch(part) for part in text.split(",")))


def instances(text: str) -> int:
    """argparse type: a number of instances; 0 for `auto`."""
    return 0 if text == "auto" else threads(text)


def batches(text: str) -> tuple[int, int]:
    """MIN:MAX, numbers of images; the same number twice means this one alone."""
    least, _, most = text.partition(":")
    chosen = batch(least), batch(most)
    if chosen[0] > chosen[1]:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not MIN:MAX with MIN at most MAX")
    return chosen


def seed(text: str) -> int:
    """An integer >= 0 of 64 bits."""
    return whole(text, 0, (1 << 64) - 1)


def seconds(text: str) -> float:
    """A duration in seconds, finite and >= 0."""
    value = float(text) if re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) else -1
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of seconds, 0 or more")
    return value


def some_seconds(text: str) -> float:
    """A duration in seconds, finite and > 0."""
    value = seconds(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of seconds above 0")
    return value


def rate(text: str) -> float:
    """Images a second, > 0; with `load_seconds` bounded, so that a list of when they arrive fits into memory."""
    return _at_most(text, MOST_RATE, "images a second")


def load_seconds(text: str) -> float:
    """Seconds in which images arrive, > 0."""
    return _at_most(text, MOST_LOAD_SECONDS, "seconds")


def _at_most(text: str, most: int, unit: str) -> float:
    try:
        value = seconds(text)
    except argparse.ArgumentTypeError:
        value = 0.0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of {unit} above 0, {most} at most")
    return value


def delay(text: str) -> int:
    """Microseconds that an instance waits for more images."""
    return whole(text, 0, MOST_DELAY_US)


def percent(text: str) -> float:
    """argparse type: `5%` or `5` as 0.05; above 0, at most 1000 %."""
    number = text.removesuffix("%")
    value = float(number) / 100 if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", number) else 0.0
    if not 0 < value <= 10:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a percentage above 0 and up to 1000, such as 5%")
    return value


def side(text: str) -> int:
    """Height and width of an image in pixels."""
    from deploybench.images import MAX_SIDE_PIXELS

    return whole(text, 1, MAX_SIDE_PIXELS)


def add_models(parser: argparse._ActionsContainer, default: str) -> None:
    """--models, also spelt --model: names, globs, sets, factories."""
    parser.add_argument(
        "--models", "--model", nargs="+", default=[default], metavar="MODEL",
        help=f"names, globs, article, panel, all, comma lists, or package.module:factory (default {default})",
    )  # fmt: skip


WEIGHTS = ("auto", "pretrained", "random")


def add_weights(parser: argparse._ActionsContainer) -> None:
    """--weights."""
    parser.add_argument(
        "--weights", default="auto", metavar="auto|pretrained|random|FILE",
        help="auto (default): torchvision's if cached or reachable, else seeded random ones, with a notice",
    )  # fmt: skip


def precisions(text: str) -> list[str]:
    """A comma list of precisions, each once."""
    from deploybench.routes import PRECISIONS

    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in PRECISIONS:
            raise argparse.ArgumentTypeError(f"{name[:40]!r} is none of {', '.join(PRECISIONS)}")
    return names


def add_precisions(parser: argparse._ActionsContainer) -> None:
    """--precisions, also spelt --precision: of weights and arithmetic; input and output stay float32."""
    parser.add_argument(
        "--precisions", "--precision", type=precisions, default=["fp32"], metavar="LIST",
        help="fp32, bf16, fp16 (on CUDA), or several by comma (default fp32)",
    )  # fmt: skip


def add_build(parser: argparse._ActionsContainer) -> None:
    """How files are made: --memory-format, --portable, --dynamic-batch."""
    parser.add_argument(
        "--memory-format", choices=["contiguous", "channels_last", "auto"], metavar="FORMAT",
        help="contiguous, channels_last, or auto: the one that measures faster (default: the kind's own)",
    )  # fmt: skip
    parser.add_argument(
        "--portable", action="store_true", help="compile for any x86-64 CPU with AVX2, not for this one"
    )
    parser.add_argument(
        "--dynamic-batch", type=batches, metavar="MIN:MAX",
        help="aoti: compile for any batch size of this range, or for one as in 256:256 (default 1:1)",
    )  # fmt: skip


KNOBS = {  # what each does; its values stand in record.KNOBS
    "allocator": "freed memory: kept in huge pages, kept, or the system's way",
    "bind": "each intra-op thread stays on a core of its own",
    "executor": "TorchScript specialises in its first calls, or runs the graph as it is",
    "fusion_strategy": "TorchScript's fuser: mixed compiles for 2 shapes, then 10 times for any; or 20 times in one way",
    "flush_denormal": "numbers below 1e-38 become zero",
    "tf32": "fp32 products on CUDA with 10 bits of mantissa",
    "cudnn_benchmark": "cuDNN tries its algorithms in the first call",
    "cuda_graph": "on CUDA the kernels of a call are recorded once and replayed",
}


def add_knobs(parser: argparse._ActionsContainer) -> None:
    """The settings of the workers' runtime."""
    for name, does in KNOBS.items():
        values = record.KNOBS[name]
        parser.add_argument(
            f"--{name.replace('_', '-')}", choices=values, default=values[0], help=f"{does} (default {values[0]})"
        )


def add_load(parser: argparse._ActionsContainer) -> None:
    """Images that arrive by themselves."""
    add = parser.add_argument
    add(
        "--rate",
        type=rate,
        default=0.0,
        metavar="R",
        help="images a second, in the mean of a Poisson process; times are then from arrival to answer",
    )
    add(
        "--latency-bound",
        type=some_seconds,
        default=0.0,
        metavar="S",
        help="search the highest rate at which 99 of 100 answers take at most so long",
    )
    add("--load-seconds", type=load_seconds, default=2.0, metavar="S", help="of arrivals in each turn (default 2)")
    add(
        "--batch-delay",
        type=delay,
        default=0,
        metavar="US",
        help="an instance waits so many microseconds until --batch-size images are there (default 0)",
    )


def check_together(args: argparse.Namespace) -> None:
    """Refuses flags of a worker that contradict each other. Twin of parse_bench in cpp/deploybench/options."""
    if args.rate and args.latency_bound:
        raise DeploybenchError("usage", "--latency-bound: searches the rate, and --rate gives it; give one of them")
    if args.cuda_graph == "on" and (args.rate or args.latency_bound):
        raise DeploybenchError(
            "usage",
            "--cuda-graph on: is for calls of one size, and images that arrive come in many; use --cuda-graph off",
        )
    if (args.instances or 1) == 1:
        return
    if args.cuda_graph == "on":
        raise DeploybenchError(
            "usage", "--cuda-graph on: records the calls of one instance only; give --instances 1 or --cuda-graph off"
        )
    if args.bind == "on":
        raise DeploybenchError(
            "usage", "--bind on: would keep all instances on the same cores; give --instances 1 or --bind off"
        )


def add_device(parser: argparse._ActionsContainer) -> None:
    """--device."""
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "auto"], help="where to run (default cpu)")


def add_artifacts(parser: argparse._ActionsContainer) -> None:
    """--artifacts, also spelt --out: the folder of the artifacts."""
    parser.add_argument(
        "--artifacts", "--out", type=Path, default=paths.ARTIFACTS, metavar="FOLDER",
        help="folder of the artifacts (default artifacts/)",
    )  # fmt: skip


def add_own_model(parser: argparse.ArgumentParser) -> None:
    """What torchvision cannot tell about a user's own model."""
    group = parser.add_argument_group("your own model", "for --model package.module:factory; unset: the ImageNet habit")
    group.add_argument("--labels", type=Path, metavar="FILE", help="class names, one a line")
    group.add_argument("--resize", type=side, metavar="PIXELS", help="shorter side before the crop (default 256)")
    group.add_argument("--crop", type=side, metavar="PIXELS", help="side of the input (default 224)")
    group.add_argument("--interpolation", choices=["bilinear", "bicubic"], help="of the resize (default bilinear)")
    group.add_argument("--mean", type=_mean, metavar="R,G,B", help="subtracted, of [0, 1] (default ImageNet's)")
    group.add_argument("--std", type=_std, metavar="R,G,B", help="divided by, of [0, 1] (default ImageNet's)")


def refuse_beside_artifact(args: argparse.Namespace, add_arguments: Callable[[argparse.ArgumentParser], None]) -> None:
    """An artifact says itself what was made and how: refuses flags, of those that `add_arguments` adds, that say it beside
    --artifact."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for name in ("model", "precision", "weights", "resize", "crop", "interpolation", "mean", "std"):
        if args.artifact and getattr(args, name, None) != parser.get_default(name):
            what = f"is for a model that is made, and {paths.shown(args.artifact)} is there"
            raise DeploybenchError("usage", f"--{name}: {what}; leave it out, or --artifact")


def _mean(text: str) -> tuple[float, float, float]:
    from deploybench.images import MAX_NUMBER

    return _three(text, -MAX_NUMBER)


def _std(text: str) -> tuple[float, float, float]:
    from deploybench.images import MIN_STD

    return _three(text, MIN_STD)


def _three(text: str, least: float) -> tuple[float, float, float]:
    """Three numbers of at least `least`, each also as a fraction: 127/255."""
    from deploybench.images import MAX_NUMBER

    try:
        values = [float(a) / float(b or 1) for a, _, b in (part.partition("/") for part in text.split(","))]
        red, green, blue = values
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not three numbers like 0.485,0.456,0.406 or 127/255,..."
        ) from None
    if not all(least <= value <= MAX_NUMBER for value in values):  # a NaN fails this, too
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers from {least:g} to {MAX_NUMBER:g}")
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
    """The lines of `file`, exactly `classes` of them, none empty. Twin of cpp/deploybench/labels. Raises labels_invalid."""

    def invalid(what: str) -> DeploybenchError:
        return DeploybenchError(
            "labels_invalid", f"{file}: {what}; give a text file with {classes} lines, a label each"
        )

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise invalid(f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise invalid("is not UTF-8 text") from error
    labels = text.removesuffix("\n").split("\n") if text else []  # not splitlines(), which also cuts at form feeds
    if len(labels) != classes:
        raise invalid(f"holds {len(labels)} labels, the model has {classes} classes")
    for number, label in enumerate(labels, 1):
        if not 0 < len(label.encode()) <= MAX_LABEL_BYTES:
            raise invalid(f"line {number} is {'too long' if label else 'empty'}")
    return labels


def overrides(args: argparse.Namespace) -> Overrides:
    """The Overrides that the parsed flags of add_own_model say."""
    return Overrides(args.labels, args.resize, args.crop, args.interpolation, args.mean, args.std)


def usable_cpus() -> int:
    """The CPUs this process may use: its affinity, and the cgroup's quota where there is one."""
    cpus, quota = len(os.sched_getaffinity(0)), machine.cpu_quota()
    return cpus if quota is None else max(1, min(cpus, round(quota)))


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
