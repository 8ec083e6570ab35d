"""Where activations lie: concatenations without copies, borders of zeros, and one arena that buffers share over time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from deploybench.routes.direct.operation import Operation, Value

ALIGNMENT = 32  # elements; 64 bytes at bf16
# Pixels 2 KB apart, or a multiple, fall into few sets of a first-level cache: 14 of them at 4 KB do not fit into its 12 ways
# (1024 -> 256 channels: 380 GFLOP/s, 500 with distances like 4160).
ALIASED = 512  # elements
SLACK = 64  # elements between buffers: kernels read whole registers, up to 16 elements past the last pixel


@dataclass
class Layout:
    """Offsets, in elements, of each root's buffer in the arena, and its distances."""

    offsets: dict[Value, int]
    size: int
    channels: dict[Value, int]  # of a root's buffer, with padding
    image: Value  # the input, whose padding is channels of zeros

    def pixel(self, value: Value) -> int:
        """From a pixel to the next."""
        return self.channels[value.root]

    def row(self, value: Value) -> int:
        """From a row to the next."""
        return (value.root.width + 2 * value.root.border[1]) * self.pixel(value)

    def begin(self, value: Value) -> int:
        """Its first pixel's first channel, inside the border."""
        root = value.root
        return self.offsets[root] + root.border[0] * self.row(value) + root.border[1] * self.pixel(value) + value.first


def place_concatenations(found: list[Operation]) -> list[Operation]:
    """Replaces every `cat`: its parts are made where the whole lies, or copied there when they lie elsewhere already."""
    cats = [operation for operation in found if operation.kind == "cat"]
    makers = {operation.out: operation for operation in found}
    copies: dict[Operation, list[Operation]] = {}
    for cat in reversed(cats):  # the largest first: those of a DenseNet are each a prefix of the next
        parts: list[Value] = cat.more["parts"]
        copies[cat] = []
        if cat.out.parent is None and _adjacent(parts):
            cat.out.parent, cat.out.offset = parts[0].root, parts[0].first
            continue
        offset = 0
        for part in parts:
            if part.parent is None and part in makers and part is not cat.out and makers[part].kind != "take":
                part.parent, part.offset = cat.out, offset
            else:
                copy = Value(part.channels, part.height, part.width, cat.out, offset)
                copies[cat].append(Operation("elementwise", part, copy))
            offset += part.channels
    return [one for operation in found for one in copies.get(operation, [operation])]


def _adjacent(parts: list[Value]) -> bool:
    """Whether the parts lie one after the other in one buffer already."""
    if any(part.parent is None for part in parts):
        return False
    return all(
        after.root is before.root and after.first == before.first + before.channels
        for before, after in itertools.pairwise(parts)
    )


def plan(found: list[Operation], pad_input_to: int) -> Layout:
    """The layout for `found`, after place_concatenations. `pad_input_to`: channels of the input's buffer."""
    for operation in found:
        if operation.kind in ("convolution", "depthwise"):
            root = operation.src.root
            root.border = (max(root.border[0], operation.padding[0]), max(root.border[1], operation.padding[1]))
    spans = _spans(found)
    channels = {root: root.channels + (ALIGNMENT if root.channels % ALIASED == 0 else 0) for root in spans}
    image = found[0].out
    channels[image] = max(pad_input_to, image.channels)
    layout = Layout({}, 0, channels, image)
    bordered = _bordered(spans, layout)
    _plain(spans, layout, bordered)
    return layout


def _spans(found: list[Operation]) -> dict[Value, tuple[int, int]]:
    """First and last operation that touches each root."""
    spans: dict[Value, tuple[int, int]] = {}
    for index, operation in enumerate(found):
        for value in (*operation.reads, operation.out):
            first, _ = spans.get(value.root, (index, index))
            spans[value.root] = (first, index)
    return spans


def _elements(root: Value, layout: Layout) -> int:
    height, width = root.height + 2 * root.border[0], root.width + 2 * root.border[1]
    return -(-(height * width * layout.channels[root] + SLACK) // ALIGNMENT) * ALIGNMENT


def _bordered(spans: dict[Value, tuple[int, int]], layout: Layout) -> int:
    """Buffers with a border are shared only by values of the same shape: their zeros are written once, at the start."""
    places: dict[tuple[int, ...], list[list[int]]] = {}  # by shape: [offset, last use]
    for root, (begin, end) in sorted(spans.items(), key=lambda one: one[1][0]):
        if root.border == (0, 0):
            continue
        free = places.setdefault((root.height, root.width, layout.channels[root], *root.border), [])
        place = next((one for one in free if one[1] < begin), None)
        if place is None:
            place = [layout.size, end]
            free.append(place)
            layout.size += _elements(root, layout)
        place[1] = end
        layout.offsets[root] = place[0]
    return layout.size


def _plain(spans: dict[Value, tuple[int, int]], layout: Layout, base: int) -> None:
    """The others, the largest first, each at the lowest place where no other of its time lies."""
    placed: list[tuple[int, int, int, int]] = []  # offset, end offset, first use, last use
    plain = [root for root in spans if root.border == (0, 0)]
    for root in sorted(plain, key=lambda one: -_elements(one, layout)):
        begin, end = spans[root]
        offset = base
        for other in sorted(one for one in placed if one[2] <= end and begin <= one[3]):
            if offset + _elements(root, layout) <= other[0]:
                break
            offset = max(offset, other[1])
        placed.append((offset, offset + _elements(root, layout), begin, end))
        layout.offsets[root] = offset
        layout.size = max(layout.size, offset + _elements(root, layout))
