"""`deploybench bench`: alternates fresh worker processes, both languages, and writes one results file.

It measures nothing itself and imports no torch; docs/measuring.md is the protocol. python/eager is always among the
runners: it is the baseline of every speed-up and the reference of every output.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploybench import artifact, library_paths, models, options, paths, record, report, routes, weights
from deploybench.errors import DeploybenchError
from deploybench.models import Model
from deploybench.paths import shown

BASELINE = "python/eager"
# Flags that go to the workers as they are; their meaning stands in worker.py and its twin.
WORKER_FLAGS = ("batch_size", "threads", "interop_threads", "warmup", "min_seconds", "max_seconds")
DRIFT = 1e-3  # of the largest |logit|: the last output is held to parity.TOLERANCES, the others to it within this
CLEANING_SECONDS = 10  # torch does not hear Ctrl-C while it writes a file, and the largest artifact has 1.3 GB
INTERRUPTED = (128 + signal.SIGINT, -signal.SIGINT)  # Ctrl-C reaches the worker before it reaches us
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
    *WORKER_FLAGS,
}
# What must be equal for a run to be resumed: runs of unlike machines do not mix.
SAME_ENVIRONMENT = ("host", "cpu", "cpus", "python", "torch", "torchvision", "libtorch")


@dataclass(frozen=True)
class Case:
    """A model with what its workers need."""

    model: Model
    artifacts: dict[str, Path]  # by route
    errors: dict[str, str]  # by route, where the artifact cannot be made
    input: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add = parser.add_argument
    options.add_models(parser, default="resnet50")
    add("--runtimes", default="python,cpp", metavar="LIST", help="python, cpp (default both)")
    add(
        "--routes",
        default="eager,script",
        metavar="LIST",
        help=f"of {', '.join(routes.ROUTES)}, or all (default eager,script)",
    )
    add(
        "--input",
        type=Path,
        default=paths.PHOTO,
        metavar="FILE",
        help="a photo, or a tensor file (default a photo in data/)",
    )
    options.add_weights(parser)
    options.add_device(parser)
    options.add_artifacts(parser)
    options.add_own_model(parser)
    group = parser.add_argument_group("measuring", "see docs/measuring.md")
    add = group.add_argument
    add(
        "--rounds",
        type=options.positive,
        default=6,
        metavar="N",
        help="fresh processes per runner, alternating (default 6)",
    )
    add(
        "--runs",
        type=options.positive,
        default=100,
        metavar="N",
        help="timed calls per runner, over all rounds (default 100)",
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
    add("--batch-size", type=options.batch, default=1, metavar="N", help="images a call (default 1)")
    add("--threads", type=options.threads, default=options.usable_cpus(), metavar="N", help="default: usable CPUs")
    add("--interop-threads", type=options.threads, default=1, metavar="N", help="default 1")
    add("--self-check", action="store_true", help="run each runner twice: two equal runners must come out equal")
    add("--strict", action="store_true", help="refuse unlike torch versions instead of warning")
    group = parser.add_argument_group("results")
    group.add_argument("--results", type=Path, default=paths.RESULTS, metavar="FOLDER", help="default results/")
    group.add_argument(
        "--resume", nargs="?", const="", metavar="FILE", help="go on with an interrupted run (default: the last)"
    )


def run(args: argparse.Namespace) -> int:
    """Measures every model; 1 if a runner failed or was not equal to eager, 130 if interrupted."""
    path, results = _resume(args) if args.resume is not None else _begin(args)
    config = results["config"]
    stolen, ticks = record.cpu_ticks()
    try:
        for model in models.select(config["models"]):
            _bench_model(model, path, results)
            print("\n" + report.model_table(results, model.name), flush=True)
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with: deploybench bench --resume {shown(path)}", file=sys.stderr)
        return 130
    finally:
        stolen_now, ticks_now = record.cpu_ticks()
        results["stolen_fraction"] = (stolen_now - stolen) / max(1, ticks_now - ticks)
        record.save(path, results)
    results["complete"] = True
    record.save(path, results)
    with artifact.written_atomically(path.with_suffix(".md")) as partial:
        partial.write_text(report.markdown(results), encoding="utf-8")
    print("\n" + report.footer(results, path))
    return 0 if report.all_sound(results) else 1


def _begin(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """A new results file, its whole configuration inside."""
    runners = choose_runners(args.runtimes, args.routes)
    if any(runner.startswith("cpp/") for runner in runners):
        _need_cpp()
    if not args.input.is_file():
        raise DeploybenchError("input_missing", f"{args.input}: no such photo or tensor file; --input FILE")
    chosen = models.select(args.models)
    if args.weights not in ("auto", "pretrained", "random"):
        if len(chosen) > 1:
            raise DeploybenchError("usage", "--weights FILE: fits one model; name one with --models")
        weights.resolve(args.weights, chosen[0])
    config = {
        "models": [model.factory if model.own else model.name for model in chosen],
        # a pair of equal runners side by side: the less time between the two, the less else differs
        "runners": [name for one in runners for name in (one, f"{one}#2")] if args.self_check else runners,
        "device": options.resolve_device(args.device) if args.device != "cpu" else "cpu",
        "generate": _generate_flags(args),
        **{name: getattr(args, name) for name in ("rounds", "runs", "strict", *WORKER_FLAGS)},
        "input": shown(args.input),  # relative where it can be: results files travel
        "artifacts": shown(args.artifacts),
    }
    path = record.new_results_path(args.results)
    results = {
        "schema": record.SCHEMA,
        "complete": False,
        "environment": record.environment(),
        "config": config,
        "runs": [],
    }
    record.save(path, results)
    return path, results


def _resume(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The results file to go on with; failed runs are tried again."""
    path = Path(args.resume) if args.resume else record.latest(args.results)
    results = record.load(path)
    now = record.environment()
    unlike = [name for name in SAME_ENVIRONMENT if now[name] != results["environment"][name]]
    if unlike:
        was = ", ".join(f"{name} was {results['environment'][name]}, is {now[name]}" for name in unlike)
        raise DeploybenchError(
            "usage", f"{shown(path)}: made in another environment ({was}); run bench without --resume"
        )
    missing = ", ".join(sorted(CONFIGURED - results["config"].keys()))
    if missing:
        raise DeploybenchError(
            "input_invalid", f"{shown(path)}: its config lacks {missing}; run bench without --resume"
        )
    results["runs"] = [run for run in results["runs"] if "error" not in run]
    results["complete"] = False
    print(f"going on with {shown(path)}: {len(results['runs'])} runs are there", file=sys.stderr)
    return path, results


