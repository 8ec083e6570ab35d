"""`deploybench completion`: a script for the shell. At each <Tab> it asks this program what may come next, because the
models are those of the installed torchvision; argcomplete reads the rest from the parsers of the verbs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Iterable

from deploybench import models, options, routes
from deploybench.parser import Parser

EXAMPLE = "completion bash"
SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def run(args: argparse.Namespace) -> int:
    """Prints the script, for `eval` or a file of the shell's own."""
    import argcomplete

    print(argcomplete.shellcode(["deploybench"], shell=args.shell))  # type: ignore[attr-defined]
    return 0


def answer(parser: Callable[[Collection[str]], Parser]) -> int:
    """What may come next on the line that a shell shows in COMP_LINE, in the way of argcomplete."""
    import argcomplete

    words = os.environ.get("COMP_LINE", "").split()
    whole = parser(words[1:3])
    for sub in whole.verbs.values():
        _add_values(sub)
    argcomplete.autocomplete(whole, always_complete_options="long")
    return 0


def _add_values(parser: argparse.ArgumentParser) -> None:
    """Gives the arguments whose values are no `choices` a way to tell them. By name: a flag means the same in all verbs."""
    values: dict[str, Callable[[], Iterable[str]]] = {
        "models": lambda: [*models.SETS, *models.names()],
        "model": models.names,
        "routes": lambda: [*routes.ROUTES, "all"],
        "runners": lambda: [one.name for one in routes.runners("cpu", routes.PRECISIONS)],
        "precisions": lambda: routes.PRECISIONS,
        "runtimes": lambda: routes.BOTH,
        "weights": lambda: options.WEIGHTS,
    }
    for action in parser._actions:
        if action.dest in values and not action.choices:
            action.completer = _listed(values[action.dest])  # type: ignore[attr-defined]


def _listed(values: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    """A completer for one value, or the next of several by comma."""

    def complete(prefix: str, **_: object) -> list[str]:
        before, comma, _last = prefix.rpartition(",")
        return [f"{before}{comma}{value}" for value in values()]

    return complete
