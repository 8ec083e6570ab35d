"""The routes: one row a way to deploy, one file an implementation. To add one, write the file and its row.

torch is imported by the functions, not here: the driver reads this table without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploybench.errors import DeploybenchError
from deploybench.routes import eager, torchscript

if TYPE_CHECKING:
    import torch
    from torch import nn

    from deploybench.artifact import Metadata

    Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Route:
    """A way to deploy.

    `export(module, example, path, metadata_json)` writes the artifact; `load(path, metadata)` gives a callable on the
    artifact's device, float32 [N, 3, H, W] -> float32 [N, classes].
    """

    name: str
    suffix: str
    runtimes: tuple[str, ...]
    capture: str
    export: Callable[[nn.Module, torch.Tensor, Path, str], None]
    load: Callable[[Path, Metadata], Forward]


ROUTES = {
    route.name: route
    for route in (
        Route("eager", ".pth", ("python",), "none", eager.export, eager.load),
        Route("script", ".ts", ("python", "cpp"), "script", torchscript.export_script, torchscript.load),
        Route("trace", ".ts", ("python", "cpp"), "trace", torchscript.export_trace, torchscript.load),
    )
}


def route(name: str) -> Route:
    """The row called `name`."""
    if name not in ROUTES:
        raise DeploybenchError("usage", f"{name!r}: no such route; there are {', '.join(ROUTES)}")
    return ROUTES[name]


def runners() -> dict[str, tuple[str, Route]]:
    """Every `<runtime>/<route>` there is, with its runtime and row."""
    return {f"{runtime}/{row.name}": (runtime, row) for row in ROUTES.values() for runtime in row.runtimes}
