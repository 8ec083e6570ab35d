"""`deploybench evaluate`: how often each runner is right on labelled photos, beside eager. It starts each runner's own `infer`,
counts, and imports no torch; docs/evaluate.md says how the numbers come about."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from deploybench import (
    accuracy_table,
    artifact,
    cases,
    configuration,
    dataset,
    evaluation,
    models,
    options,
    paths,
    record,
    respondent,
    results_file,
    routes,
    terminal,
)
from deploybench.errors import DeploybenchError
from deploybench.models import Model
from deploybench.paths import shown, typed
from deploybench.rounds import BASELINE

EXAMPLE = "evaluate --data photos --models resnet50 --precisions fp32,bf16"
SAVED_SECONDS = 10  # between two writings of the results file, or more where that takes long: it holds all predictions
SAVING_SHARE = 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="with a folder of photos for each class, named after the class (required, but for --resume)",
    )
    add(
        "--classes", type=Path, metavar="FILE",
        help="which class a folder is: lines of folder, tab, class index or label (default: the folder's name says it)",
    )  # fmt: skip
    add("--limit", type=options.positive, metavar="N", help="at most so many photos, evenly spread over the classes")
    group = parser.add_argument_group("what is evaluated")
    add = group.add_argument
    options.add_models(group, default="resnet50")
    add("--runtimes", default="python,cpp", metavar="LIST", help="python, cpp (default both)")
    add(
        "--routes", default="eager,script", metavar="LIST",
        help=f"of {', '.join(routes.ROUTES)}, or all (default eager,script)",
    )  # fmt: skip
    options.add_precisions(group)
    add("--runners", metavar="LIST", help="these very runners instead, such as cpp/fused/bf16,python/openvino")
    group = parser.add_argument_group("artifacts")
    options.add_weights(group)
    options.add_device(group)
    options.add_artifacts(group)
    options.add_build(group)
    options.add_own_model(parser)
    group = parser.add_argument_group("how the photos are classified", "as by `infer`")
    group.add_argument("--batch-size", type=options.batch, default=1, metavar="N", help="together at most (default 1)")
    group.add_argument("--instances", type=options.threads, metavar="N", help="at the same time (default: usable CPUs)")
    group.add_argument(
        "--threads", type=options.threads, metavar="N", help="of each instance (default: usable CPUs / instances)"
    )
    group = parser.add_argument_group("results")
    group.add_argument("--results", type=Path, default=paths.RESULTS, metavar="FOLDER", help="default results/")
    group.add_argument(
        "--resume", nargs="?", const="", metavar="FILE", help="go on with an interrupted run (default: the last)"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluates every model; 1 if a runner failed, 130 if interrupted."""
    path, results, photos = _resume(args) if args.resume is not None else _begin(args)
    chosen = models.select(results["config"]["models"])
    from tqdm import tqdm

    total = len(results["photos"]) * len(chosen) * len(results["config"]["runners"])
    try:
        with tqdm(total=total, unit="img", disable=terminal.no_bar(), file=sys.stderr) as bar:
            for model in chosen:
                _evaluate_model(model, photos, Progress(path, results, bar))
                if not args.json:
                    with tqdm.external_write_mode(file=sys.stdout):
                        terminal.show(f"{accuracy_table.of_model(results, model.name)}\n", heading=True)
    except KeyboardInterrupt:
        if not results["runs"]:
            raise
        terminal.notice(f"\ninterrupted; go on with: deploybench evaluate --resume {typed(path)}")
        return 130
    finally:
        if results["runs"]:
            results_file.save(path, results)
        else:  # nothing was answered: the model cannot be made, or the folders are not its classes
            path.unlink(missing_ok=True)
    results["complete"] = True
    results_file.save(path, results)
    if args.json:
        terminal.emit(accuracy_table.summary(results, path))
    else:
        terminal.show(accuracy_table.footer(results, path))
    return 0 if accuracy_table.all_sound(results) else 1


