"""Does <Tab> know verbs, flags, choices and models? Asked as the shells ask, and in the shells that are here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, python
from deploybench import cli
from deploybench.verbs import completion


def tab(line: str, tmp_path: Path) -> list[str]:
    """What may follow `line`."""
    answer = tmp_path / "answer"
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / "python"), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n",
    }  # fmt: skip
    code = "import sys; from deploybench.cli import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60)
    return [word.strip() for word in answer.read_text(encoding="utf-8").split("\n") if word.strip()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deploybench gen", {"generate"}),
        ("deploybench bench --rou", {"--rounds", "--routes"}),
        ("deploybench bench --executor ", {"profiling", "simple"}),
        ("deploybench infer --model squeezenet1", {"squeezenet1_0", "squeezenet1_1"}),
        ("deploybench bench --models artic", {"article"}),
        ("deploybench generate --routes script,fro", {"script,frozen"}),
        ("deploybench bench --runners cpp/direct", {"cpp/direct", "cpp/direct/bf16"}),
        ("deploybench completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_what_may_follow(line: str, expected: set[str], tmp_path: Path) -> None:
    assert expected <= set(tab(line, tmp_path))
    prefix = line.rpartition(" ")[2]
    assert all(word.startswith(prefix) for word in tab(line, tmp_path))


def test_all_verbs_and_all_flags(tmp_path: Path) -> None:
    assert set(cli.VERBS) <= set(tab("deploybench ", tmp_path))
    for verb, parser in cli.parser().verbs.items():
        if verb not in ("bench", "report"):  # a start each; the others are made in the same way
            continue
        long = {flag for flag in parser._option_string_actions if flag.startswith("--")}
        assert set(tab(f"deploybench {verb} --", tmp_path)) == long


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_script_is_one_of_the_shell(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(python("completion", shell).stdout, encoding="utf-8")
    assert "deploybench" in script.read_text(encoding="utf-8")
    if shutil.which(shell):
        subprocess.run([shell, "--no-execute" if shell == "fish" else "-n", str(script)], check=True, timeout=60)


def test_in_bash(tmp_path: Path) -> None:
    """The shell's own function, as <Tab> calls it."""
    program = tmp_path / "deploybench"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m deploybench "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    line = "deploybench bench --target th"
    code = f"""
        eval "$(deploybench completion bash)"
        COMP_LINE={line!r} COMP_POINT={len(line)} COMP_TYPE=9 COMP_WORDS=({line}) COMP_CWORD=3
        _python_argcomplete deploybench th --target
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(["bash", "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["throughput"], done.stderr
