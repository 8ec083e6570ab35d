"""From a graph of graph.specialise to operations, one for each node that computes something.

It knows some thirty operators of ATen, those that convolutional classifiers are made of, and refuses all others by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from deploybench.routes.direct.operation import Operation, Value, unknown

aten = torch.ops.aten


@dataclass(frozen=True)
class Seen:
    """A node's value, and how its shape looks to the graph: nchw, nhwc, flat, grouped or shuffled (in `groups`)."""

    value: Value
    look: str = "nchw"
    groups: int = 1


class Reader:
    """One pass over the graph."""

    def __init__(self, graph: fx.GraphModule) -> None:
        """`graph` as graph.specialise gives it."""
        self.graph = graph
        self.seen: dict[fx.Node, Seen] = {}
        self.constants: dict[fx.Node, torch.Tensor] = {}
        self.found: list[Operation] = []

    def read(self) -> list[Operation]:
        """All operations, in order."""
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                _, channels, height, width = node.meta["val"].shape
                out = Value(channels, height, width)
                self.found.append(Operation("take", out, out))
                self.seen[node] = Seen(out)
            elif node.op == "get_attr":
                value: Any = self.graph
                for name in str(node.target).split("."):
                    value = getattr(value, name)
                self.constants[node] = value.detach().float()
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                last = self._one(node.args[0][0] if isinstance(node.args[0], tuple | list) else node.args[0])
                self.found.append(Operation("give", last.value, last.value))
        return self.found

    def _one(self, node: Any) -> Seen:
        if node not in self.seen:
            raise unknown(f"{node}: a constant where an activation is expected")
        return self.seen[node]

    def _call(self, node: fx.Node) -> None:
        handler = HANDLERS.get(node.target)
        if handler is None:
            raise unknown(f"{node.target}")
        handler(self, node)

    def emit(self, node: fx.Node, operation: Operation, look: str = "nchw") -> None:
        """Adds `operation`, whose output is `node`."""
        self.found.append(operation)
        self.seen[node] = Seen(operation.out, look)


def _pair(value: Any, default: int) -> tuple[int, int]:
    if value is None or value == []:
        return default, default
    if isinstance(value, int):
        return value, value
    return (value[0], value[1]) if len(value) == 2 else (value[0], value[0])


def _argument(node: fx.Node, index: int, default: Any = None) -> Any:
    return node.args[index] if len(node.args) > index else default


def _convolution(reader: Reader, node: fx.Node) -> None:
    src = reader._one(node.args[0]).value
    weight = reader.constants[node.args[1]]  # type: ignore[index]
    bias = reader.constants.get(_argument(node, 2)) if _argument(node, 2) is not None else None
    stride, padding = _pair(_argument(node, 3), 1), _pair(_argument(node, 4), 0)
    groups = _argument(node, 6, 1)
    if _pair(_argument(node, 5), 1) != (1, 1) or stride[0] != stride[1]:
        raise unknown("a dilated convolution")
    _, channels, height, width = node.meta["val"].shape
    kind = "depthwise" if groups == src.channels == channels and groups > 1 else "convolution"
    out = Value(channels, height, width)
    bias = torch.zeros(channels) if bias is None else bias
    reader.emit(node, Operation(kind, src, out, weight, bias, stride, padding, groups))


def _linear(reader: Reader, node: fx.Node) -> None:
    seen = reader._one(node.args[0])
    weight = reader.constants[node.args[1]]  # type: ignore[index]
    bias = reader.constants.get(_argument(node, 2)) if _argument(node, 2) is not None else None
    bias = torch.zeros(len(weight)) if bias is None else bias
    src = seen.value
    if seen.look == "nhwc":
        kernel = weight.reshape(*weight.shape, 1, 1)
        out = Value(len(weight), src.height, src.width)
        reader.emit(node, Operation("convolution", src, out, kernel, bias), "nhwc")
        return
    kernel = weight.reshape(len(weight), src.channels, src.height, src.width)  # of a flat image: a window of its size
    reader.emit(node, Operation("convolution", src, Value(len(weight)), kernel, bias))


def _activation(name: str) -> Callable[[Reader, fx.Node], None]:
    def handler(reader: Reader, node: fx.Node) -> None:
        if node.target is aten.gelu.default and node.kwargs.get("approximate", "none") != "none":
            raise unknown("gelu by tanh")
        _map(reader, node, first=name)

    return handler


def _clamp(reader: Reader, node: fx.Node) -> None:
    defaults = (-1.0, 1.0) if node.target is aten.hardtanh.default else (None, None)
    low, high = (_argument(node, 1 + i, default) for i, default in enumerate(defaults))
    _map(reader, node, first=f"Clamp:{low}:{high}")


