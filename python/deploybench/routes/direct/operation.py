"""The words of a plan: activations of one image, and what is done to them. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from deploybench.errors import DeploybenchError


def unknown(what: str) -> DeploybenchError:
    """The error for what generated code cannot do."""
    return DeploybenchError("unsupported", f"{what}, which the direct route does not know; use --routes aoti")


@dataclass(eq=False)
class Value:
    """An activation of one image. `parent`: the value in whose channels it lies, from `offset` on; else a buffer of its own,
    with `border` rows and columns of zeros on each side."""

    channels: int
    height: int = 1
    width: int = 1
    parent: Value | None = None
    offset: int = 0
    border: tuple[int, int] = (0, 0)

    @property
    def root(self) -> Value:
        """The value that has the buffer."""
        return self.parent.root if self.parent else self

    @property
    def first(self) -> int:
        """Its first channel in the buffer."""
        return self.offset + self.parent.first if self.parent else 0


@dataclass(eq=False)
class Operation:
    """`out` from `src`; then `first`, then `other` joined (add or mul), then `second`: names of activations."""

    kind: str  # convolution, depthwise, pool, elementwise, cat, interleave, gather, layer_norm, attention, take, give
    src: Value
    out: Value
    weight: torch.Tensor | None = None  # [OC, IC / groups, KH, KW]
    bias: torch.Tensor | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    first: str = "None"
    join: str = "none"
    other: Value | None = None
    second: str = "None"
    scale: torch.Tensor | None = None  # of elementwise and of a prepared input, with shift
    shift: torch.Tensor | None = None
    before: str = ""  # a prepared input: scaled or gated, then this activation
    gate: Value | None = None
    more: dict[str, Any] = field(default_factory=dict)  # of pools, cats, interleaves, gathers, norms and attention

    @property
    def reads(self) -> list[Value]:
        """The values that it needs."""
        return [value for value in (self.src, self.other, self.gate) if value is not None]
