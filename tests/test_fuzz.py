"""Does what reads bytes of others take any bytes: a value or an error in one line, under the address and
undefined-behaviour sanitizers?

cpp/fuzz has the targets. Where there is clang with libFuzzer, it runs them, guided by coverage; else the driver of any
compiler, cpp/fuzz/replay.cpp, does. What fuzzing for longer found is in docs/reliability.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from test_cpp_units import build

TARGETS = ("tensor_file", "metadata", "options", "photo")
CORPUS = ROOT / "cpp" / "fuzz" / "corpus"
SECONDS = 15  # each: a minute in CI


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether libFuzzer is there: clang++ may be without its runtime."""
    if shutil.which("clang++") is None:
        return False
    source = tmp_path_factory.mktemp("clang") / "empty.cpp"
    source.write_text('extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n')
    command = ["clang++", "-fsanitize=fuzzer,address,undefined", str(source), "-o", str(source.with_suffix(""))]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def programs(guided: bool) -> Path:
    """The folder of the targets' programs."""
    preset = "fuzz" if guided else "sanitize"
    build(preset)
    return ROOT / "cpp" / f"build-{preset}" / "bin"


def run(*command: object, folder: Path) -> None:
    """In `folder`, where a finding's input stays."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS + 100
    )
    assert done.returncode == 0, f"{folder} has the input\n{done.stdout}\n{done.stderr[-8000:]}"


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus(target: str, programs: Path, guided: bool, tmp_path: Path) -> None:
    """Honest files, and each that once was a finding."""
    run(programs / f"fuzz_{target}", *(["-runs=0"] if guided else []), CORPUS / target, folder=tmp_path)


@pytest.mark.parametrize("target", TARGETS)
def test_fuzzing(target: str, programs: Path, guided: bool, tmp_path: Path) -> None:
    program, corpus = programs / f"fuzz_{target}", CORPUS / target
    if not guided:
        run(program, corpus, SECONDS, folder=tmp_path)
        return
    (tmp_path / "found").mkdir()
    limits = ("-timeout=20", "-rss_limit_mb=2048", "-max_len=8192", f"-max_total_time={SECONDS}")
    run(program, *limits, tmp_path / "found", corpus, folder=tmp_path)