def choose_runners(runtimes: str, wanted: str) -> list[str]:
    """`<runtime>/<route>` for every pair that exists, the baseline first."""
    known = routes.runners()
    kinds = [name.strip() for name in runtimes.split(",")]
    for kind in kinds:
        if kind not in ("python", "cpp"):
            raise DeploybenchError("usage", f"{kind!r}: no such runtime; --runtimes python,cpp")
    names = list(routes.ROUTES) if wanted == "all" else [routes.route(name.strip()).name for name in wanted.split(",")]
    chosen = [name for kind in kinds for route in names for name in fnmatch.filter(known, f"{kind}/{route}")]
    return list(dict.fromkeys([BASELINE, *chosen]))


def _need_cpp() -> None:
    if not (paths.CPP_BIN / "bench").exists():
        raise DeploybenchError(
            "runtime", f"{shown(paths.CPP_BIN / 'bench')}: not built; make build, or --runtimes python"
        )


def _generate_flags(args: argparse.Namespace) -> list[str]:
    flags = ["--weights", args.weights]
    for name in ("labels", "resize", "crop", "interpolation"):
        if getattr(args, name) is not None:
            flags += [f"--{name}", str(getattr(args, name))]
    for name in ("mean", "std"):
        if getattr(args, name) is not None:
            flags += [f"--{name}", ",".join(map(repr, getattr(args, name)))]
    return flags


def _bench_model(model: Model, path: Path, results: dict[str, Any]) -> None:
    """All rounds of one model; each record is saved as soon as it is there."""
    config = results["config"]
    done = {(run["model"], run["runner"], run["round"]) for run in results["runs"]}
    todo = [
        (round, runner)
        for round in range(config["rounds"])
        for runner in (config["runners"] if round % 2 == 0 else reversed(config["runners"]))  # ABBA
        if (model.name, runner, round) not in done
    ]
    if not todo:
        return
    from tqdm import tqdm

    with tempfile.TemporaryDirectory(prefix="deploybench-") as scratch:
        case = prepare(model, config)
        output, reference = Path(scratch, "output.npy"), Path(scratch, "reference.npy")
        if todo[0][1] != BASELINE:  # resumed: eager's output is made anew
            line = run_worker(case, BASELINE, {**config, "runs": 1, "warmup": 0, "rounds": 1}, output)
            if "error" not in line:
                compare_with(line, output, reference, BASELINE)
        with tqdm(todo, unit="run", disable=None, leave=False, file=sys.stderr) as bar:
            for round, runner in bar:
                bar.set_description(f"{model.name} {runner}")
                line = run_worker(case, runner, config, output)
                if "error" not in line:
                    compare_with(line, output, reference, runner)
                results["runs"].append(line | {"model": model.name, "runner": runner, "round": round})
                record.save(path, results)


def prepare(model: Model, config: dict[str, Any]) -> Case:
    """Makes what the runners lack: the artifact of each route, by `deploybench generate`, and the tensor file.

    A route that cannot be made is an error in the case, not the end of it.
    """
    device, folder = config["device"], Path(config["artifacts"])
    names = list(dict.fromkeys(runner.partition("/")[2].partition("#")[0] for runner in config["runners"]))
    what = model.factory if model.own else model.name
    command = ["generate", "--models", what, "--device", device, "--artifacts", str(folder), *config["generate"]]
    made, errors = {}, {}
    try:
        _verb([*command, "--routes", ",".join(names)])  # one built model for all routes
    except DeploybenchError:
        for name in names:  # which of them; what went well is up to date and takes no time
            try:
                _verb([*command, "--routes", name])
            except DeploybenchError as error:
                errors[name] = str(error)
    for name in names:
        if name not in errors:
            made[name] = artifact.path_for(folder, model.name, name, "fp32", device, routes.route(name).suffix)
    if not made:
        return Case(model, {}, errors, Path(config["input"]))
    return Case(model, made, errors, _tensor(Path(config["input"]), next(iter(made.values()))))


