"""The front door: one verb, one line. Verbs import torch only when they run, so that --help answers at once."""

from __future__ import annotations

import argparse
import functools
import importlib
import io
import json
import os
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import deploybench
from deploybench import library_paths
from deploybench.errors import DeploybenchError, debugging

# verb: module, whether it imports torch in this process, what it does
VERBS = {
    "list": ("listing", False, "the models there are, and which have artifacts"),
    "libtorch": ("libtorch", False, "get LibTorch into vendor/libtorch"),
    "download": ("pretrained", True, "fetch torchvision's weights into torch.hub's cache"),
    "generate": ("generate", True, "write the deployable file of each model, proven equal to eager"),
    "preprocess": ("preprocess", True, "turn photos into a tensor file, with the model's own transform"),
    "infer": ("infer", True, "the top classes of photos or of a tensor file"),
    "bench": ("bench", False, "compare runtimes and routes: alternate workers, one table"),
    "bundle": ("bundle", False, "a folder to ship: the C++ program, its libraries, an artifact"),
    "report": ("report", False, "show a results file again"),
    "compare": ("compare", False, "what became slower or faster between two results files"),
    "matrix": ("matrix", False, "load, run and compare every model by every route in both languages"),
    "worker": ("worker", True, "one measured run of one artifact; the twin of cpp/build/bin/bench"),
}


INTERRUPTED_EXIT = 128 + signal.SIGINT  # what a shell says of a program that Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line that end in the next command."""

    def print_help(self, file: object = None) -> None:
        """To stdout; argparse's own says nothing where that cannot be written."""
        print(self.format_help(), end="")

    def error(self, message: str) -> NoReturn:
        """Raises the usage error; the worker, whose reader is a program, prints it as a record too."""
        error = DeploybenchError("usage", f"{message}; see {self.prog} --help")
        if "worker" in sys.argv[1:3] and "--json" in sys.argv:
            from deploybench import record

            print(json.dumps(record.failure("python", None, error.code, str(error))))
        raise error


def parser() -> argparse.ArgumentParser:
    """Of all verbs; each verb's module adds its own flags when it is the one that was asked for."""
    about = (deploybench.__doc__ or "").partition("\n")[0]
    wide = functools.partial(argparse.HelpFormatter, max_help_position=16)  # the verbs' names on the line of their help
    top = Parser(prog="deploybench", description=about, allow_abbrev=False, formatter_class=wide)
    top.add_argument("--version", action="version", version=f"deploybench {deploybench.__version__}")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = top.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for verb, (module, _, does) in VERBS.items():
        sub = verbs.add_parser(verb, help=does, description=does, allow_abbrev=False)
        if verb in sys.argv[1:3]:
            importlib.import_module(f"deploybench.{module}").add_arguments(sub)
    return top


def main() -> int:
    """Runs the verb; the exit code. 2 for usage, 3 for a route's refusal, 1 for other failures, 130 for Ctrl-C."""
    try:
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as it is in the background of a script
            signal.signal(signal.SIGINT, _interrupt)
        code = _run()
        if sys.stdout is not None:  # None where the caller closed it
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the leaving
        print("interrupted", file=sys.stderr)
        return INTERRUPTED_EXIT
    except BrokenPipeError:  # `| head`: not our failure, and nothing more can be said
        _drop_stdout()
        return 1
    except Exception as caught:
        if debugging():
            traceback.print_exc()
        error = _explained(caught)
        print(f"error: {error}", file=sys.stderr)
        _flush_or_drop()
        return error.exit_code


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Ctrl-C: KeyboardInterrupt, save while torch is being imported, which catches it and goes on with half a numpy.

    Nothing of ours is open then, and the program ends on the spot.
    """
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") in ("torch", "torchvision", "numpy"):
            os.write(2, b"interrupted\n")
            os._exit(INTERRUPTED_EXIT)
        frame = frame.f_back
    raise KeyboardInterrupt


def _run() -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label or a file name that the terminal cannot show
    try:
        args = parser().parse_args()
    except SystemExit as stop:  # after --help and --version
        return int(stop.code or 0)
    module, needs_torch, _ = VERBS[args.verb]
    if needs_torch:
        library_paths.restart_clean()
    code: int = importlib.import_module(f"deploybench.{module}").run(args)
    return code


def _explained(error: Exception) -> DeploybenchError:
    """What ended the program, as the one line that a person gets."""
    if isinstance(error, DeploybenchError):
        return error
    if isinstance(error, OSError):
        what = f"{error.filename or 'output'}: {error.strerror or error}"
        return DeploybenchError("output_unwritable", f"{what}; free space or choose another place")
    if isinstance(error, MemoryError):
        return DeploybenchError("out_of_memory", "memory: not enough for this; use a smaller batch, image or model")
    what = f"internal error: {type(error).__name__}: {error}"
    return DeploybenchError("runtime", f"{what}; type it again as `deploybench --debug ...` and report what it prints")


def _flush_or_drop() -> None:
    """What was said before the error; to nowhere where stdout takes nothing, or the flush at exit fails with a traceback."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _drop_stdout()


def _drop_stdout() -> None:
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