def _map(reader: Reader, node: fx.Node, **what: Any) -> None:
    seen = reader._one(node.args[0])
    src = seen.value
    out = Value(src.channels, src.height, src.width)
    reader.emit(node, Operation("elementwise", src, out, **what), seen.look)


def _arithmetic(reader: Reader, node: fx.Node) -> None:
    join = "add" if node.target is aten.add.Tensor else "mul"
    if node.kwargs:
        raise unknown(f"{node.target} with {', '.join(node.kwargs)}")
    sides = list(node.args[:2])
    values = [side for side in sides if isinstance(side, fx.Node) and side in reader.seen]
    if len(values) == 2:
        first, second = (reader.seen[one] for one in values)
        if (first.value.height, first.value.width) == (1, 1):  # the one that is spread over the other comes second
            first, second = second, first
        whole, spread = first.value, second.value
        if whole.channels != spread.channels or (spread.height, spread.width) not in (
            (1, 1),
            (whole.height, whole.width),
        ):
            raise unknown(f"{node.target} of such shapes")
        out = Value(whole.channels, whole.height, whole.width)
        reader.emit(node, Operation("elementwise", whole, out, join=join, other=spread), first.look)
        return
    seen = reader._one(values[0])
    constant = next(side for side in sides if side is not values[0])
    number = reader.constants[constant] if isinstance(constant, fx.Node) else torch.tensor([float(constant)])  # type: ignore[arg-type]
    channels = seen.value.channels
    axis = -1 if seen.look == "nhwc" else 1
    ranked = (
        number.reshape((1,) * (4 - number.dim()) + number.shape) if number.dim() < 4 and seen.look != "flat" else number
    )
    if number.numel() != 1 and (number.numel() != channels or ranked.shape[axis] != channels):
        raise unknown(f"{node.target} of a constant that varies over the image")
    flat = number.reshape(-1).expand(channels).clone()
    scale, shift = (flat, torch.zeros(channels)) if join == "mul" else (torch.ones(channels), flat)
    out = Value(channels, seen.value.height, seen.value.width)
    reader.emit(node, Operation("elementwise", seen.value, out, scale=scale, shift=shift), seen.look)


def _pool(reader: Reader, node: fx.Node) -> None:
    src = reader._one(node.args[0]).value
    largest = node.target is aten.max_pool2d.default
    kernel = _pair(node.args[1], 1)
    stride, padding = _pair(_argument(node, 2), 0), _pair(_argument(node, 3), 0)
    stride = kernel if stride == (0, 0) else stride
    if largest and _pair(_argument(node, 4), 1) != (1, 1):
        raise unknown("a dilated pooling")
    counts_border = _argument(node, 5, True) and padding != (0, 0)
    divide = 0 if largest else (_argument(node, 6) or (kernel[0] * kernel[1] if counts_border else 0))
    if counts_border and not largest and _argument(node, 4, False):
        raise unknown("an average over a cut window")
    _, channels, height, width = node.meta["val"].shape
    more = {"kernel": kernel, "max": largest, "divide": divide}
    reader.emit(node, Operation("pool", src, Value(channels, height, width), stride=stride, padding=padding, more=more))


def _reshape(reader: Reader, node: fx.Node) -> None:
    seen, shape = reader._one(node.args[0]), list(node.meta["val"].shape)
    value = seen.value
    size = (value.channels, value.height, value.width)
    if seen.look == "nchw" and len(shape) == 2 and shape[1] == value.channels * value.height * value.width:
        reader.seen[node] = Seen(value, "flat")
    elif (
        seen.look == "nchw"
        and len(shape) == 5
        and shape[1] * shape[2] == value.channels
        and shape[3:] == list(size[1:])
    ):
        reader.seen[node] = Seen(value, "grouped", shape[1])
    elif seen.look == "shuffled" and shape[1:] == list(size) and seen.groups == 2:
        out = Value(*size)
        reader.emit(node, Operation("interleave", value, out, more={"begin": 0}))
    elif seen.look in ("nchw", "flat") and shape[1:] == [value.channels, value.height, value.width][: len(shape) - 1]:
        reader.seen[node] = Seen(value)
    else:
        raise unknown(f"a reshape to {shape}")


def _transpose(reader: Reader, node: fx.Node) -> None:
    seen = reader._one(node.args[0])
    if seen.look != "grouped" or set(node.args[1:3]) != {1, 2}:
        raise unknown("a transposition that is no channel shuffle")
    reader.seen[node] = Seen(seen.value, "shuffled", seen.groups)


