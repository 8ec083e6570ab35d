"""A copy of the repository in which commands of the documents are typed: nothing they write lands in this one.

What takes long is made shorter in the copy, and only in these ways: a small model in the place of resnet50, a round of few
calls on one CPU, CMake's build left out (`nox -s tests` has just made it) and no virtual environments (nox --no-venv).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, SECONDS, Done
from deploybench import library_paths

LARGE, SMALL = "resnet50", "squeezenet1_1"
SHORTER = {  # constant of configuration.py: its value in the copy
    "ROUNDS, LEAST_ROUNDS": "1, 1", "SELF_CHECK_ROUNDS": "1", "RUNS, LEAST_RUNS": "5, 5", "CALLS": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Checkout:
    folder: Path

    def type(self, line: str, **variables: str) -> Done:
        """Runs `line` in bash, from the root of the copy."""
        environment = library_paths.python_environment()
        environment |= {
            "PATH": f"{self.folder / 'programs'}:{Path(sys.executable).parent}:{environment['PATH']}",
            "PYTHONPATH": str(self.folder / "python"),
            "OMP_NUM_THREADS": "1",
            "HOME": str(self.folder / "home"),
            **variables,
        }
        for name in ("NO_COLOR", "FORCE_COLOR"):
            environment.pop(name, None) if name not in variables else None
        command = [
            "bash",
            "-euo",
            "pipefail",
            "-c",
            re.sub(rf"{LARGE}(?!-)", SMALL, line),
        ]  # a results file keeps its name
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=SECONDS
        )


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("Makefile", "noxfile.py"):
        (folder / name).write_text((ROOT / name).read_text(encoding="utf-8").replace(LARGE, SMALL), encoding="utf-8")
    shutil.copytree(ROOT / "python", folder / "python", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "docs", folder / "docs", copy_function=os.symlink)
    for name in ("data", "cpp", "vendor", "tests"):
        (folder / name).symlink_to(ROOT / name)
    for verb in folder.glob("python/deploybench/verbs/*.py"):  # the default of --models
        verb.write_text(verb.read_text(encoding="utf-8").replace(f'"{LARGE}"', f'"{SMALL}"'), encoding="utf-8")
    configuration = folder / "python/deploybench/configuration.py"
    text = configuration.read_text(encoding="utf-8")
    for constant, value in SHORTER.items():
        text, count = re.subn(rf"^{constant} = .*", f"{constant} = {value}", text, flags=re.MULTILINE)
        assert count == 1, constant
    configuration.write_text(text, encoding="utf-8")
    bench = folder / "python/deploybench/verbs/bench.py"
    text, count = re.subn(r'("--warmup",.*?default=)10', r"\g<1>1", bench.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert count == 1
    bench.write_text(text, encoding="utf-8")
    program(folder / "programs/deploybench", f'exec {sys.executable} -m deploybench "$@"')
    program(folder / "programs/nox", f'exec {sys.executable} -m nox --no-venv "$@"')
    program(folder / "programs/cmake", "exit 0")
    options = folder / "python/deploybench/options.py"
    text, count = re.subn(
        r"cpus, quota = len\(os.sched_getaffinity\(0\)\)", "cpus, quota = 1", options.read_text(encoding="utf-8")
    )
    assert count == 1
    options.write_text(text, encoding="utf-8")
    (folder / "home").mkdir()
    (folder / ".nox/python").mkdir(parents=True)
    (folder / ".nox/python/bin").symlink_to(folder / "programs")
    (folder / ".nox/cpp").symlink_to(ROOT / ".nox/cpp")
    return Checkout(folder)


def program(path: Path, line: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)
