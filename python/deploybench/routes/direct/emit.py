"""The C++ text of a network and its weights, from the operations and their layout. The kernels it calls are in
convolution.hpp, winograd.hpp, amx.hpp, pixels.hpp and attention.hpp."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from deploybench.routes.direct import winograd
from deploybench.routes.direct.layout import Layout
from deploybench.routes.direct.operation import Operation, Value
from deploybench.routes.direct.tiles import SCATTERED, WIDE, Cut, Machine, Sum, blocking, packed, sum_of, tiling

if TYPE_CHECKING:
    from deploybench.routes.direct.attention import Rows

ELEMENTS = {"float": torch.float32, "bf16": torch.bfloat16, "int32": torch.int32}


@dataclass
class Program:
    """What is written so far."""

    machine: Machine
    layout: Layout
    types: dict[str, str] = field(default_factory=dict)  # text of a struct -> its name
    steps: list[str] = field(default_factory=list)
    weights: list[bytes] = field(default_factory=list)
    size: int = 0  # of the weights, in bytes
    scratch: int = 1  # floats that each thread has

    def type(self, stem: str, body: str) -> str:
        """The name of a struct with this body; equal ones are one."""
        name = f"{stem}_{zlib.crc32(body.encode()):08x}"
        self.types[f"struct {name} {{ {body} }};"] = name
        return name

    def store(self, tensor: torch.Tensor, element: str) -> int:
        """Appends a constant; returns its offset in bytes, a multiple of 64."""
        kept = tensor.contiguous().to(ELEMENTS[element])
        data = kept.view(torch.int16 if element == "bf16" else torch.int32).numpy().tobytes()
        offset = self.size
        data += bytes(-len(data) % 64 + 64)  # and a register more, which the last load may touch
        self.weights.append(data)
        self.size += len(data)
        return offset

    def constant(self, tensor: torch.Tensor | None) -> str:
        """A pointer to a float32 constant, which is stored."""
        return "nullptr" if tensor is None else f"(const float*)(w + {self.store(tensor, 'float')})"

    def table(self, numbers: torch.Tensor) -> str:
        """A pointer to whole numbers, which are stored."""
        return f"(const std::int32_t*)(w + {self.store(numbers, 'int32')})"

    def at(self, value: Value | None) -> str:
        """A pointer to the first pixel of a value; where there is none, to what is not read."""
        return "arena" if value is None else f"arena + {self.layout.begin(value)}"


def program(found: list[Operation], layout: Layout, machine: Machine) -> tuple[str, bytes]:
    """The C++ source and the weights."""
    text, image = Program(machine, layout), found[0].out
    for operation in found:
        STEPS[operation.kind](text, operation)
    structs = "\n".join(text.types)
    steps = "\n  team.wait(threads);\n".join(f"  {step}" for step in text.steps)
    source = f"""// Written by deploybench: one network, one image at a time.
#include "amx.hpp"
#include "attention.hpp"
#include "convolution.hpp"
#include "pixels.hpp"
#include "winograd.hpp"

namespace direct {{
using T = {machine.element};
constexpr long network_scratch = {text.scratch};
{structs}

void Network(const float* in, float* out, T* arena, const char* w, int thread, int threads, Barrier& team) {{
{steps}
}}

constexpr long network_shape[] = {{{image.channels}, {image.height}, {image.width}}};
constexpr long network_classes = {found[-1].out.channels}, network_elements = {layout.size};
constexpr bool network_amx = {str(machine.amx).lower()};
}}  // namespace direct

