"""`deploybench download`: torchvision's weights into torch.hub's cache, so that everything later works offline."""

from __future__ import annotations

import argparse

from deploybench import models, options, paths, terminal, weights
from deploybench.errors import DeploybenchError

EXAMPLE = "download --models resnet50"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    options.add_models(parser, default="resnet50")


def run(args: argparse.Namespace) -> int:
    """Fetches the weights of each model; exit code 1 if one could not be had."""
    failed = 0
    for model in models.select(args.models):
        try:
            source = weights.resolve("pretrained", model)
            if args.json:
                terminal.emit({"model": model.name, "weights": source.name, "file": str(source.file or "")})
            else:
                terminal.show(f"{model.name}: {source.name} in {paths.shown(source.file) if source.file else ''}")
        except DeploybenchError as error:
            terminal.error(error)
            if args.json:
                terminal.emit({"model": model.name, "error": {"code": error.code, "message": str(error)}})
            failed += 1
    return 1 if failed else 0
