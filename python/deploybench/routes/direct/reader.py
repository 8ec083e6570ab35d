"""From a graph of graph.specialise to operations, one for each node that computes something.

It knows the operators that computing.py and views.py have handlers for, some thirty of ATen, those that convolutional
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


@dataclass(frozen=True)
class Seen:
    """A node's value, and how its shape looks to the graph: nchw, nhwc, flat, grouped or shuffled (in `groups`),
    selected (one channel, its axis gone)."""

    value: Value
    look: str = "nchw"
    groups: int = 1


class Reader:
    """One pass over the graph."""

    def __init__(self, graph: fx.GraphModule, handlers: dict[Any, Handler]) -> None:
        """`graph` as graph.specialise gives it. `handlers`: what reads a call of an operator."""
        self.graph = graph
        self.handlers = handlers
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
                last = self.one(node.args[0][0] if isinstance(node.args[0], tuple | list) else node.args[0])
                if (last.value.height, last.value.width) != (1, 1):
                    raise unknown("an answer that is a flattened image")
                self.found.append(Operation("give", last.value, last.value))
        return self.found

    def one(self, node: Any) -> Seen:
        """What is known of an activation. Raises unsupported where it is a constant."""
        if node not in self.seen:
            raise unknown(f"{node}: a constant where an activation is expected")
        return self.seen[node]

    def image(self, node: Any) -> Value:
        """The value of an activation that is [N, C, H, W] to the graph. Raises unsupported where its axes lie otherwise."""
        if self.one(node).look != "nchw":
            raise unknown(f"{node}: axes in another order where an image is expected")
        return self.one(node).value

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
        handler = self.handlers.get(node.target)
        if handler is None:
            raise unknown(f"{node.target}")
        handler(self, node)

    def emit(self, node: fx.Node, operation: Operation, look: str = "nchw") -> None:
        """Adds `operation`, whose output is `node`."""
        self.found.append(operation)
        self.seen[node] = Seen(operation.out, look)


def argument(node: fx.Node, index: int, default: Any = None) -> Any:
    """An argument by its place, where it was given."""
    return node.args[index] if len(node.args) > index else default
