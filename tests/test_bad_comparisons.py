"""Are files that cannot be compared, and flags that make no sense, refused in one line?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bad_input import Run, refused
from conftest import ROOT, python
from deploybench.rounds import BASELINE
from test_compare import a_file, written

Results = dict[str, Any]
TIMES = {BASELINE: [1.0] * 6, "cpp/script": [0.5] * 6}


def old_and_new() -> tuple[Results, Results]:
    return a_file(TIMES), a_file({**TIMES, "cpp/script": [0.51] * 6})


def set_at(*way: str | int, to: Any) -> Callable[[Results], None]:
    def change(results: Results) -> None:
        at: Any = results
        for name in way[:-1]:
            at = at[name]
        at[way[-1]] = to

    return change


def in_all_runs(**fields: Any) -> Callable[[Results], None]:
    def change(results: Results) -> None:
        for run in results["runs"]:
            run.update(fields)

    return change


# What is done to NEW, the exit code, the words of the error.
FILES: list[tuple[str, Callable[[Results], Any], int, tuple[str, ...]]] = [
    ("another schema", set_at("schema", to=1), 1, ("schema 1", "make one with: make bench")),
    ("another CPU", set_at("environment", "cpu", to="Z80"), 2, ("is Z80", "--allow-unlike")),
    ("another torch", set_at("environment", "torch", to="1.0"), 2, ("torch was", "is 1.0", "--allow-unlike")),
    ("other threads", set_at("config", "threads", to=8), 2, ("threads was 1, is 8", "--allow-unlike")),
    ("no common case", in_all_runs(model="another"), 1, ("no sound case", "run bench again")),
    ("another batch size", in_all_runs(batch_size=8), 1, ("no sound case",)),
    ("no runs", set_at("runs", to=[]), 1, ("no sound case",)),
    ("NaN", in_all_runs(run_seconds=[float("nan")] * 4), 1, ("not a results file",)),
    ("turns that do not add up", in_all_runs(turn_calls=[2, 1]), 1, ("turn_calls",)),
    ("no turns", in_all_runs(turn_calls=[]), 1, ("turn_calls",)),
    ("turns of instances", in_all_runs(instances=2, turn_seconds=[1.0]), 1, ("turn_seconds",)),
    ("turns as text", in_all_runs(instances=2, turn_seconds="long"), 1, ("turn_seconds",)),
    ("turns of no time", in_all_runs(instances=2, turn_seconds=[0, 0]), 1, ("turn_seconds",)),
    ("a rate", set_at("config", "rate", to=10.0), 2, ("under load", "deploybench report")),
    ("a latency bound", set_at("config", "latency_bound", to=0.1), 2, ("under load",)),
    ("turns with rates", in_all_runs(turn_rates=[1.0, 1.0]), 2, ("under load",)),
    ("counted by nobody", set_at("instructions", to=[{"model": "m", "runner": "r", "batch_size": 1, "counter": "perf",
     "calls": [3, 4], "counts": [8, 9]}]), 1, ("instructions[0].runner",)),
    ("instructions as a number", set_at("instructions", to=5), 1, ("instructions is no list",)),
    ("a line of text", set_at("instructions", to=["x"]), 1, ("instructions[0]",)),
    ("fewer for more calls", set_at("instructions", to=[{"model": "m", "runner": "cpp/r", "batch_size": 1, "counter": "perf",
     "calls": [3, 4], "counts": [9, 8]}]), 1, ("instructions[0].counts",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "code", "words"), FILES, ids=[row[0] for row in FILES])
def test_files(
    name: str, change: Callable[[Results], Any], code: int, words: tuple[str, ...], here: Run, tmp_path: Path
) -> None:
    old, new = old_and_new()
    change(new)
    files = written(tmp_path, old=old, new=new)
    refused(here, (tmp_path,), code, ("new.json", *words), "compare", *files)
    if code == 1 and "no sound case" not in words:
        refused(here, (tmp_path,), code, ("new.json", *words), "compare", *reversed(files))


@pytest.mark.parametrize("content", [b"", b"hello", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, None])
def test_foreign_files(content: bytes | None, here: Run, tmp_path: Path) -> None:
    files = written(tmp_path, old=old_and_new()[0])
    foreign = tmp_path / "new.json"
    if content is not None:
        foreign.write_bytes(content)
    refused(here, (tmp_path,), 1, ("new.json",), "compare", *files, foreign)
    refused(here, (tmp_path,), 1, ("new.json",), "compare", foreign)
    refused(here, (tmp_path,), 1, (str(tmp_path),), "compare", tmp_path, *files)


def test_the_same_twice(here: Run, tmp_path: Path) -> None:
    old = old_and_new()[0]
    first, second = written(tmp_path, old=old, new=old)
    refused(here, (tmp_path,), 2, ("same file twice",), "compare", first, first)
    refused(here, (tmp_path,), 2, ("same runs as OLD",), "compare", first, second)
    (link := tmp_path / "link.json").symlink_to(first)
    refused(here, (tmp_path,), 2, ("same file twice",), "compare", first, link)
    refused(here, (tmp_path,), 2, ("old runners beside new",), "compare", first)


def test_swapped_and_unfinished_files_are_named(here: Run, tmp_path: Path) -> None:
    old, new = old_and_new()
    later, earlier = (tmp_path / f"{stamp}-host.json" for stamp in ("20260202T000000Z", "20260101T000000Z"))
    later.write_text(json.dumps(old))
    earlier.write_text(json.dumps(new | {"complete": False}))
    done = here("compare", later, earlier)
    assert done.returncode == 0
    assert "OLD is the later file: were they swapped?" in done.stdout
    assert f"{earlier.name}: not complete; deploybench bench --resume" in " ".join(done.stdout.split())
    assert "were they swapped?" not in here("compare", earlier, later).stdout


def test_where_all_of_new_failed_it_says_so(here: Run, tmp_path: Path) -> None:
    old, new = old_and_new()
    in_all_runs(error={"code": "runtime", "message": "ended by signal 11"})(new)
    files = written(tmp_path, old=old, new=new)
    done = here("compare", *files, "--fail-above", "5%")
    assert done.returncode == 4, done.stderr
    assert "FAILED in NEW: m python/eager: " in " ".join(done.stdout.split())
    table = here("compare", *files, "--format", "markdown").stdout
    assert table.startswith("**deploybench compare: 2 FAILED**\n"), table
    assert "<details>" not in table, "there are no cases to fold"


def test_a_new_program_that_crashed_beside_its_old_one_is_no_success(here: Run, tmp_path: Path) -> None:
    """A file of --remeasure: with or without another case that is sound."""
    both = {BASELINE: [1.0] * 6, "cpp/script": [0.5] * 6, "cpp/script#old": [0.5] * 6}
    for times in (both, {**both, "cpp/trace": [0.5] * 6, "cpp/trace#old": [0.5] * 6}):
        again = a_file(times)
        for run in again["runs"]:
            if run["runner"] == "cpp/script":
                run["error"] = {"code": "runtime", "message": "ended by signal 11"}
        (file,) = written(tmp_path, again=again)
        done = here("compare", file, "--fail-above", "5%")
        assert done.returncode == 4, done.stderr
        assert "ended by signal 11" in done.stdout


def test_unlike_machines_are_marked_in_every_format(here: Run, tmp_path: Path) -> None:
    old, new = old_and_new()
    new["environment"]["cpu"] = "Z80"
    in_all_runs(build_type="Debug")(new)
    in_all_runs(build_type="Release")(old)
    files = written(tmp_path, old=old, new=new)
    refused(here, (tmp_path,), 2, ("is Z80", "build_type was Release, is Debug"), "compare", *files)
    said = here("compare", *files, "--allow-unlike").stdout
    assert said.startswith("!!! UNLIKE, this is not a fair comparison:\n!!! cpu was ")
    assert said.count("!!! ") >= 3
    assert here("compare", *files, "--allow-unlike", "--format", "markdown").stdout.startswith(
        "> [!WARNING]\n> **UNLIKE"
    )
    assert len(json.loads(here("compare", *files, "--allow-unlike", "--json").stdout)["unlike"]) >= 2


def test_peers_that_one_file_lacks_are_said(here: Run, tmp_path: Path) -> None:
    old, new = old_and_new()
    lacking = [
        {**run, "runner": "python/openvino", "error": {"code": "runtime", "message": "no openvino"}}
        for run in old["runs"][:1]
    ]
    new["runs"] += lacking
    old["runs"] += lacking
    done = here("compare", *written(tmp_path, old=old, new=new), "--fail-above", "5%")
    assert done.returncode != 4, "failed before, too"
    assert "not compared: m python/openvino: runtime: no openvino" in done.stdout


FLAGS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((), ("OLD", "--help")),
    (("OLD", "NEW", "--fail-above", "0"), ("--fail-above", "percentage")),
    (("OLD", "NEW", "--fail-above", "-5%"), ("--fail-above",)),
    (("OLD", "NEW", "--fail-above", "nan"), ("--fail-above", "percentage")),
    (("OLD", "NEW", "--fail-above", "1e9%"), ("--fail-above", "percentage")),
    (("OLD", "NEW", "--fail-above", "5000%"), ("--fail-above", "percentage")),
    (("OLD", "NEW", "--rounds", "0"), ("--rounds",)),
    (("OLD", "NEW", "--metric", "joules"), ("--metric", "time")),
    (("OLD", "NEW", "--json", "--format", "markdown"), ("--json", "--format")),
    (("OLD", "NEW", "--old-checkout", "."), ("--old-checkout", "--remeasure")),
    (("OLD", "--remeasure"), ("--remeasure", "OLD and NEW")),
    (("OLD", "NEW", "--remeasure", "--metric", "instructions"), ("--remeasure",)),
    (("OLD", "--metric", "instructions"), ("--metric instructions",)),
    (("OLD", "NEW", "--metric", "instructions"), ("old.json", "--count-instructions")),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "words"), FLAGS, ids=[" ".join(row[0]) or "none" for row in FLAGS])
def test_flags(flags: tuple[str, ...], words: tuple[str, ...], here: Run, tmp_path: Path) -> None:
    old, new = old_and_new()
    files = dict(zip(("OLD", "NEW"), written(tmp_path, old=old, new=new), strict=True))
    refused(here, (tmp_path,), 2, words, "compare", *(files.get(flag, flag) for flag in flags))


def test_what_cannot_be_measured_again(here: Run, tmp_path: Path) -> None:
    """Each time nothing is measured and no results file is begun."""
    old, new = a_file({BASELINE: [1.0] * 2}), a_file({BASELINE: [1.1] * 2})
    again = ("--remeasure", "--results", tmp_path / "results")
    files = written(tmp_path, old=old, new=new)
    refused(here, (tmp_path,), 1, ("old.json", "config lacks artifacts"), "compare", *files, *again)
    whole = {
        "rounds": 2, "runs": 4, "generate": [], "input": "x.npy", "artifacts": "a", "strict": False, "turn": 2, "warmup": 1,
    }  # fmt: skip
    for results in (old, new):
        results["config"] |= whole
    files = written(tmp_path, old=old, new=new)
    refused(here, (tmp_path,), 2, ("same settings", "--old-checkout FOLDER"), "compare", *files, *again)
    for folder, words in ((tmp_path, ("cli.py", "git worktree")), (tmp_path / "absent", ("cli.py",))):
        refused(here, (tmp_path,), 1, (str(folder), *words), "compare", *files, *again, "--old-checkout", folder)
    new["config"]["generate"] = ["--portable"]
    files = written(tmp_path, old=old, new=new)
    refused(here, (tmp_path,), 2, ("unlike artifacts", "--old-checkout"), "compare", *files, *again)
    new["environment"]["torch"] = old["environment"]["torch"] = "1.0"
    files = written(tmp_path, old=old, new=new)
    refused(here, (tmp_path,), 2, ("not NEW's", "torch", "--allow-unlike"), "compare", *files, *again)


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    files = written(tmp_path, **dict(zip(("old", "new"), old_and_new(), strict=True)))
    command = [sys.executable, "-m", "deploybench", "compare", *map(str, files)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_help_says_what_the_exit_codes_mean() -> None:
    said = " ".join(python("compare", "--help").stdout.split())
    assert "4 with --fail-above: a REGRESSION by more" in said
    assert "5 with --fail-above: no such case, but some are INCONCLUSIVE" in said
