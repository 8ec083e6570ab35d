"""`deploybench compare`: what became slower or faster between two results files, and what cannot be said. Computes on
reading; measures only with --remeasure. Imports no torch."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any

from deploybench import (
    changes,
    checkout,
    comparison,
    likeness,
    options,
    panel,
    paths,
    record,
    remeasure,
    results_file,
    summary,
    terminal,
)
from deploybench.changes import INCONCLUSIVE, Key
from deploybench.comparison import Comparison
from deploybench.errors import DeploybenchError
from deploybench.paths import shown
from deploybench.record import OLD

EXAMPLE = "compare OLD.json NEW.json --fail-above 5%"
EXITS = f"""\
0 compared, and with --fail-above nothing became slower by more; {comparison.REGRESSED} with --fail-above: a REGRESSION by more,
or a case that failed in NEW only; {comparison.OPEN} with --fail-above: no such case, but some are INCONCLUSIVE; 2 usage, unlike
machines too; 1 all other failures, such as a damaged file"""
STAMP = re.compile(r"\d{8}T\d{6}Z")
# Above this a file's eager says that the machine was another one, in effect.
DRIFT = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument_group("exit code", EXITS)
    add = parser.add_argument
    add("old", type=Path, metavar="OLD", help="a results file of bench; alone: one that --remeasure wrote")
    add("new", type=Path, nargs="?", metavar="NEW", help="another, of the same cases")
    add("--metric", choices=["time", "instructions"], default="time", help="what is compared (default time)")
    add(
        "--fail-above",
        type=options.percent,
        metavar="PERCENT",
        help="end with 4 where a case became slower by more, such as 5%%; PASS means slower by no more (default 5%%)",
    )
    add("--allow-unlike", action="store_true", help="compare unlike machines, versions and settings, and say so")
    group = parser.add_argument_group("measuring again")
    add = group.add_argument
    add("--remeasure", action="store_true", help="run what is INCONCLUSIVE again, old beside new, here")
    add(
        "--old-checkout",
        type=Path,
        metavar="FOLDER",
        help="a built checkout of the old version, to run beside this one",
    )
    add("--rounds", type=options.positive, default=remeasure.ROUNDS, metavar="N", help=f"default {remeasure.ROUNDS}")
    add("--results", type=Path, default=paths.RESULTS, metavar="FOLDER", help="where they are kept (default results/)")
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format", choices=("text", "markdown"), default="text", help="markdown: for a pull request (default text)"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the comparison; its exit code with --fail-above, else 0."""
    check_flags(args)
    margin = args.fail_above or changes.MARGIN
    if args.new is None:
        compared = of_pairs(args.old, margin)
    elif args.metric == "instructions":
        compared = of_instructions(args, margin)
    else:
        compared = of_files(args, margin)
    if args.json:
        terminal.emit(comparison.to_json(compared))
    elif args.format == "markdown":
        print(comparison.markdown(compared))
    else:
        terminal.show(comparison.text(compared), heading=True)
    return compared.exit_code() if args.fail_above else 0


def check_flags(args: argparse.Namespace) -> None:
    """Refuses flags that contradict each other, and a file that is compared with itself."""
    if args.json and args.format != "text":
        raise DeploybenchError("usage", "--json: prints no Markdown; give one of --json and --format")
    if args.old_checkout and not args.remeasure:
        raise DeploybenchError("usage", "--old-checkout: is for measuring again; add --remeasure")
    if args.remeasure and (args.new is None or args.metric != "time"):
        raise DeploybenchError("usage", "--remeasure: measures times of two files; give OLD and NEW, and no --metric")
    if args.new is None and args.metric != "time":
        raise DeploybenchError("usage", "--metric instructions: compares two files; give OLD and NEW")
    if args.new and args.old.exists() and args.new.exists() and args.old.samefile(args.new):
        raise DeploybenchError("usage", f"{shown(args.new)}: is the same file twice; give an older and a newer one")


def read(path: Path) -> dict[str, Any]:
    """A results file whose times are those of calls. Raises input_missing, input_invalid."""
    results = results_file.load(path)
    if summary.arriving(results) or any(run.get("turn_rates") for run in results["runs"]):
        raise DeploybenchError(
            "usage", f"{shown(path)}: holds latencies under load, which have no ratio; deploybench report shows them"
        )
    return results


