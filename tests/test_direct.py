"""Does generated code compute what the module computes? Small networks, each made of what planner and kernels could get wrong:
odd channels, borders, slices of buffers, values that are read twice. The expected answer is the module's own.

Whole architectures are compared in tests/test_compiled.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from conftest import ROOT, Artifact, one_line_error, python
from deploybench import cases, job, machine, models, record
from deploybench.errors import DeploybenchError
from deploybench.options import Overrides
from deploybench.routes import direct, graph, inductor
from deploybench.routes.direct import emit, layout, plan, tiles
from deploybench.verbs import matrix
from torch import nn
from torch.nn import functional as F

SIZE = 21  # of the images; no multiple of a tile


class Net(nn.Module):
    """Layers and the function that uses them."""

    def __init__(self, run: Callable[[Any, torch.Tensor], torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self, x)


def answer(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the last layer gives."""
    logits: torch.Tensor = layer(x)
    return logits


def pooled() -> nn.Sequential:
    """To a number for each channel."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def head(channels: int) -> nn.Module:
    """To five classes."""
    return nn.Sequential(*pooled(), nn.Linear(channels, 5))


def conv(inputs: int, outputs: int, kernel: Any, **more: Any) -> nn.Module:
    """A convolution with batch norm whose statistics are not the identity."""
    norm = nn.BatchNorm2d(outputs)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.2, 0.2)
    nn.init.uniform_(norm.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
    nn.init.uniform_(norm.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, bias=False, **more), norm)


def odd_shapes() -> Net:
    """Channels that fill no register, kernels wider than high, strides, a border of three."""
    return Net(
        lambda n, x: n.head(n.d(F.relu(n.c(F.hardswish(n.b(F.relu6(n.a(x)))))))),
        a=conv(3, 18, 7, stride=2, padding=3), b=conv(18, 50, (1, 7), padding=(0, 3)),
        c=conv(50, 34, (5, 1), padding=(2, 0)), d=conv(34, 6, 3, stride=2), head=head(6),
    )  # fmt: skip


def residuals(width: int = 20) -> Net:
    """Additions before and after an activation, of the value before and of a later one, and one value read three times."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(n.a(x))
        b = F.relu(n.b(a) + a)
        c = F.silu(n.c(b)) + b
        d = n.shortcut(b) + c
        return answer(n.head, torch.sigmoid(d + a) + F.gelu(d))

    layers = {name: conv(3 if name == "a" else width, width, 3, padding=1) for name in ("a", "b", "c")}
    return Net(run, **layers, shortcut=conv(width, width, 1), head=head(width))


def narrow_residuals() -> Net:
    """The same in tiles of 6 pixels with AVX2, which go on in the next row; those of 3, three registers wide, end with theirs."""
    return residuals(12)


