"""`deploybench bench`: rounds of fresh worker processes, both languages, into one results file.

It measures nothing itself and imports no torch; docs/measuring.md is the protocol. python/eager is always among the
runners: it is the baseline of every speed-up and the reference of every output.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploybench import (
    artifact,
    cases,
    instructions,
    machine,
    models,
    options,
    paths,
    record,
    rounds,
    routes,
    summary,
    terminal,
    weights,
)
from deploybench.errors import DeploybenchError
from deploybench.models import Model
from deploybench.paths import shown
from deploybench.rounds import BASELINE, LOAD_FLAGS, WORKER_FLAGS
from deploybench.verbs import report

EXAMPLE = "bench --models squeezenet1_1 --routes script,frozen"
CONFIGURED = {
    "models",
    "runners",
    "rounds",
    "runs",
    "generate",
    "input",
    "artifacts",
    "device",
    "strict",
    "batch_sizes",
    *WORKER_FLAGS,
    *LOAD_FLAGS,
}
ROUNDS, LEAST_ROUNDS = 6, 2  # a single one has no interval
# Equal processes differ from each other by 2 % and more (where their memory lies): by resampling measured pairs, the ratio of
# 6 of them is within 1 % of 1 six times in ten; the error falls with the root of their number.
SELF_CHECK_ROUNDS = 36
RUNS, LEAST_RUNS = 100, 60
CALLS = 1500  # timed, of all runners of a model, by which runs become fewer
WORKERS = 36  # processes a model, by which rounds become fewer: 32 runners of ResNet-50 take 80 s a round


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
        help="timed calls per runner, over all rounds (default 100, with more than 15 runners fewer, at least a turn a round)",
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
        terminal.notice(f"\ninterrupted; go on with: deploybench bench --resume {shown(path)}")
        return 130
    if args.json:
        terminal.emit(report.as_json(results, path))
    else:
        for size in results["config"]["batch_sizes"]:
            if against := report.peers_table(summary.of_batch(results, size)):
                terminal.show("\n" + against)
        terminal.show("\n" + report.footer(results, path))
    return 0 if summary.all_sound(results) else 1


def begin(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The results file, new or resumed, and its content."""
    return _resume(args) if args.resume is not None else _begin(args)


def measure(path: Path, results: dict[str, Any], show: Callable[[str], None] | None = None) -> None:
    """Measures all that is missing in `results`, saves it as it comes, and shows each model's table when it is there."""
    config = results["config"]
    before = machine.ticks()
    try:
        for model in models.select(config["models"]):
            for size in config["batch_sizes"]:
                _bench_model(model, size, path, results)
                if show:
                    show("\n" + report.model_table(summary.of_batch(results, size), model.name))
                if config.get("count_instructions"):
                    _count_instructions(model, size, path, results)
                    if show:
                        show(report.counted_line(results, model.name, size))
    finally:
        results["stolen_fraction"], results["others_fraction"] = machine.shares(before, machine.ticks())
        record.save(path, results)
    results["complete"] = True
    record.save(path, results)
    with artifact.written_atomically(path.with_suffix(".md")) as partial:
        partial.write_text(report.markdown(results), encoding="utf-8")


def _count_instructions(model: Model, size: int, path: Path, results: dict[str, Any]) -> None:
    """Of each runner, saved one by one."""
    config, lines = {**results["config"], "batch_size": size}, results.setdefault("instructions", [])
    counter = instructions.choose()
    terminal.notice(f"counting instructions by {counter.name}")
    instructions.count_all(cases.prepare(model, config), config, lines, lambda: record.save(path, results), counter)


