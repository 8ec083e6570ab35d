"""Handlers of the operators that compute something."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from deploybench.routes.direct.operation import Operation, Value, unknown
from deploybench.routes.direct.reader import Handler, Reader, argument

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
    src = seen.value
    if seen.look == "nhwc":
        kernel = weight.reshape(*weight.shape, 1, 1)
        out = Value(len(weight), src.height, src.width)
        reader.emit(node, Operation("convolution", src, out, kernel, bias), "nhwc")
        return
    if seen.look != "flat":
        raise unknown("a linear layer over an axis of the image")
    kernel = weight.reshape(len(weight), src.channels, src.height, src.width)  # of a flat image: a window of its size
    reader.emit(node, Operation("convolution", src, Value(len(weight)), kernel, bias), "flat")


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
    if len(values) == 2:
        first, second = (reader.seen[one] for one in values)
        if (first.value.height, first.value.width) == (1, 1):  # the one that is spread over the other comes second
            first, second = second, first
        whole, spread = first.value, second.value
        sizes = (1, 1), (whole.height, whole.width)
        alike = first.look == second.look and whole.channels == spread.channels
        if not alike or (spread.height, spread.width) not in sizes:
            raise unknown(f"{node.target} of such shapes")
        out = Value(whole.channels, whole.height, whole.width)
        reader.emit(node, Operation("elementwise", whole, out, join=join, other=spread), first.look)
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
    if number.numel() != 1 and (number.numel() != channels or ranked.shape[axis] != channels):
        raise unknown(f"{node.target} of a constant that varies over the image")
    flat = number.reshape(-1).expand(channels).clone()
    scale, shift = (flat, torch.zeros(channels)) if join == "mul" else (torch.ones(channels), flat)
    out = Value(channels, seen.value.height, seen.value.width)
    reader.emit(node, Operation("elementwise", seen.value, out, scale=scale, shift=shift), seen.look)


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


def _layer_norm(reader: Reader, node: fx.Node) -> None:
    seen, axes = reader.one(node.args[0]), list(node.args[1])  # type: ignore[arg-type]
    value = seen.value
    pooled = seen.look == "flat" and (value.height, value.width) == (1, 1)
    if axes != [value.channels] or not (seen.look == "nhwc" or pooled):
        raise unknown("a layer norm not over channels")
    scale = reader.constant(argument(node, 2), torch.ones(value.channels))  # absent without elementwise_affine
    shift = reader.constant(argument(node, 3), torch.zeros(value.channels))
    out = Value(value.channels, value.height, value.width)
    more = {"epsilon": argument(node, 4, 1e-5)}
    reader.emit(node, Operation("layer_norm", value, out, scale=scale, shift=shift, more=more), seen.look)


HANDLERS: dict[Any, Handler] = {
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
    aten.sub.Tensor: _arithmetic,
    aten.div.Tensor: _arithmetic,
    aten.max_pool2d.default: _pool,
    aten.avg_pool2d.default: _pool,
    aten.layer_norm.default: _layer_norm,
}
