"""Handlers of the operators that only say how values are looked at or where they lie: shapes, slices, concatenations, and the
channel shuffle, which is a reshape, a transposition and another reshape. What is none of the looks that convolutions have is
done to the order of the elements instead (reader.Seen), by the operator itself: the windows of Swin, the heads of attention."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from deploybench.routes.direct.operation import Operation, Value, unknown
from deploybench.routes.direct.reader import Handler, Reader, Seen, argument

aten = torch.ops.aten


def _reshape(reader: Reader, node: fx.Node) -> None:
    seen, shape = reader.one(node.args[0]), list(node.meta["val"].shape)
    value = seen.value
    size = (value.channels, value.height, value.width)
    if list(node.args[0].meta["val"].shape) == shape:  # type: ignore[union-attr]  # graph.part_matmuls and part_layer_norms put it there
        reader.seen[node] = seen
    elif seen.look == "nchw" and len(shape) == 2 and shape[1] == value.channels * value.height * value.width:
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
    elif (
        seen.look in ("nchw", "flat")
        and len(shape) > 1
        and shape[0] == 1
        and shape[1:] == [value.channels, value.height, value.width][: len(shape) - 1]
    ):
        reader.seen[node] = Seen(value)
    else:
        _reorder(reader, node)


def _transpose(reader: Reader, node: fx.Node) -> None:
    seen = reader.one(node.args[0])
    if seen.look == "grouped" and set(node.args[1:3]) == {1, 2}:
        reader.seen[node] = Seen(seen.value, "shuffled", seen.groups)
    else:
        _reorder(reader, node)


def _permute(reader: Reader, node: fx.Node) -> None:
    seen = reader.one(node.args[0])
    there = {("nchw", (0, 2, 3, 1)): "nhwc", ("nhwc", (0, 3, 1, 2)): "nchw"}
    look = there.get((seen.look, tuple(node.args[1])))  # type: ignore[arg-type]
    # Rows of tokens are nhwc, too, and make an image only as high and wide as their value.
    size = (seen.value.channels, seen.value.height, seen.value.width)
    if look == "nhwc" or (look == "nchw" and node.meta["val"].shape[1:] == size):
        reader.seen[node] = Seen(seen.value, look)
    else:
        _reorder(reader, node)


def _cat(reader: Reader, node: fx.Node) -> None:
    sources: Any = node.args[0]
    axis = argument(node, 1, 0)
    looks = [reader.seen[one].look for one in sources if one in reader.seen]
    known = len(looks) == len(sources)
    if known and "nchw" in looks and node.meta["val"].ndim == 4 and axis % 4 == 1:
        for one in sources:  # an image whose channels lie elsewhere is copied
            reader.image(one)
    if not known or not all(_of_channels(reader, one, axis) for one in sources):
        _cat_anywhere(reader, node, sources, axis)
        return
    parts = [reader.one(one).value for one in sources]
    height, width = parts[0].height, parts[0].width
    for index, part in enumerate(parts):  # tokens may be those of an image, or in one row
        if (part.height, part.width) != (height, width):
            every = torch.arange(part.channels * height * width).reshape(1, height, width, part.channels)
            parts[index] = reader.gather(Seen(part), every)
    out = Value(sum(one.channels for one in parts), parts[0].height, parts[0].width)
    reader.emit(node, Operation("cat", parts[0], out, more={"parts": parts}), reader.one(sources[0]).look)


def _of_channels(reader: Reader, node: fx.Node, axis: int) -> bool:
    rows = reader.one(node).look == "nhwc" and axis % node.meta["val"].ndim == node.meta["val"].ndim - 1
    return rows or reader.over_channels(node, axis)


def _cat_anywhere(reader: Reader, node: fx.Node, sources: list[fx.Node], axis: int) -> None:
    """Of parts of one value, another order of it. Constants go into a copy: the class token of a vision transformer."""
    seen = [reader.seen[one] for one in sources if one in reader.seen]
    if not seen:
        raise unknown("a concatenation of constants alone")
    first = seen[0]
    if any(one.value is not first.value or one.factor != first.factor or one.unit for one in seen):
        raise unknown("a concatenation of different values, not of channels")
    shapes = [one.meta["val"].shape for one in sources]
    orders = [
        reader.order(one) if one in reader.seen else torch.full(shape, -1)
        for one, shape in zip(sources, shapes, strict=True)
    ]
    order = torch.cat(orders, axis)
    if len(seen) == len(sources):
        reader.settle_like(node, first, order)
        return
    constants = [reader.constants.get(one, torch.zeros(shape)) for one, shape in zip(sources, shapes, strict=True)]
    value = reader.gather(first, order, torch.cat(constants, axis))
    reader.seen[node] = Seen(value, "nhwc")


def _split(reader: Reader, node: fx.Node) -> None:
    axis = argument(node, 2, 0)
    if node.target is aten.unbind.int or not reader.over_channels(node.args[0], axis):
        reader.parts[node] = list(node.target(reader.order(node.args[0]), *node.args[1:]))  # type: ignore[operator]
    reader.seen[node] = reader.one(node.args[0])


def _getitem(reader: Reader, node: fx.Node) -> None:
    source: Any = node.args[0]
    seen = reader.one(source)
    if source in reader.parts:
        reader.settle_like(node, seen, reader.parts[source][node.args[1]])  # type: ignore[index]
        return
    sizes = [one.shape[1] for one in source.meta["val"]]
    index: Any = node.args[1]
    begin, count, value = sum(sizes[:index]), sizes[index], seen.value
    maker = next((one for one in reader.found if one.out is value), None)
    # A part of a channel shuffle is made apart, where it is needed.
    if maker and maker.kind == "interleave" and begin % 2 == 0 and count % 2 == 0:
        out = Value(count, value.height, value.width)
        reader.emit(node, Operation("interleave", maker.src, out, more={"begin": maker.more["begin"] + begin // 2}))
        return
    reader.seen[node] = Seen(Value(count, value.height, value.width, value, begin), seen.look)


def _slice(reader: Reader, node: fx.Node) -> None:
    seen = reader.one(node.args[0])
    value = seen.value
    one = node.target is aten.select.int
    if not reader.over_channels(node.args[0], argument(node, 1, 0)) or (not one and argument(node, 4, 1) != 1):
        _reorder(reader, node)
        return
    begin: Any = argument(node, 2) or 0
    begin = max(0, begin + value.channels) if begin < 0 else begin  # from the end, at most as far as the first
    count = 1 if one else node.meta["val"].shape[1]
    reader.seen[node] = Seen(Value(count, value.height, value.width, value, begin), "selected" if one else seen.look)


def _unsqueeze(reader: Reader, node: fx.Node) -> None:
    seen = reader.one(node.args[0])
    if seen.look != "selected":
        _reshape(reader, node)
        return
    if node.args[1] != 1:
        _reorder(reader, node)
        return
    reader.seen[node] = Seen(seen.value, "flat" if node.meta["val"].ndim == 2 else "nchw")


def _expand(reader: Reader, node: fx.Node) -> None:
    """A vector to the size of the image that it is then added to or multiplied with, which spreads it all the same."""
    source: Any = node.args[0]
    seen, shape = reader.one(source), node.meta["val"].shape
    beside = [side for user in node.users for side in user.all_input_nodes if side is not node]
    joined = all(user.target in (aten.add.Tensor, aten.mul.Tensor) for user in node.users)
    whole = all(side.target is not node.target and side.meta["val"].shape == shape for side in beside)
    vector = seen.look == "nchw" and (seen.value.height, seen.value.width) == (1, 1) and len(shape) == 4
    if vector and source.meta["val"].shape[:2] == shape[:2] and joined and whole and beside:
        reader.seen[node] = seen
    else:
        _reorder(reader, node)


def _reorder(reader: Reader, node: fx.Node) -> None:
    """By the operator itself, on the numbers of the elements."""
    source: Any = node.args[0]
    seen = reader.one(source)
    order = node.target(reader.order(source), *node.args[1:], **node.kwargs)  # type: ignore[operator]
    reader.settle_like(node, seen, order)


def _pad(reader: Reader, node: fx.Node) -> None:
    if argument(node, 2, "constant") != "constant" or argument(node, 3):
        raise unknown("a border of other than zeros")
    source: Any = node.args[0]
    padded = torch.nn.functional.pad(reader.order(source), node.args[1], value=-1)  # type: ignore[arg-type]
    reader.settle_like(node, reader.one(source), padded)


HANDLERS: dict[Any, Handler] = {
    aten.reshape.default: _reshape,
    aten.flatten.using_ints: _reshape,
    aten.transpose.int: _transpose,
    aten.permute.default: _permute,
    aten.cat.default: _cat,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split,
    operator.getitem: _getitem,
    aten.slice.Tensor: _slice,
    aten.select.int: _slice,
    aten.unsqueeze.default: _unsqueeze,
    aten.squeeze.dim: _reshape,
    aten.squeeze.dims: _reshape,
    aten.expand.default: _expand,
    aten.pad.default: _pad,
    aten.unbind.int: _split,
    aten.roll.default: _reorder,
    aten.flip.default: _reorder,
}
