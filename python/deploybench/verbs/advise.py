"""`deploybench advise MODEL`: which way to deploy it on this machine, by measuring the ways there are within a budget of time.

Imports no torch; what it measures it leaves as results files, which `report` shows.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tabulate

from deploybench import (
    artifact,
    cases,
    child,
    configuration,
    dataset,
    deployment,
    library_paths,
    models,
    options,
    panel,
    paths,
    record,
    routes,
    search,
    selection,
    tables,
    terminal,
)
from deploybench.errors import DeploybenchError
from deploybench.models import Model
from deploybench.paths import shown
from deploybench.rounds import BASELINE
from deploybench.stats import digits

EXAMPLE = "advise resnet50 --budget 2m --require cpp"
UNITS = {"s": 1, "m": 60, "h": 3600}
LEAST_BUDGET = 10.0  # seconds: torch alone takes 3 to start
LATENCY, THROUGHPUT, START, SIZE = "best latency", "best throughput", "fastest start", "smallest"


def budget(text: str) -> float:
    """argparse type: 90s, 2m, 1h or plain seconds."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text)
    seconds = float(found[1]) * UNITS[found[2] or "s"] if found else 0.0
    if not LEAST_BUDGET <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a time from {LEAST_BUDGET:g}s to 24h, such as 2m")
    return seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a name of `deploybench list`, or package.module:factory")
    add("--budget", type=budget, default=budget("2m"), metavar="TIME", help="such as 90s, 2m, 1h (default 2m)")
    group = parser.add_argument_group("what is made")
    options.add_weights(group)
    options.add_device(group)
    options.add_artifacts(group)
    options.add_own_model(parser)
    group = parser.add_argument_group("what the answers must keep to")
    group.add_argument("--require", choices=["cpp"], help="cpp: leave out what runs in Python only")
    group.add_argument("--max-p99", type=options.some_seconds, metavar="S", help="99 of 100 calls take at most so long")
    group.add_argument("--max-size", type=options.positive, metavar="MB", help="of the artifact, in 10^6 bytes")
    group.add_argument(
        "--max-accuracy-drop", type=options.percent, metavar="POINTS",
        help="of top-1 on the photos of --data, against eager at fp32, such as 0.5",
    )  # fmt: skip
    group = parser.add_argument_group("what reduced precision costs")
    group.add_argument(
        "--data", type=Path, metavar="FOLDER", help="labelled photos, as `evaluate` takes them; not within the budget"
    )
    group.add_argument("--limit", type=options.positive, metavar="N", help="at most so many of them")
    group = parser.add_argument_group("results")
    group.add_argument("--results", type=Path, default=paths.RESULTS, metavar="FOLDER", help="default results/")


@dataclass(frozen=True)
class Answer:
    """The best at one thing."""

    what: str
    runner: str
    settings: str
    figure: str
    value: float  # seconds, images a second, or bytes
    accuracy: str
    artifact: str


def run(args: argparse.Namespace) -> int:
    """Prints the answers, what was left out, and the commands."""
    model = models.find(args.model)
    if args.max_accuracy_drop and not args.data:
        raise DeploybenchError("usage", "--max-accuracy-drop: is counted on labelled photos; add --data FOLDER")
    photos = dataset.read(args.data) if args.data else None
    device = options.resolve_device(args.device)
    precisions = tuple(one for one in routes.PRECISIONS if device == "cuda" or one != "fp16")
    names = search.candidates(device, precisions, args.require == "cpp")
    making = _making(args, device)
    with tempfile.TemporaryDirectory(prefix="deploybench-advise-") as scratch:
        looking = search.Search(model, [*making, "--results", str(args.results)], args.budget, Path(scratch))
        looking.make(names)
        if photos:
            _check_classes(looking, photos)
        found = [name for name in names if name not in looking.tried]
        first, single = looking.measure(found, search.LATENCY)
        files = [first]
        kept = {name: single[name] for name in fitting(single, args, looking.tried)}
        many: selection.Runs = {}
        if device == "cpu" and options.usable_cpus() > 1 and looking.spent() < 1:
            near = selection.near(kept, search.SPREAD)
            second, many = looking.measure(near, 1.0, "--target", "throughput")
            many = soon_enough(many, args.max_p99)
            files.append(second)
    changes = _changes(args, model, [*making, "--results", str(args.results)], list(kept)) if args.data else {}
    kept, many = (accurate(runs, changes, args.max_accuracy_drop, looking.tried) for runs in (kept, many))
    if not kept:
        what = "; ".join(f"{name}: {why}" for name, why in looking.tried.items() if why.startswith("top-1"))
        raise DeploybenchError(
            "unsupported", f"{args.model}: nothing keeps to --max-accuracy-drop ({what}); allow more"
        )
    answers = [
        replace(one, accuracy=_accuracy(kept[one.runner], changes))
        for one in _answers(model, args.artifacts, device, kept, many)
    ]
    how = {one.runner: deployment.commands(one.runner, one.artifact, making) for one in answers}
    if args.json:
        said = [{**asdict(one), "commands": how[one.runner]} for one in answers]
        about = {"model": model.name, "environment": record.environment(), "answers": said}
        terminal.emit({**about, "left_out": looking.tried, "results": [shown(file) for file in files]})
    else:
        terminal.show(_text(model, device, answers, how, looking.tried), heading=True)
        terminal.show(f"\nmeasured: {', '.join(shown(file) for file in files)}")
    return 0


