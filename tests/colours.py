"""A user's model whose answers can be worked out by hand, and photos of one colour for it.

Its classes are corners of the colour cube: a photo's mean m gives class p the logit 2 m.p - p.p, which is largest for the
nearest corner. A red photo, say: red 1, yellow and magenta 0, green and blue -1, cyan -2. So the opposite colour alone is not
among the first five.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

CORNERS = {
    "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow, pale": (1, 1, 0), "cyan": (0, 1, 1), "magenta": (1, 0, 1),
}  # fmt: skip
FACTORIES = """
import time
from torch import nn


class Colours(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 6)

    def forward(self, x):
        return self.head(x.mean((2, 3)))


class Slow(Colours):
    def forward(self, x):
        with open("calls.txt", "a") as file:
            file.write("x")
        time.sleep(0.1)
        return self.head(x.mean((2, 3)))


class Ending(Colours):
    def forward(self, x):
        if x.mean() > 0.6:
            raise ValueError("white is not for me")
        return self.head(x.mean((2, 3)))


def colours():
    return Colours()


def slow():
    return Slow()


def ending():
    return Ending()
"""


@dataclass(frozen=True)
class Colours:
    """A folder with the factories, and the flags for a model of them."""

    folder: Path
    env: dict[str, str]

    def flags(self, factory: str = "colours") -> tuple[str, ...]:
        where = self.folder
        return (
            "--model", f"colours_module:{factory}", "--weights", str(where / "weights.pth"), "--artifacts", str(where / "art"),
            "--labels", str(where / "labels.txt"), "--resize", "16", "--crop", "16", "--mean", "0,0,0", "--std", "1,1,1",
        )  # fmt: skip


def paint(path: Path, colour: str | tuple[int, int, int]) -> None:
    """A photo of a class's colour, or of another."""
    levels = tuple(255 * one for one in CORNERS[colour]) if isinstance(colour, str) else colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), levels).save(path, "PNG")


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Colours:
    from deploybench import paths

    folder = tmp_path_factory.mktemp("colours")
    (folder / "colours_module.py").write_text(FACTORIES)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CORNERS))
    corners = torch.tensor(list(CORNERS.values()), dtype=torch.float32)
    torch.save({"head.weight": 20 * corners, "head.bias": -10 * (corners**2).sum(1)}, folder / "weights.pth")
    sys.modules.pop("colours_module", None)
    return Colours(folder, {"PYTHONPATH": f"{paths.ROOT / 'python'}:{folder}"})
