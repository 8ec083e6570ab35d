"""Where things are in the repository. Standard library only; the noxfile reads it too."""

from __future__ import annotations

import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
PHOTO = DATA / "images" / "chelsea.jpg"
LABELS = DATA / "imagenet_classes.txt"
SYNSETS = DATA / "imagenet_synsets.txt"
CONSTRAINTS = ROOT / "python" / "constraints.txt"
LIBTORCH = ROOT / "vendor" / "libtorch"
ARTIFACTS = ROOT / "artifacts"
RESULTS = ROOT / "results"
DIST = ROOT / "dist"
CPP = ROOT / "cpp"
CPP_BIN = CPP / "build" / "bin"


def pinned(package: str) -> str:
    """The version that python/constraints.txt pins for `package`: the one place that declares it."""
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        if name.strip() == package:
            return version.strip()
    raise LookupError(f"{CONSTRAINTS}: no pin for {package}; add a line `{package}==VERSION`")


def shown(path: Path) -> str:
    """`path` as a person would type it: relative to the working directory where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def typed(path: Path) -> str:
    """`path` in a command that is printed to be typed: quoted where it holds a space or what a shell would take for its own."""
    return shlex.quote(shown(path))
