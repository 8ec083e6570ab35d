"""`deploybench generate`: models in, artifacts out, as many at a time as asked for."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from types import FrameType
from typing import Any, NoReturn

from deploybench import artifact, child, models, options, paths, routes, terminal
from deploybench.errors import FAILURE_EXIT, UNSUPPORTED_EXIT, DeploybenchError, debugging, first_line
from deploybench.job import Job, Outcome, make

EXAMPLE = "generate --models squeezenet1_1 --routes script,frozen"
RANDOM = (
    "notice: RANDOM WEIGHTS in {names}: torchvision's could not be had. Speed and parity are real, "
    "the labels mean nothing. With a network: make download, then generate again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    what = parser.add_argument_group("what is made")
    options.add_models(what, default="resnet50")
    what.add_argument(
        "--routes", "--capture", default="script", metavar="LIST",
        help="for which routes to write files: script (default), frozen, aoti, ... or several by comma, or all; "
        "--capture is the same",
    )  # fmt: skip
    options.add_precisions(what)
    options.add_weights(what)
    options.add_device(what)
    how = parser.add_argument_group("how it is made")
    options.add_build(how)
    options.add_artifacts(how)
    how.add_argument(
        "--threads", type=options.threads, metavar="N",
        help="aoti: pack the weights for so many, which are to run it (default: usable CPUs)",
    )  # fmt: skip
    how.add_argument("--jobs", type=options.positive, default=1, metavar="N", help="files at a time (default 1)")
    how.add_argument("--force", action="store_true", help="make it again even if it is up to date")
    options.add_own_model(parser)


def run(args: argparse.Namespace) -> int:
    """Makes every artifact asked for; exit code 1 if one failed, 3 if all that failed were refused."""
    start, outcomes = time.perf_counter(), []
    for outcome in make_asked(args):
        outcomes.append(outcome)
        if args.json:
            terminal.emit(record_of(outcome))
    if not args.json:
        terminal.show(summary(outcomes, time.perf_counter() - start))
    _complain(outcomes)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed and all(outcome.refused for outcome in failed):
        return UNSUPPORTED_EXIT
    return FAILURE_EXIT if failed else 0


def make_asked(args: argparse.Namespace) -> Iterator[Outcome]:
    """The outcome of each artifact that the flags ask for, as they are made."""
    device = options.resolve_device(args.device)
    kinds = _kinds(args.routes)
    if "fp16" in args.precisions and device == "cpu":
        raise DeploybenchError("usage", "--precisions fp16: for --device cuda alone; bf16 is for both")
    if args.dynamic_batch and "aoti" not in kinds:
        raise DeploybenchError(
            "usage", "--dynamic-batch: needs --routes aoti; script and trace take any batch size as they are"
        )
    jobs = [
        Job(
            model, kind, precision, device, args.weights, options.overrides(args), args.artifacts, args.force,
            args.memory_format or "", args.portable, args.dynamic_batch if kind == "aoti" else None, args.threads,
        )
        for model in models.select(args.models)
        for precision in args.precisions
        for kind in kinds
    ]  # fmt: skip
    if args.weights not in options.WEIGHTS and len({job.model.name for job in jobs}) > 1:
        raise DeploybenchError("usage", "--weights FILE: fits one model; name one with --models")
    artifact.sweep(args.artifacts)
    yield from _progress(make_all(jobs, args.jobs), len(jobs))


def _kinds(wanted: str) -> list[str]:
    """The kinds of file that the routes of a comma list run."""
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if not names:
        raise DeploybenchError("usage", f"--routes: names no route; there are {', '.join(routes.ROUTES)}")
    rows = list(routes.ROUTES.values()) if names == ["all"] else [routes.route(name) for name in names]
    return list(dict.fromkeys(row.kind.name for row in rows))


def make_all(jobs: list[Job], parallel: int) -> Iterator[Outcome]:
    """The outcome of each job, as they finish. `parallel` processes, one model in memory in each."""
    parallel = min(parallel, len(jobs))
    if parallel == 1:
        yield from map(attempt, jobs)
        return
    threads = max(1, options.usable_cpus() // parallel)
    others = active_children()  # of a program that uses deploybench
    pool = ProcessPoolExecutor(parallel, get_context("spawn"), _prepare, (threads,))
    try:
        with _deaf():
            futures: dict[Future[Outcome], Job] = {pool.submit(_attempt, job): job for job in longest_first(jobs)}
        for future in as_completed(futures):
            try:
                yield future.result()
            except (BrokenProcessPool, SystemExit):
                what = f"{futures[future].model.name}: a process died, as where memory is out; use fewer --jobs"
                yield Outcome(futures[future], what, code="out_of_memory")
    except BaseException:
        for process in set(active_children()).difference(others):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        artifact.sweep(jobs[0].folder)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C reaches every process of the terminal. Those started meanwhile inherit that they ignore it; this one ends them."""
    if threading.current_thread() is not threading.main_thread():  # only that one may say so; they will, in `_prepare`
        yield
        return
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)


def longest_first(jobs: list[Job]) -> list[Job]:
    """Of each model what takes longest before the rest, so that no process is left with it at the end."""
    order = list(dict.fromkeys(job.model for job in jobs))
    return sorted(jobs, key=lambda job: (order.index(job.model), -routes.KINDS[job.kind].effort))


