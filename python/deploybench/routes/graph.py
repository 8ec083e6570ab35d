"""The graph of a model for one input shape, rewritten for fusion, as a module that can be traced.

torch.export gives the graph; what is left for the runtime to compute is less: sizes and masks become constants, batch norm
goes into convolutions, and operations that oneDNN Graph does not know become ones that it knows. Its list of operations:
torch/csrc/jit/codegen/onednn/graph_helper.cpp of PyTorch. docs/speed-notes.md has what each rewriting gave.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

aten = torch.ops.aten
FILLED = {aten.new_zeros.default: 0, aten.zeros_like.default: 0, aten.new_ones.default: 1, aten.ones_like.default: 1}
MADE = (
    aten.full.default,
    aten.ones.default,
    aten.zeros.default,
    aten.arange.default,
    aten.arange.start,
)  # of numbers alone
MAX_CONSTANT_BYTES = 64 << 20  # of a folded constant; the masks of Swin take 4 MB


def specialise(module: nn.Module, example: torch.Tensor) -> fx.GraphModule:
    """`module`, in eval mode, for inputs of the shape of `example`, [N, 3, H, W]. Raises what torch.export raises."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, on itself
        program = torch.export.export(module, (example,)).run_decompositions({})
        graph = program.module()
        assert isinstance(graph, fx.GraphModule)
        for rewriting in REWRITINGS:
            rewriting(graph)
            graph.graph.eliminate_dead_code()
    return fx.GraphModule(graph, graph.graph).eval()  # a plain one: the exporter's own refuses eval()


def drop_copies(graph: fx.GraphModule) -> None:
    """Functional graphs copy wherever eager code might have; a view of a copy is a reshape, which copies only if it must."""
    for node in _calls(
        graph, aten.clone.default, aten.alias.default, aten.lift_fresh_copy.default, aten.contiguous.default
    ):
        node.replace_all_uses_with(node.args[0])
    for node in _calls(graph, aten._assert_tensor_metadata.default):  # what `x.float()` leaves, of float32
        graph.graph.erase_node(node)
    for node in _calls(graph, aten.pad.default):
        if not any(node.args[1]):
            node.replace_all_uses_with(node.args[0])
    for node in _calls(graph, aten.view.default, aten._unsafe_view.default):
        node.target = aten.reshape.default


def fold_constants(graph: fx.GraphModule) -> None:
    """Evaluates what does not depend on the input, such as the attention masks of Swin."""
    values: dict[Any, Any] = {}
    node: Any
    for node in list(graph.graph.nodes):
        if node.op == "get_attr":
            values[node] = _attribute(graph, str(node.target))
        elif node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            if node.target in FILLED:  # of their argument they take the kind of number alone
                like = node.meta["val"]
                values[node] = torch.full(like.shape, FILLED[node.target], dtype=like.dtype, device=like.device)
                continue
            known = all(argument in values for argument in node.all_input_nodes)
            if known and (node.all_input_nodes or node.target in MADE):
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                values[node] = node.target(*args, **kwargs)
    for node, value in values.items():
        if node.op == "get_attr" or all(user in values for user in node.users):
            continue
        if isinstance(value, torch.Tensor) and value.nbytes <= MAX_CONSTANT_BYTES:
            node.replace_all_uses_with(_constant(graph, node, value.clone()))


