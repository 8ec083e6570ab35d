"""`deploybench bench`: rounds of fresh worker processes, both languages, into one results file.

It measures nothing itself and imports no torch; docs/measuring.md is the protocol. python/eager is always among the
runners: it is the baseline of every speed-up and the reference of every output.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploybench import (
    artifact,
    cases,
    configuration,
    instructions,
    machine,
    models,
    options,
    paths,
    results_file,
    rounds,
    routes,
    summary,
    tables,
    terminal,
)
from deploybench.errors import DeploybenchError
from deploybench.models import Model
from deploybench.paths import shown, typed
from deploybench.rounds import BASELINE, LOAD_FLAGS

EXAMPLE = "bench --models squeezenet1_1 --routes script,frozen"
SHARES = ("stolen_fraction", "others_fraction")  # of the CPU time while it measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    group = parser.add_argument_group("what is compared")
    add = group.add_argument
    options.add_models(group, default="resnet50")
    add("--runtimes", default="python,cpp", metavar="LIST", help="python, cpp (default both)")
    add(
        "--routes",
        default="eager,script",
        metavar="LIST",
        help=f"of {', '.join(routes.ROUTES)}, or all (default eager,script)",
    )
    options.add_precisions(group)
    add("--runners", metavar="LIST", help="these very runners instead, such as cpp/fused/bf16,python/openvino")
    add(
        "--input",
        type=Path,
        default=paths.PHOTO,
        metavar="FILE",
        help="a photo, or a tensor file (default a photo in data/)",
    )
    options.add_device(group)
    group = parser.add_argument_group("how the files are made")
    options.add_weights(group)
    options.add_artifacts(group)
    options.add_build(group)
    options.add_own_model(parser)
    group = parser.add_argument_group("measuring", "see docs/measuring.md")
    add = group.add_argument
    add(
        "--rounds",
        type=options.positive,
        metavar="N",
        help="fresh processes per runner, alternating (default 6, with more than 6 runners fewer, with --self-check 36)",
    )
    add(
        "--runs",
        type=options.positive,
        metavar="N",
        help="timed calls per runner, over all rounds (default 100, with more than 12 runners fewer, at least a turn a round)",
    )
    add(
        "--warmup",
        type=options.count,
        default=10,
        metavar="N",
        help="untimed calls at least in each round (default 10)",
    )
    add("--min-seconds", type=options.seconds, default=0.0, metavar="S", help="timed at least so long in each round")
    add(
        "--max-seconds",
        type=options.some_seconds,
        default=60.0,
        metavar="S",
        help="and no longer than this (default 60)",
    )
    add(
        "--turn",
        type=options.positive,
        default=5,
        metavar="N",
        help="timed calls before another runner has its turn (default 5)",
    )
    add(
        "--batch-size",
        type=options.batch_sizes,
        default=[1],
        metavar="LIST",
        help="images a call; several, by comma, give a table each (default 1)",
    )
    add(
        "--target",
        choices=["latency", "throughput"],
        default="latency",
        help="throughput: as many instances as usable CPUs, with one thread each (default latency)",
    )
    add(
        "--instances",
        type=options.instances,
        metavar="N|auto",
        help="call at the same time, over the same weights; in Python on threads (default 1; auto: usable CPUs / threads)",
    )
    add("--threads", type=options.threads, metavar="N", help="of each instance (default: usable CPUs / instances)")
    add("--interop-threads", type=options.threads, default=1, metavar="N", help="default 1")
    add("--self-check", action="store_true", help="run each runner twice: two equal runners must come out equal")
    add("--strict", action="store_true", help="refuse unlike torch versions instead of warning")
    add(
        "--count-instructions",
        action="store_true",
        help="of a call, too, by perf or valgrind, whichever counts here; by valgrind a small model takes minutes",
    )
    options.add_knobs(parser.add_argument_group("how the runtime is set up"))
    options.add_load(parser.add_argument_group("images that arrive by themselves"))
    group = parser.add_argument_group("results")
    group.add_argument("--results", type=Path, default=paths.RESULTS, metavar="FOLDER", help="default results/")
    group.add_argument(
        "--resume", nargs="?", const="", metavar="FILE", help="go on with an interrupted run (default: the last)"
    )


def run(args: argparse.Namespace) -> int:
    """Measures every model; 1 if a runner failed or was not equal to eager, 130 if interrupted."""
    path, results = begin(args)
    try:
        measure(path, results, None if args.json else terminal.show)
    except KeyboardInterrupt:
        terminal.notice(f"\ninterrupted; go on with: deploybench bench --resume {typed(path)}")
        return 130
    if args.json:
        terminal.emit(tables.as_json(results, path))
    else:
        for size in results["config"]["batch_sizes"]:
            if against := tables.peers_table(summary.of_batch(results, size)):
                terminal.show("\n" + against)
        terminal.show("\n" + tables.footer(results, path))
    return 0 if summary.all_sound(results) else 1


def begin(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The results file, new or resumed, and its content."""
    return _resume(args) if args.resume is not None else _begin(args)