KILLED = signal.SIGUSR1  # Linux's word to a process of the pool that its owner was killed
_ending = 0  # the signal that a process of the pool is ended by
_at_work = False  # whether that process makes something, which it must tidy away


def _prepare(threads: int) -> None:
    """A process of the pool. Where it is terminated, or its owner was killed, it removes what it half made, as a compiler's
    folders are."""

    def end(number: int, frame: FrameType | None) -> None:
        global _ending
        if _ending:  # it is at it
            return
        _ending = number
        if child.imports_torch(frame):
            os._exit(1)
        if not _at_work:
            _leave()
        child.end_compilers()
        raise KeyboardInterrupt  # as Ctrl-C where one process makes all; a user's code that ends in sys.exit is caught

    os.environ["OMP_NUM_THREADS"] = str(threads)  # heard by torch, which is not imported where all files are up to date
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    signal.signal(KILLED, end)
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).prctl(1, KILLED)  # PR_SET_PDEATHSIG
    owner = parent_process()
    if owner is None or not owner.is_alive():  # killed before that
        os._exit(1)


def _leave() -> NoReturn:
    """Ends a process of the pool without a word to the pool, whose queue others read: an exception that comes in the midst of a
    call's bytes leaves them the rest, as nonsense (EOFError), and one that comes in a job the pool catches, and waits on."""
    atexit._run_exitfuncs()
    os._exit(1)


def _attempt(job: Job) -> Outcome:
    """`attempt` in a process of the pool, which may be terminated meanwhile."""
    global _at_work
    try:
        _at_work = True
        outcome = attempt(job)
        _at_work = False  # from here on a signal ends the process on the spot
    except BaseException:
        if _ending:
            _leave()
        _at_work = False
        raise
    if _ending:  # a user's code has caught it
        _leave()
    return outcome


def attempt(job: Job) -> Outcome:
    """`make`, with an error as data: one model's failure must not stop the others."""
    try:
        return make(job)
    except DeploybenchError as error:
        return Outcome(job, str(error), refused=error.code == "unsupported", code=error.code)
    except MemoryError:
        return Outcome(
            job, f"{job.model.name}: out of memory; use fewer --jobs or a smaller model", code="out_of_memory"
        )
    except Exception as error:  # ours to mend; the other models are made all the same
        if debugging():
            raise
        what = f"{job.model.name}: internal error: {type(error).__name__}: {first_line(error)}"
        return Outcome(job, f"{what}; deploybench --debug generate --models {job.model.spec} --jobs 1 says where")


def _progress(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    from tqdm import tqdm

    with tqdm(total=total, unit="artifact", disable=terminal.no_bar(), file=sys.stderr) as bar:
        for outcome in outcomes:
            bar.set_description(outcome.job.model.name)
            bar.update()
            yield outcome


def record_of(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain data: a line of --json. `seconds` took the making; null where nothing was made."""
    job = outcome.job
    return {
        "model": job.model.name, "route": job.kind, "precision": job.precision, "device": job.device,
        "status": _status(outcome), "file": None if outcome.error else str(job.path), "bytes": outcome.bytes,
        "seconds": outcome.seconds if outcome.made else None, "weights_origin": outcome.origin,
        **({"error": {"code": outcome.code, "message": outcome.error}} if outcome.error else {}),
    }  # fmt: skip


def _status(outcome: Outcome) -> str:
    return "refused" if outcome.refused else "failed" if outcome.error else "made" if outcome.made else "up to date"


def summary(outcomes: list[Outcome], seconds: float) -> str:
    """The table of what was made, in `seconds` altogether."""
    from tabulate import tabulate

    rows = [
        [
            outcome.job.model.name, outcome.job.kind,
            _status(outcome),
            f"{outcome.bytes / 1e6:.1f}" if outcome.bytes else "", f"{outcome.seconds:.1f}" if outcome.made else "",
            outcome.origin,
        ]
        for outcome in outcomes
    ]  # fmt: skip
    headers = ["model", "route", "", "MB", "seconds", "weights"]
    lines = [tabulate(rows, headers, disable_numparse=True, colalign=["left"] * 3 + ["right"] * 2 + ["left"])]
    made = [outcome for outcome in outcomes if outcome.made]
    if made:
        peak = max(outcome.peak_rss_bytes for outcome in made)
        size = sum(outcome.bytes for outcome in made)
        lines.append(f"{len(made)} made in {seconds:.0f} s, {size / 1e9:.2f} GB written, peak RSS {peak / 1e9:.2f} GB")
        lines.append(f"in {paths.shown(made[0].job.folder)}{os.sep}")
    return "\n".join(lines)


def _complain(outcomes: list[Outcome]) -> None:
    """What failed, and which weights are random though nobody asked for that."""
    for outcome in outcomes:
        if outcome.error:
            terminal.error(outcome.error)
    unasked = [outcome.job for outcome in outcomes if outcome.origin == "random" != outcome.job.weights]
    own = list(dict.fromkeys(job.model.factory for job in unasked if job.model.own))
    if own:
        terminal.notice(f"notice: RANDOM WEIGHTS in {', '.join(own)}: none were given; --weights FILE")
    without = list(dict.fromkeys(job.model.name for job in unasked if not job.model.own))
    if without:
        listed = ", ".join(without) if len(without) < 5 else f"{len(without)} models"
        terminal.notice(RANDOM.format(names=listed))
