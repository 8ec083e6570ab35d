"""The front door: one verb, one line. Verbs import torch only when they run, so that --help answers at once."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Collection
from types import FrameType

import deploybench
from deploybench import child, library_paths, record, terminal
from deploybench.errors import DeploybenchError, debugging
from deploybench.parser import Help, Parser, add_general

# verb: module, whether it imports torch in this process, what it does
VERBS = {
    "list": ("verbs.listing", False, "the models there are, and which have artifacts"),
    "libtorch": ("libtorch", False, "get LibTorch into vendor/libtorch"),
    "download": ("verbs.pretrained", True, "fetch torchvision's weights into torch.hub's cache"),
    "generate": ("verbs.generate", True, "write the deployable file of each model, proven equal to eager"),
    "preprocess": ("verbs.preprocess", True, "turn photos into a tensor file, with the model's own transform"),
    "infer": ("verbs.infer", True, "the top classes of photos or of a tensor file"),
    "bench": ("verbs.bench", False, "compare runtimes and routes: alternate workers, one table"),
    "evaluate": ("verbs.evaluate", False, "top-1 and top-5 accuracy of runtimes and routes on labelled photos"),
    "bundle": ("verbs.bundle", False, "a folder to ship: the C++ program, its libraries, an artifact"),
    "advise": ("verbs.advise", False, "which way to deploy a model on this machine, by measuring"),
    "migrate": ("verbs.migrate", False, "what changes from TorchScript to AOTInductor, by trying it"),
    "report": ("verbs.report", False, "show results again: in the terminal, as a page with figures, Markdown or CSV"),
    "compare": ("verbs.compare", False, "what became slower or faster between two results files"),
    "doctor": ("verbs.doctor", False, "what is wrong here, why it matters, and the command that mends it"),
    "matrix": ("verbs.matrix", False, "load, run and compare every model by every route in both languages"),
    "worker": ("verbs.worker", True, "one measured run of one artifact; the twin of cpp/build/bin/bench"),
    "completion": ("verbs.completion", False, "a script that completes verbs, flags and models in your shell"),
}

TEXT_ONLY = {"completion": "it prints a shell script"}  # verbs without --json
IMPATIENCE = 0.5  # seconds in which another Ctrl-C is the same one: it must not interrupt what cleans up
INTERRUPTED_EXIT = 128 + signal.SIGINT  # what a shell says of a program that Ctrl-C ended


def parser(asked: Collection[str] = VERBS) -> Parser:
    """Of all verbs; those that are `asked` for have their flags, which the verb's module adds."""
    about = (deploybench.__doc__ or "").partition("\n")[0]
    wide = functools.partial(Help, max_help_position=16)  # the verbs' names on the line of their help
    top = Parser(prog="deploybench", description=about, allow_abbrev=False, formatter_class=wide)
    top.epilog = "example:\n  deploybench bench --help"
    top.add_argument("--version", action="version", version=f"deploybench {deploybench.__version__}")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = top.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True, prog="deploybench")
    for verb, (module, _, does) in VERBS.items():
        about = f"{does[0].upper()}{does[1:]}."
        sub = verbs.add_parser(
            verb, help=does, description=about, allow_abbrev=False, add_help=False, formatter_class=Help
        )
        if verb in asked:
            found = importlib.import_module(f"deploybench.{module}")
            sub.epilog = f"example:\n  deploybench {found.EXAMPLE}"
            found.add_arguments(sub)
            add_general(sub, verb not in TEXT_ONLY)
    top.verbs = verbs.choices
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
        terminal.notice("interrupted")
        return INTERRUPTED_EXIT
    except BrokenPipeError:  # `| head`: not our failure, and nothing more can be said
        _drop_stdout()
        return 1
    except Exception as caught:
        if debugging():
            traceback.print_exc()
        error = _explained(caught)
        if "--json" in sys.argv:
            with contextlib.suppress(OSError):  # a full disk or a closed pipe: the error itself is the news
                terminal.emit(record.failure("python", error.artifact, error.code, str(error)))
        terminal.error(error)
        _flush_or_drop()
        return error.exit_code


_told = -math.inf  # when Ctrl-C last came


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Ctrl-C: KeyboardInterrupt, save while torch is being imported: nothing of ours is open then, and the program ends on the spot."""
    global _told
    if child.imports_torch(frame):
        os.write(2, b"interrupted\n")
        os._exit(INTERRUPTED_EXIT)
    again, _told = time.monotonic() - _told < IMPATIENCE, time.monotonic()
    if again:
        return
    child.end_compilers()
    raise KeyboardInterrupt


def _run() -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label or a file name that the terminal cannot show
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may come next
        from deploybench.verbs import completion

        return completion.answer(parser)
    try:
        args = parser(set(sys.argv[1:3]) & VERBS.keys()).parse_args()
    except SystemExit as stop:  # after --help and --version
        return int(stop.code or 0)
    terminal.set_quiet(args.quiet)
    module, needs_torch, _ = VERBS[args.verb]
    if needs_torch:
        library_paths.restart_clean()
        atexit.register(gc.freeze)  # Python would end by looking through all that torch made, for 0.2 s
    try:
        with terminal.own_stdout() if needs_torch else contextlib.nullcontext():
            code: int = importlib.import_module(f"deploybench.{module}").run(args)
    except DeploybenchError as error:
        artifact = getattr(args, "artifact", None)
        error.artifact = str(artifact) if artifact else None
        raise
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
