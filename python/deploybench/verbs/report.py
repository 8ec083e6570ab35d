"""`deploybench report`: tables from a results file. Computes on reading, prints and keeps nothing. Imports no torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deploybench import (
    accuracy,
    accuracy_table,
    artifact,
    evaluation,
    page,
    paths,
    results_file,
    summary,
    tables,
    terminal,
)
from deploybench.errors import DeploybenchError
from deploybench.paths import shown

EXAMPLE = "report docs/results/resnet50-cpu.json --out report.html"
FORMATS = ("text", "markdown", "csv", "html")
ENDINGS = {"": "text", ".txt": "text", ".md": "markdown", ".csv": "csv", ".html": "html", ".htm": "html"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="FILE", help="results files, of one machine (default: the last)")
    add("--results", type=Path, default=paths.RESULTS, metavar="FOLDER", help="where the last is looked for")
    group = parser.add_argument_group("what is shown")
    add = group.add_argument
    add(
        "--format", choices=FORMATS, metavar="FORMAT",
        help=f"{', '.join(FORMATS)} (default: what --out's name says, else text); html is a page of figures and tables",
    )  # fmt: skip
    add(
        "--accuracy", type=Path, metavar="FILE",
        help="of `evaluate`: its top-1 joins the tables, so that cost stands by gain",
    )  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="write it there instead of printing it")


def run(args: argparse.Namespace) -> int:
    """Prints or writes the report; 1 where a runner failed or was not equal to eager."""
    if args.out and args.out.suffix.lower() == ".json":
        raise DeploybenchError(
            "usage", f"{args.out}: records end in .json, and none is written over; --out FILE.html, .md or .csv"
        )
    chosen = args.format or (_by_ending(args.out) if args.out else "text")
    if chosen == "html" and not args.out:
        raise DeploybenchError("usage", "--format html: a page goes into a file; --out FILE.html")
    if args.json and args.format and not args.out:
        raise DeploybenchError(
            "usage", f"--json: prints no {args.format}; give one of --json and --format, or --out FILE"
        )
    named = list(dict.fromkeys(args.files)) or [results_file.latest(args.results)]
    if any(path.name.endswith(results_file.EVALUATION) for path in named):
        return _evaluations(named, chosen, args)
    files = [(path, results_file.load(path)) for path in named]
    if len(files) > 1 and chosen in ("html", "csv"):
        page.refuse_unlike(files)
    if args.accuracy:
        for _, results in files:
            results["accuracy"] = accuracy.joined(args.accuracy, results)
    if chosen == "csv":  # which has no place for them
        for path, results in files:
            for text in (*summary.warnings(results), results_file.incomplete(path, results)):
                if text:
                    terminal.warn(f"{shown(path)}: {text.removeprefix(f'{shown(path)}: ')}")
    if args.out:
        _write(args.out, rendered(files, chosen))
    if args.json:
        for path, results in files:
            terminal.emit(tables.as_json(results, path))
    elif not args.out:
        for part in _printed(files) if chosen == "text" else [rendered(files, chosen)]:
            terminal.show(part, heading=chosen == "text")
    return 0 if all(summary.all_sound(results) for _, results in files) else 1


def _by_ending(out: Path) -> str:
    """The format that the name of --out says."""
    if (ending := out.suffix.lower()) not in ENDINGS:
        known = ", ".join(name for name in ENDINGS if name)
        raise DeploybenchError("usage", f"{out}: no format ends in {ending}, but {known}; add --format")
    return ENDINGS[ending]


def _evaluations(named: list[Path], chosen: str, args: argparse.Namespace) -> int:
    """The tables of what `evaluate` found."""
    if chosen not in ("text", "markdown"):
        raise DeploybenchError("usage", f"--format {chosen}: of an evaluation there are text, markdown and --json")
    if other := next((path for path in named if not path.name.endswith(results_file.EVALUATION)), None):
        raise DeploybenchError("usage", f"{other}: times, beside an evaluation; --accuracy FILE joins the two")
    if args.accuracy:
        raise DeploybenchError(
            "usage", "--accuracy: joins the results of bench, and these are of evaluate; leave it out"
        )
    found = [(path, evaluation.load(path)) for path in named]
    said = "\n".join(accuracy_table.text(results, path, chosen == "markdown") for path, results in found)
    if args.out:
        _write(args.out, said)
    if args.json:
        for path, results in found:
            terminal.emit(accuracy_table.summary(results, path))
    elif not args.out:
        terminal.show(said, heading=chosen == "text")
    return 0 if all(accuracy_table.all_sound(results) for _, results in found) else 1


def _write(out: Path, said: str) -> None:
    with artifact.written_atomically(out) as partial:
        partial.write_text(said.rstrip("\n") + "\n", encoding="utf-8")
    terminal.notice(f"{shown(out)}: {out.stat().st_size / 1e3:,.0f} kB")


def rendered(files: Sequence[tuple[Path, dict[str, Any]]], kind: str) -> str:
    """The results files as one of FORMATS."""
    if kind == "html":
        return page.render(files)
    if kind == "csv":
        return tables.csv_lines(files)
    if kind == "markdown":
        return "\n".join(tables.markdown(results, path) for path, results in files)
    return "\n".join(_printed(files))


def _printed(files: Sequence[tuple[Path, dict[str, Any]]]) -> Iterator[str]:
    """The parts of the text, each with its heading first."""
    for path, results in files:
        yield from (table + "\n" for table in tables.each(results))
        yield tables.footer(results, path)
