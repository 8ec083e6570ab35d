"""From a graph of graph.specialise to operations, one for each node that computes something.

It knows the operators that computing.py, attention.py and views.py have handlers for, some forty of ATen, those that image
classifiers are made of, and refuses all others by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from deploybench.routes.direct.operation import Operation, Value, unknown

Handler = Callable[["Reader", fx.Node], None]
Handlers = dict[Any, Handler]


@dataclass(frozen=True, eq=False)
class Unit:
    """Vectors to be divided by their length, or by `least` where that is less: `depth` elements from each of `first` on."""

    least: float
    depth: int
    first: torch.Tensor


@dataclass(frozen=True)
class Seen:
    """A node's value, and how its shape looks to the graph: nchw, nhwc (of any rank: pixels in order, then channels), flat,
    grouped or shuffled (in `groups`), selected (one channel, its axis gone); or ordered: `order`, of the node's shape, says which
    element of the value each is, counted pixel by pixel, zero where it is below 0. They are still to be divided by lengths, where
    there is a `unit`, and to be multiplied by `factor`."""

    value: Value
    look: str = "nchw"
    groups: int = 1
    order: torch.Tensor | None = None
    factor: float = 1.0
    unit: Unit | None = None


class Reader:
    """One pass over the graph."""

    def __init__(self, graph: fx.GraphModule, handlers: Handlers, of_scores: Handlers, of_lengths: Handlers) -> None:
        """`graph` as graph.specialise gives it. `handlers`: what reads a call of an operator; `of_scores` and `of_lengths`: one on
        what stands in `scores` and `lengths`."""
        self.graph, self.handlers = graph, handlers
        self.seen: dict[fx.Node, Seen] = {}
        self.constants: dict[fx.Node, torch.Tensor] = {}
        self.parts: dict[fx.Node, list[torch.Tensor]] = {}  # the orders of what a split gives
        self.lengths: dict[fx.Node, tuple[fx.Node, float]] = {}  # of the last axis of which node, and the least one
        self.scores: dict[fx.Node, Any] = {}  # of attention, which are never stored: attention.Scores
        self.kinds: tuple[tuple[str, dict[fx.Node, Any], Handlers], ...] = (
            (" of the scores of an attention", self.scores, of_scores),
            (" of a norm", self.lengths, of_lengths),
        )
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
                if not isinstance(value, torch.Tensor):
                    raise unknown(f"{node.target}: a part of the graph")
                self.constants[node] = value.detach().float()
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                last = node.args[0][0] if isinstance(node.args[0], tuple | list) else node.args[0]
                self.found.append(self._give(last))
        return self.found

    def _give(self, node: Any) -> Operation:
        seen, order = self.one(node), self.order(node)
        value = seen.value
        if not _plain(seen) or not torch.equal(order.reshape(-1), torch.arange(value.channels)):
            value = self.gather(seen, order.reshape(1, -1))
        return Operation("give", value, value)

    def one(self, node: Any) -> Seen:
        """What is known of an activation. Raises unsupported where it is a constant, or not stored."""
        if node in self.scores or node in self.lengths:
            raise unknown(f"{node}: scores of an attention, or a norm, where an activation is expected")
        if node not in self.seen:
            raise unknown(f"{node}: a constant where an activation is expected")
        return self.seen[node]

    def image(self, node: Any) -> Value:
        """The value of an activation that is [N, C, H, W] to the graph; a copy where it lies otherwise."""
        seen = self.one(node)
        if seen.look == "nchw" and node.meta["val"].ndim == 4:
            return seen.value
        order = self.order(node)
        if order.ndim != 4 or len(order) != 1:
            raise unknown(f"{node}: {list(order.shape)} where an image is expected")
        value = self.gather(seen, order.permute(0, 2, 3, 1))
        self.seen[node] = Seen(value)
        return value

    def rows(self, node: Any) -> tuple[Value, torch.Tensor]:
        """The value whose channels are the last axis of an activation, and the pixel of each row, all of them; a copy where it
        lies otherwise."""
        seen, order = self.one(node), self.order(node)
        if not _has_rows(seen, order):
            seen = self.seen[node] = Seen(self.gather(seen, order), "nhwc")
            order = self.order(node)
        return seen.value, order[..., 0] // seen.value.channels

    def whole(self, node: Any) -> tuple[Value, torch.Tensor]:
        """The value of an activation and its order, in which each element comes once; a copy where that is not so."""
        seen, order = self.one(node), self.order(node)
        if not _plain(seen) or not torch.equal(order.reshape(-1).sort().values, _pixels(seen.value).reshape(-1)):
            seen = self.seen[node] = Seen(self.gather(seen, order), "nhwc")
            order = self.order(node)
        return seen.value, order

    def order(self, node: Any) -> torch.Tensor:
        """Which element of its value each of an activation is."""
        seen, shape = self.one(node), node.meta["val"].shape
        if seen.order is not None:
            return seen.order
        pixels = _pixels(seen.value)
        if seen.look == "nhwc":
            return pixels.reshape(shape)
        planes = pixels.permute(2, 0, 1)
        if planes.numel() != shape.numel():  # views._expand has left it to the operation to spread it
            return planes[None].expand(shape)
        if seen.look == "shuffled":
            return planes.reshape(shape[0], shape[2], shape[1], *shape[3:]).transpose(1, 2)
        return planes.reshape(shape)

    def settle(
        self, node: fx.Node, value: Value, order: torch.Tensor, factor: float = 1.0, unit: Unit | None = None
    ) -> None:
        """Notes that `node` is this part of `value`, in this order. Raises unsupported for a number, or nothing."""
        if order.ndim == 0 or order.numel() == 0:
            raise unknown(f"{node}: {list(order.shape)} of an activation")
        pixels, shape = _pixels(value), order.shape
        look = "ordered"
        if factor == 1 and unit is None and order.numel() == pixels.numel():
            if order.ndim == 4 and torch.equal(order[0], pixels.permute(2, 0, 1)):
                look = "nchw"
            elif shape[-1] == value.channels and torch.equal(order.reshape(pixels.shape), pixels):
                look = "flat" if order.ndim == 2 and pixels.shape[:2] == (1, 1) else "nhwc"
        self.seen[node] = Seen(value, look, 1, order, factor, unit) if look == "ordered" else Seen(value, look)

    def settle_like(self, node: fx.Node, seen: Seen, order: torch.Tensor) -> None:
        """Notes that `node` is what `seen` is, in this order."""
        self.settle(node, seen.value, order, seen.factor, seen.unit)

    def gather(self, seen: Seen, order: torch.Tensor, constant: torch.Tensor | None = None) -> Value:
        """A new value with a pixel for each row of `order`, which says what of `seen` it holds, zero where that is below 0; plus
        `constant`, of the same shape. Raises unsupported for vectors that are still to be divided by their length."""
        if seen.unit:
            raise unknown("vectors divided by their length elsewhere than in the scores of an attention")
        height, width = order.shape[1:3] if order.ndim == 4 and len(order) == 1 else (1, order.shape[:-1].numel())
        out = Value(order.shape[-1], height, width)
        flat = (height * width, order.shape[-1])
        more = {"order": order.reshape(flat), "factor": seen.factor}
        more["constant"] = None if constant is None else constant.reshape(flat)
        self.found.append(Operation("gather", seen.value, out, more=more))
        return out

    def over_channels(self, node: Any, axis: int) -> bool:
        """Whether this axis of an activation is its channels and nothing else; of a flattened image it is pixels, too."""
        seen = self.one(node)
        pooled = seen.look == "flat" and (seen.value.height, seen.value.width) == (1, 1)
        return (seen.look == "nchw" or pooled) and axis % node.meta["val"].ndim == 1

    def constant(self, node: Any, absent: torch.Tensor | None = None) -> torch.Tensor:
        """A tensor of the model; `absent` where the call leaves it out. Raises unsupported where it is computed."""
        if node is None and absent is not None:
            return absent
        if node not in self.constants:
            raise unknown(f"{node}: computed where a constant is expected")
        return self.constants[node]

    def _call(self, node: fx.Node) -> None:
        name, handlers = next(
            (
                (name, handlers)
                for name, these, handlers in self.kinds
                if not these.keys().isdisjoint(node.all_input_nodes)
            ),
            ("", self.handlers),
        )
        handler = handlers.get(node.target)
        if handler is None:
            raise unknown(f"{node.target}{name}")
        handler(self, node)

    def emit_rows(self, node: fx.Node, operation: Operation, pixel: torch.Tensor) -> None:
        """Adds `operation`, whose output's pixels are the rows of `node`."""
        channels = operation.out.channels
        self.emit_like(node, operation, pixel[..., None] * channels + torch.arange(channels))

    def emit_like(self, node: fx.Node, operation: Operation, order: torch.Tensor) -> None:
        """Adds `operation`, whose output is `node` in this order."""
        self.found.append(operation)
        self.settle(node, operation.out, order)

    def emit(self, node: fx.Node, operation: Operation, look: str = "nchw") -> None:
        """Adds `operation`, whose output is `node`."""
        self.found.append(operation)
        self.seen[node] = Seen(operation.out, look)


def _pixels(value: Value) -> torch.Tensor:
    """The numbers of a value's elements, [H, W, C]."""
    return torch.arange(value.height * value.width * value.channels).reshape(value.height, value.width, value.channels)


def _plain(seen: Seen) -> bool:
    """Whether nothing is left to be computed."""
    return seen.factor == 1 and seen.unit is None


def _has_rows(seen: Seen, order: torch.Tensor) -> bool:
    """Whether each row is one pixel, and each pixel one row."""
    if seen.look == "nhwc":
        return True
    value = seen.value
    whole = order.numel() == _pixels(value).numel() and order.shape[-1] == value.channels and _plain(seen)
    if not whole:
        return False
    first = order[..., 0]
    rows = first.reshape(-1).sort().values
    inside = torch.equal(order - first[..., None], torch.arange(value.channels).expand(order.shape))
    return inside and torch.equal(rows, _pixels(value)[..., 0].reshape(-1))


def argument(node: fx.Node, index: int, default: Any = None) -> Any:
    """An argument by its place, where it was given."""
    return node.args[index] if len(node.args) > index else default
