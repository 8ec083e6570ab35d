"""Handlers of attention, in one operator or in its parts: softmax(q k^T * factor + bias) v. The scores are never stored; what is
said of them is gathered until their product with v, and then is one operation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from deploybench.routes.direct.operation import Operation, Value, unknown
from deploybench.routes.direct.reader import Handler, Reader, Seen, Unit, argument

aten = torch.ops.aten


@dataclass(frozen=True)
class Rows:
    """Rows of tokens of each item, a head of a window: [items, tokens] pixels of `value`, and the first of `depth` channels."""

    value: Value
    pixel: torch.Tensor
    channel: torch.Tensor  # [items]
    depth: int
    least: float = 0.0  # length by which each row is divided, where it is not 0 and the row's own is not more


@dataclass(frozen=True)
class Scores:
    """softmax(q k^T * factor + bias), or what is before the softmax. `factor`: [items]. `bias`: [items, queries, keys], or none
    yet."""

    query: Rows
    key: Rows
    factor: torch.Tensor
    bias: torch.Tensor | None = None
    softmax: bool = False


def _rows(reader: Reader, seen: Seen, order: torch.Tensor) -> Rows:
    """Of an activation [..., tokens, depth] in this order; of a copy where a row is not side by side."""
    tokens, depth = order.shape[-2:]
    order = order.reshape(-1, tokens, depth)
    value, first = seen.value, order[..., 0]
    pixel, channel = first // value.channels, first % value.channels
    aside = torch.equal(order - first[..., None], torch.arange(depth).expand(order.shape)) and bool((first >= 0).all())
    aside = aside and bool((channel == channel[:, :1]).all()) and int(channel.max()) + depth <= value.channels
    if seen.unit and not (aside and depth == seen.unit.depth and bool(torch.isin(first, seen.unit.first).all())):
        raise unknown("vectors divided by their length, and taken apart")
    if aside:
        return Rows(value, pixel, channel[:, 0], depth, seen.unit.least if seen.unit else 0.0)
    copied = reader.gather(Seen(value), order.reshape(1, -1, depth))  # the factor is the scores'
    pixel = torch.arange(len(order) * tokens).reshape(-1, tokens)
    return Rows(copied, pixel, torch.zeros(len(order)).long(), depth)


def _matmul(reader: Reader, node: fx.Node) -> None:
    _score(reader, node, node.args[0], node.args[1], transposed=True)


def _einsum(reader: Reader, node: fx.Node) -> None:
    """'bid, bjd -> bij', the scores, or 'bij, bjd -> bid', their product with v; any letters, any number of b."""
    equation, sides = str(node.args[0]).replace(" ", ""), list(node.args[1])  # type: ignore[arg-type]
    given, _, result = equation.partition("->")
    letters = given.split(",")
    if len(letters) != 2 or not all(len(set(each)) == len(each) > 1 for each in (*letters, result)) or "." in equation:
        raise unknown(f"the einsum {node.args[0]}")
    one, other = letters
    items = one[:-2]
    alike = other[:-2] == result[:-2] == items
    if alike and one[-1] == other[-1] and result[-2:] == one[-2] + other[-2]:
        _score(reader, node, sides[0], sides[1], transposed=False)
    elif alike and one[-1] == other[-2] and result[-2:] == one[-2] + other[-1] and sides[0] in reader.scores:
        _mix_with(reader, node, sides[0], sides[1])
    else:
        raise unknown(f"the einsum {node.args[0]}")


def _score(reader: Reader, node: fx.Node, left: Any, right: Any, transposed: bool) -> None:
    """q k^T, where k comes as it is or `transposed`."""
    first, second = reader.one(left), reader.one(right)
    items = [side.meta["val"].shape[:-2] for side in (left, right, node)]
    if min(side.meta["val"].ndim for side in (left, right)) < 2 or items[0] != items[2] or items[1] != items[2]:
        raise unknown("a product of such shapes")
    query, order = _rows(reader, first, reader.order(left)), reader.order(right)
    key = _rows(reader, second, order.transpose(-1, -2) if transposed else order)
    if query.least != key.least:
        raise unknown("a product of vectors of which one is divided by its length")
    reader.scores[node] = Scores(query, key, torch.full((len(query.pixel),), first.factor * second.factor))


def _length(reader: Reader, node: fx.Node) -> None:
    """Of the last axis. Nothing is computed: what is divided by it is of length 1."""
    source: Any = node.args[0]
    last = source.meta["val"].ndim - 1
    axes = [axis % (last + 1) for axis in argument(node, 2) or []]
    if argument(node, 1, 2) != 2 or axes != [last] or not argument(node, 3, False) or node.kwargs:
        raise unknown("a norm other than the length of the last axis")
    reader.lengths[node] = (source, 1e-38)


def _least_length(reader: Reader, node: fx.Node) -> None:
    source, least = _lengths(reader, node)
    reader.lengths[node] = (source, max(least, float(node.args[1])))  # type: ignore[arg-type]


def _same_length(reader: Reader, node: fx.Node) -> None:
    reader.lengths[node] = _lengths(reader, node)


def _lengths(reader: Reader, node: fx.Node) -> tuple[fx.Node, float]:
    source: Any = node.args[0]
    if source not in reader.lengths:
        raise unknown(f"{node.target} by a norm")
    return reader.lengths[source]


def _unit(reader: Reader, node: fx.Node) -> None:
    """Vectors divided by their length."""
    source: Any = node.args[0]
    of, least = reader.lengths.get(node.args[1], (None, 0.0))  # type: ignore[arg-type]
    if of is not source or node.meta["val"].shape != source.meta["val"].shape or reader.one(source).factor != 1:
        raise unknown(f"{node.target} by a norm")
    order = reader.order(source)
    rows = _rows(reader, reader.one(source), order.reshape(-1, 1, order.shape[-1]))
    first = rows.pixel * rows.value.channels + rows.channel[:, None]
    within = (first + torch.arange(rows.depth)).reshape(order.shape)
    reader.settle(node, rows.value, within, 1.0, Unit(least, rows.depth, first.reshape(-1)))


def _bias(reader: Reader, node: fx.Node) -> None:
    """A constant that is added to scores: positions, masks."""
    one: Any
    other: Any
    one, other = node.args[:2]
    scored, constant = (one, other) if one in reader.scores else (other, one)
    scores = reader.scores[scored]
    shape = node.meta["val"].shape
    if scores.softmax or node.kwargs or scored.meta["val"].shape != shape:
        raise unknown(f"{node.target} of the scores of an attention")
    number = reader.constant(constant) if isinstance(constant, fx.Node) else torch.tensor(float(constant))
    more = number.expand(shape).reshape(-1, *shape[-2:])
    reader.scores[node] = replace(scores, bias=more if scores.bias is None else scores.bias + more)


def _factor(reader: Reader, node: fx.Node) -> None:
    """Scores times, or divided by, a number, or one for each head."""
    scored: Any
    constant: Any
    scored, constant = node.args[:2]
    if scored not in reader.scores and node.target is aten.mul.Tensor:
        scored, constant = constant, scored
    number = reader.constants.get(constant) if isinstance(constant, fx.Node) else torch.tensor(float(constant))
    scores, shape = reader.scores.get(scored), node.meta["val"].shape
    if (
        scores is None
        or scores.softmax
        or scores.bias is not None
        or number is None
        or scored.meta["val"].shape != shape
    ):
        raise unknown(f"{node.target} of the scores of an attention")
    if number.numel() != 1 and number.shape[-2:] != (1, 1):
        raise unknown("scores of an attention with a factor for each key")
    factors = number.reshape(1, 1) if number.numel() == 1 else number
    by = factors.expand(*shape[:-2], 1, 1).reshape(-1)
    reader.scores[node] = replace(scores, factor=scores.factor * (by if node.target is aten.mul.Tensor else 1 / by))


def _keep(reader: Reader, node: fx.Node) -> None:
    """Another shape of the items."""
    scored: Any = node.args[0]
    if node.meta["val"].shape[-2:] != scored.meta["val"].shape[-2:]:
        raise unknown("a reshape of the scores of an attention")
    reader.scores[node] = reader.scores[scored]


def _softmax(reader: Reader, node: fx.Node) -> None:
    scored: Any = node.args[0]
    scores = reader.scores[scored]
    if scores.softmax or node.args[1] not in (-1, scored.meta["val"].ndim - 1):
        raise unknown("a softmax not over keys")
    reader.scores[node] = replace(scores, softmax=True)


def _mix(reader: Reader, node: fx.Node) -> None:
    _mix_with(reader, node, node.args[0], node.args[1])


def _mix_with(reader: Reader, node: fx.Node, scored: Any, side: Any) -> None:
    """The product of the softmax and v."""
    scores = reader.scores.get(scored)
    if scores is None or not scores.softmax:
        raise unknown("a product of scores of an attention other than, after a softmax, with values")
    _attend(reader, node, scores, reader.one(side), reader.order(side))


def _scaled_dot_product(reader: Reader, node: fx.Node) -> None:
    sides = [reader.one(side) for side in node.args[:3]]
    orders = [reader.order(side) for side in node.args[:3]]
    if argument(node, 5, False) or node.kwargs.get("is_causal"):
        raise unknown("causal attention")
    if argument(node, 4, 0.0) or node.kwargs.get("dropout_p"):
        raise unknown("attention with dropout")
    query, key = (_rows(reader, seen, order) for seen, order in zip(sides[:2], orders[:2], strict=True))
    given = argument(node, 6, node.kwargs.get("scale"))
    factor = (1 / math.sqrt(query.depth) if given is None else float(given)) * sides[0].factor * sides[1].factor
    mask, bias = argument(node, 3, node.kwargs.get("attn_mask")), None
    if mask is not None:
        shape = (*node.args[0].meta["val"].shape[:-1], key.pixel.shape[1])  # type: ignore[union-attr]
        bias = reader.constant(mask)
        if mask.meta["val"].dtype is torch.bool:
            bias = torch.where(bias != 0, 0.0, -torch.inf)
        if bias.ndim > len(shape):
            raise unknown("a mask of more axes than the queries")
        bias = bias.expand(shape).reshape(-1, *shape[-2:])
    scores = Scores(query, key, torch.full((len(query.pixel),), factor), bias, softmax=True)
    _attend(reader, node, scores, sides[2], orders[2])


def _attend(reader: Reader, node: fx.Node, scores: Scores, seen: Seen, order: torch.Tensor) -> None:
    """Emits the operation. Each item's answer lies where its queries do, its heads side by side, if each pixel is in one window."""
    if seen.factor != 1 or seen.unit:
        raise unknown("scaled values of an attention")
    query, key, value = scores.query, scores.key, _rows(reader, seen, order)
    alike = value.pixel.shape == key.pixel.shape and len(query.pixel) == len(key.pixel) and query.least == key.least
    if not alike or not value.depth == query.depth == key.depth:
        raise unknown("an attention of such shapes")
    if scores.bias is not None and not bool((scores.bias > -torch.inf).any(-1).all()):
        raise unknown("an attention with a query for which every key is masked")
    windows, window = torch.unique(query.pixel, dim=0, return_inverse=True)
    count = torch.bincount(window)
    heads = int(count[0])
    pixels = query.value.height * query.value.width
    once = torch.equal(windows.reshape(-1).sort().values, torch.arange(pixels)) and bool((count == heads).all())
    if once:
        head = torch.zeros(len(window)).long()
        head[window.argsort(stable=True)] = torch.arange(len(window)) % heads
        out = Value(heads * value.depth, query.value.height, query.value.width)
        answer = Rows(out, query.pixel, head * value.depth, value.depth)
    else:
        out = Value(value.depth, 1, query.pixel.numel())
        pixel = torch.arange(query.pixel.numel()).reshape(query.pixel.shape)
        answer = Rows(out, pixel, torch.zeros(len(pixel)).long(), value.depth)
    more = {"rows": (query, key, value, answer), "factor": scores.factor, "bias": scores.bias}
    operation = Operation("attention", query.value, out, other=key.value, gate=value.value, more=more)
    first = answer.pixel * out.channels + answer.channel[:, None]
    order = first[..., None] + torch.arange(value.depth)
    reader.emit_like(node, operation, order.reshape(node.meta["val"].shape))


HANDLERS: dict[Any, Handler] = {
    aten.matmul.default: _matmul,
    aten.einsum.default: _einsum,
    aten.linalg_vector_norm.default: _length,
    aten.scaled_dot_product_attention.default: _scaled_dot_product,
}
OF_SCORES: dict[Any, Handler] = {
    aten.add.Tensor: _bias,
    aten.mul.Tensor: _factor,
    aten.div.Tensor: _factor,
    aten.reshape.default: _keep,
    aten.unsqueeze.default: _keep,
    aten.squeeze.dim: _keep,
    aten.softmax.int: _softmax,
    aten.matmul.default: _mix,
    aten.einsum.default: _einsum,
}
OF_LENGTHS: dict[Any, Handler] = {
    aten.clamp_min.default: _least_length,
    aten.expand.default: _same_length,
    aten.div.Tensor: _unit,
}
