"""`deploybench migrate`: what changes for a model that goes from TorchScript to AOTInductor, in C++, by trying it.

TorchScript is deprecated since torch 2.11. docs/migration.md is this verb's page over all of torchvision's classifiers.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import math
import re
import shlex
import statistics
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import tabulate

from deploybench import (
    artifact,
    configuration,
    models,
    options,
    panel,
    paths,
    record,
    routes,
    search,
    selection,
    stats,
    terminal,
)
from deploybench.errors import DeploybenchError
from deploybench.models import Model
from deploybench.paths import shown
from deploybench.stats import digits

EXAMPLE = "migrate resnet50"
FROM, TO = "cpp/script", "cpp/aoti"
ROUNDS = 3
TABLE = paths.ROOT / "docs" / "migration.csv"
PAGE = TABLE.with_suffix(".md")
FIGURES = {  # per side; unit and factor in a table
    "seconds": ("a call", "ms", 1e3),
    "cold_start_seconds": ("start to an answer", "s", 1.0),
    "load_seconds": ("load", "ms", 1e3),
    "artifact_bytes": ("file", "MB", 1e-6),
    "peak_rss_bytes": ("memory at most", "MB", 1e-6),
}
WIDEST = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}  # a CPU's flag and its name
Row = dict[str, Any]
Flags = list[tuple[str, str]]  # of generate, with their values
PROSE = """\
# From TorchScript to AOTInductor

TorchScript is deprecated since torch 2.11. `deploybench migrate MODEL` says what changes for a model whose program in C++
goes over to an AOTInductor package, and `deploybench migrate FILE.ts` takes the weights of a TorchScript file. This page
is written by `deploybench migrate all --update`, which may be given some models at a time: fp32, batch 1, random weights, both
ways side by side; where two numbers stand, the first is TorchScript's (`script`) and the second AOTInductor's (`aoti`).

{said}

What else changes: a package holds machine code. It runs with the LibTorch version that it was made with, on CPUs that have
the instructions of the one it was made on (`--portable`: AVX2 is enough), takes one batch size (`--dynamic-batch MIN:MAX`:
a range), and is fast with as many threads as it was made for (`--threads N`). It is unpacked into the temporary folder when
it is loaded, and to make it takes a C++ compiler.

Rows may be of unlike machines, so compare within one; it says the widest that its CPU has. At fp32 neither way uses AMX.

{table}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add = parser.add_argument
    add(
        "what", nargs="+", metavar="MODEL|FILE.ts",
        help="models as of `generate`, or TorchScript files, whose weights are taken",
    )  # fmt: skip
    add("--model", metavar="MODEL", help="of FILE.ts, where the file does not say it: package.module:factory")
    group = parser.add_argument_group("what is made")
    options.add_weights(group)
    options.add_artifacts(group)
    add("--threads", type=options.threads, default=options.usable_cpus(), metavar="N", help="default: usable CPUs")
    group = parser.add_argument_group("results")
    group.add_argument("--results", type=Path, default=paths.RESULTS, metavar="FOLDER", help="default results/")
    group.add_argument("--update", action="store_true", help="write what was found into docs/migration.csv and .md")


def run(args: argparse.Namespace) -> int:
    """Prints a table a model; 1 where one cannot go over."""
    targets = [target for word in args.what for target in _targets(word, args)]
    moved = True
    for model, flags in targets:
        row = _try(model, flags, args)
        moved &= row["aoti"] == "yes"
        if args.json:
            terminal.emit(row)
        else:
            terminal.show(_text(row), heading=True)
        if args.update:  # after each, so that an interrupted run keeps what it has
            write(read() | {model.name: row})
    return 0 if moved else 1


