"""`deploybench list`: the models there are. Imports no torch."""

from __future__ import annotations

import argparse

from deploybench import models, options, routes, terminal

EXAMPLE = "list 'resnet*' squeezenet1_1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "models", nargs="*", default=["all"], metavar="MODEL", help="names, globs, article, panel or all (default all)"
    )
    options.add_artifacts(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a line per model: its name and the artifacts it has."""
    chosen = models.select(args.models)
    width = max(len(model.name) for model in chosen)
    for model in chosen:
        made = sorted(
            {
                file.name
                for kind in routes.KINDS.values()
                for file in args.artifacts.glob(f"{model.name}.{kind.name}-*{kind.suffix}")
            }
        )
        if args.json:
            why = model.deviation.why
            terminal.emit({"model": model.name, "factory": model.factory, "why_special": why, "artifacts": made})
        else:
            terminal.show(
                f"{model.name:{width}}  {' '.join(name.removeprefix(model.name + '.') for name in made)}".rstrip()
            )
    return 0