def concatenations() -> Net:
    """As DenseNet, SqueezeNet and Inception have them; the input in one, a value in two, the same value twice in one."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(n.a(x))
        wide = torch.cat([a, n.b(a)], 1)
        wider = torch.cat([wide, F.relu(n.c(F.relu(n.norm(wide))))], 1)
        inner = torch.cat([n.d(wider), F.max_pool2d(wider, 3, 1, 1)], 1)
        outer = torch.cat([inner, a, x, a], 1)
        return answer(n.head, outer)

    norm = nn.BatchNorm2d(22)
    nn.init.uniform_(norm.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
    layers = {"a": conv(3, 12, 3, padding=1), "b": conv(12, 10, 1), "norm": norm, "c": conv(22, 8, 3, padding=1)}
    return Net(run, **layers, d=conv(30, 14, 1), head=head(14 + 30 + 12 + 3 + 12))


def mobile() -> Net:
    """Depthwise convolutions of odd channels, squeeze and excitation, groups, a channel shuffle with its split."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = F.hardswish(n.a(x))
        b = F.relu(n.deep(a))
        gate = F.hardsigmoid(n.up(F.relu(n.down(F.adaptive_avg_pool2d(b, 1)))))
        c = n.project(b * gate) + a
        left, right = c.chunk(2, 1)
        both = torch.cat([left, F.relu(n.right(n.five(right)))], 1)
        count, channels, height, width = both.shape
        mixed = both.view(count, 2, channels // 2, height, width).transpose(1, 2).reshape(both.shape)
        first, second = mixed.chunk(2, 1)
        return answer(n.head, torch.cat([first, n.grouped(second)], 1))

    return Net(
        run, a=conv(3, 44, 3, stride=2, padding=1), deep=conv(44, 44, 3, padding=1, groups=44), down=nn.Conv2d(44, 10, 1),
        up=nn.Conv2d(10, 44, 1), project=conv(44, 44, 1), five=conv(22, 22, 5, stride=1, padding=2, groups=22),
        right=conv(22, 22, 1), grouped=nn.Conv2d(22, 44, 3, padding=1, groups=11), head=head(22 + 44),
    )  # fmt: skip


def pools() -> Net:
    """Windows over the edge, averages with and without the border, a rounded-up size, a flattened image."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.a(x)  # 21
        b = F.max_pool2d(a, 3, 2, ceil_mode=True)  # 10
        c = F.avg_pool2d(b, 3, 1, 1, count_include_pad=False) + F.avg_pool2d(b, 3, 1, 1)
        d = F.max_pool2d(c, 2, 2, 1)  # 6
        return answer(n.last, torch.flatten(d, 1))

    return Net(run, a=conv(3, 18, 3, padding=1), last=nn.Linear(18 * 36, 5))


def norms() -> Net:
    """As ConvNeXt: layer norm over channels, linear layers over pixels, a scale for each channel; and a sum of what was normed."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.norm(n.a(x).permute(0, 2, 3, 1))
        a = a + n.norm(a)
        b = n.narrow(F.gelu(n.wide(a))).permute(0, 3, 1, 2) * n.scale.weight.reshape(-1, 1, 1)
        return answer(n.head, b + a.permute(0, 3, 1, 2) + 0.5)

    scale = nn.Linear(20, 1, bias=False)
    return Net(run, a=conv(3, 20, 4, stride=4), norm=nn.LayerNorm(20), wide=nn.Linear(20, 80), narrow=nn.Linear(80, 20),
               scale=scale, head=head(20))  # fmt: skip


def rejoined() -> Net:
    """What may not be joined: a sum that is read again, and one whose other part is made later. A scale and a shift in numbers;
    a chain in which each buffer is free as soon as it was read; a gate that no 1x1 convolution follows."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.a(x) * 0.5 + 0.25
        late = n.b(x) + F.max_pool2d(n.c(a), 3, 1, 1)
        again = n.d(late)
        chain = n.f(n.e((late + again) * again))
        return answer(n.head, chain * torch.sigmoid(F.adaptive_avg_pool2d(chain, 1)))

    layers = {name: conv(3 if name in "ab" else 20, 20, 3, padding=1) for name in "abcdf"}
    layers["e"] = conv(20, 20, 3, padding=1, groups=4)  # groups are taken in pairs where their number is even
    return Net(run, **layers, head=head(20))


def before_and_beside() -> Net:
    """As EfficientNet and DenseNet, of more pixels than a tile has: a gate, and a norm, before convolutions of 1x1; and a sum with a
    part of a wider value."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.a(x)
        b = n.b(a * torch.sigmoid(F.adaptive_avg_pool2d(a, 1)))
        whole = torch.cat([a, b], 1)
        c = n.c(F.relu(n.norm(whole)))
        return answer(n.last, F.max_pool2d(n.d(c) + b, 7).flatten(1))

    norm = nn.BatchNorm2d(44)
    nn.init.uniform_(norm.running_mean, -1.0, 1.0)  # type: ignore[arg-type]
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    return Net(run, a=conv(3, 24, 3, padding=1), b=conv(24, 20, 1), c=conv(44, 20, 1), d=conv(20, 20, 3, padding=1), norm=norm,
               last=nn.Linear(180, 5))  # fmt: skip


def squares() -> Net:
    """Windows of 3x3 that are computed by squares of 2 by 2: an odd image, with a border and without, in blocks of which the last has
    fewer, before a value that is still read; a joined value, channels that fill no register."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(n.a(x))
        behind = n.behind(a)
        c = n.c(F.silu(n.b(a)) + a)
        return answer(n.head, F.relu(n.d(c) + c)) + answer(n.other, behind)

    layers = {
        "a": conv(3, 72, 3, padding=1),
        "b": conv(72, 72, 3, padding=1),
        "c": conv(72, 52, 3),
        "d": conv(52, 52, 3, padding=1),
    }
    return Net(run, **layers, behind=conv(72, 20, 1), head=head(52), other=head(20))


def short_rows() -> Net:
    """Images of 7 and of 4 pixels a row, of which tiles take several rows, the last one fewer; weights that stay, brought in ahead."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(n.a(x))
        b = F.relu(n.b(a) + a)
        return answer(n.head, n.c(b))

    return Net(
        run,
        a=conv(3, 120, 3, stride=3),
        b=conv(120, 120, 5, padding=2),
        c=conv(120, 40, 3, stride=2, padding=1),
        head=head(40),
    )


def from_the_end() -> Net:
    """Channels counted from the last one: some, one, more than there are; of an image and of what was pooled."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.a(x)
        b = torch.cat([a[:, -4:], a[:, -1].unsqueeze(1), a[:, -20:], a[:, -3:-1]], 1)
        pooled = torch.flatten(F.adaptive_avg_pool2d(b, 1), 1)
        return answer(n.last, torch.cat([pooled[:, -6:], pooled[:, -2].unsqueeze(1)], 1))

    return Net(run, a=conv(3, 8, 3), last=nn.Linear(7, 5))


def vectors() -> Net:
    """Pooled vectors side by side; a batch norm that no convolution takes, and half of it read; layer norm without weights."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(n.a(x))
        b = n.b(n.norm(a)[:, :6])
        c = F.layer_norm(b.permute(0, 2, 3, 1), [10])
        c = n.unbiased(c * 3.0).permute(0, 3, 1, 2)
        pooled = [torch.flatten(F.adaptive_avg_pool2d(one, 1), 1) for one in (a, b, c)]
        first, second = torch.cat(pooled, -1).chunk(2, 1)
        return answer(n.last, second * torch.sigmoid(first))

    norm = nn.BatchNorm2d(12)
    nn.init.uniform_(norm.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
    unbiased = nn.LayerNorm(10, bias=False)
    nn.init.uniform_(unbiased.weight, 0.5, 1.5)
    return Net(run, a=conv(3, 12, 3), norm=norm, b=conv(6, 10, 1), unbiased=unbiased, last=nn.Linear(16, 5))


def edges() -> Net:
    """A channel of the image in several ways; a scale and a shift, which no zero of the border takes, before a 1x1 convolution with
    a border; a window of even width over odd channels; a part of a part of a channel shuffle."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.a(x)
        b = n.b(F.relu(n.norm(torch.cat([a, F.relu(a)], 1))))
        c = n.c(b)
        count, channels, height, width = c.shape
        mixed = c.view(count, 2, channels // 2, height, width).transpose(1, 2).reshape(c.shape)
        first, second = mixed.chunk(2, 1)
        third, fourth = second.chunk(2, 1)
        return answer(n.head, torch.cat([n.d(third), first, n.e(fourth)], 1))

    norm = nn.BatchNorm2d(24)
    nn.init.uniform_(norm.bias, 0.5, 1.5)
    return Net(run, a=conv(3, 12, 3, groups=3), norm=norm, b=conv(24, 15, 1, padding=1), c=conv(15, 16, 2, stride=2),
               d=conv(4, 6, 1), e=conv(4, 5, 1), head=head(6 + 8 + 5))  # fmt: skip


def gates() -> Net:
    """Squeeze and excitation of linear layers, in all spellings of its views; `same` padding; a mean over width and height; an
    input that the model normalises itself, and logits at a temperature."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(n.a((x.float() - n.mean.weight.reshape(1, 3, 1, 1)) / n.std.weight.reshape(1, 3, 1, 1)))

        def gate(squeezed: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(n.up(F.relu(n.down(squeezed))))

        b = a * gate(a.mean((-1, -2)))[:, :, None, None]
        c = b * gate(F.adaptive_avg_pool2d(b, 1).squeeze(-1).squeeze(-1)).unsqueeze(-1).unsqueeze(-1)
        d = c * gate(F.adaptive_avg_pool2d(c, 1).view(len(c), -1)).view(len(c), -1, 1, 1).expand_as(c)
        return answer(n.head, n.b(d)) / 0.7 - 1

    mean, std = nn.Linear(3, 1), nn.Linear(3, 1)
    nn.init.uniform_(std.weight, 0.2, 0.3)
    return Net(run, mean=mean, std=std, a=conv(3, 20, 3, padding="same"), down=nn.Linear(20, 6), up=nn.Linear(6, 20),
               b=conv(20, 12, (5, 1), padding="same"), head=head(12))  # fmt: skip


def linears() -> Net:
    """As the heads of VGG and MobileNet V3: linear layers one after the other, over a flattened image and over vectors, with an
    activation, numbers of their own, a norm and a sum between them."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = F.hardswish(n.wide(torch.flatten(F.max_pool2d(n.a(x), 9), 1)))
        b = n.norm(n.square(a * n.scale.weight[0] + n.scale.bias))
        return answer(n.last, F.dropout(a + b, training=False))

    norm = nn.LayerNorm(14)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    return Net(run, a=conv(3, 6, 3), wide=nn.Linear(24, 14), scale=nn.Linear(14, 14), square=nn.Linear(14, 14), norm=norm,
               last=nn.Linear(14, 5))  # fmt: skip


def vision_transformer() -> Net:
    """As ViT: a class token, positions, attention of heads that fill no register, as torch's module and as its function with a mask of
    truths and a scale of its own; the answer of one token."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.patches(x).flatten(2).permute(0, 2, 1)
        a = torch.cat([n.token.weight[None].expand(len(x), -1, -1), a], 1) + n.positions.weight
        b = n.norm(a)
        a = a + n.attention(b, b, b, need_weights=False)[0]
        a = a + n.narrow(F.gelu(n.wide(n.norm(a))))
        q, k, v = n.qkv(a).reshape(len(x), 10, 3, 2, 10).permute(2, 0, 3, 1, 4).unbind(0)
        mask = torch.ones(10, 10).tril(3) > 0  # of the token that answers, too
        c = F.scaled_dot_product_attention(q * 0.5, k, v, mask, scale=0.7).transpose(1, 2).flatten(2)
        return answer(n.last, n.norm(a + n.out(c))[:, 0])

    layers = {
        "attention": nn.MultiheadAttention(20, 2, batch_first=True),
        "norm": nn.LayerNorm(20),
        "out": nn.Linear(20, 20),
    }
    return Net(run, **layers, patches=nn.Conv2d(3, 20, 7, stride=7), token=nn.Linear(20, 1), positions=nn.Linear(20, 10),
               wide=nn.Linear(20, 50), narrow=nn.Linear(50, 20), qkv=nn.Linear(20, 60), last=nn.Linear(20, 5))  # fmt: skip


def windowed(a: torch.Tensor, side: int) -> torch.Tensor:
    """[N, H, W, C] to [N * windows, tokens, C]."""
    count, height, width, channels = a.shape
    parts = a.view(count, height // side, side, width // side, side, channels).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(-1, side * side, channels)


def together(windows: torch.Tensor, side: int, height: int) -> torch.Tensor:
    """And back, of a square image."""
    parts = windows.view(-1, height // side, height // side, side, side, windows.shape[-1])
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, height, windows.shape[-1])


def shifted_windows() -> Net:
    """As Swin: windows, the second time shifted, with a bias for each pair of tokens and a mask for each window; four pixels side
    by side become one."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.patches(x).permute(0, 2, 3, 1)  # 6 x 6
        for shift in (0, 1):
            b = windowed(torch.roll(n.norm(a), (-shift, -shift), (1, 2)), 3)
            q, k, v = (one for one in n.qkv(b).view(-1, 9, 3, 2, 6).permute(2, 0, 3, 1, 4))
            scores = (q * 6**-0.5) @ k.transpose(-2, -1) + n.bias.weight.view(2, 9, 9)
            if shift:
                mask = (n.mask.weight.view(4, 9, 9) > 0) * -100.0
                scores = (scores.view(-1, 4, 2, 9, 9) + mask[None, :, None]).view(-1, 2, 9, 9)
            mixed = (torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2)
            a = a + torch.roll(together(n.out(mixed), 3, 6), (shift, shift), (1, 2))
            a = a + n.narrow(F.gelu(n.wide(n.norm(a))))
        four = torch.cat([a[:, 0::2, 0::2], a[:, 1::2, 0::2], a[:, 0::2, 1::2], a[:, 1::2, 1::2]], -1)
        return answer(n.head, n.merged(four).permute(0, 3, 1, 2))

    layers = {"bias": nn.Linear(81, 2, bias=False), "mask": nn.Linear(81, 4, bias=False), "norm": nn.LayerNorm(12)}
    return Net(run, **layers, patches=nn.Conv2d(3, 12, 4, stride=3), qkv=nn.Linear(12, 36), out=nn.Linear(12, 12),
               wide=nn.Linear(12, 48), narrow=nn.Linear(48, 12), merged=nn.Linear(48, 10), head=head(10))  # fmt: skip


def cosines() -> Net:
    """As Swin V2: an image that is filled up to whole windows and cut again, queries and keys of length 1, a factor for each head."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.patches(x).permute(0, 2, 3, 1)  # 5 x 5, filled up to 6 x 6
        b = windowed(F.pad(a, (0, 0, 0, 1, 0, 1)), 2)
        q, k, v = n.qkv(b).view(-1, 4, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        scores = torch.softmax(scores * n.scale.weight.reshape(3, 1, 1) + n.bias.weight.view(3, 4, 4), dim=-1)
        mixed = n.out((scores @ v).transpose(1, 2).flatten(2))
        return answer(n.head, (a + n.norm(together(mixed, 2, 6)[:, :5, :5])).permute(0, 3, 1, 2))

    return Net(run, patches=nn.Conv2d(3, 12, 5, stride=4), qkv=nn.Linear(12, 36), scale=nn.Linear(3, 1), norm=nn.LayerNorm(12),
               bias=nn.Linear(16, 3), out=nn.Linear(12, 12), head=head(12))  # fmt: skip


def einsums() -> Net:
    """As MaxViT: products written as einsum over windows of an image whose channels come first, on both sides of a split; queries
    from fewer tokens than keys, scores divided by a number; an answer from the mean over tokens."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.a(x)  # 6 x 6
        b = windowed(a.permute(0, 2, 3, 1), 3).reshape(len(x), 4, 9, 10)
        q, k, v = n.qkv(n.norm(b)).split(10, -1)
        q, k, v = (one.reshape(len(x), 4, -1, 2, 5).permute(0, 1, 3, 2, 4) for one in (q[:, :, ::2], k, v))
        scores = torch.softmax(torch.einsum("wghid, wghjd -> wghij", q, k) / 1.5, -1)
        mixed = torch.einsum("wghij, wghjd -> wghid", scores, v).permute(0, 1, 3, 2, 4).flatten(3)
        c = b[:, :, ::2] + n.out(mixed)
        return answer(n.last, torch.tanh(n.norm(c.flatten(1, 2)).mean(1)))

    return Net(run, a=conv(3, 10, 4, stride=3), norm=nn.LayerNorm(10), qkv=nn.Linear(10, 30), out=nn.Linear(10, 10),
               last=nn.Linear(10, 5))  # fmt: skip


def rearranged() -> Net:
    """Axes that no convolution has: a linear layer over the width, windows and pools over channels, parts of flattened images, an
    image turned round and added to itself, numbers that vary over the image."""

    def run(n: Any, x: torch.Tensor) -> torch.Tensor:
        a = n.a(x)  # 8 channels, 19 x 19
        b = n.over_width(a) + n.positions.weight.reshape(5, 1, 19, 7)[:1]
        c = n.b(a.permute(0, 2, 3, 1))  # 19 channels, 19 x 8
        d = F.max_pool2d(c.transpose(1, 3), 2)  # 4 x 9 x 9
        turned = a.flip(2).roll(3, 3) + a * 0.5 + a[:, :, ::2, ::2].mean((2, 3), keepdim=True)
        flat = torch.flatten(F.max_pool2d(turned, 8), 1)  # 32
        first, second = flat.chunk(2, 1)
        e = F.relu(first[:, :6]) * torch.sigmoid(second[:, ::2][:, :6])
        parts = [n.c(e), n.d(flat[:, 3:20]), torch.flatten(F.adaptive_avg_pool2d(d, 1), 1), b.mean((2, 3))]
        return answer(n.last, torch.cat(parts, 1))

    return Net(run, a=conv(3, 8, 3), over_width=nn.Linear(19, 7), positions=nn.Linear(19 * 7, 5), b=conv(19, 4, 3, padding=1),
               c=nn.Linear(6, 4), d=nn.Linear(17, 3), last=nn.Linear(4 + 3 + 8 + 8, 5))  # fmt: skip


def of_tokens(run: Callable[[Any, torch.Tensor], torch.Tensor]) -> Net:
    """Five classes from what `run` makes of an image [N, 10, 6, 6]."""

    def through(n: Any, x: torch.Tensor) -> torch.Tensor:
        return answer(n.head, run(n, n.a(x)).reshape(len(x), -1, 6, 6)[:, :10])

    table = nn.Linear(36, 36)
    return Net(
        through,
        a=conv(3, 10, 4, stride=3),
        table=table,
        norm=nn.LayerNorm(10),
        same=conv(20, 10, 3, padding=1),
        head=head(10),
    )


def tokens(a: torch.Tensor) -> torch.Tensor:
    """An image as [N, H * W, C]."""
    return a.flatten(2).transpose(1, 2)


# What looks like something else: each was wrong, or an error of Python's, once.
LOOKALIKES = {
    "a factor of scores and of vectors of length 1": lambda n, a: F.scaled_dot_product_attention(
        F.normalize(tokens(a)[:, None], dim=-1) * 3.0, F.normalize(tokens(a)[:, None], dim=-1), tokens(a)[:, None])[:, 0].mT,
    "tokens of an image beside those in one row": lambda n, a: n.same(
        torch.cat([tokens(a) + tokens(a).flip(1), tokens(a)], -1).mT.reshape(-1, 20, 6, 6)),
    "and in the other order": lambda n, a: n.same(
        torch.cat([tokens(a), tokens(a) + tokens(a).flip(1)], -1).mT.reshape(-1, 20, 6, 6)),
    "positions that one of two reads": lambda n, a: (lambda t: (t.transpose(0, 1) + n.table.weight[:, None, :10]).transpose(0, 1) * t)(
        tokens(a) + n.table.weight[:, 10:20]).mT,
    "a flattened image in rows as long as its channels": lambda n, a: (a.flatten(1).view(-1, 10) + n.table.bias[:10]).view(1, 10, 36),
    "a gate for each row": lambda n, a: torch.cat([a[:, :6] * F.adaptive_avg_pool2d(a[:, :6], 1).flatten(2), a[:, 6:]], 1),
    "squeeze and excitation of tokens": lambda n, a: a.flatten(2) * F.adaptive_avg_pool2d(a, 1).flatten(2).expand_as(a.flatten(2)),
    "a gate of one axis": lambda n, a: a * F.avg_pool2d(a, (1, 6)).expand_as(a),
    "a spread gate times positions": lambda n, a: a.flip(3) * F.adaptive_avg_pool2d(a, 1).expand_as(a),
    "queries in two windows": lambda n, a: (lambda t: F.scaled_dot_product_attention(
        torch.cat([t[:, :20], t[:, 16:]]), torch.cat([t[:, :20], t[:, 16:]]) * 3, t.expand(2, -1, -1)[:, :20])
        )(tokens(a)).reshape(1, 40, 10)[:, 4:].mT,
    "rows of two pixels of a part": lambda n, a: (lambda t: torch.cat([t, t.flip(1)], 1).mT)(
        n.norm(tokens(a[:, :5]).reshape(1, 18, 10))),
    "factors before scores, a head each": lambda n, a: (
        torch.softmax(n.table.weight[:2, :1, None] * (tokens(a).reshape(-1, 36, 2, 5).transpose(1, 2)
                      @ tokens(a).reshape(-1, 36, 2, 5).permute(0, 2, 3, 1)), -1)
        @ tokens(a).reshape(-1, 36, 2, 5).transpose(1, 2)).transpose(1, 2).flatten(2).mT,
}  # fmt: skip


@pytest.mark.parametrize("name", LOOKALIKES)
def test_what_looks_like_something_else(name: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    net, images = of_tokens(LOOKALIKES[name]).eval(), torch.randn(1, 3, SIZE, SIZE)
    forward = built(net, tmp_path / "net.pt2")
    with torch.inference_mode():
        expected = net(images)
        for _ in range(2):  # again: borders must still be zero
            assert (forward(images) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("turn", "classes"), [
    (lambda logits: logits.flip(1), 5), (lambda logits: logits[:, ::2], 3), (lambda logits: F.pad(logits, (0, 3)), 8),
    (lambda logits: logits * 2 + 1, 5), (lambda logits: logits.roll(2, 1) * 2, 5),
])  # fmt: skip
def test_an_answer_that_is_a_part_of_one(
    turn: Callable[[torch.Tensor], torch.Tensor], classes: int, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    net, images = Net(lambda n, x: turn(n.head(x)), head=head(3)).eval(), torch.randn(2, 3, SIZE, SIZE)
    forward = built(net, tmp_path / "net.pt2")
    with torch.inference_mode():
        found = forward(images)
        assert found.shape == (2, classes)
        assert torch.allclose(found, net(images), atol=1e-6)


@pytest.mark.parametrize(
    "activation",
    [F.relu, F.hardswish, F.hardsigmoid, F.sigmoid, F.silu, F.gelu, torch.tanh],
    ids=lambda one: one.__name__,
)
def test_each_element_of(activation: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path) -> None:
    """A sum over many would hide an error of one in ten thousand, which one of GELU did."""
    forward = built(Net(lambda n, x: activation(x * 9.0).flatten(1)).eval(), tmp_path / "net.pt2")
    images = torch.linspace(-1, 1, 3 * SIZE * SIZE).reshape(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        assert (forward(images) - activation(images * 9.0).flatten(1)).abs().max() < 2e-6


def of_scores(run: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> Net:
    """What `run` makes of queries, keys and values [N, 2, 9, 5]."""

    def heads(n: Any, x: torch.Tensor) -> torch.Tensor:
        tokens = n.a(x).flatten(2).transpose(1, 2)
        q, k, v = n.qkv(tokens).reshape(len(x), 9, 3, 2, 5).permute(2, 0, 3, 1, 4).unbind(0)
        return answer(n.last, run(q, k, v).transpose(1, 2).flatten(2).mean(1))

    return Net(heads, a=nn.Conv2d(3, 10, 7, stride=7), qkv=nn.Linear(10, 30), last=nn.Linear(10, 5))


NETS = [
    odd_shapes,
    residuals,
    narrow_residuals,
    concatenations,
    mobile,
    pools,
    norms,
    rejoined,
    before_and_beside,
    squares,
    short_rows,
    from_the_end,
    vectors,
    linears,
    edges,
    gates,
    vision_transformer,
    shifted_windows,
    cosines,
    einsums,
    rearranged,
]


class Metadata:
    """What direct.export reads of an artifact's metadata."""

    def __init__(self, precision: str, portable: bool) -> None:
        self.precision, self.device, self.built_for = precision, "cpu", inductor.built_for("cpu", portable)

    def to_json(self) -> str:
        return json.dumps({"built_for": self.built_for})


def built(net: nn.Module, path: Path, precision: str = "fp32", portable: bool = False) -> Callable[..., torch.Tensor]:
    """The generated code of `net`, loaded."""
    module = graph.specialise(net, torch.zeros(1, 3, SIZE, SIZE))
    about: Any = Metadata(precision, portable)
    direct.export(module, torch.zeros(1, 3, SIZE, SIZE), path, about)
    return direct.load(path, about)


@pytest.mark.parametrize("way", ["fp32", "bf16", "bf16 without AMX", "portable"])
@pytest.mark.parametrize("make", NETS)
def test_a_network_of(make: Callable[[], Net], way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = record.cpu_flags()
    if way == "portable" and "avx512f" not in flags:
        pytest.skip("fp32 makes the same code on this CPU")
    if way == "bf16 without AMX":
        if "amx_bf16" not in flags:
            pytest.skip("bf16 makes the same code on this CPU")
        monkeypatch.setattr(record, "cpu_flags", lambda: [flag for flag in flags if not flag.startswith("amx")])
    torch.manual_seed(2)
    net, images = make().eval(), torch.randn(3, 3, SIZE, SIZE)
    try:
        forward = built(net, tmp_path / "net.pt2", "bf16" if "bf16" in way else "fp32", way == "portable")
    except DeploybenchError as error:
        assert "bf16" in way
        pytest.skip(str(error)) if "avx512_bf16" in str(error) else pytest.fail(str(error))
    with torch.inference_mode():
        expected = net(images)
        for count in (1, 3, 1):  # again: borders must still be zero
            found = forward(images[:count])
            assert found.shape == (count, 5)
            far = (found - expected[:count]).abs().max() / expected.abs().max()
            assert far < (0.03 if "bf16" in way else 1e-5), far


@pytest.mark.parametrize(("make", "words"), [
    (squares, ("winograd<", "BLOCKS = 3", "TAIL = 8", "TAIL = 4")),
    (short_rows, ("MR = 14; static constexpr long LONG = 3; static constexpr int SHORT = 7", "MR = 12; static constexpr long LONG = 1",
                  "AHEAD = 1")),
])  # fmt: skip
def test_the_networks_above_are_cut_as_they_say(make: Callable[[], Net], words: tuple[str, ...]) -> None:
    found = layout.place_concatenations(plan.operations(graph.specialise(make().eval(), torch.zeros(1, 3, SIZE, SIZE))))
    machine = tiles.Machine(16, 32, "fp32", 2 << 20)
    source, _ = emit.program(found, layout.plan(found, machine.image_channels), machine)
    for one in words:
        assert one in source


@pytest.mark.skipif("amx_bf16" not in record.cpu_flags() or not direct._amx_is_allowed(), reason="no AMX here")
def test_where_the_system_forbids_amx_another_file_is_made(tmp_path: Path) -> None:
    """The file with AMX ends in words there; `generate` makes one without."""
    (tmp_path / "forbid.c").write_text("""
long syscall(long n, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
  long answer = -1;
  if (n == 158 && a == 0x1023) return answer;
  __asm__ volatile("syscall" : "=a"(answer) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return answer;
}
""")
    library = tmp_path / "forbid.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "forbid.c"], check=True)
    make = ("generate", "--models", "squeezenet1_1", "--weights", "random", "--routes", "direct", "--precisions", "bf16")  # fmt: skip
    file, photo = tmp_path / "squeezenet1_1.direct-bf16-cpu.pt2", ROOT / "data/images/coffee.png"
    forbidden = {"LD_PRELOAD": str(library)}
    assert python(*make, "--artifacts", tmp_path).returncode == 0
    done = python("infer", "--artifact", file, photo, env=forbidden)
    assert done.returncode == 1
    assert "this system does not let processes use AMX" in done.stderr
    assert python(*make, "--artifacts", tmp_path, "--force", env=forbidden).returncode == 0
    done = python("infer", "--artifact", file, photo, env=forbidden)
    assert done.returncode == 0, done.stderr


def test_threads_share_the_work_without_a_race(tmp_path: Path) -> None:
    torch.manual_seed(2)
    net, images = concatenations().eval(), torch.randn(1, 3, SIZE, SIZE)
    forward = built(net, tmp_path / "net.pt2")
    threads = torch.get_num_threads()
    try:
        with torch.inference_mode():
            expected = net(images)
            answers = []
            for count in (1, 2, 3, 7):
                torch.set_num_threads(count)
                answers += [forward(images) for _ in range(50)]
    finally:
        torch.set_num_threads(threads)
    assert (answers[0] - expected).abs().max() < 1e-5
    assert all(torch.equal(answer, answers[0]) for answer in answers), "a sum is made by one thread, in one order"


def test_fewer_threads_than_asked_for_do_the_work(artifact: Artifact) -> None:
    """A barrier for two would wait for ever."""
    flags = ("--artifact", artifact("squeezenet1_1", "direct"), "--threads", 2, "--warmup", 0, "--runs", 3)
    done = python("worker", *flags, env={"OMP_THREAD_LIMIT": "1"}, timeout=60)
    assert done.returncode == 0, done.stderr


def test_two_networks_in_one_process_keep_their_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also loaded by LibTorch's own loader, as where Linux has no files in memory."""
    torch.manual_seed(2)
    nets = [residuals().eval(), residuals().eval()]
    loaded = [built(net, tmp_path / f"{number}.pt2") for number, net in enumerate(nets)]
    images = torch.randn(1, 3, SIZE, SIZE)
    monkeypatch.setattr(os, "memfd_create", Mock(side_effect=OSError))
    unpacked = built(nets[0], tmp_path / "unpacked.pt2")
    with torch.inference_mode():
        for net, forward in zip(nets, loaded, strict=True):
            assert (forward(images) - net(images)).abs().max() < 1e-5
        assert torch.equal(unpacked(images), loaded[0](images))


@pytest.mark.skipif("avx512f" not in record.cpu_flags(), reason="no AVX-512 that portable code could have by mistake")
def test_a_portable_file_after_another_has_nothing_of_it(tmp_path: Path) -> None:
    """Both have a wrapper that is compiled once a process and kept."""
    for portable in (False, True):
        built(odd_shapes().eval(), tmp_path / f"{portable}.pt2", portable=portable)
        with zipfile.ZipFile(tmp_path / f"{portable}.pt2") as package:
            (library,) = (
                package.extract(one, tmp_path / str(portable)) for one in package.namelist() if one.endswith(".so")
            )
        code = subprocess.run(["objdump", "-d", library], capture_output=True, text=True, check=True).stdout
        assert ("%zmm" in code) != portable
        assert re.search(r"%[xyz]mm(1[6-9]|2\d|3[01])|%k[0-7]", code) is None or not portable, "registers of AVX-512"


def read_only_huge_pages() -> int:
    """kB of them in this process that no file is behind."""
    maps = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    moved = [one for one in maps if re.match(r"\S+ r--p \S+ \S+ 0 *\n", one)]
    return sum(int(size) for one in moved for size in re.findall(r"AnonHugePages: +(\d+)", one))


def test_weights_move_into_huge_pages_between_calls(tmp_path: Path) -> None:
    """21 MB of them, in eight parts of 4 MB at most; four callers at a time, and the answers stay the same to the last bit."""
    torch.manual_seed(2)
    linears = nn.Linear(3 * SIZE * SIZE, 3000), nn.ReLU(), nn.Linear(3000, 400), nn.ReLU(), nn.Linear(400, 5)
    net, images = nn.Sequential(nn.Flatten(), *linears).eval(), torch.randn(1, 3, SIZE, SIZE)
    module, about = graph.specialise(net, images), Metadata("fp32", portable=False)
    direct.export(module, images, tmp_path / "net.pt2", about)  # type: ignore[arg-type]
    forward = direct.load(tmp_path / "net.pt2", about, 4)  # type: ignore[arg-type]

    def call(_: int) -> torch.Tensor:
        with torch.inference_mode():
            return forward(images)

    with torch.inference_mode():
        expected = net(images)
    before, first = read_only_huge_pages(), call(0)
    assert (first - expected).abs().max() < 1e-5 * expected.abs().max()
    assert read_only_huge_pages() == before, "the first call, which a cold start waits for, moves nothing"
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(call, range(40)))
    assert all(torch.equal(answer, first) for answer in answers)
    if machine.huge_pages():
        assert read_only_huge_pages() - before >= 16 << 10


def test_an_input_of_another_size_is_refused(tmp_path: Path) -> None:
    forward = built(odd_shapes().eval(), tmp_path / "net.pt2")
    for images in (torch.zeros(1, 3, SIZE, SIZE + 1), torch.zeros(1, 3, SIZE, SIZE).half(), torch.zeros(3, SIZE, SIZE)):
        with pytest.raises(RuntimeError), torch.inference_mode():
            forward(images)


@pytest.mark.parametrize(("net", "words"), [
    (Net(lambda n, x: n.head(n.a(x)), a=nn.Conv2d(3, 4, 3, dilation=2), head=head(4)), "dilated"),
    (Net(lambda n, x: n.head(n.a(x)), a=nn.Conv2d(3, 4, 3, stride=(2, 1)), head=head(4)), "with the stride 2, 1"),
    (Net(lambda n, x: F.linear(n.pooled(x), n.pooled(n.a(x))), a=nn.Conv2d(3, 3, 3), pooled=pooled()), "computed where a constant"),
    (Net(lambda n, x: n.head(n.b(n.a(x).reshape(4, 3, 3, -1))[:1]), a=nn.Conv2d(3, 4, 4, stride=3), b=nn.Conv2d(3, 4, 3), head=head(4)),
     r"\[4, 3, 3, 4\] where an image is expected"),
    (Net(lambda n, x: n.head(F.layer_norm(n.a(x).permute(0, 2, 3, 1), [19, 19, 4]).permute(0, 3, 1, 2)), a=nn.Conv2d(3, 4, 3),
         head=head(4)), "a layer norm not over channels"),
    (Net(lambda n, x: n.last(torch.cat([F.max_pool2d(n.a(x), 8).flatten(1), n.pooled(x)], 1)), a=nn.Conv2d(3, 4, 3),
         pooled=pooled(), last=nn.Linear(19, 5)), "a concatenation of different values"),
    (Net(lambda n, x: n.head((n.pooled(n.a(x)) + n.one.weight).permute(0, 3, 1, 2)), a=nn.Conv2d(3, 4, 3), one=nn.Conv2d(1, 1, 1),
         pooled=pooled(), head=head(4)), "widens"),
    (Net(lambda n, x: n.head(n.a(x) * n.one.weight.reshape(1, 1, 19, 19)), a=nn.Conv2d(3, 4, 3), one=nn.Linear(19, 19), head=head(4)),
     "varies over the image"),
    (Net(lambda n, x: n.head(1 / n.a(x)), a=nn.Conv2d(3, 4, 3), head=head(4)), "aten.reciprocal"),
    (Net(lambda n, x: n.head(n.a(x) - n.a(x)), a=nn.Conv2d(3, 4, 3), head=head(4)), "aten.sub.Tensor by an activation"),
    (Net(lambda n, x: n.head(n.a(x)), a=nn.Conv2d(3, 4, 2, padding="same"), head=head(4)), "aten.conv2d.padding"),
    (Net(lambda n, x: n.head(torch.erfinv(n.a(x))), a=nn.Conv2d(3, 4, 3), head=head(4)), "aten.erfinv.default"),
    (Net(lambda n, x: n.head(F.pad(n.a(x), (1, 1), value=1.0)), a=nn.Conv2d(3, 4, 3), head=head(4)), "a border of other than zeros"),
    (Net(lambda n, x: n.last(n.a(x).mean(1).flatten(1)), a=nn.Conv2d(3, 4, 3), last=nn.Linear(361, 5)), "a mean over other than"),
    (of_scores(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)), "causal attention"),
    (of_scores(lambda q, k, v: torch.softmax(q @ k.mT, -2) @ v), "a softmax not over keys"),
    (of_scores(lambda q, k, v: torch.relu(q @ k.mT) @ v), "aten.relu.default of the scores of an attention"),
    (of_scores(lambda q, k, v: (q @ k.mT) @ v), "after a softmax"),
    (of_scores(lambda q, k, v: torch.softmax(q @ k.mT, -1).flip(2) @ v), "aten.flip.default of the scores"),
    (of_scores(lambda q, k, v: torch.softmax((q @ k.mT).flatten(2).reshape(1, 2, 3, 27), -1).reshape(1, 2, 9, 9) @ v),
     "a reshape of the scores"),
    (of_scores(lambda q, k, v: torch.softmax(q @ k.mT * torch.arange(9.0), -1) @ v), "a factor for each key"),
    (of_scores(lambda q, k, v: torch.softmax(q @ k.mT, -1) @ (v * 2)), "scaled values"),
    (of_scores(lambda q, k, v: torch.einsum("bhid,bhjd->bhji", q, k) @ v), "the einsum"),
    (of_scores(lambda q, k, v: torch.softmax(q[..., :4] @ k[..., :4].mT, -1) @ v), "an attention of such shapes"),
    (of_scores(lambda q, k, v: F.normalize(q, dim=-1) + k + v), "elsewhere than in the scores"),
    (of_scores(lambda q, k, v: F.normalize(q, dim=-2) + k + v), "a norm other than"),
    (of_scores(lambda q, k, v: torch.relu(q.norm(dim=-1, keepdim=True)) + k + v), "aten.relu.default of a norm"),
    (of_scores(lambda q, k, v: F.normalize(q, dim=-1)[..., :4] @ F.normalize(k, dim=-1)[..., :4].mT @ v), "and taken apart"),
    (of_scores(lambda q, k, v: q / k.norm(dim=-1, keepdim=True) + v), "by a norm"),
    (of_scores(lambda q, k, v: F.normalize(q, dim=-1) * 4.0 + v), "elsewhere than in the scores"),
    (of_scores(lambda q, k, v: torch.softmax(F.normalize(q, dim=-1) @ k.mT, -1) @ v), "of which one is divided"),
    (of_scores(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.arange(9)[:, None].expand(9, 9) > 0)), "every key is masked"),
    (of_scores(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)), "with dropout"),
    (of_scores(lambda q, k, v: torch.softmax(q[:, :1] @ k.mT, -1) @ v), "such shapes"),
    (of_scores(lambda q, k, v: torch.einsum("bhid->bhdi", q).mT + v), "the einsum"),
    (Net(lambda n, x: F.normalize(n.head(n.a(x)), dim=1), a=nn.Conv2d(3, 4, 3), head=head(4)), "elsewhere than in the scores"),
    (Net(lambda n, x: n.head(n.a(x))[0, 0], a=nn.Conv2d(3, 4, 3), head=head(4)), r"\[\] of an activation"),
])  # fmt: skip
def test_what_it_does_not_know_is_named(net: Net, words: str, tmp_path: Path) -> None:
    with pytest.raises(DeploybenchError, match=words):
        built(net.eval(), tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


def test_weights_that_code_cannot_reach_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At 2 GB, where the linker would say that it returned 1 exit status."""
    monkeypatch.setattr(direct, "MOST_WEIGHTS", 1000)
    with pytest.raises(DeploybenchError, match=r"weights of .* GB, which the code beside them cannot reach") as refusal:
        built(odd_shapes().eval(), tmp_path / "net.pt2")
    assert refusal.value.code == "unsupported"
    assert not list(tmp_path.iterdir())


def test_what_no_route_runs_is_refused(tmp_path: Path) -> None:
    flags = ("generate", "--models", "squeezenet1_1", "--weights", "random", "--artifacts", tmp_path)
    one_line_error(python(*flags, "--routes", "script,direct", "--precisions", "fp16"), 2, "fp16", "--device cuda")
    assert not list(tmp_path.iterdir())
    half = job.Job(models.find("squeezenet1_1"), "direct", "fp16", "cuda", "random", Overrides(), tmp_path, False)
    with pytest.raises(DeploybenchError, match="direct files run at fp32, bf16 on cpu, not at fp16 on cuda") as refusal:
        job.make(half)
    assert refusal.value.exit_code == 3


def test_a_model_that_it_does_not_know_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "import torch\n\n\nclass Odd(torch.nn.Conv2d):\n    def forward(self, x):\n"
        "        return super().forward(x).erfinv().mean([2, 3])\n\n\ndef odd():\n    return Odd(3, 10, 3)\n"
    )
    flags = ("--routes", "direct", "--weights", "random", "--artifacts", tmp_path / "artifacts")
    done = python("generate", "--model", "odd:odd", *flags, env={"PYTHONPATH": f"{ROOT / 'python'}:{tmp_path}"})
    one_line_error(done, 3, "odd", "aten.erfinv.default, which the direct route does not know")
    assert "refused" in done.stdout
    assert not list((tmp_path / "artifacts").iterdir())


def test_the_matrix_leaves_out_what_this_cpu_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "cpu_flags", lambda: ["avx2", "fma"])
    assert set(matrix.RUNNERS) - set(matrix._usual()) == {"python/direct/bf16", "cpp/direct/bf16"}
    assert "as this CPU lacks avx512_bf16: python/direct/bf16, cpp/direct/bf16" in capsys.readouterr().err
    monkeypatch.setattr(record, "cpu_flags", lambda: ["avx512_bf16"])
    assert matrix._usual() == matrix.RUNNERS


def test_the_matrix_says_the_same_wherever_it_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A verdict names files without the folder of that run, and so does all of docs/matrix.csv."""
    monkeypatch.setattr(cases, "prepare", lambda model, config: None)
    monkeypatch.setattr(matrix, "_verdict", lambda *_: f"FAIL {tmp_path}/artifacts/a.ts: broke")
    found = matrix.try_model(models.select(["alexnet"])[0], ["cpp/fused"], tmp_path, 1, False)
    assert found == {"cpp/fused": "FAIL a.ts: broke"}
    for row in matrix.read_expected().values():
        assert not [verdict for verdict in row.values() if " /" in verdict]