def sound(results: dict[str, Any]) -> tuple[dict[Key, list[record.Record]], dict[Key, str]]:
    """The runs of each case that all ended well and agreed with eager; of the others why not."""
    runs: dict[Key, list[record.Record]] = {}
    for run in results["runs"]:
        size = run.get("batch_size", results["config"]["batch_size"])
        runs.setdefault((run["model"], run["runner"], size), []).append(run)
    why = {key: summary.trouble(its) for key, its in runs.items() if summary.trouble(its)}
    return {key: its for key, its in runs.items() if key not in why}, why


def of_files(args: argparse.Namespace, margin: float) -> Comparison:
    """Of the times of two files, what is open measured again where that is wanted."""
    old, new = read(args.old), read(args.new)
    if old["runs"] == new["runs"]:
        raise DeploybenchError("usage", f"{shown(args.new)}: holds the same runs as OLD; give an older and a newer one")
    (before, bad), (after, worse) = sound(old), sound(new)
    found = changes.cases(before, after)
    shared = [(case.old[0], case.new[0]) for case in found]
    unlike = likeness.unlike(old, new, likeness.SETTINGS, shared, likeness.OF_A_RUN)
    _refuse_unlike(unlike, args)
    if not found and not worse.keys() & before.keys():
        raise DeploybenchError(
            "input_invalid", f"{shown(args.new)}: has no sound case that OLD has, too; run bench again"
        )
    judged = [changes.judge(changes.change(case), "time", margin) for case in found]
    notes = [*_order(args.old, args.new), *_notes(args.old, old), *_notes(args.new, new), *_drift(before, after)]
    files = {"old": shown(args.old), "new": shown(args.new)}
    open_keys = [(one.model, one.runner, one.batch_size) for one in judged if one.verdict == INCONCLUSIVE]
    crashed: dict[str, str] = {}
    if args.remeasure and open_keys:
        path, again = _again(args, open_keys, old, new)
        files["again"] = shown(path)
        runs, failed = sound(again)
        crashed = _failed_beside_old(runs, failed)
        cases = {case.key: case for case in changes.pairs(runs)}
        found = [cases.get(case.key, case) for case in found]
        judged = [changes.judge(changes.change(case), "time", margin) for case in found]
        notes += _notes(path, again) + [f"measured again, {_named(key)}: {why}" for key, why in failed.items()]
        unlike += _unlike_pairs(again, list(cases.values()))
    compared = Comparison("time", margin, files, judged, changes.overall(found), unlike=unlike, warnings=notes)
    _missing(compared, (before, bad), (after, worse))
    compared.failed |= crashed
    return compared


