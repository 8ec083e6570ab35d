"""How a convolution is cut into tiles that stay in registers, and its weights in the order in which tiles read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from deploybench.routes.direct.layout import Layout
from deploybench.routes.direct.operation import Operation


@dataclass(frozen=True)
class Machine:
    """What the code is for. 16 floats a register of which there are 32, or 8 and 16."""

    lanes: int
    registers: int
    precision: str  # fp32 or bf16
    cache: int  # bytes of the second level of caches, of one core
    amx: bool = False  # whether convolutions are made by its unit for products of matrices

    @property
    def image_channels(self) -> int:
        """Of the input's buffer: bf16 multiplies pairs of channels."""
        return 4 if self.precision == "bf16" else 3

    @property
    def bytes(self) -> int:
        """Of an element."""
        return 4 if self.precision == "fp32" else 2

    @property
    def element(self) -> str:
        """The type of activations and weights in C++."""
        return "float" if self.precision == "fp32" else "bf16"

    @property
    def resident_weights(self) -> int:
        """Bytes of weights up to which a convolution reads its pixels once and its weights for each tile; beyond, the other way round.
        Measured where the cache has 2 MB: at 512 KB a quarter less time, at 1 MB a tenth more; by AMX a tenth less at 1.2 MB."""
        return self.cache * 5 // 8 if self.amx else self.cache * 3 // 8


WIDE = 14  # pixels of a tile of two of 32 registers of channels
SCATTERED = 6  # pixels of a tile that lie anywhere; the address of each takes one of 16 registers


class Tiling(NamedTuple):
    """How a row of pixels is cut."""

    cycles: float  # that it takes
    nv: int  # registers of channels of a tile
    mr: int  # pixels of a tile, or one less
    tiles: int


