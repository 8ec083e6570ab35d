"""Renews constraints.txt beside this file: `nox -s lock`. The pins of torch and torchvision are kept, all others are
resolved anew by pip, without installing anything (`pip install --dry-run --report`)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FILE = Path(__file__).with_name("constraints.txt")
HEADER = """\
# Every package of every environment, pinned. torch and torchvision are chosen here, by hand, and nowhere else;
# the other lines are renewed by: nox -s lock
# The packages of a CUDA build (nvidia-*, triton) are pinned by torch itself, to the very version.
"""
CHOSEN = ("torch", "torchvision")


def main(requirements: list[str]) -> int:
    """Resolves `requirements` and writes the file; pip's exit code if that fails."""
    kept = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.partition("==")[0] in CHOSEN]
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        done = subprocess.run([*command, "--report", report.name, "pip", "setuptools", *kept, *requirements])
        if done.returncode:
            return done.returncode
        found = {
            re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["metadata"]["version"]
            for item in json.load(report)["install"]
        }
    pins = [
        f"{name}=={version}"
        for name, version in sorted(found.items())
        if name not in (*CHOSEN, "pip") and not name.startswith(("nvidia-", "cuda-", "triton"))
    ]
    FILE.write_text(HEADER + "\n".join([*kept, *pins]) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {len(kept) + len(pins)} pins")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