def _making(args: argparse.Namespace, device: str) -> list[str]:
    """The flags that say what to make and where, those left out that mean what goes without saying."""
    flags = {"--models": args.model, "--device": device, "--weights": args.weights, "--artifacts": args.artifacts}
    usual = {"--device": "cpu", "--weights": "auto", "--artifacts": paths.ARTIFACTS}
    said = [(name, str(value)) for name, value in flags.items() if value != usual.get(name)]
    return configuration.words([*said, *configuration.transform(args)])


def soon_enough(measured: selection.Runs, most: float | None) -> selection.Runs:
    """Those of whose calls 99 of 100 take at most so many seconds."""
    return {name: runs for name, runs in measured.items() if selection.p99_seconds(runs) <= (most or math.inf)}


def fitting(measured: selection.Runs, args: argparse.Namespace, left_out: dict[str, str]) -> list[str]:
    """Of the sound ones, those within the limits. Raises `unsupported` where there is none."""
    if not measured:
        why = next(iter(left_out.values()), "no route runs here")
        raise DeploybenchError("runtime", f"{args.model}: nothing could be measured: {why}")
    most = args.max_size * 1e6 if args.max_size else math.inf
    if fitting := [
        name for name, runs in soon_enough(measured, args.max_p99).items() if runs[0]["artifact_bytes"] <= most
    ]:
        return fitting
    p99 = min(selection.p99_seconds(runs) for runs in measured.values())
    size = min(runs[0]["artifact_bytes"] for runs in measured.values())
    what = f"the least p99 is {p99:.4g} s, the smallest artifact has {size / 1e6:.1f} MB"
    raise DeploybenchError(
        "unsupported", f"{args.model}: nothing keeps to --max-p99 and --max-size here: {what}; allow more"
    )


def _check_classes(looking: search.Search, photos: dataset.Dataset) -> None:
    """Before minutes go into measuring. Raises where a folder's name is no class of the model."""
    made = looking.case.artifacts.get(cases.key_of(routes.runner(BASELINE))) if looking.case else None
    if made:
        dataset.classes(photos, artifact.read_metadata(made).labels, None)


def _changes(args: argparse.Namespace, model: Model, making: list[str], names: list[str]) -> dict[str, float]:
    """By runner of reduced precision: its top-1 less that of eager at fp32, as a share of 1. At fp32 parity leaves no room."""
    reduced = [name for name in names if panel.parts(name)[2] != "fp32"]
    if not reduced:
        return {}
    limit = ["--limit", str(args.limit)] if args.limit else []
    command = [
        sys.executable,
        "-m",
        "deploybench",
        "evaluate",
        "--data",
        str(args.data),
        "--runners",
        ",".join(reduced),
    ]
    terminal.notice(f"evaluating {', '.join(reduced)}")
    command += [*making, *limit, "--json"]
    environment = library_paths.python_environment()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            out = process.communicate()[0]
        finally:
            child.stop(process)
    said = json.loads(out.splitlines()[-1]) if out.strip() else {}
    if "models" not in said:
        why = said.get("error", {}).get("message", f"ended with {process.returncode}")
        raise DeploybenchError("runtime", f"evaluate: {why}")
    found = said["models"][model.name]["runners"]  # one that failed among them has no difference
    return {name: found[name]["difference"]["value"] for name in reduced if found[name].get("difference")}