#include "network.hpp"
"""
    return source, b"".join(text.weights)


def _constants(**values: Any) -> str:
    """Members of a struct."""
    parts = []
    for name, value in values.items():
        kind = "bool" if isinstance(value, bool) else "double" if isinstance(value, float) else "long"
        if kind == "long" and name in INTS:
            kind = "int"
        parts.append(f"static constexpr {kind} {name} = {str(value).lower() if kind == 'bool' else value};")
    return " ".join(parts)


INTS = {
    "AHEAD", "BLOCK", "IC", "KH", "KW", "LAST_KEYS", "LAST_NV", "MR", "NV", "OC", "PIECE", "RUN", "RUNS", "SHORT", "STEP", "STEPS",
    "TAIL", "TILES",
}  # fmt: skip


def _activation(text: Program, name: str) -> str:
    if not name.startswith("Clamp:"):
        return name
    low, high = name.split(":")[1:]
    value = "x"
    if high != "None":
        value = f"lesser({value}, all({float(high)}F))"
    if low != "None":
        value = f"larger({value}, all({float(low)}F))"
    return text.type("Clamp", f"static DIRECT_INLINE vec of(vec x) {{ return {value}; }}")


def _after(text: Program, operation: Operation) -> str:
    first, second = _activation(text, operation.first), _activation(text, operation.second)
    return f"After<{first}, Join::{operation.join}, {second}>"


def _distances(text: Program, operation: Operation) -> dict[str, int]:
    """IN_, OUT_ and OTHER_ROW and _PIX; those of a value that is spread over the image are 0."""
    layout, other = text.layout, operation.other
    spread = other is None or ((other.height, other.width) == (1, 1) != (operation.out.height, operation.out.width))
    return {
        "IN_ROW": layout.row(operation.src), "IN_PIX": layout.pixel(operation.src),
        "OUT_ROW": layout.row(operation.out), "OUT_PIX": layout.pixel(operation.out),
        "OTHER_ROW": 0 if spread or other is None else layout.row(other),
        "OTHER_PIX": 0 if spread or other is None else layout.pixel(other),
    }  # fmt: skip


def _convolution(text: Program, operation: Operation) -> None:
    machine, src, out, one = text.machine, operation.src, operation.out, sum_of(operation, text.layout, text.machine)
    assert operation.bias is not None
    channels, _, kh, kw = one.weight.shape
    per_group = channels // one.groups
    bare = all(value.root.border == (0, 0) for value in (src, out, operation.other) if value is not None)
    flat = (kh, kw) == (1, 1) and operation.stride == (1, 1) and bare  # the whole image is one row of pixels
    size = (1, out.height * out.width) if flat else (out.height, out.width)
    vectors = -(-per_group // machine.lanes)
    cut = _blocks(size, vectors, one) if machine.amx else _tiles(text, operation, one, size, vectors, flat)
    if winograd.possible(operation, one, machine):
        cut = winograd.quicker(cut, out.height, out.width, vectors, machine)
    nv, panels = cut.nv, -(-vectors // cut.nv)
    last = vectors - (panels - 1) * nv
    weights, bias = packed(cut, operation.bias, panels, last, machine)
    stay = weights.numel() * machine.bytes > machine.resident_weights and not operation.before
    distances = _distances(text, operation)
    body = _constants(
        KH=kh, RUNS=one.runs, RUN_STEP=distances["IN_PIX"], STRIDE=operation.stride[0], **distances,
        A_PIX=one.weight.shape[1] if operation.before else operation.stride[0] * distances["IN_PIX"],
        IC=one.channels, OC=per_group, GROUPS=one.groups, GROUP_WEIGHTS=cut.elements * vectors * machine.lanes,
        **cut.constants, PANELS=panels, NV=nv, LAST_NV=last,
        TAIL=per_group - ((panels - 1) * nv + last - 1) * machine.lanes, WEIGHTS_STAY=stay,
        AHEAD=-(-nv // cut.tiles) if stay and cut.tiles > 1 else 0, PREPARED=bool(operation.before),
        SCALED=operation.scale is not None and bool(operation.before), GATED=operation.gate is not None,
    )  # fmt: skip
    body += f" using Before = {_activation(text, operation.before or 'None')};"
    arguments = [
        _corner(text, operation), f"(const T*)(w + {text.store(weights, machine.element)})", text.constant(bias),
        text.at(out), text.at(operation.other), text.constant(operation.scale), text.constant(operation.shift),
        text.at(operation.gate),
    ]  # fmt: skip
    text.scratch = max(text.scratch, cut.constants.get("SCRATCH", 0))
    scratch = "scratch<network_scratch>(), " if cut.kernel == "winograd" else ""
    call = f"{cut.kernel}<{text.type(cut.kernel.title().replace('_', ''), body)}, {_after(text, operation)}, T>"
    text.steps.append(f"{call}({{{', '.join(arguments)}}}, {scratch}thread, threads);")


def _tiles(text: Program, operation: Operation, one: Sum, size: tuple[int, int], vectors: int, flat: bool) -> Cut:
    """A convolution cut for registers."""
    machine, (rows, columns) = text.machine, size
    elements = one.weight[0].numel()
    cycles, nv, mr, tiles = tiling(columns, vectors, elements, machine)
    cycles *= rows
    constants = {"RUN": one.run, "COLUMNS": columns, "SCATTERED": False}
    long, short = columns - tiles * (mr - 1), mr - 1
    if not flat and not operation.before:
        # Tiles that go on in the next row are full whatever the width.
        across = tiling(rows * columns, vectors, elements, machine, SCATTERED)
        several = WIDE // columns
        if machine.registers == 16 and across.cycles < cycles:
            cycles, nv, mr, tiles = across
            long, short, rows = rows * columns - tiles * (mr - 1), mr - 1, 1
            constants["SCATTERED"] = True
        # Of 32 registers: several short rows as one tile, which wants half the weights a cycle: 13 % at 7x7 in ResNet-50.
        elif machine.registers == 32 and several > 1 and min(rows, vectors) > 1:
            nv, mr, tiles = 2, several * columns, -(-rows // several)
            long, short, rows = rows // several, rows % several * columns, 1
    constants |= {"ROWS": rows, "TILES": tiles, "MR": mr, "LONG": long, "SHORT": short}
    return Cut("convolution", one, nv, rows * tiles, elements, constants, cycles)


def _blocks(size: tuple[int, int], vectors: int, one: Sum) -> Cut:
    """A convolution cut for AMX."""
    pieces, piece, block, nv, steps, step = blocking(*size, vectors, one.run)
    constants = {
        "ROWS": size[0], "COLUMNS": size[1], "PIECES": pieces, "PIECE": piece, "BLOCK": block, "STEPS": steps, "STEP": step,
    }  # fmt: skip
    elements = one.weight.shape[2] * one.runs * steps * step
    return Cut("amx_convolution", one, nv, 1, elements, constants, steps=(steps, step))


def _corner(text: Program, operation: Operation) -> str:
    """A pointer to where the first window begins, in the border."""
    row, pixel = text.layout.row(operation.src), text.layout.pixel(operation.src)
    return f"arena + {text.layout.begin(operation.src) - operation.padding[0] * row - operation.padding[1] * pixel}"


def _depthwise(text: Program, operation: Operation) -> None:
    machine, out = text.machine, operation.out
    assert operation.weight is not None
    assert operation.bias is not None
    channels, _, kh, kw = operation.weight.shape
    step = -(-channels // machine.lanes) * machine.lanes
    distances = _distances(text, operation)
    most = machine.registers // 2 - 2
    tiles = -(-out.width // most)
    mr = -(-out.width // tiles)
    body = _constants(
        KH=kh, KW=kw, STRIDE=operation.stride[0], **distances, OC=channels, W_STEP=step,
        ROWS=out.height, TILES=tiles, MR=mr, LONG=out.width - tiles * (mr - 1),
    )  # fmt: skip
    filters = torch.zeros(kh, kw, step)
    filters[..., :channels] = operation.weight[:, 0].permute(1, 2, 0)
    bias = torch.nn.functional.pad(operation.bias, (0, step - channels))
    arguments = [
        _corner(text, operation), text.constant(filters), text.constant(bias), text.at(out), text.at(operation.other)
    ]  # fmt: skip
    kernel = f"depthwise<{text.type('Depthwise', body)}, {_after(text, operation)}, T>"
    text.steps.append(f"{kernel}({', '.join(arguments)}, thread, threads);")


def _pool(text: Program, operation: Operation) -> None:
    out, more = operation.out, operation.more
    distances = {key: value for key, value in _distances(text, operation).items() if not key.startswith("OTHER")}
    body = _constants(
        KH=more["kernel"][0], KW=more["kernel"][1], STRIDE_Y=operation.stride[0], STRIDE_X=operation.stride[1],
        PAD_Y=operation.padding[0], PAD_X=operation.padding[1], H=operation.src.height, W=operation.src.width, **distances,
        OC=out.channels, ROWS=out.height, COLUMNS=out.width, MAX=more["max"], DIVIDE=more["divide"],
    )  # fmt: skip
    text.steps.append(f"pool<{text.type('Pool', body)}, T>({text.at(operation.src)}, {text.at(out)}, thread, threads);")


def _elementwise(text: Program, operation: Operation) -> None:
    out = operation.out
    body = _constants(
        **_distances(text, operation),
        OC=out.channels,
        ROWS=out.height,
        COLUMNS=out.width,
        SCALED=operation.scale is not None,
    )
    arguments = [text.at(operation.src), text.at(out), text.at(operation.other)]
    arguments += [text.constant(operation.scale), text.constant(operation.shift)]
    kernel = f"elementwise<{text.type('Elementwise', body)}, {_after(text, operation)}, T>"
    text.steps.append(f"{kernel}({', '.join(arguments)}, thread, threads);")


def _over_pixels(text: Program, operation: Operation, kernel: str, constants: str, **more: Any) -> None:
    distances = {key: value for key, value in _distances(text, operation).items() if not key.startswith("OTHER")}
    out = operation.out
    body = _constants(**distances, OC=out.channels, ROWS=out.height, COLUMNS=out.width, **more)
    name = text.type(kernel.title().replace("_", ""), body)
    text.steps.append(f"{kernel}<{name}, T>({text.at(operation.src)}, {text.at(out)}, {constants}thread, threads);")


def _interleave(text: Program, operation: Operation) -> None:
    _over_pixels(text, operation, "interleave", "", BEGIN=operation.more["begin"], HALF=operation.src.channels // 2)


def _places(text: Program, value: Value, pixel: torch.Tensor) -> torch.Tensor:
    """How far pixels, by their number, lie behind the first one."""
    return pixel // value.width * text.layout.row(value) + pixel % value.width * text.layout.pixel(value)


def _gather(text: Program, operation: Operation) -> None:
    src, out, more = operation.src, operation.out, operation.more
    order = more["order"]
    # The longest runs of channels that lie side by side, in one pixel, everywhere.
    goes_on = (order[:, 1:] == order[:, :-1] + 1) & (order[:, 1:] % src.channels != 0) & (order[:, :-1] >= 0)
    goes_on |= (order[:, 1:] < 0) & (order[:, :-1] < 0)
    ends = (~goes_on).any(0).nonzero().reshape(-1) + 1
    run = math.gcd(out.channels, *ends.tolist())
    first = order[:, ::run]
    from_ = _places(text, src, first // src.channels) + first % src.channels
    constants = f"{text.table(torch.where(first < 0, -1, from_))}, {text.constant(more['constant'])}, "
    has = more["constant"] is not None
    _over_pixels(text, operation, "gather", constants, RUN=run, FACTOR=more["factor"], CONSTANT=has)


def _attention(text: Program, operation: Operation) -> None:
    machine, more = text.machine, operation.more
    rows: tuple[Rows, ...] = more["rows"]
    query, key, value, _ = rows
    (items, queries), keys = query.pixel.shape, key.pixel.shape[1]
    lanes, nv = machine.lanes, 2
    wide, deep = (-(-size // lanes) for size in (keys, value.depth))
    key_panels, panels = -(-wide // nv), -(-deep // nv)
    most = (machine.registers - nv - 2) // nv
    tiles = -(-queries // most)
    mr = -(-queries // tiles)
    windows, window = torch.unique(torch.cat([one.pixel for one in rows], 1), dim=0, return_inverse=True)
    bias, kind = torch.zeros(1, 1, keys), torch.zeros(items)
    if more["bias"] is not None:
        bias, kind = torch.unique(more["bias"].reshape(items, -1), dim=0, return_inverse=True)
        bias = bias.reshape(-1, queries, keys)
    bias = torch.nn.functional.pad(bias, (0, wide * lanes - keys), value=-torch.inf)
    body = _constants(
        ITEMS=items, QUERIES=queries, KEYS=keys, DEPTH=query.depth, DEEP=deep * lanes, WIDTH=wide * lanes,
        NV=nv, KEY_PANELS=key_panels, LAST_KEYS=wide - (key_panels - 1) * nv, PANELS=panels,
        LAST_NV=deep - (panels - 1) * nv, TAIL=value.depth - (deep - 1) * lanes, MR=mr, TILES=tiles,
        LONG=queries - tiles * (mr - 1), LEAST=query.least, BIASED=more["bias"] is not None,
    )  # fmt: skip
    places = windows.split([one.pixel.shape[1] for one in rows], 1)
    tables = [text.table(_places(text, one.value, pixel)) for one, pixel in zip(rows, places, strict=True)]
    about = torch.stack([window, *(one.channel for one in rows), kind], 1)
    arguments = [*(text.at(one.value) for one in rows), *tables, text.table(about)]
    arguments += [text.constant(more["factor"]), text.constant(bias)]
    text.steps.append(f"attention<{text.type('Attention', body)}, T>({{{', '.join(arguments)}}}, thread, threads);")


def _layer_norm(text: Program, operation: Operation) -> None:
    constants = f"{text.constant(operation.scale)}, {text.constant(operation.shift)}, "
    _over_pixels(text, operation, "layer_norm", constants, EPSILON=float(operation.more["epsilon"]))


def _take(text: Program, operation: Operation) -> None:
    out = operation.out
    body = _constants(
        OUT_ROW=text.layout.row(out),
        OUT_PIX=text.layout.pixel(out),
        OC=out.channels,
        ROWS=out.height,
        COLUMNS=out.width,
    )
    text.steps.append(f"take<{text.type('Take', body)}, T>(in, {text.at(out)}, thread, threads);")


def _give(text: Program, operation: Operation) -> None:
    name = text.type("Give", _constants(OC=operation.out.channels))
    text.steps.append(f"give<{name}, T>({text.at(operation.src)}, out, thread, threads);")


STEPS = {
    "convolution": _convolution,
    "depthwise": _depthwise,
    "pool": _pool,
    "elementwise": _elementwise,
    "interleave": _interleave,
    "gather": _gather,
    "layer_norm": _layer_norm,
    "attention": _attention,
    "take": _take,
    "give": _give,
}
