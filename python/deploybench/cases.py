"""A case: a model with the artifacts and the tensor file that its workers need, made where they lack. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploybench import artifact, child, options, record, routes
from deploybench.answers import TENSOR_FILES
from deploybench.checkout import HERE, Checkout
from deploybench.errors import UNSUPPORTED_EXIT, DeploybenchError
from deploybench.models import Model

DYNAMIC_BATCH = "--dynamic-batch="
JOB_BYTES = 11 << 30  # of memory for a file while it is made: `aoti` of ViT-H/14 at fp32 takes 10.4 GB


@dataclass(frozen=True)
class Case:
    """A model with what its workers need."""

    model: Model
    artifacts: dict[tuple[str, str], Path]  # by kind and precision
    errors: dict[tuple[str, str], DeploybenchError]  # by the same, where the artifact cannot be made
    input: Path
    checkout: Checkout = HERE  # whose programs run it


def key_of(runner: routes.Runner) -> tuple[str, str]:
    """The kind and the precision of its artifact."""
    return runner.route.kind.name, runner.precision


def prepare(model: Model, config: dict[str, Any], seconds: float | None = None, checkout: Checkout = HERE) -> Case:
    """Makes what the runners lack, in so many seconds and by the checkout's programs: the artifact of each route, and the
    tensor file."""
    made, errors = make_artifacts(model, config, seconds, checkout)
    photo = Path(config["input"])
    return Case(model, made, errors, _tensor(photo, next(iter(made.values()))) if made else photo, checkout)


def make_artifacts(
    model: Model, config: dict[str, Any], seconds: float | None = None, checkout: Checkout = HERE
) -> tuple[dict[tuple[str, str], Path], dict[tuple[str, str], DeploybenchError]]:
    """The artifacts of the runners of `config`, by kind and precision, those that lack made by `deploybench generate`; and
    where one cannot be made, or not in so many seconds, why: that is not the end of the others."""
    deadline = time.monotonic() + seconds if seconds is not None else math.inf
    device, folder = config["device"], Path(config["artifacts"])
    chosen = [routes.runner(name) for name in config["runners"]]
    wanted = list(dict.fromkeys((one.route, one.precision) for one in chosen))
    command = ["generate", "--models", model.spec, "--device", device, "--artifacts", str(folder), *_jobs(config)]
    made: dict[tuple[str, str], Path] = {}
    errors: dict[tuple[str, str], DeploybenchError] = {}
    for precisions, rows in _alike(wanted):
        asked = [*command, *_flags(rows, config), "--precisions", ",".join(precisions)]
        said, failure = _generate(asked, checkout, deadline)
        keys = {(row.kind.name, precision): row for precision in precisions for row in rows}
        for key, row in keys.items():
            error = said.get(key, failure)
            untold = error and (key not in said or error.code == "out_of_memory")  # it did not come to it
            if untold and len(keys) > 1 and time.monotonic() < deadline:
                asked = [*command, *_flags([row], config), "--precisions", key[1]]
                said_alone, failure_alone = _generate(asked, checkout, deadline)
                error = said_alone.get(key, failure_alone)
            if error:
                errors[key] = error
    for row, precision in wanted:
        key = row.kind.name, precision
        if key not in errors:
            made[key] = routes.file_of(folder, model.name, row.kind, precision, device, config["threads"])
    return made, errors


def _alike(wanted: list[tuple[routes.Route, str]]) -> list[tuple[list[str], list[routes.Route]]]:
    """Precisions that want the same kinds, together: one process makes their files, from one graph. One route for all that run a
    kind."""
    found: dict[tuple[str, ...], tuple[list[str], list[routes.Route]]] = {}
    for precision in dict.fromkeys(precision for _, precision in wanted):
        rows = {row.kind.name: row for row, its in wanted if its == precision}
        found.setdefault(tuple(sorted(rows)), ([], list(rows.values())))[0].append(precision)
    return list(found.values())


def _jobs(config: dict[str, Any]) -> list[str]:
    """As many files at a time as there are cores and memory for, most of the making being one thread's work; but one by one where
    something is chosen by measuring: a memory format, and kernels for a GPU."""
    if config["device"] == "cuda" or "--memory-format auto" in " ".join(config["generate"]):
        return []
    return ["--jobs", str(max(1, min(options.usable_cpus(), record.available_memory() // JOB_BYTES)))]


def _flags(rows: list[routes.Route], config: dict[str, Any]) -> list[str]:
    """For the files of these routes. --dynamic-batch is refused where none of them heeds it; --threads is not, but checkouts of
    before lack it."""
    heeded = any(row.kind.name == "aoti" for row in rows)
    flags = [flag for flag in config["generate"] if heeded or not flag.startswith(DYNAMIC_BATCH)]
    threads = config["threads"]
    if threads not in (None, options.usable_cpus()) and any(row.kind.packs for row in rows):
        flags += ["--threads", str(threads)]
    return ["--routes", ",".join(row.name for row in rows), *flags]


def check_input(path: Path) -> None:
    """Reads a photo once, which would else be found damaged after all artifacts are made. Raises input_missing, input_invalid."""
    if not path.is_file():
        raise DeploybenchError("input_missing", f"{path}: no such photo or tensor file; --input FILE")
    if path.suffix not in TENSOR_FILES:
        from deploybench import images

        images.open_image(path)


def _tensor(photo: Path, made: Path) -> Path:
    """The photo through the artifact's own transform, a file that all models with this transform share."""
    if photo.suffix in TENSOR_FILES:
        return photo
    transform = json.dumps(artifact.read_metadata(made).preprocessing, sort_keys=True)
    # of what the photo holds: `mv older.jpg photo.jpg` keeps the older time
    made_from = zlib.crc32(transform.encode(), zlib.crc32(photo.read_bytes()))
    tensor = made.parent / f"{photo.stem}.{made_from:08x}.npy"
    if not tensor.exists():
        done = _verb(["preprocess", "--artifact", str(made), str(photo), "--out", str(tensor), "--json"], HERE)
        if done.returncode:
            raise _failure("preprocess", done)
    return tensor


