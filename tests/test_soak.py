"""Does the C++ library keep its memory, over many calls of many sizes and over many classifiers?

A short run of cpp/tests/soak.cpp; the long ones are in docs/reliability.md.
"""

from __future__ import annotations

import subprocess

import pytest
from bad_input import Place
from conftest import ROOT, locked, native
from deploybench import library_paths
from test_cpp_units import lock, tool


@pytest.fixture(scope="module")
def soak() -> str:
    """The program, built beside the others."""
    native("infer", "--help")  # or skip
    folder = ROOT / "cpp" / "build"
    with locked(lock("release")):
        done = subprocess.run([tool("cmake"), "--build", folder, "--target", "soak"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(folder / "bin" / "soak")


@pytest.mark.parametrize(("what", "total", "settled"), [("calls", 20_000, 2_000), ("instances", 400, 40)])
def test_memory_stays(what: str, total: int, settled: int, soak: str, place: Place) -> None:
    command = [soak, str(place.script), what, str(total), str(settled)]
    done = subprocess.run(command, env=library_paths.cpp_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
