"""The border of a converted model: float32 in, float32 out, whatever the weights between are."""

from __future__ import annotations

import torch
from torch import nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Border(nn.Module):
    """`inner` behind the conversions of its input, [N, 3, H, W], and output, [N, classes]."""

    def __init__(self, inner: nn.Module, precision: str, memory_format: str) -> None:
        """`inner` has its dtype and memory format already."""
        super().__init__()
        self.inner = inner
        self.dtype = DTYPES[precision]
        self.channels_last = memory_format == "channels_last"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [N, 3, H, W] -> float32 [N, classes]."""
        images = images.to(self.dtype)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        output: torch.Tensor = self.inner(images)
        return output.float()


def fit(module: nn.Module, precision: str, memory_format: str) -> nn.Module:
    """`module`, fp32 and contiguous, at this precision and in this memory format; changed in place where it must be."""
    if (precision, memory_format) == ("fp32", "contiguous"):
        return module
    converted = module.to(DTYPES[precision])
    for tensor in (*converted.parameters(), *converted.buffers()):
        if tensor.dim() == 4:  # Module.to(memory_format=...) refuses constants of five dimensions, such as Swin's masks
            tensor.data = tensor.data.contiguous(memory_format=MEMORY_FORMATS[memory_format])
    return Border(converted, precision, memory_format).eval()


def inner(module: nn.Module) -> nn.Module:
    """The user's own module in what `fit` gave."""
    return module.inner if isinstance(module, Border) else module
