"""Handlers of the operators that only say how values are looked at or where they lie: shapes, slices, concatenations, and the
channel shuffle, which is a reshape, a transposition and another reshape."""

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
    if list(node.args[0].meta["val"].shape) == shape:  # type: ignore[union-attr]  # graph.part_layer_norms put it there
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
        and shape[1:] == [value.channels, value.height, value.width][: len(shape) - 1]
    ):
        reader.seen[node] = Seen(value)
    else:
        raise unknown(f"a reshape to {shape}")


def _transpose(reader: Reader, node: fx.Node) -> None:
    seen = reader.one(node.args[0])
    if seen.look != "grouped" or set(node.args[1:3]) != {1, 2}:
        raise unknown("a transposition that is no channel shuffle")
    reader.seen[node] = Seen(seen.value, "shuffled", seen.groups)


def _permute(reader: Reader, node: fx.Node) -> None:
    seen = reader.one(node.args[0])
    there = {("nchw", (0, 2, 3, 1)): "nhwc", ("nhwc", (0, 3, 1, 2)): "nchw"}
    look = there.get((seen.look, tuple(node.args[1])))  # type: ignore[arg-type]
    if look is None:
        raise unknown(f"a permutation {node.args[1]}")
    reader.seen[node] = Seen(seen.value, look)


def _cat(reader: Reader, node: fx.Node) -> None:
    sources: Any = node.args[0]
    if not all(reader.over_channels(one, argument(node, 1, 0)) for one in sources):
        raise unknown("a concatenation not of channels")
    parts = [reader.one(one).value for one in sources]
    out = Value(sum(one.channels for one in parts), parts[0].height, parts[0].width)
    reader.emit(node, Operation("cat", parts[0], out, more={"parts": parts}), reader.one(sources[0]).look)


def _split(reader: Reader, node: fx.Node) -> None:
    if not reader.over_channels(node.args[0], argument(node, 2, 0)):
        raise unknown("a split not of channels")
    reader.seen[node] = reader.one(node.args[0])


def _getitem(reader: Reader, node: fx.Node) -> None:
    source: Any = node.args[0]
    seen = reader.one(source)
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
        raise unknown("a slice not of channels")
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
        raise unknown("an unsqueeze")
    reader.seen[node] = Seen(seen.value, "flat" if node.meta["val"].ndim == 2 else "nchw")


def _expand(reader: Reader, node: fx.Node) -> None:
    """A vector to the size of the image that it is then added to or multiplied with, which spreads it all the same."""
    source: Any = node.args[0]
    seen, shape = reader.one(source), node.meta["val"].shape
    beside = [side for user in node.users for side in user.all_input_nodes if side is not node]
    joined = all(user.target in (aten.add.Tensor, aten.mul.Tensor) for user in node.users)
    whole = all(side.target is not node.target and side.meta["val"].shape == shape for side in beside)
    if not (seen.look == "nchw" and source.meta["val"].shape[:2] == shape[:2] and joined and whole and beside):
        raise unknown("an expansion")
    reader.seen[node] = seen


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
}