def _targets(word: str, args: argparse.Namespace) -> list[tuple[Model, Flags]]:
    """What `word` means: models, and the flags to make them with; of a file its weights, preprocessing and labels."""
    file = Path(word)
    if file.suffix != ".ts":
        return [(model, [("--weights", args.weights)]) for model in models.select([word])]
    if not file.is_file():
        raise DeploybenchError("input_missing", f"{word}: no such file; give a TorchScript file or a model")
    if args.model:
        return [(models.find(args.model), [("--weights", word)])]
    try:
        about = artifact.read_metadata(file)
    except DeploybenchError as error:
        what = "does not say of which model it is, and a TorchScript file alone cannot be exported"
        raise DeploybenchError("usage", f"{word}: {what}; add --model package.module:factory") from error
    if about.route not in ("script", "trace"):
        what = f"is {about.route}: its weights are part of its code; give the model"
        raise DeploybenchError("usage", f"{word}: {what}: deploybench migrate {about.model}")
    found = models.find(about.model if about.factory.startswith("torchvision.models:") else about.factory)
    return [(found, [("--weights", word), *_as_made(about, args.artifacts)])]


def _as_made(about: artifact.Metadata, folder: Path) -> Flags:
    """The flags of the preprocessing of a file, and of its labels, which are written beside what will be made."""
    wanted = {name: about.preprocessing[name] for name in ("resize", "crop", "interpolation")}
    wanted |= {name: ",".join(map(repr, about.preprocessing[name])) for name in ("mean", "std")}
    flags = [(f"--{name}", str(value)) for name, value in wanted.items() if value is not None]
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{label}\n" for label in about.labels).encode()
    # named by what is in it: a file of one's own, or of another training, stays
    labels = folder / f"{about.model}.labels-{hashlib.sha256(text).hexdigest()[:8]}.txt"
    with artifact.written_atomically(labels) as partial:
        partial.write_bytes(text)
    return [*flags, ("--labels", str(labels))]


def _try(model: Model, flags: Flags, args: argparse.Namespace) -> Row:
    """Both ways made and measured side by side."""
    making = [("--models", model.spec), *flags, ("--artifacts", str(args.artifacts))]
    measuring = ["--threads", str(args.threads), "--results", str(args.results)]
    with tempfile.TemporaryDirectory(prefix="deploybench-migrate-") as scratch:
        looking = search.Search(model, [*configuration.words(making), *measuring], math.inf, Path(scratch))
        looking.make([FROM, TO])
        path, measured = looking.measure([FROM, TO], math.inf, least=ROUNDS)
    row: Row = {"model": model.name}
    for name, side in ((FROM, "script"), (TO, "aoti")):
        row[side] = looking.tried.get(name, "yes")
        runs = measured.get(name, [])
        row |= {f"{side}_{figure}": _figure(figure, runs) for figure in FIGURES}
    ratio = stats.between(measured[FROM], measured[TO]) if len(measured) == 2 else None
    row |= {"times_faster": ratio and ratio.value, "low": ratio and ratio.low, "high": ratio and ratio.high}
    usual = ("--weights", "auto"), ("--artifacts", str(paths.ARTIFACTS))
    said = [flag for flag in making if flag not in usual]
    if args.threads != options.usable_cpus():
        said.append(("--threads", str(args.threads)))
    command = shlex.join(
        ["deploybench", "generate", *configuration.words([*said, ("--routes", routes.runner(TO).route.name)])]
    )
    about = {"results": shown(path), "artifact": _file(looking, TO), "needs": _needs(looking), "command": command}
    return row | about


def _figure(name: str, runs: list[record.Record]) -> float | None:
    if not runs:
        return None
    return selection.seconds(runs) if name == "seconds" else float(statistics.median(run[name] for run in runs))


def _needs(looking: search.Search) -> list[str]:
    """The CPU flags that the package was compiled for."""
    about = _metadata(looking, TO)
    return list(about.built_for.get("cpu_flags", [])) if about else []


def _file(looking: search.Search, runner: str) -> str | None:
    one = routes.runner(runner)
    path = looking.case.artifacts.get((one.route.kind.name, one.precision)) if looking.case else None
    return shown(path) if path else None


def _metadata(looking: search.Search, runner: str) -> artifact.Metadata | None:
    file = _file(looking, runner)
    return artifact.read_metadata(Path(file)) if file else None


