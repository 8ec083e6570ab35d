"""Do the parts of the C++ side that need no LibTorch hold, under the address and undefined-behaviour sanitizers?

Builds the `sanitize` preset into cpp/build-sanitize and runs its unit tests by ctest, and what has several threads once more
under the thread sanitizer. Where cmake, ninja or nlohmann/json.hpp
are missing this skips on a laptop and fails in CI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, locked, unavailable

CPP = ROOT / "cpp"
# Where the C++ tools may be installed: beside this Python, or in the environment that `nox` keeps for C++ alone.
PREFIXES = (Path(sys.prefix), ROOT / ".nox" / "cpp")


def tool(name: str) -> str:
    """Path of a program: in one of the environments, else on PATH."""
    beside = [str(prefix / "bin") for prefix in PREFIXES]
    found = shutil.which(name, path=os.pathsep.join([*beside, os.environ.get("PATH", "")]))
    if found is None:
        unavailable(f"no {name}; make build installs it")
    return str(found)


def json_include() -> Path:
    """Folder that holds nlohmann/json.hpp, from the PyPI package nlohmann-json."""
    prefixes = (*PREFIXES, Path(tool("cmake")).parents[1])
    pattern = "lib/python3*/site-packages/nlohmann_json/include"
    found = next((folder for prefix in prefixes for folder in sorted(prefix.glob(pattern))), None)
    if found is None:
        unavailable("no nlohmann/json.hpp; make build installs it")
    return Path(str(found))


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=CPP, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def lock(preset: str) -> Path:
    """Whoever builds a preset locks this, as Ninja does not: other runs of the tests may want it, too."""
    return Path(tempfile.gettempdir(), f"deploybench-{os.getuid()}-{preset}.lock")


def build(preset: str) -> None:
    """Configures and builds a preset without LibTorch."""
    cmake, ninja, include = tool("cmake"), tool("ninja"), json_include()
    with locked(lock(preset)):
        run(cmake, "--preset", preset, f"-DCMAKE_MAKE_PROGRAM={ninja}", f"-DDEPLOYBENCH_JSON_INCLUDE={include}")
        run(cmake, "--build", "--preset", preset, "--parallel", "2")


def test_unit_tests_pass_under_sanitizers() -> None:
    build("sanitize")
    run(tool("ctest"), "--preset", "sanitize", "--no-tests=error")


@pytest.mark.parametrize("idea", ["crew", "load", "pool", "stream"])
def test_threads_race_nowhere(idea: str) -> None:
    build("threads")
    run(str(CPP / "build-threads" / "bin" / "thread_tests"), idea)


def test_an_old_compiler_is_refused_in_a_line(tmp_path: Path) -> None:
    """CMake is told that it has looked and found this version."""
    told = ("-DCMAKE_CXX_COMPILER_ID_RUN=1", "-DCMAKE_CXX_COMPILER_FORCED=1", "-DDEPLOYBENCH_TORCH=OFF")
    for name, version, refused in (("GNU", "11.4", True), ("Clang", "15.0", True), ("GNU", "12.2", False)):
        flags = (f"-DCMAKE_CXX_COMPILER_ID={name}", f"-DCMAKE_CXX_COMPILER_VERSION={version}", *told)
        ninja = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}")
        command = [tool("cmake"), "-S", str(CPP), "-B", str(tmp_path / name / version), *ninja, *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (f"{name} {version} is too old; install g++ 12 or clang 16" in done.stderr) == refused, done.stderr