def state_padding(graph: fx.GraphModule) -> None:
    """`same` and `valid` as the numbers that they are, where the border is as wide on both sides."""
    defaults: tuple[Any, ...] = (None, [1], "valid", [1], 1)  # bias, stride, padding, dilation, groups
    for node in _calls(graph, aten.conv2d.padding):
        given = tuple(node.args)
        source, weight, bias, stride, padding, dilation, groups = given + defaults[len(given) - 2 :]
        border = [0, 0]
        if padding == "same":
            border = [step * (size - 1) for step, size in zip(2 * dilation, _shape(weight)[2:], strict=False)]
        if not any(both % 2 for both in border):
            node.target = aten.conv2d.default
            node.args = (source, weight, bias, stride, [both // 2 for both in border], dilation, groups)


def fold_batch_norm(graph: fx.GraphModule) -> None:
    """Into the convolution before it; where there is none, as scale * x + shift: oneDNN Graph knows batch norm at fp32 only."""
    for node in _calls(graph, aten._native_batch_norm_legit_no_training.default):
        source, weight, bias, mean, variance, _, epsilon = node.args
        users = list(node.users)
        if any(user.args[1] != 0 for user in users if user.users):
            continue
        mu, sigma = _value(graph, mean), _value(graph, variance)
        gamma = torch.ones_like(mu) if weight is None else _value(graph, weight)  # None: affine=False
        beta = torch.zeros_like(mu) if bias is None else _value(graph, bias)
        scale = gamma / torch.sqrt(sigma + epsilon)
        shift = beta - mu * scale
        if _is_own_convolution(graph, source):
            _scale_convolution(graph, source, scale, shift)
            replacement = source
        else:
            channels = [1, -1] + [1] * (
                node.meta["val"][0].ndim - 2
            )  # [N, C] after a linear layer, or with any axes more
            constants = [_constant(graph, node, value.reshape(channels)) for value in (scale, shift)]
            with graph.graph.inserting_before(node):
                product = _insert(graph, aten.mul.Tensor, (source, constants[0]))
                replacement = _insert(graph, aten.add.Tensor, (product, constants[1]))
        for user in users:
            user.replace_all_uses_with(replacement)


def pool_by_size(graph: fx.GraphModule) -> None:
    """Adaptive pooling and means over height and width as average pooling with the window that they have at this shape."""
    for node in _calls(graph, aten.adaptive_avg_pool2d.default, aten.mean.dim):
        source = node.args[0]
        height, width = _shape(source)[-2:]
        if node.target is aten.adaptive_avg_pool2d.default:
            if list(node.args[1]) == [height, width]:
                node.replace_all_uses_with(source)
                continue
            if list(node.args[1]) != [1, 1]:
                continue
            keep = True
        else:
            if len(_shape(source)) != 4 or sorted(axis % 4 for axis in node.args[1]) != [2, 3] or node.kwargs:
                continue
            keep = len(node.args) > 2 and bool(node.args[2])
        with graph.graph.inserting_before(node):
            pooled = _insert(graph, aten.avg_pool2d.default, (source, [height, width], [1, 1]))
            if not keep:
                pooled = _insert(graph, aten.flatten.using_ints, (pooled, 1))
        node.replace_all_uses_with(pooled)


def fold_hard_sigmoid(graph: fx.GraphModule) -> None:
    """clamp(x / 6 + 1/2, 0, 1), its arithmetic in the convolution before it."""
    for node in _calls(graph, aten.hardsigmoid.default):
        source = node.args[0]
        if not _is_own_convolution(graph, source):
            continue
        sixths, halves = (
            torch.full(_shape(source)[1:2], value, device=source.meta["val"].device) for value in (1 / 6, 1 / 2)
        )
        _scale_convolution(graph, source, sixths, halves)
        with graph.graph.inserting_before(node):
            clamped = _insert(graph, aten.clamp.default, (source, 0, 1))
        node.replace_all_uses_with(clamped)


def widen_scalars(graph: fx.GraphModule) -> None:
    """Numbers in arithmetic as tensors of shape [1]: the tracer makes 0-dimensional ones, at which oneDNN Graph's fuser ends
    with vector::_M_range_check (Swin)."""
    for node in _calls(graph, aten.add.Tensor, aten.mul.Tensor, aten.div.Tensor):
        first, second = node.args[:2]
        if isinstance(second, int | float) and not node.kwargs:
            like = first.meta["val"]
            if like.is_floating_point():
                node.args = (
                    first,
                    _constant(graph, node, torch.tensor([second], dtype=like.dtype, device=like.device)),
                )


def part_matmuls(graph: fx.GraphModule) -> None:
    """A view between a product of two activations and the constant that it is multiplied by or that is added to it: fused, the
    two end with vector::_M_range_check in oneDNN Graph's fuser (the attention of Swin, and of Swin V2)."""
    for node in _calls(graph, aten.add.Tensor, aten.mul.Tensor):
        product, other = node.args[:2]
        if product.target is aten.matmul.default and isinstance(other, fx.Node) and other.op == "get_attr":
            _part(graph, product, node)


def part_layer_norms(graph: fx.GraphModule) -> None:
    """A view between layer norm and the sum that it goes into: fused, x + norm(f(x)) is wrong by as much as x is large (the
    blocks of Swin V2, oneDNN Graph of torch 2.13)."""
    for node in _calls(graph, aten.add.Tensor):
        for source in node.all_input_nodes:
            if source.target is aten.layer_norm.default:
                _part(graph, source, node)


def _part(graph: fx.GraphModule, source: Any, user: fx.Node) -> None:
    """Puts a view, which the fuser does not take, between the two."""
    with graph.graph.inserting_before(user):
        user.replace_input_with(source, _insert(graph, aten.reshape.default, (source, _shape(source))))


def _calls(graph: fx.GraphModule, *targets: Callable[..., Any]) -> list[Any]:
    """Nodes that call one of `targets`; Any, because fx gives the arguments of a node fifteen types."""
    return [node for node in graph.graph.nodes if node.op == "call_function" and node.target in targets]


def _insert(graph: fx.GraphModule, target: Callable[..., Any], args: tuple[Any, ...]) -> fx.Node:
    """A call, with the shape of its result, where the graph's insertion point is."""
    node = graph.graph.call_function(target, args)
    node.meta["val"] = target(*fx.node.map_arg(args, lambda one: one.meta["val"]))
    return node


def _shape(node: Any) -> list[int]:
    return list(node.meta["val"].shape)


def _attribute(graph: fx.GraphModule, target: str) -> torch.Tensor:
    found: Any = graph
    for name in target.split("."):
        found = getattr(found, name)
    assert isinstance(found, torch.Tensor)
    return found.detach()


def _value(graph: fx.GraphModule, node: Any) -> torch.Tensor:
    return _attribute(graph, str(node.target))


def _constant(graph: fx.GraphModule, before: fx.Node, value: torch.Tensor) -> fx.Node:
    name = f"folded_{len(list(graph.buffers()))}"
    graph.register_buffer(name, value)
    with graph.graph.inserting_before(before):
        node = graph.graph.get_attr(name)
    node.meta["val"] = value
    return node


def _is_own_convolution(graph: fx.GraphModule, node: Any) -> bool:
    """Whether `node` is a convolution whose only user is the one that asks, so that its weights may change."""
    return (
        isinstance(node, fx.Node)
        and node.target is aten.conv2d.default
        and len(node.users) == 1
        and isinstance(node.args[1], fx.Node)
        and node.args[1].op == "get_attr"
    )


def _scale_convolution(graph: fx.GraphModule, node: Any, scale: torch.Tensor, shift: torch.Tensor) -> None:
    """Makes the convolution give scale * y + shift, both [channels], instead of y. Computed at the weights' precision."""
    weight = _value(graph, node.args[1])
    bias = (
        _value(graph, node.args[2])
        if len(node.args) > 2 and node.args[2] is not None
        else weight.new_zeros(len(weight))
    )
    wide = scale.double()
    new_weight = (weight.double() * wide.reshape(-1, 1, 1, 1)).to(weight.dtype)
    new_bias = (bias.double() * wide + shift.double()).to(weight.dtype)
    constants = (_constant(graph, node, new_weight), _constant(graph, node, new_bias))
    node.args = (node.args[0], *constants, *node.args[3:])


REWRITINGS = (
    drop_copies,
    fold_constants,
    state_padding,
    fold_batch_norm,
    pool_by_size,
    fold_hard_sigmoid,
    widen_scalars,
    part_matmuls,
    part_layer_norms,
)
