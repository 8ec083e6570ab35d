"""A comparison as people and programs read it: text, Markdown, JSON. What is in it, compare.py found out."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any

import tabulate

from deploybench import changes, remeasure
from deploybench.changes import INCONCLUSIVE, PASS, REGRESSION, WIN, Change
from deploybench.rounds import BASELINE
from deploybench.stats import digits

VERDICTS = (REGRESSION, WIN, PASS, INCONCLUSIVE)
WIDTH = 80
SUCCESS, REGRESSED, OPEN = 0, 4, 5  # exit codes of --fail-above


@dataclass
class Comparison:
    """All that is printed. `metric`: time or instructions; `margin`: of --fail-above, a fraction."""

    metric: str
    margin: float
    files: dict[str, str]
    changes: list[Change]
    overall: Change | None
    failed: dict[str, str] = field(default_factory=dict)  # case: why, in the new file only
    left_out: dict[str, str] = field(default_factory=dict)  # for other reasons
    unlike: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def places(self) -> int:
        """Decimals of a ratio."""
        return 2 if self.metric == "time" else 4

    @property
    def unit(self) -> str:
        """Of the columns of values, milliseconds or millions."""
        return "ms" if self.metric == "time" else "M"

    def exit_code(self) -> int:
        """Of --fail-above."""
        slower = [one for one in self.changes if one.verdict == REGRESSION and one.ratio > 1 + self.margin]
        if slower or self.failed:
            return REGRESSED
        return OPEN if any(one.verdict == INCONCLUSIVE for one in self.changes) else SUCCESS


def text(compared: Comparison) -> str:
    """For a terminal of 80 columns."""
    what = "time of a call, new / old: below 1 is faster"
    if compared.metric == "instructions":
        what = "instructions of a call, one thread, new / old: below 1 is fewer"
    notes = [note for lead, notes in _notes(compared) for note in (f"{lead}: {one}" if lead else one for one in notes)]
    notes += [f"{name}: {path}" for name, path in compared.files.items()]
    lines = [line for note in notes for line in _wrapped(note, "  ")]
    return "\n".join([*_unlike(compared), what, *_table(compared), "", *_wrapped(summary(compared), "  "), *lines])


def markdown(compared: Comparison) -> str:
    """For a pull request: what changed and what failed, and all cases below a fold."""
    unit = compared.unit
    headers = ["model", "runner", f"old, {unit}", f"new, {unit}", "new / old", "95 % interval", "verdict"]
    blocks = [f"**deploybench compare: {summary(compared)}**"]
    if compared.unlike:
        blocks.insert(0, f"> [!WARNING]\n> **UNLIKE, not a fair comparison:** {'; '.join(compared.unlike)}")
    for rows in ([one for one in compared.changes if one.verdict in (REGRESSION, WIN)], compared.changes):
        cells = [[_case(one), one.runner, *_cells(compared, one)] for one in rows]
        align = ["left", "left", "right", "right", "right", "left", "left"]
        if cells:
            table = tabulate.tabulate(cells, headers, "github", disable_numparse=True, colalign=align)
            folded = f"<details><summary>all {len(rows)} cases</summary>\n\n{table}\n\n</details>"
            blocks.append(folded if rows is compared.changes else table)
    notes = [f"- {lead}: {one}" if lead else f"- {one}" for lead, notes in _notes(compared) for one in notes]
    return "\n\n".join([*blocks, "\n".join(notes)])


def _case(one: Change) -> str:
    return one.model if one.batch_size == 1 else f"{one.model}, batch {one.batch_size}"


def _table(compared: Comparison) -> list[str]:
    """A block for each model and batch size under one line of headers; no tool's table fits the longest names into 80."""
    unit = compared.unit
    rows = [["runner", f"old {unit}", f"new {unit}", "ratio", "95 % interval", ""]]
    rows += [[one.runner, *_cells(compared, one)] for one in compared.changes]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    made = []
    for number, row in enumerate(rows):
        if number and (number == 1 or _case(compared.changes[number - 1]) != _case(compared.changes[number - 2])):
            one = compared.changes[number - 1]
            made.append(f"{one.model}, batch {one.batch_size}")
        padded = [
            cell.rjust(width) if at in (1, 2, 3) else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        made.append(" ".join(padded).rstrip())
    return made


def _cells(compared: Comparison, one: Change) -> list[str]:
    """Old, new, ratio, interval, verdict."""
    scale = 1e3 if compared.metric == "time" else 1e-6
    verdict = one.verdict + (" *" if one.interleaved else "")
    values = [digits(value * scale, 4) for value in (one.old, one.new)]
    return [*values, f"{one.ratio:.{compared.places}f}", _interval(compared, one), verdict]


def _interval(compared: Comparison, one: Change) -> str:
    if math.isinf(one.high):
        return "none"
    return f"{one.low:.{compared.places}f}-{one.high:.{compared.places}f}"


def summary(compared: Comparison) -> str:
    """One line: how many of each verdict, and the geometric mean."""
    counts = [(sum(one.verdict == verdict for one in compared.changes), verdict) for verdict in VERDICTS]
    parts = [f"{count} {word}" for count, word in (*counts, (len(compared.failed), "FAILED")) if count]
    line = ", ".join(parts)
    if mean := compared.overall:
        line += f"; geometric mean {mean.ratio:.{compared.places}f}, interval {_interval(compared, mean)}"
    return line


def _notes(compared: Comparison) -> list[tuple[str, list[str]]]:
    """What stands below a table: (what it begins with, the notes)."""
    reasons: dict[str, list[str]] = {}
    for case, why in compared.left_out.items():
        reasons.setdefault(why, []).append(case)
    left_out = [f"{', '.join(cases)}: {why}" for why, cases in reasons.items()]
    failed = [f"{case}: {why}" for case, why in compared.failed.items()]
    return [
        ("FAILED in NEW", failed), ("not compared", left_out), ("warning", compared.warnings), ("", _next(compared)),
        ("", _legend(compared)),
    ]  # fmt: skip


def _legend(compared: Comparison) -> list[str]:
    least = min(changes.LEAST[compared.metric], compared.margin)
    lines = [
        f"REGRESSION, WIN: the whole interval lies beyond a change of {least * 100:g} %; PASS: slower by at most "
        f"{compared.margin * 100:g} %; docs/compare.md"
    ]
    if any(one.interleaved for one in compared.changes):
        lines.append("*: old and new took turns in the same rounds")
    return lines


def _next(compared: Comparison) -> list[str]:
    """What to do where something is open."""
    found = []
    bare = [one for one in compared.changes if math.isinf(one.high)]
    if not all(map(changes.enough, bare)):
        found.append("none: too few rounds for an interval, 4 in each file or 6 old beside new; bench --rounds 6")
    if any(map(changes.enough, bare)):
        found.append(
            f"none: no interval, as {BASELINE}, by which the machine's own change is known, did not end well in every round "
            "of both files; bench again"
        )
    if compared.metric == "time" and any(one.verdict == INCONCLUSIVE for one in compared.changes):
        again = "again" in compared.files
        more = f"a quiet machine, or more rounds: --remeasure --rounds {4 * remeasure.ROUNDS}"
        what = more if again else "old programs beside new ones: --remeasure --old-checkout FOLDER"
        found.append(f"INCONCLUSIVE: what may tell is {what}")
    return found


def _unlike(compared: Comparison) -> list[str]:
    lines = [line for one in compared.unlike for line in _wrapped(f"!!! {one}", "!!!   ")]
    return ["!!! UNLIKE, this is not a fair comparison:", *lines, ""] if lines else []


def _wrapped(line: str, indent: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def to_json(compared: Comparison) -> dict[str, Any]:
    """See docs/record.md. No infinities: null where there is no interval."""
    mean = compared.overall and {name: _plain(compared.overall)[name] for name in ("ratio", "low", "high")}
    return {
        "metric": compared.metric, "margin": compared.margin, "files": compared.files,
        "cases": [_plain(one) for one in compared.changes], "geometric_mean": mean,
        "verdicts": {verdict: sum(one.verdict == verdict for one in compared.changes) for verdict in VERDICTS},
        "failed": compared.failed, "not_compared": compared.left_out, "unlike": compared.unlike,
        "warnings": compared.warnings, "exit_code": compared.exit_code(),
    }  # fmt: skip


def _plain(one: Change) -> dict[str, Any]:
    fields = asdict(one)
    return fields | {"low": None, "high": None} if math.isinf(one.high) else fields
