"""The Python API: `import deploybench as db`. A function a verb, with the verb's flags as keyword arguments.

A call is parsed by the verb's own parser and answered by the verb's own functions: defaults, checks and errors are the same,
and stand once. Nothing is printed on stdout. Every failure that a user can mend is a DeploybenchError.

A new verb gets a function here and a row in FLAGS, or a row in NOT_IN_API with the reason; a test wants one of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from deploybench import answers, cli, library_paths, results_file, summary, tables, terminal
from deploybench.errors import DeploybenchError
from deploybench.result import Result, write_text
from deploybench.verbs import bench as bench_verb
from deploybench.verbs import generate as generate_verb
from deploybench.verbs import infer as infer_verb
from deploybench.verbs import preprocess as preprocess_verb

PathLike = str | os.PathLike[str]
Names = str | Sequence[str]
OnOff = Literal["on", "off"]

NOT_IN_API = {
    "list": "deploybench.models.names() is what it prints",
    "libtorch": "sets up a machine, before there is a Python to call from",
    "download": "sets up a machine",
    "bundle": "makes a folder to ship, once, from a shell",
    "evaluate": "takes hours over a data set, and can be resumed; its file is JSON",
    "compare": "reads two files that `bench` gives the paths of; --json is for programs",
    "doctor": "answers a person; --json is for programs",
    "advise": "answers a person; --json is for programs",
    "migrate": "answers a person; --json is for programs",
    "matrix": "takes hours and guards this repository",
    "worker": "a process of its own is what it is for; bench starts it",
    "completion": "for shells",
}


class OwnModelFlags(TypedDict, total=False):
    """What torchvision cannot tell about a model of your own; `quiet` silences notices and progress."""

    labels: PathLike
    resize: int
    crop: int
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    quiet: bool


class FileFlags(OwnModelFlags, total=False):
    """How artifacts are made; `weights` is auto, pretrained, random or a file."""

    precisions: Names
    weights: PathLike
    device: Literal["cpu", "cuda", "auto"]
    artifacts: PathLike
    memory_format: Literal["contiguous", "channels_last", "auto"]
    portable: bool
    dynamic_batch: tuple[int, int]


class GenerateFlags(FileFlags, total=False):
    """The flags of `deploybench generate`."""

    routes: Names
    threads: int
    jobs: int
    force: bool


class PreprocessFlags(OwnModelFlags, total=False):
    """The flags of `deploybench preprocess`."""

    model: str
    artifact: PathLike
    format: Literal["npy", "dat"]
    out: PathLike


class InferFlags(OwnModelFlags, total=False):
    """The flags of `deploybench infer`."""

    model: str
    artifact: PathLike
    route: str
    precision: Literal["fp32", "bf16", "fp16"]
    weights: PathLike
    device: Literal["cpu", "cuda", "auto"]
    instances: int
    threads: int
    batch_size: int
    list: PathLike
    artifacts: PathLike
    top_k: int
    strict: bool


class BenchFlags(FileFlags, total=False):
    """The flags of `deploybench bench`. Durations are seconds, save for `batch_delay`, which is microseconds."""

    runtimes: Names
    routes: Names
    runners: Names
    input: PathLike
    rounds: int
    runs: int
    warmup: int
    min_seconds: float
    max_seconds: float
    turn: int
    batch_size: int | Sequence[int]
    target: Literal["latency", "throughput"]
    instances: int | Literal["auto"]
    threads: int
    interop_threads: int
    self_check: bool
    strict: bool
    allocator: Literal["huge", "keep", "system"]
    bind: OnOff
    executor: Literal["profiling", "simple"]
    fusion_strategy: Literal["mixed", "static", "dynamic"]
    flush_denormal: OnOff
    tf32: OnOff
    cudnn_benchmark: OnOff
    cuda_graph: OnOff
    rate: float
    latency_bound: float
    load_seconds: float
    batch_delay: int
    count_instructions: bool
    results: PathLike
    resume: PathLike


FLAGS: dict[str, type] = {
    "generate": GenerateFlags, "preprocess": PreprocessFlags, "infer": InferFlags, "bench": BenchFlags, "report": dict,
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class BenchResult:
    """What `bench` measured. `file`: the results file; `results`: [all that is in it](record.md#the-results-file)."""

    file: Path
    results: dict[str, Any]

    @property
    def records(self) -> list[dict[str, Any]]:
        """A [record](record.md#the-record) for each model, round and runner: raw values, in seconds and bytes; a failure
        has `error`."""
        return list(self.results["runs"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What the table shows, unrounded: [a row](record.md#report-and-bench) for each model, batch size and runner."""
        return summary.rows(self.results)

    @property
    def sound(self) -> bool:
        """Whether every run ended well and agreed with eager, save where a route refuses a model."""
        return summary.all_sound(self.results)

    def table(self) -> str:
        """The tables of `deploybench report`, with the machine and the warnings below."""
        return "\n\n".join([*tables.each(self.results), tables.footer(self.results, self.file)])

    def markdown(self) -> str:
        """The same tables in Markdown."""
        return tables.markdown(self.results)

    def save(self, path: PathLike) -> Path:
        """Writes a copy of the results file to `path`, which `report` reads, and gives it back."""
        return write_text(path, json.dumps(self.results) + "\n")

    def __repr__(self) -> str:
        return self.table()


def generate(models: Names = "resnet50", **flags: Unpack[GenerateFlags]) -> Result:
    """Writes the artifact of each model and route, compared with eager before it gets its name.

    `models`: names, globs, `article`, `panel`, `all` or `package.module:factory`. The flags are those of
    `deploybench generate`. A record for each artifact: `status` made or "up to date", `file`, `bytes`, `seconds`,
    `weights_origin`.

    Raises DeploybenchError where a file could not be made; the others are made all the same.
    """
    args = _parsed("generate", (), {"models": models, **flags})
    start = time.perf_counter()
    outcomes = list(generate_verb.make_asked(args))
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        code = "unsupported" if all(outcome.refused for outcome in failed) else failed[0].code
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise DeploybenchError(code, f"{failed[0].error}{more}")
    text = generate_verb.summary(outcomes, time.perf_counter() - start)
    return Result([generate_verb.record_of(outcome) for outcome in outcomes], text)


def preprocess(photos: PathLike | Sequence[PathLike] = (), **flags: Unpack[PreprocessFlags]) -> Result:
    """Writes photos as one tensor file, float32 [N, 3, H, W], by the transform of the model that will see them.

    The flags are those of `deploybench preprocess`. One record: `model`, `file`, `shape`, `dtype`, `bytes`.
    """
    made = preprocess_verb.make(_parsed("preprocess", _several(photos), flags))
    return Result([made], preprocess_verb.describe(made))


def infer(inputs: PathLike | Sequence[PathLike] = (), **flags: Unpack[InferFlags]) -> Result:
    """The likeliest classes of photos, of folders of photos, or of the images of one tensor file; here, in this process,
    whose number of torch threads it sets.

    The flags are those of `deploybench infer`. A record for each image: `predictions`, a list of `index`, `label` and
    `probability` (0 to 1), likeliest first; or `error`, where a photo cannot be read.
    """
    args = _parsed("infer", _several(inputs), flags)
    about, count, found = infer_verb.classify(args)
    kept = list(found)
    text = "".join(answers.lines(answer, "text", about, count > 1) for answer in kept)
    return Result([answers.record(answer, about) for answer in kept], text.rstrip("\n"))


def bench(models: Names = "resnet50", **flags: Unpack[BenchFlags]) -> BenchResult:
    """Measures runtimes and routes in fresh processes that take turns, and writes a results file.

    `models` as in `generate`. The flags are those of `deploybench bench`; what is missing is generated. A runner that fails
    or is not equal to eager is no exception: it has no number in the table, and `sound` is False.

    KeyboardInterrupt leaves a results file for `resume=FILE`.
    """
    args = _parsed("bench", (), {"models": models, **flags})
    path, results = bench_verb.begin(args)
    bench_verb.measure(path, results)
    return BenchResult(path, results)


def report(file: PathLike | None = None) -> BenchResult:
    """The results in `file`, or the last ones that were measured. Raises input_missing or input_invalid."""
    args = _parsed("report", () if file is None else (file,), {})
    path = args.files[0] if args.files else results_file.latest(args.results)
    return BenchResult(path, results_file.load(path))


def _several(given: PathLike | Sequence[PathLike]) -> tuple[PathLike, ...]:
    return (given,) if isinstance(given, str | os.PathLike) else tuple(given)


def _parsed(verb: str, places: Sequence[PathLike], flags: Mapping[str, object]) -> argparse.Namespace:
    """What the verb's parser makes of these arguments."""
    library_paths.require_clean()
    known = {action.dest for action in cli.parser({verb}).verbs[verb]._actions} - {"help", "json"}
    words = [verb]
    for name, value in flags.items():
        if name not in known:
            raise DeploybenchError("usage", f"{name}: {verb} has no such flag; see help(deploybench.{verb})")
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words.append(f"{flag}={_typed(name, value)}")
    words += [f"./{place}" if str(place).startswith("-") else os.fspath(place) for place in places]
    args = cli.parser({verb}).parse_args(words)
    terminal.set_quiet(args.quiet)
    return args


def _typed(name: str, value: object) -> str:
    """`value` as one would type it: several by comma, a range with a colon."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, Sequence):
        return (":" if name == "dynamic_batch" else ",").join(map(str, value))
    return str(value)