def _text(row: Row) -> str:
    """The table of one model."""
    said: list[tuple[str, ...]] = [("works, equal to eager", row["script"], row["aoti"])]
    said += [
        (words, *(_number(row[f"{side}_{name}"], name) for side in ("script", "aoti")))
        for name, (words, _, _) in FIGURES.items()
    ]
    said += [
        ("runs on", "any CPU", _cpus(row["needs"])),
        ("with LibTorch", "of other versions, too", "of this version"),
        ("batch sizes", "all", "1, or --dynamic-batch MIN:MAX"),
    ]
    short = [[textwrap.shorten(cell, 34, placeholder="...") for cell in line] for line in said]
    table = tabulate.tabulate(short, ["", "TorchScript", "AOTInductor"], "simple", disable_numparse=True)
    lines = [f"{row['model']}, in C++, by {FROM} and {TO}", table]
    if row["times_faster"]:
        interval = f"95 % interval {row['low']:.2f}-{row['high']:.2f}"
        lines.append(f"AOTInductor takes the call {row['times_faster']:.2f} times as fast, {interval}")
    lines += [f"{side}: {row[side]}" for side in ("script", "aoti") if row[side] != "yes"]
    return "\n".join([*lines, "", f"to move: {row['command']}", f"measured: {row['results']}"])


def _number(value: float | None, name: str) -> str:
    _, unit, factor = FIGURES[name]
    return "" if value is None else f"{digits(value * factor, 3)} {unit}"


def _widest(needs: list[str]) -> str:
    """The widest among the CPU flags that a package was compiled for."""
    return next((name for flag, name in WIDEST.items() if flag in needs), "")


def _cpus(needs: list[str]) -> str:
    """Where a package runs: the widest is what keeps it from running elsewhere."""
    if name := _widest(needs):
        return f"CPUs with {name}" + ("; AVX2 if --portable" if name != "AVX2" else "")
    return "" if not needs else f"CPUs with {', '.join(needs[:3])}"


def read() -> dict[str, Row]:
    """docs/migration.csv, by model; empty when there is none."""
    if not TABLE.exists():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["model"]: dict(row) for row in csv.DictReader(file)}


def write(rows: dict[str, Row]) -> None:
    """docs/migration.csv and the page of it."""
    text = io.StringIO()
    columns = [name for name in next(iter(rows.values())) if name not in ("results", "artifact", "command")]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for name in sorted(rows):
        needs = rows[name]["needs"]
        writer.writerow({**rows[name], "needs": needs if isinstance(needs, str) else " ".join(needs)})
    with artifact.written_atomically(TABLE) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")
    with artifact.written_atomically(PAGE) as partial:
        partial.write_text(page(read()), encoding="utf-8")


def page(rows: dict[str, Row]) -> str:
    """docs/migration.md, of docs/migration.csv."""
    lines = []
    for name in sorted(rows):
        row = {
            key: float(value) if re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", value) else value
            for key, value in rows[name].items()
        }
        sides = [
            " / ".join(_number(row[f"{side}_{figure}"] or None, figure) or "-" for side in ("script", "aoti"))
            for figure in FIGURES
        ]
        ratio = f"{row['times_faster']:.2f} ({row['low']:.2f}-{row['high']:.2f})" if row["times_faster"] else "-"
        lines.append([name, row["script"], row["aoti"], ratio, _widest(rows[name]["needs"].split()) or "-", *sides])
    headers = [
        "model",
        "TorchScript",
        "AOTInductor",
        "times faster (95 % interval)",
        "CPU with",
        *(words for words, _, _ in FIGURES.values()),
    ]
    table = tabulate.tabulate(lines, headers, "github", disable_numparse=True)
    moved = sum(row["aoti"] == "yes" for row in rows.values())
    said = f"{moved} of {len(rows)} models go over."
    for name in WIDEST.values():
        measured = [row for row in rows.values() if row["times_faster"] and _widest(row["needs"].split()) == name]
        if measured:
            mean = panel.geometric_mean([float(row["times_faster"]) for row in measured])
            said += f" With {name} a call is {mean:.2f} times as fast (geometric mean of {len(measured)})."
    return PROSE.format(said=said, table=table)
