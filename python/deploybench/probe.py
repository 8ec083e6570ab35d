"""What `doctor` asks of torch, in processes of its own: each function prints one line of JSON. Judges nothing."""

from __future__ import annotations

import json
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# The last arguments of aten::_convolution, after the first nine, and what tracing records with torch's defaults.
CUDNN_FLAGS = {"cudnn.benchmark": False, "cudnn.deterministic": False, "cudnn.enabled": True}
FIRST_FLAG = 9


def torch_process() -> None:
    """A process that has imported torch, with what was started with it (LD_PRELOAD)."""
    import torch

    from deploybench import facts

    print(json.dumps({
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "libraries": facts.mapped(Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")),
    }))  # fmt: skip


def weights() -> None:
    """The numbers in the artifact that the command line names: how many, how many denormal; the cuDNN flags of its graph."""
    warnings.simplefilter("ignore")
    path = Path(sys.argv[1])
    try:
        print(json.dumps(_looked_at(path)))
    except Exception as error:  # torch has a dozen words for a file that is damaged
        print(json.dumps({"why": (str(error).strip().splitlines() or [repr(error)])[0]}))


def _looked_at(path: Path) -> dict[str, Any]:
    if path.suffix == ".onnx":
        return _count(_of_onnx(path))
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any("/aotinductor/" in name for name in names):
        return {"why": "its weights are packed into machine code; look at the eager file of the same model"}
    if any(name.endswith("/constants.pkl") for name in names):
        return _of_torchscript(path)
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    return _count(value for value in state.values() if isinstance(value, torch.Tensor))


def _of_onnx(path: Path) -> Iterator[torch.Tensor]:
    import onnx
    import torch

    for one in onnx.load(str(path)).graph.initializer:
        if one.data_type == onnx.TensorProto.FLOAT:
            yield torch.from_numpy(onnx.numpy_helper.to_array(one).copy())


def _of_torchscript(path: Path) -> dict[str, Any]:
    """Parameters, buffers and the constants of a frozen graph; and the flags of its convolutions."""
    import torch

    module = torch.jit.load(str(path), map_location="cpu")
    numbers = [value.detach() for value in (*module.parameters(), *module.buffers())]
    flags: dict[str, bool] = {}
    convolutions = 0
    for node in _nodes(module.inlined_graph):
        if node.kind() == "prim::Constant" and node.hasAttribute("value") and node.kindOf("value") == "t":
            numbers.append(node.t("value"))
        if node.kind() == "aten::_convolution":
            convolutions += 1
            inputs = list(node.inputs())[FIRST_FLAG : FIRST_FLAG + len(CUDNN_FLAGS)]
            said = dict(zip(CUDNN_FLAGS, (one.toIValue() for one in inputs), strict=False))
            flags |= {name: value for name, value in said.items() if value is not None and value != CUDNN_FLAGS[name]}
    found = {"cudnn": [f"{name} = {value}" for name, value in sorted(flags.items())], "convolutions": convolutions}
    return {**_count(iter(numbers)), **found}


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _count(tensors: Iterator[torch.Tensor]) -> dict[str, Any]:
    """Numbers, and those that are not zero but below the smallest normal one of their type. fp16 is left out: its small numbers
    are normal ones once a CPU has widened them."""
    import torch

    numbers = denormal = 0
    for one in tensors:
        if one.dtype in (torch.float32, torch.float64, torch.bfloat16):
            numbers += one.numel()
            size = one.detach().abs()
            denormal += int(((size > 0) & (size < torch.finfo(one.dtype).tiny)).sum())
    return {"weights": numbers, "denormal": denormal}
