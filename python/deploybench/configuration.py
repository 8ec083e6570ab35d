"""What a run measures and how: which runners, how often, with which files. `bench` and `evaluate` begin with it, `matrix` and
`search` choose their runners by it. Imports no torch."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploybench import cases, instructions, models, options, paths, record, routes, weights
from deploybench.errors import DeploybenchError
from deploybench.paths import shown
from deploybench.rounds import BASELINE, LOAD_FLAGS, WORKER_FLAGS

ROUNDS, LEAST_ROUNDS = 6, 2  # a single one has no interval
# Equal processes differ from each other by 2 % and more (where their memory lies): by resampling measured pairs, the ratio of
# 6 of them is within 1 % of 1 six times in ten; the error falls with the root of their number.
SELF_CHECK_ROUNDS = 36
RUNS, LEAST_RUNS = 100, 40
CALLS = 1250  # timed, of all runners of a model, by which runs become fewer
WORKERS = 36  # processes a model, by which rounds become fewer: 32 runners of ResNet-50 take 80 s a round

CONFIGURED = {  # what a results file must say to be gone on with
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


def asked(args: argparse.Namespace) -> dict[str, Any]:
    """The part of a config that `bench` and `evaluate` share: what is run, of which files. Nothing is looked for yet."""
    device = options.resolve_device(args.device) if args.device != "cpu" else "cpu"
    runners = (
        named_runners(args.runners, device)
        if args.runners
        else choose_runners(args.runtimes, args.routes, device, args.precisions)
    )
    return {
        "models": [model.spec for model in models.select(args.models)],
        "runners": runners,
        "device": device,
        "generate": generate_flags(args),
        "artifacts": shown(args.artifacts),  # relative where it can be: results files travel
    }


def check_asked(args: argparse.Namespace, config: dict[str, Any]) -> None:
    """Refuses programs that are not built and weights that fit none, before anything is made."""
    if any(runner.startswith("cpp/") for runner in config["runners"]):
        need_cpp(args.runners)
    if args.weights not in options.WEIGHTS:
        if len(config["models"]) > 1:
            raise DeploybenchError("usage", "--weights FILE: fits one model; name one with --models")
        weights.resolve(args.weights, models.select(config["models"])[0])


def configure(args: argparse.Namespace) -> dict[str, Any]:
    """Results of `bench` that have no runs yet, the whole configuration inside."""
    config = asked(args)
    runners = config["runners"]
    if args.cuda_graph == "on" and config["device"] == "cpu":
        raise DeploybenchError("usage", "--cuda-graph on: there are none on the CPU; --device cuda")
    check_asked(args, config)
    cases.check_input(args.input)
    args.instances, args.threads = crew(args)
    options.check_together(args)
    if args.count_instructions:
        instructions.choose()
    loaded = bool(args.rate or args.latency_bound)
    names = [one for name in runners for one in ((name, f"{name}#2") if args.self_check else (name,))]
    usual = SELF_CHECK_ROUNDS if args.self_check else max(LEAST_ROUNDS, min(ROUNDS, WORKERS // len(names)))
    count = args.rounds or (LEAST_ROUNDS if loaded else usual)
    crowded = usual == LEAST_ROUNDS and not args.rounds
    config |= {
        # a pair of equal runners side by side: the less time between their turns, the less else differs
        "runners": names,
        "rounds": count,
        "once": [name for name in names if crowded and routes.runner(name).route.compiles],
        "runs": args.runs or calls_of_each(len(names), count, args.turn),
        **{name: getattr(args, name) for name in ("strict", *WORKER_FLAGS, *LOAD_FLAGS)},
        "batch_size": args.batch_size[0],
        "batch_sizes": args.batch_size,
        "input": shown(args.input),
        "count_instructions": args.count_instructions,
    }
    return {
        "schema": record.SCHEMA,
        "complete": False,
        "environment": record.environment(),
        "config": config,
        "runs": [],
    }


def crew(args: argparse.Namespace) -> tuple[int, int]:
    """Instances, and threads of each, of what the flags leave open."""
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


def check_environment(path: Path, results: dict[str, Any], verb: str) -> None:
    """Refuses to go on with results of another machine or other versions."""
    if unlike := record.unlike(results["environment"], record.environment()):
        raise DeploybenchError(
            "usage", f"{shown(path)}: made in another environment ({unlike}); run {verb} without --resume"
        )


SETTINGS = (
    "rounds",
    "runs",
    "strict",
    "count_instructions",
    "self_check",
    "input",
    *WORKER_FLAGS,
    *LOAD_FLAGS,
)  # bench's
DECIDED = {
    "runners": "the runners, by --routes, --precisions, --device or --runners",
    "generate": "how files are made",
}  # by several flags


def refuse_changed(
    verb: str,
    args: argparse.Namespace,
    usual: argparse.Namespace,
    names: tuple[str, ...],
    path: Path,
    results: dict[str, Any],
) -> None:
    """Refuses settings that are not the `usual` ones and say another thing than a results file that is gone on with. `names`:
    what the verb has beside what is `asked`."""
    begun = results["config"]
    plain = [runner.removesuffix("#2") for runner in begun["runners"]]
    begun = begun | {"self_check": plain != begun["runners"], "runners": list(dict.fromkeys(plain))}
    begun["batch_size"] = begun.get("batch_sizes", begun["batch_size"])
    given, default = ({**asked(one), **{name: getattr(one, name) for name in names}} for one in (args, usual))
    for name, value in given.items():
        said, was = shown(value) if isinstance(value, Path) else value, begun.get(name)
        if value != default[name] and said != was:
            flag = DECIDED.get(name, f"--{name.replace('_', '-')}")
            text = (" " if name == "generate" else ", ").join(map(str, was)) if isinstance(was, list) else str(was)
            how = f"with {textwrap.shorten(text, 200, placeholder=' ...')}" if was else "without"
            raise DeploybenchError(
                "usage", f"{flag}: {shown(path)} was begun {how}; leave it out, or run {verb} without --resume"
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


def need_cpp(named: str | None) -> None:
    """Refuses runners of C++ where its programs are not built. `named`: what --runners says; advise and migrate choose by it,
    too, and have no --runtimes."""
    if not (paths.CPP_BIN / "bench").exists():
        instead = "" if named else ", or --runtimes python"
        raise DeploybenchError("runtime", f"{shown(paths.CPP_BIN / 'bench')}: not built; make build{instead}")


def transform(args: argparse.Namespace) -> list[tuple[str, str]]:
    """The flags of options.add_own_model that were given, with their values."""
    given = {name: getattr(args, name) for name in ("labels", "resize", "crop", "interpolation")}
    given |= {name: ",".join(map(repr, numbers)) for name in ("mean", "std") if (numbers := getattr(args, name))}
    return [(f"--{name}", str(value)) for name, value in given.items() if value is not None]


def words(flags: Iterable[tuple[str, str]]) -> list[str]:
    """Flags with values as words of a command. A value that begins with a minus, as that of a mean may, is taken for a flag where
    it stands alone."""
    return [word for flag, value in flags for word in ([f"{flag}={value}"] if value.startswith("-") else [flag, value])]


def generate_flags(args: argparse.Namespace) -> list[str]:
    """The flags that go on to `generate`."""
    flags = words([("--weights", args.weights), *transform(args)])
    if args.memory_format:
        flags += ["--memory-format", args.memory_format]
    if args.portable:
        flags.append("--portable")
    if args.dynamic_batch:
        flags.append(cases.DYNAMIC_BATCH + ":".join(map(str, args.dynamic_batch)))
    return flags