def _again(
    args: argparse.Namespace, keys: list[Key], old: dict[str, Any], new: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """What --remeasure measured. Refuses files that do not say how they were made, and another machine than NEW's."""
    for path, results in ((args.old, old), (args.new, new)):
        if missing := ", ".join(sorted(remeasure.NEEDED - results["config"].keys())):
            raise DeploybenchError("input_invalid", f"{shown(path)}: its config lacks {missing}; run bench again")
    here = record.environment()
    other = likeness.unlike({**new, "environment": here}, new, (), (), ())
    if other and not args.allow_unlike:
        what = "; ".join(text.replace(" was ", " is ").replace(", is ", " here, in NEW ") for text in other)
        raise DeploybenchError(
            "usage", f"--remeasure: this machine is not NEW's ({what}); measure there, or --allow-unlike"
        )
    runtimes = {panel.parts(runner)[0] for _, runner, _ in keys}
    beside = checkout.at(args.old_checkout, runtimes) if args.old_checkout else checkout.HERE
    return remeasure.remeasure(keys, old, new, beside, args.rounds, args.results)


def _unlike_pairs(results: dict[str, Any], found: list[changes.Case]) -> list[str]:
    """Where the old programs have another torch, or other settings: that is then what is compared."""
    shared = [(case.old[0], case.new[0]) for case in found]
    return likeness.unlike(results, results, (), shared, (*likeness.OF_A_RUN, *record.KNOBS))


def of_pairs(path: Path, margin: float) -> Comparison:
    """Of a file that --remeasure wrote."""
    results = read(path)
    runs, bad = sound(results)
    found = changes.pairs(runs)
    failed = _failed_beside_old(runs, bad)
    if not found and not failed:
        raise DeploybenchError("usage", f"{shown(path)}: has no old runners beside new ones; give OLD and NEW")
    judged = [changes.judge(changes.change(case), "time", margin) for case in found]
    unlike = _unlike_pairs(results, found)
    compared = Comparison("time", margin, {"again": shown(path)}, judged, changes.overall(found), unlike=unlike)
    compared.failed = failed
    compared.left_out = {_named(key): why for key, why in bad.items() if _named(key) not in failed}
    compared.warnings = _notes(path, results)
    return compared


def _failed_beside_old(runs: dict[Key, list[record.Record]], bad: dict[Key, str]) -> dict[str, str]:
    """The new runners that failed, and why, where their old ones did not."""
    return {
        _named(key): why
        for key, why in bad.items()
        if not key[1].endswith(OLD) and (key[0], key[1] + OLD, key[2]) in runs
    }


def of_instructions(args: argparse.Namespace, margin: float) -> Comparison:
    """Of the instructions that both files have counted."""
    old, new = results_file.load(args.old), results_file.load(args.new)
    (before, bad), (after, worse) = _counted(args.old, old), _counted(args.new, new)
    both = [(before[key], one) for key, one in after.items() if key in before]
    unlike = likeness.unlike(old, new, ("device", *record.KNOBS), both, likeness.OF_A_COUNT)
    _refuse_unlike(unlike, args)
    found = changes.counted(before, after)
    if not found and not worse.keys() & before.keys():
        raise DeploybenchError(
            "input_invalid", f"{shown(args.new)}: has no counted case that OLD has, too; run bench again"
        )
    judged = [changes.judge(one, "instructions", margin) for one in found]
    files = {"old": shown(args.old), "new": shown(args.new)}
    overall = changes.overall_counted(found)
    compared = Comparison(
        "instructions", margin, files, judged, overall, unlike=unlike, warnings=_order(args.old, args.new)
    )
    _missing(compared, (before, bad), (after, worse))
    return compared


def _counted(path: Path, results: dict[str, Any]) -> tuple[dict[Key, dict[str, Any]], dict[Key, str]]:
    """The counted instructions of each case that did well; of those that did not, or could not be counted, why not."""
    lines = results.get("instructions")
    if not lines:
        raise DeploybenchError(
            "usage", f"{shown(path)}: has no counted instructions; deploybench bench --count-instructions"
        )
    why = {_key(one): str(one["error"]["message"]) for one in lines if "error" in one} | sound(results)[1]
    return {_key(one): one for one in lines if _key(one) not in why}, why


def _key(line: dict[str, Any]) -> Key:
    return line["model"], line["runner"], line["batch_size"]


def _refuse_unlike(unlike: list[str], args: argparse.Namespace) -> None:
    if unlike and not args.allow_unlike:
        few = "; ".join(unlike[:4]) + (f"; and {len(unlike) - 4} more" if len(unlike) > 4 else "")
        raise DeploybenchError(
            "usage", f"{shown(args.new)}: not measured as OLD was ({few}); measure both alike, or --allow-unlike"
        )


def _missing(compared: Comparison, old: Any, new: Any) -> None:
    """Sorts the cases that only one file has, or that failed in one, into what speaks against NEW and what does not."""
    (before, bad), (after, worse) = old, new
    compared.failed = {_named(key): why for key, why in worse.items() if key in before}
    compared.left_out = {_named(key): why for key, why in worse.items() if key not in before}
    compared.left_out |= {_named(key): f"in OLD {why}" for key, why in bad.items() if key not in worse}
    compared.left_out |= {_named(key): "only in OLD" for key in before if key not in {**after, **worse}}
    compared.left_out |= {_named(key): "only in NEW" for key in after if key not in {**before, **bad}}


def _named(key: Key) -> str:
    return f"{key[0]} {key[1]}{f' (batch {key[2]})' if key[2] != 1 else ''}"


def _order(old: Path, new: Path) -> list[str]:
    """A warning where the names of the files say that they were swapped."""
    stamps = [found[0] if (found := STAMP.match(path.name)) else "" for path in (old, new)]
    swapped = all(stamps) and stamps[0] > stamps[1]
    return ["by their names OLD is the later file: were they swapped?"] if swapped else []


def _notes(path: Path, results: dict[str, Any]) -> list[str]:
    """What a reader of this file must know, RANDOM weights aside."""
    notes = [said] if (said := results_file.incomplete(path, results)) else []
    found = (text.removeprefix("warning: ") for text in summary.warnings(results))
    return notes + [f"{shown(path)}: {text}" for text in found if not text.startswith("RANDOM")]


def _drift(old: dict[Key, list[record.Record]], new: dict[Key, list[record.Record]]) -> list[str]:
    ratio = changes.drift(old, new)
    if ratio is None:
        return [
            "no python/eager in both files, by which the machine's drift is known: nothing can be said; bench again"
        ]
    if abs(math.log(ratio)) < math.log1p(DRIFT):
        return []
    return [f"eager took {ratio:.2f} times as long in NEW: the machine drifted, which widens every interval"]