def _generate(
    arguments: list[str], checkout: Checkout, deadline: float
) -> tuple[dict[tuple[str, str], DeploybenchError | None], DeploybenchError | None]:
    """By kind of file and precision, why it was not made, None where it was; and what `generate` itself failed with. Those lack
    that it did not come to, and all where an older checkout's does not tell them apart."""
    try:
        done = _verb([*arguments, "--json"], checkout, deadline)
        lines, failure = done.stdout, _failure("generate", done) if done.returncode else None
    except subprocess.TimeoutExpired as over:
        lines, failure = over.output, DeploybenchError("unsupported", "its file was not made within the budget")
    said: dict[tuple[str, str], DeploybenchError | None] = {}
    for line in lines.splitlines():
        with contextlib.suppress(ValueError, LookupError, TypeError):
            outcome = json.loads(line)
            key = outcome["route"], outcome["precision"]
            said[key] = _failure_of(outcome["error"]) if "error" in outcome else None
    return said, failure


def _failure_of(error: dict[str, str]) -> DeploybenchError:
    """Of an outcome of `generate`; a file that could not be made is missing, whatever the reason."""
    code = error["code"] if error["code"] in ("unsupported", "out_of_memory") else "artifact_missing"
    return DeploybenchError(code, error["message"])


def _verb(arguments: list[str], checkout: Checkout, deadline: float = math.inf) -> subprocess.CompletedProcess[str]:
    """Runs another verb in its own process, quietly, until time.monotonic() is `deadline`. Raises TimeoutExpired with what it
    printed until then."""
    done = _captured(checkout.verb(*arguments), checkout, deadline)
    if done.returncode in child.INTERRUPTED:
        raise KeyboardInterrupt
    return done


def _failure(verb: str, done: subprocess.CompletedProcess[str]) -> DeploybenchError:
    """By the record of a verb that was run with --json, else by its exit code and its last error line."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        error = json.loads(done.stdout)["error"]
        return DeploybenchError(error["code"], error["message"])
    errors = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    code = "unsupported" if done.returncode == UNSUPPORTED_EXIT else "artifact_missing"
    return DeploybenchError(code, errors[-1] if errors else f"{verb} ended with {done.returncode}: {last}")


def _captured(command: list[str], checkout: Checkout, deadline: float = math.inf) -> subprocess.CompletedProcess[str]:
    """As subprocess.run, which kills an interrupted child after 0.25 s: too soon to remove its half-made artifact."""
    pipe = subprocess.PIPE
    left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
    environment = checkout.environment("python")
    with subprocess.Popen(
        command, cwd=checkout.folder, env=environment, stdout=pipe, stderr=pipe, text=True, errors="replace"
    ) as process:
        try:
            out, err = process.communicate(timeout=left)
        except KeyboardInterrupt:
            child.stop(process)
            raise
        except subprocess.TimeoutExpired as over:
            child.stop(process)
            raise subprocess.TimeoutExpired(command, over.timeout, process.communicate()[0]) from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)