def tiling(pixels: int, registers_of_channels: int, depth: int, machine: Machine, pixels_at_most: int = 32) -> Tiling:
    """The one that takes the fewest cycles by count: two multiply-adds or loads a cycle, four cycles until a sum can be added to
    again, and some for the end of each tile."""
    best: Tiling | None = None
    for nv in range(1, 9):
        # For the weights, for a pixel, and one that g++ wants: 4 pixels by 3 of 16 registers went through the stack, at
        # 60 GFLOP/s instead of 90.
        most = min((machine.registers - nv - 2) // nv, pixels_at_most)
        if most < 1 or nv > registers_of_channels:
            continue
        tiles = -(-pixels // most)
        mr = -(-pixels // tiles)
        longer = pixels - tiles * (mr - 1)
        panels, last = (
            -(-registers_of_channels // nv),
            registers_of_channels - (-(-registers_of_channels // nv) - 1) * nv,
        )
        cycles = 0.0
        for rows, how_many in ((mr, longer), (mr - 1, tiles - longer)):
            for vectors, count in ((nv, panels - 1), (last, 1)):
                step = max(rows * vectors / 2, (rows + vectors) / 2, 4.0)
                cycles += how_many * count * (depth * step + 2 * rows * vectors + 20)
        if best is None or cycles < best.cycles:
            best = Tiling(cycles, nv, mr, tiles)
    assert best is not None
    return best


class Blocking(NamedTuple):
    """How a row of pixels is cut for AMX, whose tiles have at most 16 pixels, 16 channels of the output and 32 of the input."""

    pieces: int
    piece: int  # pixels
    block: int  # pieces whose sums are made together, each of
    nv: int  # tiles of channels
    steps: int  # of a run
    step: int  # channels


def blocking(rows: int, pixels: int, registers_of_channels: int, run: int) -> Blocking:
    """Of 8 tiles 4 are sums: 2 by 2 of them take the fewest loads for each multiplication."""
    pieces = -(-pixels // 16)
    block = min(rows * pieces, 4 if registers_of_channels == 1 else 2)
    steps = -(-run // 32)
    return Blocking(
        pieces, -(-pixels // pieces), block, min(registers_of_channels, 4 // block), steps, -(-run // steps // 2) * 2
    )


@dataclass(frozen=True)
class Sum:
    """What a convolution adds up for one pixel: for each of KH rows, `runs` runs of `run` elements that lie side by side."""

    weight: torch.Tensor  # [OC, depth, KH, KW]
    groups: int
    channels: int  # of the input, in a group
    runs: int
    run: int


def sum_of(operation: Operation, layout: Layout, machine: Machine) -> Sum:
    """What a convolution adds up, with the weights that go with it."""
    src, weight = operation.src, operation.weight
    assert weight is not None
    groups = operation.groups
    while (
        groups > 1 and len(weight) // groups < machine.lanes and groups % 2 == 0
    ):  # two groups as one, its corners zero
        weight, groups = _paired(weight, groups), groups // 2
    if src is layout.image and groups == 1:  # its pixels may have a channel more
        weight = torch.nn.functional.pad(weight, (0, 0, 0, 0, 0, layout.pixel(src) - weight.shape[1]))
    channels, kw = weight.shape[1], weight.shape[3]
    together = layout.pixel(src) == channels and not operation.before  # the pixels of a row are one run
    runs, run = (1, kw * channels) if together else (kw, channels)
    if (
        machine.precision == "bf16" and channels % 2 and not machine.amx
    ):  # pairs of channels: one more, the next pixel's, with a weight of zero
        weight = torch.nn.functional.pad(weight, (0, 0, 0, 0, 0, 1))
        runs, run = kw, channels + 1
    return Sum(weight, groups, channels, runs, run)


@dataclass(frozen=True)
class Cut:
    """A convolution cut into tiles."""

    kernel: str  # of convolution.hpp, winograd.hpp or amx.hpp
    one: Sum  # with the weights that the kernel multiplies
    nv: int  # registers, or tiles, of channels
    tiles: int  # that read the same weights, one after the other
    elements: int  # of the sum of a pixel
    constants: dict[str, Any]  # that the kernel is made with
    cycles: float = 0.0
    steps: tuple[int, int] | None = None  # of AMX: how many steps make a run, and the elements of each


def _paired(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Weights [OC, IC / groups, ...] for half as many groups: each pair as one block-diagonal group."""
    channels, depth, kh, kw = weight.shape
    wide = weight.new_zeros(channels, 2 * depth, kh, kw)
    size = channels // groups
    for group in range(groups):
        rows = slice(group * size, (group + 1) * size)
        wide[rows, (group % 2) * depth : (group % 2 + 1) * depth] = weight[rows]
    return wide


def packed(cut: Cut, bias: torch.Tensor, panels: int, last: int, machine: Machine) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights in the order in which tiles read them, and the bias, both filled up with zeros to whole registers."""
    one, nv = cut.one, cut.nv
    weight, groups = one.weight, one.groups
    channels, depth, kh, kw = weight.shape
    size, lanes = channels // groups, machine.lanes
    wide = weight.new_zeros(groups, panels * nv * lanes, depth, kh, kw)
    wide[:, :size] = weight.reshape(groups, size, depth, kh, kw)
    wide_bias = bias.new_zeros(groups, panels * nv * lanes)
    wide_bias[:, :size] = bias.reshape(groups, size)
    parts = []
    for group in range(groups):
        for panel in range(panels):
            count = (nv if panel + 1 < panels else last) * lanes
            block = wide[group, panel * nv * lanes :][:count].permute(2, 3, 1, 0)  # [KH, KW, IC, channels]
            if cut.steps:
                how_many, step = cut.steps
                block = block.reshape(kh, one.runs, one.run, count)
                block = torch.nn.functional.pad(block, (0, 0, 0, how_many * step - one.run))
                block = block.reshape(kh, one.runs, how_many, step // 2, 2, count // lanes, lanes).permute(
                    0, 1, 2, 5, 3, 6, 4
                )
            elif machine.precision == "bf16":
                block = block.reshape(kh, kw, depth // 2, 2, count).transpose(3, 4)
            parts.append(block.reshape(-1))
    return torch.cat(parts), wide_bias.reshape(-1)
