"""Does `doctor` say why one measurement is slower than another, and `bench` what was wrong while it measured?

The measurements are real ones, of the user's model of 16 numbers. A Debug build of the C++ worker takes minutes, so that fault
alone is written into a real record; tests/test_doctor.py has a real Debug build.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bad_input import Place, Run
from conftest import ROOT, native, one_line_error, python
from deploybench import checks, facts, results_file, summary
from deploybench.checks import PROBLEM, WARNING

BENCHED = ("--routes", "script", "--rounds", "1", "--runs", "6")


@pytest.fixture(scope="module")
def ill(place: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What bench printed, and its results: on one CPU that another program wants, too, with two threads and no warm-up."""
    folder = tmp_path_factory.mktemp("ill")
    first = min(os.sched_getaffinity(0))
    spin = subprocess.Popen(
        # so nice that bench takes no minutes: it still gets 17 % of the time, and all that is left
        [sys.executable, "-c", "import os\nos.nice(7)\nwhile True: pass"],
        preexec_fn=lambda: os.sched_setaffinity(0, {first}),
    )
    flags = ("--model", "sound_module:net", *place.make, "--artifacts", place.script.parent, "--results", folder)
    try:
        done = python(
            "bench", *flags, *BENCHED, "--threads", "2", "--warmup", "0", "--turn", "2",
            env={"PYTHONPATH": f"{ROOT / 'python'}:{place.folder}"},
            preexec_fn=lambda: os.sched_setaffinity(0, {first}),
        )  # fmt: skip
    finally:
        spin.kill()
        spin.wait()
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("*.json")
    return done.stdout, file


def wrong(done: Any) -> dict[str, list[str]]:
    """What is wrong, by the check's name."""
    found: dict[str, list[str]] = {}
    for one in json.loads(done.stdout)["findings"]:
        if one["level"] in (WARNING, PROBLEM):
            found.setdefault(one["check"], []).append(f"{one['found']}; {one['mend']}")
    return found


def test_bench_says_what_was_wrong_while_it_measured(ill: tuple[str, Path]) -> None:
    printed, file = ill
    others = json.loads(file.read_text())["others_fraction"]
    assert others > 0.1, "a program that never waits, on the same CPU"
    assert re.search(r"^warning: \d\d % of the time was taken by other programs: measure again", printed, re.MULTILINE)
    assert re.search(r"^warning: .*: 2 threads on 1 CPU: --threads 1$", printed, re.MULTILINE)
    assert re.search(r"^warning: .*script.*: cold when the clock started, 1 call before it", printed, re.MULTILINE)


def test_doctor_says_the_same_of_the_file(ill: tuple[str, Path], here: Run) -> None:
    done = here("doctor", ill[1], "--json", "--skip", "governor,turbo,huge-pages,steal")
    assert done.returncode == 4
    found = wrong(done)
    assert {"load", "threads", "cold"} <= set(found) <= {"load", "threads", "cold", "slower"}
    assert any("2 threads on 1 CPU" in one for one in found["threads"])
    (cold,) = found["cold"]
    assert "python/script, cpp/script" in cold
    assert "--warmup 10" in cold
    pairs = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "slower"]
    assert [one["about"] for one in pairs] == ["python/script and cpp/script"]
    assert "cpp/script takes" in pairs[0]["found"]
    assert "no interval" in pairs[0]["found"]


