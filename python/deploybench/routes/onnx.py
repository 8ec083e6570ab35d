"""ONNX, for the peers: ONNX Runtime and OpenVINO, each an optional package (dependency group `peers`). What a user would
take instead of LibTorch, measured by the same protocol."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploybench.artifact import ENTRY, Metadata
from deploybench.errors import DeploybenchError, first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

    from deploybench.routes import Forward


# Bytes. Protobuf ends at 2 GB; torch writes weights of more than this into a second file, whatever `external_data` says.
MOST_WEIGHTS = 1536 << 20


def need(package: str) -> Any:
    """The peer's package. Raises an error that says how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise DeploybenchError(
            "runtime",
            f"{package}: not installed ({error}); python -m pip install onnxruntime openvino onnxscript",
        ) from error


def export(module: nn.Module, example: torch.Tensor, path: Path, metadata: Metadata) -> None:
    """Writes the ONNX file, opset of torch's choice, with the metadata as a property of the model.

    At bf16 the file holds fp32 all the same: the peers convert when they compile it.
    """
    import torch

    need("onnxscript")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(module, (example,), dynamo=True, verbose=False, optimize=True)
    except Exception as error:
        raise DeploybenchError("runtime", f"cannot be exported to ONNX ({first_line(error)})") from error
    assert program is not None
    size = sum(
        one.const_value.nbytes for one in program.model.graph.initializers.values() if one.const_value is not None
    )
    if size > MOST_WEIGHTS:
        what = f"weights of {size / 1e9:.1f} GB, which an ONNX file has beside it, and an artifact is one file"
        raise DeploybenchError("unsupported", f"{what}; use --routes aoti")
    program.model.metadata_props[ENTRY] = metadata.to_json()
    program.save(str(path), external_data=False)


def load_onnxruntime(path: Path, metadata: Metadata, instances: int = 1) -> Forward:
    """A session on the CPU with as many threads as torch was given."""
    import torch

    onnxruntime = need("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def forward(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return forward


def load_openvino(path: Path, metadata: Metadata, instances: int = 1) -> Forward:
    """A model compiled on the CPU, with as many threads as torch was given for each instance, at the artifact's precision: for
    latency, or for several instances in OpenVINO's own mode for throughput, a request for each thread that calls."""
    import torch

    openvino = need("openvino")
    settings = {
        "PERFORMANCE_HINT": "LATENCY" if instances == 1 else "THROUGHPUT",
        "INFERENCE_NUM_THREADS": torch.get_num_threads() * instances,
        "INFERENCE_PRECISION_HINT": "bf16" if metadata.precision == "bf16" else "f32",
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    mine = threading.local()
    # Its Python side locks up where several threads make and drop input tensors at the same time: one at a time, and only when
    # the input is another than before.
    making = threading.Lock()

    def forward(images: torch.Tensor) -> torch.Tensor:
        if getattr(mine, "images", None) is not images:
            with making:
                if not hasattr(mine, "request"):
                    mine.request = compiled.create_infer_request()
                mine.request.set_input_tensor(openvino.Tensor(images.numpy(), shared_memory=True))
            mine.images = images
        mine.request.infer()
        return torch.from_numpy(mine.request.get_output_tensor(0).data)

    return forward


def embedded(path: Path) -> bytes | None:
    """The metadata in the ONNX file at `path`; None where it holds none. Needs no onnx package: walks over the fields of the
    outermost protobuf message (https://protobuf.dev/programming-guides/encoding), of which the graph is one.

    Raises ValueError where the file is no protobuf message.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        while file.tell() < size:
            tag = _varint(file)
            if tag & 7 == 0:
                _varint(file)
                continue
            if tag & 7 != 2:
                raise ValueError(f"wire type {tag & 7}")
            length = _varint(file)
            if length > size - file.tell():
                raise ValueError("a field is longer than the file")
            if tag >> 3 == 14:  # ModelProto.metadata_props, one StringStringEntryProto each
                entry = _strings(io.BytesIO(file.read(length)), length)
                if entry.get(1) == ENTRY.encode():
                    return entry.get(2)
            else:
                file.seek(length, io.SEEK_CUR)
    return None


def _strings(file: io.BytesIO, size: int) -> dict[int, bytes]:
    found = {}
    while file.tell() < size:
        tag = _varint(file)
        found[tag >> 3] = file.read(_varint(file))
    return found


def _varint(file: io.BufferedReader | io.BytesIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("the file ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if not byte[0] & 0x80:
            return value
    raise ValueError("a number is too long")
