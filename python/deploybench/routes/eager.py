"""Eager: the nn.Module itself, as it was trained. The artifact is its state_dict; the code comes from the factory."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from deploybench.artifact import ENTRY, Metadata

if TYPE_CHECKING:
    import torch
    from torch import nn

    from deploybench.routes import Forward


def export(module: nn.Module, example: torch.Tensor, path: Path, metadata: Metadata) -> None:
    """Writes the state_dict, and beside its entries the metadata."""
    import torch

    from deploybench.routes import border

    torch.save(border.inner(module).state_dict(), path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/extra/{ENTRY}", metadata.to_json())


def load(path: Path, metadata: Metadata, instances: int = 1) -> Forward:
    """The module, built by its factory, with the weights of `path`."""
    import torch

    from deploybench import models
    from deploybench.routes import border

    model = models.Model(metadata.model, metadata.factory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a factory's own remarks on its initialisation
        module = models.finish(model, models.construct(model, metadata.input_shape[2]))
    module = border.fit(module, metadata.precision, metadata.memory_format)
    border.inner(module).load_state_dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    return module.to(metadata.device).eval()