def accurate(
    measured: selection.Runs, changes: dict[str, float], most: float | None, left_out: dict[str, str]
) -> selection.Runs:
    """Those that lose at most so much of top-1; of the others, why not, into `left_out`. What was not counted may have lost
    anything, save at fp32, where parity leaves no room."""
    if most is None:
        return measured
    lost = {name: -changes[name] if name in changes else math.inf for name in measured}
    lost |= {name: 0.0 for name in measured if panel.parts(name)[2] == "fp32"}
    for name, drop in lost.items():
        if drop > most:
            counted = f"falls by {100 * drop:.2f} points" if drop < math.inf else "could not be counted"
            left_out[name] = f"top-1 {counted}"
    return {name: runs for name, runs in measured.items() if lost[name] <= most}


def _answers(model: Model, folder: Path, device: str, single: selection.Runs, many: selection.Runs) -> list[Answer]:
    """The best of each kind."""

    def answer(what: str, runs: selection.Runs, value: Callable[[str], float], text: Callable[[str], str]) -> Answer:
        name = selection.best(runs, (lambda one: -value(one)) if what == THROUGHPUT else value)
        assert name is not None
        one = routes.runner(name)
        file = routes.file_of(folder, model.name, one.route.kind, one.precision, device)
        return Answer(what, name, _settings(runs[name][0]), text(name), value(name), "", shown(file))

    def p99(runs: list[record.Record]) -> str:
        return f"p99 {digits(1e3 * selection.p99_seconds(runs), 3)} ms"

    def latency(name: str) -> str:
        return f"{digits(1e3 * selection.seconds(single[name]), 3)} ms, {p99(single[name])}"

    beside = {name: size for name in single if (size := deployment.library_bytes(name)) is not None}
    if unknown := ", ".join(name for name in single if name not in beside):
        why = "cannot be among the smallest, as what is shipped beside it cannot be counted"
        terminal.notice(f"{unknown}: {why}; python -m pip install pyelftools")

    def shipped(name: str) -> float:
        return float(single[name][0]["artifact_bytes"] + beside[name])

    rates = {name: selection.images_per_second(runs) for name, runs in single.items()}
    faster = {name: runs for name, runs in many.items() if selection.images_per_second(runs) > rates[name]}
    busy = single | faster  # several instances where they give more than one does
    return [
        answer(LATENCY, single, lambda name: selection.seconds(single[name]), latency),
        answer(
            THROUGHPUT, busy, lambda name: selection.images_per_second(busy[name]),
            lambda name: f"{digits(selection.images_per_second(busy[name]), 3)} images/s, {p99(busy[name])}",
        ),
        answer(
            START, single, lambda name: selection.cold_start_seconds(single[name]),
            lambda name: f"{digits(selection.cold_start_seconds(single[name]), 2)} s to an answer",
        ),
        *([answer(
            SIZE, {name: single[name] for name in beside}, shipped,
            lambda name: f"{single[name][0]['artifact_bytes'] / 1e6:.1f} + {beside[name] / 1e6:.0f} MB",
        )] if beside else []),
    ]  # fmt: skip


def _settings(run: record.Record) -> str:
    threads = f"{run['threads']} thread{'s' * (run['threads'] != 1)}"
    return threads if run["instances"] == 1 else f"{run['instances']} x {threads}"


def _accuracy(runs: list[record.Record], changes: dict[str, float]) -> str:
    """What it costs: in points of top-1 where photos with labels were given, else how far its logits lie from eager's."""
    if panel.parts(runs[0]["runner"])[2] == "fp32":
        return "as eager's"
    if (change := changes.get(runs[0]["runner"])) is not None:
        return f"top-1 {100 * change:+.2f}"
    return f"cosine {min(run['parity']['cosine'] for run in runs):.5f}"


def _text(model: Model, device: str, answers: list[Answer], how: dict[str, list[str]], left_out: dict[str, str]) -> str:
    """The answers, the commands of each runner among them, and why others are not."""
    where = record.environment()
    on = where["gpu"] if device == "cuda" else f"{where['cpu']}, {options.usable_cpus()} CPUs"
    rows = [[one.what, one.runner, one.figure, one.settings, one.accuracy] for one in answers]
    lines = [f"{model.name} on {on}", "", tabulate.tabulate(rows, tablefmt="plain", disable_numparse=True)]
    for name, commands in how.items():
        lines += ["", f"to deploy {name}:", *(f"  {line}" for line in commands)]
    if left_out:
        lines += ["", "left out:"]
        for name, why in left_out.items():
            lines += textwrap.wrap(f"{name}: {why}", tables.WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)