def _tensor(photo: Path, made: Path) -> Path:
    """The photo through the artifact's own transform, a file that all models with this transform share."""
    if photo.suffix in (".npy", ".dat"):
        return photo
    made_from = json.dumps([str(photo.resolve()), artifact.read_metadata(made).preprocessing], sort_keys=True)
    tensor = made.parent / f"{photo.stem}.{zlib.crc32(made_from.encode()):08x}.npy"
    if not tensor.exists() or tensor.stat().st_mtime_ns < photo.stat().st_mtime_ns:
        _verb(["preprocess", "--artifact", str(made), str(photo), "--out", str(tensor)])
    return tensor


def _verb(arguments: list[str]) -> None:
    """Runs another verb in its own process, quietly. Raises its last error line."""
    command = [sys.executable, "-m", "deploybench", *arguments]
    done = _captured(command, library_paths.python_environment())
    if done.returncode in INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode:
        errors = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DeploybenchError(
            "runtime", errors[-1] if errors else f"{arguments[0]} ended with {done.returncode}: {last}"
        )


def _captured(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As subprocess.run, which kills an interrupted child after 0.25 s: too soon to remove its half-made artifact."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, errors="replace") as process:
        try:
            out, err = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # where it was this process alone that was told
            try:
                process.wait(CLEANING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def run_worker(case: Case, runner: str, config: dict[str, Any], output: Path) -> record.Record:
    """One fresh process of `runner`; its record, or that of its failure."""
    runtime, _, route = runner.partition("#")[0].partition("/")
    if route in case.errors:
        return record.failure(runtime, None, "artifact_missing", case.errors[route])
    flags = {
        "artifact": case.artifacts[route],
        "input": case.input,
        "output": output,
        # the timed runs of a runner are spread evenly over its rounds
        "runs": -(-config["runs"] // config["rounds"]),
        **{name: config[name] for name in WORKER_FLAGS},
    }
    command = [str(paths.CPP_BIN / "bench")] if runtime == "cpp" else [sys.executable, "-m", "deploybench", "worker"]
    command += [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command += ["--json", *(["--strict"] if config["strict"] else [])]
    environment = library_paths.cpp_environment() if runtime == "cpp" else library_paths.python_environment()
    output.unlink(missing_ok=True)
    start = time.perf_counter()
    done = _captured(command, environment)
    seconds = time.perf_counter() - start
    if done.returncode in INTERRUPTED:
        raise KeyboardInterrupt
    line = _record_in(done, runtime, str(case.artifacts[route]))
    return line if "error" in line else {**line, "process_seconds": seconds}


def _record_in(done: subprocess.CompletedProcess[str], runtime: str, path: str) -> record.Record:
    """The one JSON line on the worker's stdout; a worker that died without one becomes a failure record."""
    try:
        line: record.Record = json.loads(done.stdout)
        if line["schema"] == record.SCHEMA:
            return line
    except (ValueError, KeyError, TypeError):
        pass
    last = (done.stderr.strip().splitlines() or [""])[-1].removeprefix("error: ")
    how = f"ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with code {done.returncode}"
    code = "out_of_memory" if done.returncode == -9 else "runtime"  # 9: what the kernel sends when memory is out
    return record.failure(runtime, path, code, f"{how}; {last}" if last else how)


def compare_with(line: record.Record, output: Path, reference: Path, runner: str) -> None:
    """Adds `parity`: the output of the timed runs, and the input they had, against eager's. The first eager run of a
    model becomes the `reference`, with its input's CRC in a file beside it."""
    from deploybench import parity, tensor_file

    crc = reference.with_suffix(".crc32")
    if runner == BASELINE and not reference.exists():
        shutil.copy(output, reference)
        crc.write_text(line["input_crc32"], encoding="ascii")
    elif not reference.exists():
        line["parity"] = None  # eager itself failed
        return
    expected, found = tensor_file.read_array(reference), tensor_file.read_array(output)
    verdict = parity.compare(expected, found, line["precision"], line["device"]).to_json()
    if not line["output_finite"]:
        verdict |= {"ok": False, "reason": "an output of the timed runs holds NaN or infinity"}
    elif line["output_drift"] > DRIFT * abs(expected).max():
        verdict |= {"ok": False, "reason": f"outputs of the timed runs differ by up to {line['output_drift']:.1e}"}
    elif line["input_crc32"] != crc.read_text(encoding="ascii"):
        verdict |= {"ok": False, "reason": "its input was not eager's (input_crc32)"}
    line["parity"] = verdict
