"""`deploybench doctor`: what is wrong with this machine, the installs, a program, an artifact or a measurement; why it matters,
and what mends it. It changes nothing; facts.py looks, checks/ judges. Imports no torch."""

from __future__ import annotations

import argparse
import socket
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploybench import checks, facts, options, paths, record, results_file, terminal
from deploybench.checks import OK, PROBLEM, UNKNOWN, WARNING, Finding
from deploybench.errors import DeploybenchError
from deploybench.paths import shown

EXAMPLE = "doctor docs/results/resnet50-languages-cpu.json"
FOUND_EXIT = 4
WIDTH = 80
MOST_CHARACTERS = 1000  # of one finding
MARKS = {OK: "✓", WARNING: "!", PROBLEM: "✗", UNKNOWN: "?"}
Section = tuple[str, list[tuple[str, Finding]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument_group(
        "exit code",
        f"0 when nothing is wrong (what cannot be told, ?, is not counted), {FOUND_EXIT} where there is a ! or ✗; "
        "1 for a file that cannot be read, 2 for a wrong flag",
    )
    add = parser.add_argument
    add(
        "records", nargs="*", type=Path, metavar="RECORD",
        help="a results file: why is C++ slower than Python in it? Two, or two records of workers: what differs?",
    )  # fmt: skip
    group = parser.add_argument_group("what else it looks at")
    add = group.add_argument
    add("--artifact", type=Path, metavar="FILE", help="look at this artifact, too: a .ts, .pth, .pt2 or .onnx file")
    add(
        "--program", type=Path, metavar="FILE",
        help="the C++ program to look at, such as one of your own (default cpp/build/bin/bench)",
    )  # fmt: skip
    add("--pid", type=options.positive, metavar="PID", help="look at the libraries of this running process, too")
    add("--libtorch", type=Path, metavar="FOLDER", help="the LibTorch to look at (default vendor/libtorch)")
    parser.add_argument(
        "--skip", type=_names, default=frozenset(), metavar="LIST", help=f"leave these out: {', '.join(checks.CHECKS)}"
    )


def _names(text: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in text.split(","))
    for name in sorted(names - checks.CHECKS.keys()):
        raise argparse.ArgumentTypeError(f"{name[:40]!r} is no check; there are {', '.join(checks.CHECKS)}")
    return names


def run(args: argparse.Namespace) -> int:
    """Prints what was found; FOUND_EXIT where anything is wrong."""
    if len(args.records) > 2:
        raise DeploybenchError("usage", f"{len(args.records)} records: one or two can be looked at; see doctor --help")
    sections: list[Section] = []
    explained: set[str] = set()
    for section in _sections(args):
        sections.append(section)
        if not args.json:
            if len(sections) > 1:
                terminal.show("")
            terminal.show(shown_section(section, explained), heading=True)
    levels = [finding.level for _, findings in sections for _, finding in findings]
    if args.json:
        terminal.emit(to_json(sections))
    else:
        terminal.show("\n" + summary(levels))
    return FOUND_EXIT if {WARNING, PROBLEM} & set(levels) else 0


def _sections(args: argparse.Namespace) -> Iterator[Section]:
    """All that was asked for, in turn; what the user named is read first, so that a wrong name is said at once."""
    read = [results_file.load_lines(path) for path in args.records]
    if args.program and not args.program.is_file():
        raise DeploybenchError("input_missing", f"{shown(args.program)}: no such program; name one with --program FILE")
    if args.libtorch and not args.libtorch.is_dir():
        raise DeploybenchError(
            "input_missing", f"{shown(args.libtorch)}: no such folder; name one with --libtorch FOLDER"
        )
    program, loaded = facts.of_program(args.program or facts.default_program())
    process = facts.of_process(args.pid) if args.pid else None
    stamp = facts.of_artifact(args.artifact) if args.artifact else None
    yield "this machine", checks.examine(facts.of_machine(), args.skip)
    install, python = facts.of_install(args.libtorch or paths.LIBTORCH)
    yield "PyTorch and LibTorch", _examined(args, install, python)
    yield "the C++ program", _examined(args, program, *([] if program.why else [loaded]))
    if process:
        yield process.name, checks.examine(process, args.skip)
    if stamp:
        yield stamp.path, checks.examine(stamp, args.skip)
    for path, results in zip(args.records, read, strict=True):
        host = results["environment"].get("host")
        where = f", measured on {host}, not here" if host not in (None, socket.gethostname()) else ""
        yield f"{shown(path)}{where}", checks.examine(facts.Results(results), args.skip)
    told: set[str] = set()
    for pair in pairs(args.records, read):
        found = [
            (name, one) for name, one in checks.examine(pair, args.skip) if one.level == OK or one.found not in told
        ]
        told |= {one.found for _, one in found}
        yield f"{pair.first.name} and {pair.second.name}", found if args.json else _alike_in_one(found)


def _alike_in_one(findings: list[tuple[str, Finding]]) -> list[tuple[str, Finding]]:
    """The findings on two sides, those of what is alike as one: a file may have fifty pairs."""
    alike = [name for name, one in findings if one.level == OK and name != "slower"]
    rest = [(name, one) for name, one in findings if name not in alike]
    return [*rest, ("alike", Finding(OK, ", ".join(alike)))] if alike else rest


def _examined(args: argparse.Namespace, *what: object) -> list[tuple[str, Finding]]:
    return [found for one in what for found in checks.examine(one, args.skip)]


def pairs(files: list[Path], read: list[dict[str, Any]]) -> list[facts.Pair]:
    """What to compare: in one file each C++ runner with its Python twin, in two each runner with itself, and where they have none
    in common, one with the other. Raises usage where there is nothing to compare."""
    sides = [
        _sides(results, f" of {shown(path)}" if len(files) > 1 else "")
        for path, results in zip(files, read, strict=True)
    ]
    if not sides:
        return []
    if len(sides) == 1:
        found = []
        for (model, runner), second in sides[0].items():
            twin = sides[0].get((model, runner.replace("cpp/", "python/", 1)))
            if runner.startswith("cpp/") and "#" not in runner and twin:
                found.append(facts.Pair(twin, second))
        return found
    both = [key for key in sides[0] if key in sides[1]]
    if both:
        return [facts.Pair(sides[0][key], sides[1][key]) for key in both]
    if len(sides[0]) == len(sides[1]) == 1:
        (first,), (second,) = sides[0].values(), sides[1].values()
        return [facts.Pair(first, second)]
    raise DeploybenchError(
        "usage", f"{shown(files[0])} and {shown(files[1])}: no runner is in both; give two that share one"
    )


def _sides(results: dict[str, Any], where: str) -> dict[tuple[str, str], facts.Side]:
    """The runs by model and runner; of several batch sizes the first."""
    runs: dict[tuple[str, str], list[record.Record]] = {}
    for run in results["runs"]:
        if "error" not in run:
            its = runs.setdefault((run["model"], run["runner"].removesuffix("/fp32")), [])
            if not its or its[0]["batch_size"] == run["batch_size"]:
                its.append(run)
    one_model = len({model for model, _ in runs}) == 1
    return {
        (model, runner): facts.Side(
            f"{'' if one_model else f'{model} '}{runner}{where}", tuple(its), results["environment"]
        )
        for (model, runner), its in runs.items()
    }


def shown_section(section: Section, explained: set[str]) -> str:
    """For 80 columns: a line for what is well, and for what is not also why, the remedy and one thread, unless these were
    `explained` before; then the remedy alone, where it is another one."""
    title, findings = section
    lines = _wrapped(title, "", "")
    indent = " " * 20
    for name, finding in findings:
        head = f"  {MARKS[finding.level]} {name:<16}"
        lines += _wrapped(finding.found, head, indent) or [head]
        if finding.level in (WARNING, PROBLEM):
            check = checks.CHECKS[name]
            said = [("why", check.why), ("mend", checks.remedy(name, finding)), ("see", check.threads[0])]
            if name in explained:
                said = [("mend", finding.mend)] if finding.mend else []
            explained.add(name)
            for word, text in said:
                lines += _wrapped(text, f"{indent}{word + ':':<6}", indent + " " * 6)
    return "\n".join(lines)


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    # A file may hold anything, also what a terminal would obey.
    plain = "".join(character if character.isprintable() else "?" for character in text[:MOST_CHARACTERS])
    more = "..." if len(text) > MOST_CHARACTERS else ""
    return textwrap.wrap(
        plain + more,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )


def summary(levels: list[str]) -> str:
    """The last line, or two."""
    counts = {level: levels.count(level) for level in (PROBLEM, WARNING)}
    found = [f"{count} {level}{'s' * (count > 1)}" for level, count in counts.items() if count]
    untold = f"{levels.count(UNKNOWN)} cannot be told"
    if not found:
        return f"all is well{f', {untold}' if UNKNOWN in levels else ''}"
    told = [*found, *([untold] if UNKNOWN in levels else [])]
    return textwrap.fill(f"{', '.join(told)}; each has its section in docs/troubleshooting.md", WIDTH)


def to_json(sections: list[Section]) -> dict[str, Any]:
    """One object: `ok`, and each finding with what its check knows."""
    found = [
        {
            "check": name,
            "about": title,
            "level": finding.level,
            "found": finding.found,
            "what": checks.CHECKS[name].what,
            "why": checks.CHECKS[name].why,
            "mend": checks.remedy(name, finding),
            "threads": list(checks.CHECKS[name].threads),
        }
        for title, findings in sections
        for name, finding in findings
    ]
    return {"ok": not any(one["level"] in (WARNING, PROBLEM) for one in found), "findings": found}
