"""What generated code does, operation by operation: activations, sums and scalings go into the convolutions beside them."""

from __future__ import annotations

from torch import fx

from deploybench.routes.direct import attention, computing, views
from deploybench.routes.direct.operation import Operation, Value
from deploybench.routes.direct.reader import Reader

PREPARED_WEIGHTS = 64 << 10  # elements; above, weights stay, and each tile would be prepared for every panel
HANDLERS = {**computing.HANDLERS, **attention.HANDLERS, **views.HANDLERS}
CONVOLUTIONS = ("convolution", "depthwise")
Makers = dict[Value, tuple[int, Operation]]  # of each value: which operation it is, and the operation


def operations(graph: fx.GraphModule) -> list[Operation]:
    """The operations of `graph`, one image in, [classes] out. Raises unsupported where it holds something unknown."""
    found = Reader(graph, HANDLERS, attention.OF_SCORES, attention.OF_LENGTHS).read()
    _drop_unused(found)
    _fold_scales(found)
    _join(found)
    _prepare(found)
    return found


def _users(found: list[Operation]) -> dict[Value, int]:
    """How many operations read each value, or a value that lies in it, or in which it lies."""
    count: dict[Value, int] = {}
    for operation in found:
        parts = operation.more.get("parts", [])
        for value in parts or operation.reads if operation.kind != "take" else []:
            one: Value | None = value
            while one is not None:
                count[one] = count.get(one, 0) + 1
                one = one.parent
    return count


def _drop_unused(found: list[Operation]) -> None:
    """What nobody reads: a channel shuffle that is made half by half instead."""
    for operation in reversed(list(found)):
        if operation.kind not in ("give", "take") and operation.out not in _users(found):
            found.remove(operation)


def _makers(found: list[Operation]) -> dict[Value, tuple[int, Operation]]:
    return {operation.out: (index, operation) for index, operation in enumerate(found) if operation.kind != "give"}


def _fold_scales(found: list[Operation]) -> None:
    """A constant scale and shift after a convolution that nobody else reads goes into its weights."""
    for operation in list(found):
        if operation.kind != "elementwise" or operation.scale is None or operation.first != "None" or operation.other:
            continue
        maker = _makers(found).get(operation.src, (0, None))[1]
        if (
            maker is None
            or maker.kind not in CONVOLUTIONS
            or maker.first != "None"
            or _users(found)[operation.src] != 1
        ):
            continue
        assert maker.weight is not None
        assert maker.bias is not None
        assert operation.shift is not None
        maker.weight = (maker.weight.double() * operation.scale.double().reshape(-1, 1, 1, 1)).float()
        maker.bias = (maker.bias.double() * operation.scale.double() + operation.shift.double()).float()
        maker.out = operation.out
        found.remove(operation)


def _join(found: list[Operation]) -> None:
    """Activations and joined values go into the operation that makes what they are applied to."""
    for operation in list(found):
        if operation.kind != "elementwise":
            continue
        users, makers = _users(found), _makers(found)
        merged = _merged_activation(operation, users, makers) or _merged_join(operation, users, makers)
        if merged:
            found.remove(operation)


def _merged_activation(operation: Operation, users: dict[Value, int], makers: Makers) -> bool:
    maker = makers.get(operation.src, (0, None))[1]
    if operation.other or operation.scale is not None or maker is None or users[operation.src] != 1:
        return False
    if maker.kind not in (*CONVOLUTIONS, "elementwise"):
        return False
    if maker.join == "none" and maker.first == "None":
        maker.first = operation.first
    elif maker.join != "none" and maker.second == "None":
        maker.second = operation.first
    else:
        return False
    maker.out = operation.out
    return True


def _merged_join(operation: Operation, users: dict[Value, int], makers: Makers) -> bool:
    """Into the later one of the two that are joined, as the other is there by then."""
    if operation.other is None or operation.first != "None":
        return False
    whole = (operation.other.height, operation.other.width) == (operation.src.height, operation.src.width)
    choices = [(operation.src, operation.other)] + ([(operation.other, operation.src)] if whole else [])
    choices = [one for one in choices if one[0] in makers]
    choices.sort(key=lambda one: -makers[one[0]][0])
    for mine, other in choices:
        index, maker = makers[mine]
        others = makers.get(other, (index + 1, None))[0]
        if (
            maker.kind in CONVOLUTIONS
            and maker.join == "none"
            and users[mine] == 1
            and others < index
            and mine is not other
        ):
            maker.join, maker.other, maker.second, maker.out = operation.join, other, operation.second, operation.out
            return True
    return False


def _prepare(found: list[Operation]) -> None:
    """A scaling, or a gate of squeeze and excitation, before a 1x1 convolution is applied tile by tile inside of it."""
    for operation in list(found):
        scaled = operation.scale is not None and operation.other is None
        gated = (
            operation.scale is None
            and operation.join == "mul"
            and operation.first == "None"
            and operation.other is not None
            and (operation.other.height, operation.other.width) == (1, 1)
        )
        if operation.kind != "elementwise" or not (scaled or gated) or _users(found)[operation.out] != 1:
            continue
        users = [one for one in found if operation.out in one.reads or operation.out in one.more.get("parts", [])]
        if not users:  # a slice of it is read instead
            continue
        user = users[0]
        if user.kind != "convolution" or user.src is not operation.out or user.before or user.groups != 1:
            continue
        assert user.weight is not None
        small = user.weight.numel() <= PREPARED_WEIGHTS and user.weight.shape[2:] == (1, 1) and user.stride == (1, 1)
        small = small and user.padding == (0, 0)  # whose zeros are to stay zeros
        if small and operation.src.height * operation.src.width > 1:
            user.src, user.scale, user.shift = operation.src, operation.scale, operation.shift
            user.gate = operation.other if gated else None
            user.before = operation.second if gated else operation.first
            found.remove(operation)
