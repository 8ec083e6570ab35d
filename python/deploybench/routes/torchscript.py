"""TorchScript: scripted (the source is compiled), traced (one run is recorded), frozen (weights are constants, batch norm is
folded into convolutions), and frozen with oneDNN Graph's fusion. Twin of cpp/deploybench/artifact."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deploybench.artifact import ENTRY, Metadata
from deploybench.errors import DeploybenchError, first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

    from deploybench.routes import Forward


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's DeprecationWarning on TorchScript (since 2.11; docs say what it means) and the tracer's remarks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def export_script(module: nn.Module, example: torch.Tensor, path: Path, metadata: Metadata) -> None:
    """Compiles the module's source and saves it."""
    import torch

    try:
        with _quietly():
            scripted = torch.jit.script(module)
    except (RuntimeError, torch.jit.frontend.FrontendError, AttributeError, TypeError) as error:
        raise DeploybenchError("runtime", f"cannot be scripted ({first_line(error)}); try --capture trace") from error
    _drop_warnings(scripted)
    _save(scripted, path, metadata)


def export_trace(module: nn.Module, example: torch.Tensor, path: Path, metadata: Metadata) -> None:
    """Records one run on `example`, [N, 3, H, W], and saves it."""
    _save(_traced(module, example), path, metadata)


def export_frozen(module: nn.Module, example: torch.Tensor, path: Path, metadata: Metadata) -> None:
    """Traces, makes constants of the weights, and saves it. Never the result of optimize_for_inference, which does not
    survive saving (pytorch issue 69608)."""
    import torch

    with _quietly():
        frozen = torch.jit.freeze(_traced(module, example).eval())
    _save(frozen, path, metadata)


def _traced(module: nn.Module, example: torch.Tensor) -> torch.jit.ScriptModule:
    import torch

    try:
        # check_trace would run the model three times more; generate compares the saved file with eager anyway
        with _quietly(), torch.no_grad():
            traced: torch.jit.ScriptModule = torch.jit.trace(module, example, check_trace=False)
            return traced
    except (RuntimeError, TypeError) as error:
        raise DeploybenchError("runtime", f"cannot be traced ({first_line(error)}); mend the model") from error


def _drop_warnings(scripted: torch.jit.ScriptModule) -> None:
    """Takes `warnings.warn` out of the compiled code: it would speak on the stderr of the deployed program. GoogLeNet and
    Inception warn in each call that they return a tuple, which they no longer do."""
    for part in scripted.modules():
        for name in part._c._method_names():  # type: ignore[operator, union-attr]
            for node in part._c._get_method(name).graph.findAllNodes("aten::warn"):  # type: ignore[operator, union-attr]
                node.destroy()


def _save(module: torch.jit.ScriptModule, path: Path, metadata: Metadata) -> None:
    import torch

    with _quietly():
        torch.jit.save(module, str(path), _extra_files={ENTRY: metadata.to_json()})


def load(path: Path, metadata: Metadata, instances: int = 1) -> Forward:
    """The module, ready on the artifact's device, with oneDNN Graph's fusion off, which an earlier call may have left on: it
    computes wrong what was not rewritten for it."""
    import torch

    if torch.jit.onednn_fusion_enabled():
        torch.jit.enable_onednn_fusion(False)
    return _load(path, metadata)


def _load(path: Path, metadata: Metadata) -> Forward:
    import torch

    with _quietly():
        module: Forward = torch.jit.load(str(path), map_location=metadata.device).eval()
    return module


def load_fused(path: Path, metadata: Metadata, instances: int = 1) -> Forward:
    """The same with oneDNN Graph's fusion switched on, for the whole process."""
    import torch

    torch.jit.enable_onednn_fusion(True)
    return _load(path, metadata)
