"""Handlers of the operators that compute something."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from deploybench.routes.direct.operation import Operation, Value, unknown
from deploybench.routes.direct.reader import Handler, Reader, Seen, argument

aten = torch.ops.aten


def _pair(value: Any, default: int) -> tuple[int, int]:
    if value is None or value == []:
        return default, default
    if isinstance(value, int):
        return value, value
    return (value[0], value[1]) if len(value) == 2 else (value[0], value[0])


def _convolution(reader: Reader, node: fx.Node) -> None:
    src = reader.image(node.args[0])
    weight = reader.constant(node.args[1])
    bias = reader.constant(argument(node, 2), torch.zeros(len(weight)))
    stride, padding = _pair(argument(node, 3), 1), _pair(argument(node, 4), 0)
    groups = argument(node, 6, 1)
    if _pair(argument(node, 5), 1) != (1, 1):
        raise unknown("a dilated convolution")
    if stride[0] != stride[1]:
        raise unknown(f"a convolution with the stride {stride[0]}, {stride[1]}")
    _, channels, height, width = node.meta["val"].shape
    kind = "depthwise" if groups == src.channels == channels and groups > 1 else "convolution"
    out = Value(channels, height, width)
    reader.emit(node, Operation(kind, src, out, weight, bias, stride, padding, groups))


def _linear(reader: Reader, node: fx.Node) -> None:
    seen = reader.one(node.args[0])
    weight = reader.constant(node.args[1])
    bias = reader.constant(argument(node, 2), torch.zeros(len(weight)))
    if seen.look == "flat":  # of a flat image: a window of its size
        src = seen.value
        kernel = weight.reshape(len(weight), src.channels, src.height, src.width)
        reader.emit(node, Operation("convolution", src, Value(len(weight)), kernel, bias), "flat")
        return
    src, pixel = reader.rows(node.args[0])
    out = Value(len(weight), src.height, src.width)
    kernel = weight.reshape(*weight.shape, 1, 1)
    reader.emit_rows(node, Operation("convolution", src, out, kernel, bias), pixel)


def _activation(name: str) -> Handler:
    def handler(reader: Reader, node: fx.Node) -> None:
        if node.target is aten.gelu.default and node.kwargs.get("approximate", "none") != "none":
            raise unknown("gelu by tanh")
        _map(reader, node, first=name)

    return handler


def _clamp(reader: Reader, node: fx.Node) -> None:
    defaults = (-1.0, 1.0) if node.target is aten.hardtanh.default else (None, None)
    low, high = (argument(node, 1 + i, default) for i, default in enumerate(defaults))
    _map(reader, node, first=f"Clamp:{low}:{high}")


def _map(reader: Reader, node: fx.Node, **what: Any) -> None:
    seen = reader.one(node.args[0])
    if seen.look == "ordered":
        src, order = reader.whole(node.args[0])
        reader.emit_like(node, Operation("elementwise", src, Value(src.channels, src.height, src.width), **what), order)
        return
    src = seen.value
    out = Value(src.channels, src.height, src.width)
    reader.emit(node, Operation("elementwise", src, out, **what), seen.look)


def _arithmetic(reader: Reader, node: fx.Node) -> None:
    join = "add" if node.target in (aten.add.Tensor, aten.sub.Tensor) else "mul"
    if node.kwargs:
        raise unknown(f"{node.target} with {', '.join(node.kwargs)}")
    sides = list(node.args[:2])
    values = [side for side in sides if isinstance(side, fx.Node) and side in reader.seen]
    inverse = {aten.sub.Tensor: torch.neg, aten.div.Tensor: torch.reciprocal}.get(node.target)  # type: ignore[call-overload]
    if inverse and values != sides[:1]:
        raise unknown(f"{node.target} by an activation")
    if not values:
        raise unknown(f"{node.target} of constants alone")
    if len(values) == 2:
        _join(reader, node, values, join)
        return
    seen = reader.one(values[0])
    constant = next(side for side in sides if side is not values[0])
    number = reader.constants[constant] if isinstance(constant, fx.Node) else torch.tensor([float(constant)])  # type: ignore[arg-type]
    number = inverse(number) if inverse else number
    channels = seen.value.channels
    axis = -1 if seen.look == "nhwc" else 1
    if values[0].meta["val"].shape != node.meta["val"].shape:
        raise unknown(f"{node.target} of a constant that widens the activation")
    ranked = number.reshape((1,) * (node.meta["val"].ndim - number.dim()) + number.shape)
    if seen.look == "ordered" and join == "mul" and number.numel() == 1:
        reader.settle(node, seen.value, reader.order(values[0]), seen.factor * float(number), seen.unit)
        return
    if seen.look == "ordered" or (
        number.numel() != 1 and (number.numel() != channels or ranked.shape[axis] != channels)
    ):
        _by_position(reader, node, values[0], number, join)
        return
    flat = number.reshape(-1).expand(channels).clone()
    scale, shift = (flat, torch.zeros(channels)) if join == "mul" else (torch.ones(channels), flat)
    out = Value(channels, seen.value.height, seen.value.width)
    reader.emit(node, Operation("elementwise", seen.value, out, scale=scale, shift=shift), seen.look)


def _join(reader: Reader, node: fx.Node, sides: list[fx.Node], join: str) -> None:
    """Two activations, one of which may be a vector that is spread over the image of the other."""
    if (reader.seen[sides[0]].value.height, reader.seen[sides[0]].value.width) == (1, 1):
        sides = sides[::-1]  # the one that is spread over the other comes second
    first, second = (reader.seen[one] for one in sides)
    whole, spread, shape = first.value, second.value, node.meta["val"].shape
    sizes = (1, 1), (whole.height, whole.width)
    alike = first.look == second.look != "ordered" and whole.channels == spread.channels
    ranks = first.look == "nhwc" or sides[0].meta["val"].ndim == sides[1].meta["val"].ndim
    if alike and ranks and (spread.height, spread.width) in sizes and sides[0].meta["val"].shape == shape:
        out = Value(whole.channels, whole.height, whole.width)
        reader.emit(node, Operation("elementwise", whole, out, join=join, other=spread), first.look)
        return
    (left, order), (right, other) = (reader.whole(one) for one in sides)
    alike = (left.channels, left.height, left.width) == (right.channels, right.height, right.width)
    if not alike or not torch.equal(order, other):  # each spread, in the order of the sum
        image = len(shape) == 4 and "nchw" in (first.look, second.look)
        axes = (0, 2, 3, 1) if image else tuple(range(len(shape)))
        spread_out = [reader.order(one).expand(shape).permute(axes) for one in sides]
        left, right = (reader.gather(reader.seen[one], each) for one, each in zip(sides, spread_out, strict=True))
        order = torch.arange(shape.numel()).reshape(spread_out[0].shape)
        order = order.permute(0, 3, 1, 2) if image else order
    out = Value(left.channels, left.height, left.width)
    reader.emit_like(node, Operation("elementwise", left, out, join=join, other=right), order)


def _by_position(reader: Reader, node: fx.Node, side: fx.Node, number: torch.Tensor, join: str) -> None:
    """A constant where the elements lie anywhere, or one that varies over the pixels: a table of positions, which goes into a
    copy."""
    value, order = reader.whole(side)
    constant = torch.empty(order.numel())
    constant[order.reshape(-1)] = number.expand(order.shape).reshape(-1)
    constant = constant.reshape(-1, value.channels)
    if torch.equal(constant, constant[:1].expand_as(constant)):
        one, none = torch.ones(value.channels), torch.zeros(value.channels)
        scale, shift = (constant[0], none) if join == "mul" else (one, constant[0])
        out = Value(value.channels, value.height, value.width)
        reader.emit_like(node, Operation("elementwise", value, out, scale=scale, shift=shift), order)
        return
    if join != "add":
        raise unknown(f"{node.target} of a constant that varies over the image")
    last = reader.found[-1]
    alone = all(len(one.users) == 1 for one, seen in reader.seen.items() if seen.value.root is value)
    if last.kind == "gather" and last.out is value and alone:
        last.more["constant"] = constant if last.more["constant"] is None else last.more["constant"] + constant
        reader.seen[node] = reader.seen[side]
        return
    shape = (1, value.height, value.width, value.channels)
    copied = reader.gather(Seen(value), torch.arange(order.numel()).reshape(shape), constant.reshape(shape))
    reader.settle(node, copied, order)


def _pool(reader: Reader, node: fx.Node) -> None:
    src = reader.image(node.args[0])
    largest = node.target is aten.max_pool2d.default
    kernel = _pair(node.args[1], 1)
    stride, padding = _pair(argument(node, 2), 0), _pair(argument(node, 3), 0)
    stride = kernel if stride == (0, 0) else stride
    if largest and _pair(argument(node, 4), 1) != (1, 1):
        raise unknown("a dilated pooling")
    counts_border = argument(node, 5, True) and padding != (0, 0)
    divide = 0 if largest else (argument(node, 6) or (kernel[0] * kernel[1] if counts_border else 0))
    if counts_border and not largest and argument(node, 4, False):
        raise unknown("an average over a cut window")
    _, channels, height, width = node.meta["val"].shape
    more = {"kernel": kernel, "max": largest, "divide": divide}
    reader.emit(node, Operation("pool", src, Value(channels, height, width), stride=stride, padding=padding, more=more))


def _mean(reader: Reader, node: fx.Node) -> None:
    """Over all pixels, of rows of tokens; of images the graph has pools."""
    source: Any = node.args[0]
    axes: Any = node.args[1] or ()
    shape = source.meta["val"].shape
    between = list(range(1, len(shape) - 1))
    if sorted(axis % len(shape) for axis in axes) != between or shape[0] != 1 or node.kwargs:
        raise unknown("a mean over other than all pixels")
    src, _ = reader.rows(source)
    out, kernel = Value(src.channels), (src.height, src.width)
    pool = Operation("pool", src, out, stride=kernel, more={"kernel": kernel, "max": False, "divide": 0})
    reader.emit_like(node, pool, torch.arange(out.channels).reshape(node.meta["val"].shape))


def _layer_norm(reader: Reader, node: fx.Node) -> None:
    axes = list(node.args[1])  # type: ignore[arg-type]
    if axes != list(node.meta["val"].shape[-1:]):
        raise unknown("a layer norm not over channels")
    value, pixel = reader.rows(node.args[0])
    scale = reader.constant(argument(node, 2), torch.ones(value.channels))  # absent without elementwise_affine
    shift = reader.constant(argument(node, 3), torch.zeros(value.channels))
    out = Value(value.channels, value.height, value.width)
    more = {"epsilon": argument(node, 4, 1e-5)}
    reader.emit_rows(node, Operation("layer_norm", value, out, scale=scale, shift=shift, more=more), pixel)


HANDLERS: dict[Any, Handler] = {
    aten.conv2d.default: _convolution,
    aten.linear.default: _linear,
    aten.relu.default: _activation("Relu"),
    aten.hardswish.default: _activation("Hardswish"),
    aten.hardsigmoid.default: _activation("Hardsigmoid"),
    aten.sigmoid.default: _activation("Sigmoid"),
    aten.silu.default: _activation("Silu"),
    aten.tanh.default: _activation("Tanh"),
    aten.gelu.default: _activation("Gelu"),
    aten.clamp.default: _clamp,
    aten.hardtanh.default: _clamp,
    aten.relu6.default: _activation("Clamp:0.0:6.0"),
    aten.add.Tensor: _arithmetic,
    aten.mul.Tensor: _arithmetic,
    aten.sub.Tensor: _arithmetic,
    aten.div.Tensor: _arithmetic,
    aten.max_pool2d.default: _pool,
    aten.avg_pool2d.default: _pool,
    aten.mean.dim: _mean,
    aten.layer_norm.default: _layer_norm,
}