def measure(path: Path, results: dict[str, Any], show: Callable[[str], None] | None = None) -> None:
    """Measures all that is missing in `results`, saves it as it comes, and shows each model's table when it is there."""
    config = results["config"]
    before, last = machine.ticks(), results["runs"][-1:]
    try:
        for model in models.select(config["models"]):
            for size in config["batch_sizes"]:
                _bench_model(model, size, path, results)
                if show:
                    show("\n" + tables.model_table(summary.of_batch(results, size), model.name))
                if config.get("count_instructions"):
                    _count_instructions(model, size, path, results)
                    if show:
                        show(tables.counted_line(summary.of_batch(results, size), model.name))
    finally:
        if (
            results["runs"][-1:] != last
        ):  # something was measured; of a run that was gone on with, the worse part counts
            for name, share in zip(SHARES, machine.shares(before, machine.ticks()), strict=True):
                results[name] = max(share, results.get(name) or 0.0)
        results_file.save(path, results)
    results["complete"] = True
    results_file.save(path, results)
    with artifact.written_atomically(path.with_suffix(".md")) as partial:
        partial.write_text(tables.markdown(results), encoding="utf-8")


def _count_instructions(model: Model, size: int, path: Path, results: dict[str, Any]) -> None:
    """Of each runner, saved one by one."""
    config, lines = {**results["config"], "batch_size": size}, results.setdefault("instructions", [])
    counter = instructions.choose()
    terminal.notice(f"counting instructions by {counter.name}")
    instructions.count_all(
        cases.prepare(model, config), config, lines, lambda: results_file.save(path, results), counter
    )


def _begin(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """A new results file."""
    results = configuration.configure(args)
    path = results_file.new_path(args.results)
    results_file.save(path, results)
    return path, results


def _resume(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The results file to go on with; failed runs are tried again, refusals are kept."""
    path = Path(args.resume) if args.resume else results_file.latest(args.results, suits=_to_go_on_with)
    results = results_file.load(path)
    if results_file.has_old_programs(results):
        what = "holds old programs beside these, which bench cannot run; deploybench compare OLD NEW --remeasure"
        raise DeploybenchError("usage", f"{shown(path)}: {what}")
    configuration.check_environment(path, results, "bench")
    missing = ", ".join(sorted(configuration.CONFIGURED - results["config"].keys()))
    if missing:
        raise DeploybenchError(
            "input_invalid", f"{shown(path)}: its config lacks {missing}; run bench without --resume"
        )
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    if args.target == "throughput" or args.instances == 0:
        args.instances, args.threads = configuration.crew(args)
    configuration.refuse_changed("bench", args, parser.parse_args([]), configuration.SETTINGS, path, results)
    results["runs"] = [run for run in results["runs"] if "error" not in run or summary.unsupported([run])]
    results["complete"] = False
    terminal.notice(f"going on with {shown(path)}: {len(results['runs'])} runs are there")
    return path, results


def _to_go_on_with(results: dict[str, Any]) -> bool:
    """Whether something is missing that bench measures."""
    failed = any("error" in run and not summary.unsupported([run]) for run in results["runs"])
    return not results_file.has_old_programs(results) and (not results["complete"] or failed)


def _bench_model(model: Model, size: int, path: Path, results: dict[str, Any]) -> None:
    """All rounds of one model at one batch size; each is saved as soon as it is there. A round is whole or it is measured
    again."""
    config, runs = {**results["config"], "batch_size": size}, results["runs"]
    case_of = (model.name, size)
    whole = {
        number
        for number in range(config["rounds"])
        if {run["runner"] for run in runs if (run["model"], run.get("batch_size"), run["round"]) == (*case_of, number)}
        == set(rounds.taking_part(config, number))
    }
    results["runs"] = runs = [
        run for run in runs if (run["model"], run.get("batch_size")) != case_of or run["round"] in whole
    ]
    todo = [number for number in range(config["rounds"]) if number not in whole]
    if not todo:
        return
    from tqdm import tqdm

    with tempfile.TemporaryDirectory(prefix="deploybench-") as folder:
        scratch = Path(folder)
        case = cases.prepare(model, config)
        if whole:  # resumed: eager's output is made anew
            once = {**config, "runs": 1, "warmup": 0, "rounds": 1, "runners": [BASELINE], **dict.fromkeys(LOAD_FLAGS)}
            list(rounds.run_rounds(case, once, [0], scratch))
        with tqdm(todo, unit="round", desc=model.name, disable=terminal.no_bar(), leave=False, file=sys.stderr) as bar:
            for lines in rounds.run_rounds(case, config, bar, scratch):
                runs += lines
                results_file.save(path, results)
