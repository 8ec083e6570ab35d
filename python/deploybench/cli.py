"""The front door: one verb, one line. Verbs import torch only when they run, so that --help answers at once."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from typing import NoReturn

import deploybench
from deploybench import library_paths
from deploybench.errors import DeploybenchError

# verb: module, whether it imports torch in this process, what it does
VERBS = {
    "list": ("listing", False, "the models there are, and which have artifacts"),
    "libtorch": ("libtorch", False, "get LibTorch into vendor/libtorch"),
    "download": ("pretrained", True, "fetch torchvision's weights into torch.hub's cache"),
    "generate": ("generate", True, "write the deployable file of each model, proven equal to eager"),
    "preprocess": ("preprocess", True, "turn photos into a tensor file, with the model's own transform"),
    "infer": ("infer", True, "the top classes of photos or of a tensor file"),
    "bench": ("bench", False, "compare runtimes and routes: alternate workers, one table"),
    "report": ("report", False, "show a results file again"),
    "matrix": ("matrix", False, "load, run and compare every model by every route in both languages"),
    "worker": ("worker", True, "one measured run of one artifact; the twin of cpp/build/bin/bench"),
}


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line that end in the next command."""

    def error(self, message: str) -> NoReturn:
        """Raises the usage error."""
        raise DeploybenchError("usage", f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Of all verbs; each verb's module adds its own flags when it is the one that was asked for."""
    top = Parser(prog="deploybench", description=(deploybench.__doc__ or "").partition("\n")[0], allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"deploybench {deploybench.__version__}")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, (module, _, does) in VERBS.items():
        sub = verbs.add_parser(verb, help=does, description=does, allow_abbrev=False)
        if verb in sys.argv[1:3]:
            importlib.import_module(f"deploybench.{module}").add_arguments(sub)
    return top


def main() -> int:
    """Runs the verb; the exit code. 2 for usage, 1 for other failures, 130 for Ctrl-C."""
    debug = "--debug" in sys.argv[1:2]
    try:
        args = parser().parse_args()
        module, needs_torch, _ = VERBS[args.verb]
        if needs_torch:
            library_paths.restart_clean()
        code: int = importlib.import_module(f"deploybench.{module}").run(args)
        sys.stdout.flush()
        return code
    except DeploybenchError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head`: not our failure, and nothing more can be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if debug:
            traceback.print_exc()
        print(
            f"error: {error.filename or 'output'}: {error.strerror or error}; free space or choose another place",
            file=sys.stderr,
        )
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the flush at exit fails again, with a traceback
        return 1