def _begin(args: argparse.Namespace) -> tuple[Path, dict[str, Any], dataset.Dataset]:
    """A new results file, its whole configuration inside."""
    if args.data is None:
        raise DeploybenchError("usage", "--data: give the FOLDER of labelled photos; see deploybench evaluate --help")
    config = configuration.asked(args)
    configuration.check_asked(args, config)
    photos = dataset.read(args.data)
    config |= {
        "data": shown(args.data),
        "classes": shown(args.classes) if args.classes else None,
        **{name: getattr(args, name) for name in ("limit", *respondent.FLAGS)},
    }
    full = set(map(photos.folder_of, photos.photos))
    empty = [folder for folder in photos.folders if folder not in full]
    photos = dataset.sample(photos, args.limit or len(photos.photos))
    path = results_file.new_path(args.results, results_file.EVALUATION)
    results = {
        "kind": results_file.EVALUATION_KIND,
        "schema": evaluation.SCHEMA,
        "complete": False,
        "environment": record.environment(),
        "config": config,
        "photos": photos.photos,
        "others": photos.others,
        "empty_folders": empty,
        "models": {},
        "runs": [],
    }
    results_file.save(path, results)
    return path, results, photos


def _resume(args: argparse.Namespace) -> tuple[Path, dict[str, Any], dataset.Dataset]:
    """The results file to go on with: predictions are kept, and runners that failed are tried again."""
    given = Path(args.resume) if args.resume else None
    path = given or results_file.latest(args.results, results_file.EVALUATION, "deploybench evaluate --data FOLDER")
    results = evaluation.load(path)
    configuration.check_environment(path, results, "evaluate")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    settings = ("data", "classes", "limit", *respondent.FLAGS)
    configuration.refuse_changed("evaluate", args, parser.parse_args([]), settings, path, results)
    config = results["config"]
    photos = dataset.read(Path(config["data"]))
    photos = dataset.sample(photos, config["limit"] or len(photos.photos))
    if photos.photos != results["photos"]:
        raise DeploybenchError(
            "usage", f"{shown(path)}: {config['data']} holds other photos than then; run evaluate without --resume"
        )
    results["complete"] = False
    there = sum(len(run["top5"]) for run in results["runs"])
    terminal.notice(f"going on with {shown(path)}: {there} answers are there")
    return path, results, photos


class Progress:
    """The results while they grow: the bar on stderr, and the file that is written now and then."""

    def __init__(self, path: Path, results: dict[str, Any], bar: Any) -> None:
        self.path, self.results, self.bar = path, results, bar
        self._next = time.monotonic() + SAVED_SECONDS

    def step(self) -> None:
        """One more answer is there."""
        self.bar.update()
        if time.monotonic() >= self._next:
            self.save()

    def skip(self, count: int) -> None:
        """So many answers were there before, or will not come: they do not count for the rate."""
        if not self.bar.disable:
            self.bar.initial += count
            self.bar.n += count
            self.bar.refresh()

    def save(self) -> None:
        """Writes the file, and says when to do so again."""
        start = time.monotonic()
        results_file.save(self.path, self.results)
        now = time.monotonic()
        self._next = now + max(SAVED_SECONDS, (now - start) / SAVING_SHARE)


