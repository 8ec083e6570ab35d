"""Convolutions by Winograd's F(2x2, 3x3), see winograd.hpp: how an image is cut for them, and their weights."""

from __future__ import annotations

import torch

from deploybench.routes.direct.layout import ALIASED, ALIGNMENT
from deploybench.routes.direct.operation import Operation
from deploybench.routes.direct.tiles import Cut, Machine, Sum, tiling

# Cycles for 16 floats of a square: loads, sums and stores of its input, and of its output.
SPREADING, GATHERING = 45, 35
STREAMED = (
    5  # bytes of weights that come to a core in a cycle while it computes: 28 GB/s to two cores, where pages have 4 KB
)
# Times quicker by count, or it is not worth weights of 16/9 times the size: the 3x3 convolutions at 7x7 of ResNet-50 would take a
# tenth less, for 15 MB of file.
GAIN = 1.2


def possible(operation: Operation, one: Sum, machine: Machine) -> bool:
    """Whether `operation` is of the kind: windows of 3x3, one pixel apart, over all channels, at fp32."""
    windows = operation.weight is not None and operation.weight.shape[2:] == (3, 3) and operation.stride == (1, 1)
    return windows and one.groups == 1 and machine.precision == "fp32" and not operation.before


def quicker(plain: Cut, rows: int, columns: int, vectors: int, machine: Machine) -> Cut:
    """`plain`, or the cut into squares of 2 by 2 pixels, for an output of rows x columns in registers of channels."""
    one = plain.one
    channels = one.weight.shape[1]
    depth = -(-channels // machine.lanes) * machine.lanes
    depth += ALIGNMENT if depth % ALIASED == 0 else 0
    across, down = -(-columns // 2), -(-rows // 2)
    size = 16 * channels * vectors * machine.lanes * machine.bytes
    # A block's sums of pixels beside weights that stay in the second-level cache; or as many as it holds, as weights are read
    # again for each block.
    kept = machine.cache // 8 if size <= machine.cache // 2 else machine.cache
    blocks = -(-across * down * depth * 16 * machine.bytes // kept)
    squares = -(-across * down // blocks)
    blocks = -(-across * down // squares)
    product, nv, mr, tiles = tiling(squares, vectors, channels, machine)
    around = squares * (depth / machine.lanes * SPREADING + vectors * GATHERING)
    cycles = blocks * (max(16 * product, size / STREAMED) + around)
    if GAIN * cycles > max(plain.cycles, one.weight.numel() * machine.bytes / STREAMED):
        return plain
    constants = {
        "ROWS": rows, "COLUMNS": columns, "SQUARES": squares, "BLOCKS": blocks, "ACROSS": across, "ALL": across * down,
        "DEPTH": depth, "TILES": tiles, "MR": mr, "LONG": squares - tiles * (mr - 1),
        "SCRATCH": 16 * squares * (depth + nv * machine.lanes),
    }  # fmt: skip
    spread = Sum(_spread(one.weight), 1, channels, 1, channels)
    return Cut("winograd", spread, nv, tiles, 16 * channels, constants, cycles)


# The matrix G of Y = A' ((G g G') * (B' d B)) A.
G = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)


def _spread(weight: torch.Tensor) -> torch.Tensor:
    """Weights [OC, IC, 3, 3] for the 16 products, [OC, IC, 16, 1]; rounded once."""
    return torch.einsum("iy,ocyx,jx->ocij", G, weight.double(), G).flatten(2).unsqueeze(3).to(weight.dtype)