def _permute(reader: Reader, node: fx.Node) -> None:
    seen = reader._one(node.args[0])
    there = {("nchw", (0, 2, 3, 1)): "nhwc", ("nhwc", (0, 3, 1, 2)): "nchw"}
    look = there.get((seen.look, tuple(node.args[1])))  # type: ignore[arg-type]
    if look is None:
        raise unknown(f"a permutation {node.args[1]}")
    reader.seen[node] = Seen(seen.value, look)


def _layer_norm(reader: Reader, node: fx.Node) -> None:
    seen = reader._one(node.args[0])
    value = seen.value
    if seen.look != "nhwc" and not (seen.look == "flat" and (value.height, value.width) == (1, 1)):
        raise unknown("a layer norm not over channels")
    scale, shift = (reader.constants[one] for one in node.args[2:4])  # type: ignore[index]
    out = Value(value.channels, value.height, value.width)
    more = {"epsilon": _argument(node, 4, 1e-5)}
    reader.emit(node, Operation("layer_norm", value, out, scale=scale, shift=shift, more=more), seen.look)


def _cat(reader: Reader, node: fx.Node) -> None:
    parts = [reader._one(one).value for one in node.args[0]]  # type: ignore[union-attr]
    if _argument(node, 1, 0) != 1:
        raise unknown("a concatenation not of channels")
    _, channels, height, width = node.meta["val"].shape
    out = Value(channels, height, width)
    reader.emit(node, Operation("cat", parts[0], out, more={"parts": parts}))


def _split(reader: Reader, node: fx.Node) -> None:
    if _argument(node, 2, 0) != 1:
        raise unknown("a split not of channels")
    reader.seen[node] = reader._one(node.args[0])


def _getitem(reader: Reader, node: fx.Node) -> None:
    source: Any = node.args[0]
    seen = reader._one(source)
    sizes = [one.shape[1] for one in source.meta["val"]]
    index: Any = node.args[1]
    begin, count, value = sum(sizes[:index]), sizes[index], seen.value
    maker = next((one for one in reader.found if one.out is value), None)
    # A part of a channel shuffle is made apart, where it is needed.
    if maker and maker.kind == "interleave" and begin % 2 == 0 and count % 2 == 0:
        out = Value(count, value.height, value.width)
        reader.emit(node, Operation("interleave", maker.src, out, more={"begin": begin // 2}))
        return
    reader.seen[node] = Seen(Value(count, value.height, value.width, value, begin))


def _slice(reader: Reader, node: fx.Node) -> None:
    value = reader._one(node.args[0]).value
    one = node.target is aten.select.int
    if _argument(node, 1, 0) != 1 or (not one and _argument(node, 4, 1) != 1):
        raise unknown("a slice not of channels")
    begin: Any = _argument(node, 2) or 0
    count = 1 if one else node.meta["val"].shape[1]
    reader.seen[node] = Seen(Value(count, value.height, value.width, value, begin), "selected" if one else "nchw")


def _unsqueeze(reader: Reader, node: fx.Node) -> None:
    seen = reader._one(node.args[0])
    if seen.look != "selected" or node.args[1] != 1:
        raise unknown("an unsqueeze")
    reader.seen[node] = Seen(seen.value)


HANDLERS: dict[Any, Callable[[Reader, fx.Node], None]] = {
    aten.conv2d.default: _convolution,
    aten.linear.default: _linear,
    aten.relu.default: _activation("Relu"),
    aten.hardswish.default: _activation("Hardswish"),
    aten.hardsigmoid.default: _activation("Hardsigmoid"),
    aten.sigmoid.default: _activation("Sigmoid"),
    aten.silu.default: _activation("Silu"),
    aten.gelu.default: _activation("Gelu"),
    aten.clamp.default: _clamp,
    aten.hardtanh.default: _clamp,
    aten.relu6.default: _activation("Clamp:0.0:6.0"),
    aten.add.Tensor: _arithmetic,
    aten.mul.Tensor: _arithmetic,
    aten.max_pool2d.default: _pool,
    aten.avg_pool2d.default: _pool,
    aten.reshape.default: _reshape,
    aten.flatten.using_ints: _reshape,
    aten.transpose.int: _transpose,
    aten.permute.default: _permute,
    aten.layer_norm.default: _layer_norm,
    aten.cat.default: _cat,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split,
    operator.getitem: _getitem,
    aten.slice.Tensor: _slice,
    aten.select.int: _slice,
    aten.unsqueeze.default: _unsqueeze,
}