def _begin(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """A new results file."""
    results = configure(args)
    path = record.new_results_path(args.results)
    record.save(path, results)
    return path, results


def configure(args: argparse.Namespace) -> dict[str, Any]:
    """Results that have no runs yet, the whole configuration inside."""
    device = options.resolve_device(args.device) if args.device != "cpu" else "cpu"
    runners = (
        named_runners(args.runners, device)
        if args.runners
        else choose_runners(args.runtimes, args.routes, device, args.precisions)
    )
    if args.cuda_graph == "on" and device == "cpu":
        raise DeploybenchError("usage", "--cuda-graph on: there are none on the CPU; --device cuda")
    if any(runner.startswith("cpp/") for runner in runners):
        need_cpp()
    if not args.input.is_file():
        raise DeploybenchError("input_missing", f"{args.input}: no such photo or tensor file; --input FILE")
    chosen = models.select(args.models)
    if args.weights not in ("auto", "pretrained", "random"):
        if len(chosen) > 1:
            raise DeploybenchError("usage", "--weights FILE: fits one model; name one with --models")
        weights.resolve(args.weights, chosen[0])
    options.check_load(args)
    if args.count_instructions:
        instructions.choose()
    loaded = bool(args.rate or args.latency_bound)
    args.instances, args.threads = _crew(args)
    names = [one for name in runners for one in ((name, f"{name}#2") if args.self_check else (name,))]
    usual = SELF_CHECK_ROUNDS if args.self_check else max(LEAST_ROUNDS, min(ROUNDS, WORKERS // len(names)))
    count = args.rounds or (LEAST_ROUNDS if loaded else usual)
    config = {
        "models": [model.factory if model.own else model.name for model in chosen],
        # a pair of equal runners side by side: the less time between their turns, the less else differs
        "runners": names,
        "device": device,
        "generate": generate_flags(args),
        "rounds": count,
        "runs": args.runs or calls_of_each(len(names), count, args.turn),
        **{name: getattr(args, name) for name in ("strict", *WORKER_FLAGS, *LOAD_FLAGS)},
        "batch_size": args.batch_size[0],
        "batch_sizes": args.batch_size,
        "input": shown(args.input),  # relative where it can be: results files travel
        "artifacts": shown(args.artifacts),
        "count_instructions": args.count_instructions,
    }
    return {
        "schema": record.SCHEMA,
        "complete": False,
        "environment": record.environment(),
        "config": config,
        "runs": [],
    }


def _crew(args: argparse.Namespace) -> tuple[int, int]:
    """Instances, and threads of each."""
    cpus = options.usable_cpus()
    if args.instances is None and args.target == "throughput":
        args.instances, args.threads = 0, args.threads or 1
    if args.instances == 0:
        args.instances = max(1, cpus // (args.threads or 1))
    instances = args.instances or 1
    return instances, args.threads or max(1, cpus // instances)


def calls_of_each(runners: int, rounds: int, turn: int) -> int:
    """The usual number of timed calls of each runner."""
    return max(LEAST_RUNS, min(RUNS, CALLS // runners), rounds * turn)


def _resume(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The results file to go on with; failed runs are tried again, refusals are kept."""
    path = Path(args.resume) if args.resume else record.latest(args.results)
    results = record.load(path)
    check_environment(path, results, "bench")
    missing = ", ".join(sorted(CONFIGURED - results["config"].keys()))
    if missing:
        raise DeploybenchError(
            "input_invalid", f"{shown(path)}: its config lacks {missing}; run bench without --resume"
        )
    results["runs"] = [run for run in results["runs"] if "error" not in run or summary.unsupported([run])]
    results["complete"] = False
    terminal.notice(f"going on with {shown(path)}: {len(results['runs'])} runs are there")
    return path, results


def check_environment(path: Path, results: dict[str, Any], verb: str) -> None:
    """Refuses to go on with results of another machine or other versions."""
    if unlike := record.unlike(results["environment"], record.environment()):
        raise DeploybenchError(
            "usage", f"{shown(path)}: made in another environment ({unlike}); run {verb} without --resume"
        )


def choose_runners(runtimes: str, wanted: str, device: str, precisions: list[str]) -> list[str]:
    """The name of each runner that exists of these runtimes, routes and precisions, the baseline first."""
    kinds = [name.strip() for name in runtimes.split(",")]
    for kind in kinds:
        if kind not in routes.BOTH:
            raise DeploybenchError("usage", f"{kind!r}: no such runtime; --runtimes python,cpp")
    rows = list(routes.ROUTES) if wanted == "all" else [routes.route(name.strip()).name for name in wanted.split(",")]
    known = routes.runners(device, tuple(precisions))
    chosen = [
        one.name
        for precision in precisions
        for kind in kinds
        for row in rows
        for one in known
        if (one.runtime, one.route.name, one.precision) == (kind, row, precision)
    ]
    if not chosen:
        raise DeploybenchError(
            "usage", f"--routes {wanted}: none of them runs {', '.join(precisions)} on {device} in {runtimes}"
        )
    return list(dict.fromkeys([BASELINE, *chosen]))


def named_runners(wanted: str, device: str) -> list[str]:
    """The runners of a comma list, the baseline first."""
    known = [one.name for one in routes.runners(device, routes.PRECISIONS)]
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=3))
            hint = f"did you mean {near}?" if near else "see docs/how-it-works.md"
            raise DeploybenchError("usage", f"{name!r}: no runner on {device}; {hint}")
    return list(dict.fromkeys([BASELINE, *names]))


def need_cpp() -> None:
    """Refuses runners of C++ where its programs are not built."""
    if not (paths.CPP_BIN / "bench").exists():
        raise DeploybenchError(
            "runtime", f"{shown(paths.CPP_BIN / 'bench')}: not built; make build, or --runtimes python"
        )


def generate_flags(args: argparse.Namespace) -> list[str]:
    """The flags that go on to `generate`."""
    flags = ["--weights", args.weights]
    for name in ("labels", "resize", "crop", "interpolation"):
        if getattr(args, name) is not None:
            flags += [f"--{name}", str(getattr(args, name))]
    for name in ("mean", "std"):
        if getattr(args, name) is not None:
            flags += [f"--{name}", ",".join(map(repr, getattr(args, name)))]
    if args.memory_format:
        flags += ["--memory-format", args.memory_format]
    if args.portable:
        flags.append("--portable")
    if args.dynamic_batch:
        flags.append(cases.DYNAMIC_BATCH + ":".join(map(str, args.dynamic_batch)))
    return flags


def _bench_model(model: Model, size: int, path: Path, results: dict[str, Any]) -> None:
    """All rounds of one model at one batch size; each is saved as soon as it is there. A round is whole or it is measured
    again."""
    config, runs = {**results["config"], "batch_size": size}, results["runs"]
    case_of = (model.name, size)
    whole = {
        number
        for number in range(config["rounds"])
        if {run["runner"] for run in runs if (run["model"], run.get("batch_size"), run["round"]) == (*case_of, number)}
        == set(config["runners"])
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
                record.save(path, results)