def test_two_records_that_are_not_alike(place: Place, here: Run, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "python.json", tmp_path / "cpp.json"
    ran = here(
        "worker", "--artifact", place.script, "--input", place.tensor, "--threads", "1", "--runs", "20", "--json"
    )
    mine.write_text(ran.stdout)
    flags = ("--threads", "2", "--executor", "simple", "--batch-size", "1", "--runs", "20", "--json")
    theirs.write_text(native("bench", "--artifact", place.script, "--input", place.tensor, *flags).stdout)
    done = here("doctor", mine, theirs, "--json", "--skip", "load,steal,governor,turbo,huge-pages,slower,cold")
    found = wrong(done)
    assert set(found) == {"threads", "settings", "input"}
    assert "threads: 1 and 2" in found["threads"][0]
    assert "executor: profiling and simple" in found["settings"][0]
    assert any("batch_size: 2 and 1" in one for one in found["input"])
    assert any("input_crc32" in one for one in found["input"])
    assert done.returncode == 4


Change = Callable[[dict[str, Any]], object]
MADE_BY_ANOTHER = "x.ts: made by torch 2.1.0, running another; deploybench generate --models x"


def of_cpp(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [run for run in results["runs"] if run["runtime"] == "cpp"]


def of(results: dict[str, Any], runner: str) -> list[dict[str, Any]]:
    return [run for run in results["runs"] if run["runner"] == runner]


CHANGES: dict[str, tuple[Change, str, str]] = {
    "a Debug build": (
        lambda r: [run.update(build_type="Debug") for run in of_cpp(r)], "debug-build", "is a Debug build",
    ),
    "another torch": (lambda r: r["runs"][-1].update(torch_version="2.1.0"), "versions", "2.1.0"),
    "a worker's warning": (
        lambda r: r["runs"][0].update(warnings=[MADE_BY_ANOTHER]), "versions", "made by torch 2.1.0",
    ),
    "stolen": (lambda r: r.update(stolen_fraction=0.32), "steal", "32 % of the time was stolen"),
    "powersave": (lambda r: r["environment"].update(governor="powersave"), "governor", "powersave"),
    "a busy start": (lambda r: r["environment"].update(load_average_1min=99.0), "load", "busy at the start"),
    "taken": (lambda r: r.update(others_fraction=0.32), "load", "32 % of the time was taken"),
    "too few calls before the clock": (
        lambda r: [run.update(warmup_seconds=[], settle_seconds=[1.0]) for run in of(r, "cpp/fused")], "cold", "cpp/fused: cold",
    ),
    "a slow first call after a warm-up that was not steady": (
        lambda r: [
            run.update(warmup_steady=False, run_seconds=[2 * max(run["run_seconds"]), *run["run_seconds"][1:]])
            for run in of(r, "cpp/direct")
        ],
        "cold", "cpp/direct: cold",
    ),
    "more threads than the quota": (
        lambda r: r["environment"].update(cpu_quota=1.0), "threads", "2 threads on 1 CPU of the cgroup's quota",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_each_fault_of_results_is_named_alone(name: str) -> None:
    """In a sound file of this project; the same table that `report` prints from."""
    results = results_file.load(ROOT / "docs" / "results" / "resnet50-languages-cpu.json")
    assert not any("RANDOM" not in line for line in summary.warnings(results))
    change, check, words = CHANGES[name]
    change(results)
    bad = [(which, one) for which, one in checks.examine(facts.Results(results)) if one.level in (WARNING, PROBLEM)]
    assert {which for which, _ in bad} == {check}
    assert words in bad[0][1].found
    assert any(words in line and checks.remedy(*bad[0]) in line for line in summary.warnings(results))


def changed(change: Change, folder: Path, name: str) -> Path:
    results = json.loads((ROOT / "docs" / "results" / "resnet50-languages-cpu.json").read_text())
    change(results)
    (folder / name).write_text(json.dumps(results))
    return folder / name


def test_two_files_of_unlike_machines(here: Run, tmp_path: Path) -> None:
    now = changed(lambda r: None, tmp_path, "now.json")
    then = changed(
        lambda r: (
            r["environment"].update(cpu="a smaller one", cpus=1),
            [run.update(cpu_capability="AVX2") for run in r["runs"]],
            [run.update(run_seconds=[2 * one for one in run["run_seconds"]]) for run in r["runs"]],
        ),
        tmp_path, "then.json",
    )  # fmt: skip
    done = here("doctor", now, then, "--skip", "load,steal,governor,turbo,huge-pages")
    assert done.returncode == 4
    assert done.stdout.count("cpu: ") == 1, "what all pairs share is said once"
    assert "a smaller one" in done.stdout
    said = re.sub(r"\s+", " ", done.stdout)
    assert re.search(r"! slower cpp/fused of \S*then.json takes 2\.00 of the time of cpp/fused of \S*now.json", said)
    assert re.search(r"✗ cpu-features +cpu_capability: AVX512 and AVX2$", done.stdout, re.MULTILINE)
    assert re.search(r"✗ threads +\S", done.stdout), "2 threads on 1 CPU"
    assert max(len(line) for line in done.stdout.splitlines() if "/" not in line) <= 80


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"schema": 2}', '{"schema": 2, "runs": 5}', "\x00\xff", '{"schema": 1}', "7\n8\n"]
)
def test_files_that_are_no_records(text: str, here: Run, tmp_path: Path) -> None:
    file = tmp_path / "records.json"
    file.write_bytes(text.encode("latin-1"))
    one_line_error(here("doctor", file), 1, "records.json")


BROKEN: list[dict[str, Any]] = [
    {"threads": "two"}, {"instances": 0}, {"instances": 2, "turn_seconds": []}, {"turn_calls": [10**6, 1]}, {"build_type": 5},
    {"warnings": [3]}, {"executor": None}, {"turn_rates": "x"}, {"settle_seconds": [0]}, {"run_seconds": []}, {"warmup_steady": 1},
]  # fmt: skip


@pytest.mark.parametrize("fields", BROKEN)
def test_fields_that_are_not_what_bench_writes(fields: dict[str, Any], here: Run, tmp_path: Path) -> None:
    file = changed(lambda r: r["runs"][3].update(fields), tmp_path, "broken.json")
    one_line_error(here("doctor", file), 1, "broken.json", "runs[3].", "bench")


def test_a_terminal_obeys_no_file(here: Run, tmp_path: Path) -> None:
    file = changed(
        lambda r: (
            r["environment"].update(governor="\x1b[31mred\n\n" + "long" * 9999),
            [run.update(threads=10**30) for run in r["runs"]],
        ),
        tmp_path, "rude.json",
    )  # fmt: skip
    done = here("doctor", file)
    assert done.returncode == 4
    assert "\x1b" not in done.stdout
    assert len(done.stdout) < 20_000


def test_files_that_share_nothing(here: Run, tmp_path: Path) -> None:
    first = changed(
        lambda r: r.update(runs=[run for run in r["runs"] if run["runtime"] == "cpp"]), tmp_path, "cpp.json"
    )
    other = changed(
        lambda r: r.update(runs=[run for run in r["runs"] if run["runtime"] == "python"]), tmp_path, "py.json"
    )
    one_line_error(here("doctor", first, other, "--skip", "load"), 2, "no runner is in both")