def _evaluate_model(model: Model, photos: dataset.Dataset, progress: Progress) -> None:
    """All runners of one model, one after the other."""
    results, config = progress.results, progress.results["config"]
    # eager's artifact first: its labels say whether the folders' names are classes, before minutes go into the others
    progress.bar.set_description(f"{model.name} is made")
    made, errors = cases.make_artifacts(model, {**config, "runners": [BASELINE]})
    try:
        for why in errors.values():
            raise why
        metadata = artifact.read_metadata(next(iter(made.values())))
        _drop_other_weights(results, model.name, metadata.weights["origin"])
    except DeploybenchError as why:
        if len(config["models"]) == 1:
            raise
        for runner in config["runners"]:
            _fail(results, {"model": model.name, "runner": runner}, why)
            progress.skip(len(photos.photos))
        return
    file = Path(config["classes"]) if config["classes"] else None
    results["models"][model.name] = {
        "classes": dataset.classes(photos, metadata.labels, file),
        "weights_origin": metadata.weights["origin"],
    }
    keys = {runner: cases.key_of(routes.runner(runner)) for runner in config["runners"]}
    if rest := [runner for runner, key in keys.items() if key not in made]:
        others, errors = cases.make_artifacts(model, {**config, "runners": rest})
        made |= others
    for runner, key in keys.items():
        progress.bar.set_description(f"{model.name} {runner}")
        about = {"model": model.name, "runner": runner}
        if key in errors:
            _fail(results, about, errors[key])
            progress.skip(len(photos.photos))
        else:
            run = _begun(results, about, made[key])
            progress.save()
            _evaluate_runner(run, made[key], photos, progress)
        progress.save()


def _new(about: dict[str, str], **more: str) -> dict[str, Any]:
    return {
        **about,
        "artifact": "",
        "fingerprint": "",
        **more,
        "top5": [],
        "problems": {},
        "timed_images": 0,
        "timed_seconds": 0.0,
    }


def _fail(results: dict[str, Any], about: dict[str, str], why: DeploybenchError) -> None:
    """What was answered before stays, for a day on which the artifact can be made again."""
    run = next((run for run in results["runs"] if about.items() <= run.items()), _new(about))
    _settle(results, {**run, "error": {"code": why.code, "message": str(why)}})


def _drop_other_weights(results: dict[str, Any], model: str, origin: str) -> None:
    """Answers by random weights are none of the real ones, which `auto` may have found since, and the fingerprint does not know.
    Those by real ones are kept. Raises artifact_missing where these cannot be had any more."""
    before = results["models"].get(model, {}).get("weights_origin", origin)
    if before != origin == "random":
        what = f"was answered with {before} weights, which are not there now"
        raise DeploybenchError("artifact_missing", f"{model}: {what}; make download, or run evaluate without --resume")
    if before != origin:
        terminal.notice(f"{model}: was answered with {before} weights, has {origin} ones now; it begins anew")
        results["runs"] = [run for run in results["runs"] if run["model"] != model]


def _settle(results: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Puts the run in the place of one of the same runner."""
    others = [one for one in results["runs"] if (one["model"], one["runner"]) != (run["model"], run["runner"])]
    results["runs"] = [*others, run]
    return run


def _begun(results: dict[str, Any], about: dict[str, str], made: Path) -> dict[str, Any]:
    """The run to go on with: what was answered by this very artifact before, or nothing yet."""
    fingerprint = artifact.read_metadata(made).fingerprint
    for run in results["runs"]:
        if all(run[name] == value for name, value in about.items()) and run["fingerprint"] == fingerprint:
            run.pop("error", None)
            return _settle(results, run)
    return _settle(results, _new(about, artifact=shown(made), fingerprint=fingerprint))


def _evaluate_runner(run: dict[str, Any], made: Path, photos: dataset.Dataset, progress: Progress) -> None:
    """The answers that are not there yet, each kept as soon as it is."""
    at = len(run["top5"])
    progress.skip(at)
    todo = [photos.root / photo for photo in photos.photos[at:]]
    if not todo:
        return
    answered, first, images, seconds = 0, 0.0, run["timed_images"], run["timed_seconds"]
    try:
        for said in respondent.answers(run["runner"], made, todo, progress.results["config"]):
            if "error" in said:
                run["problems"][str(at + answered)] = said["error"]["message"]
            run["top5"].append([one["index"] for one in said["predictions"]] if "predictions" in said else None)
            answered += 1
            now = time.monotonic()
            first = first or now
            # from the first answer on: starting the process and loading the artifact are not in the rate
            run["timed_images"], run["timed_seconds"] = images + answered - 1, seconds + now - first
            progress.step()
    except DeploybenchError as error:
        run["error"] = {"code": error.code, "message": str(error)}
        progress.skip(len(todo) - answered)
