"""Are instructions counted per call, and by which counter? perf by a stand-in, since few virtual machines let it count;
valgrind for real."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from bad_input import Place
from conftest import ROOT, one_line_error, python, unavailable
from deploybench import cases, instructions, models, paths, results_file, stats
from deploybench.errors import DeploybenchError

# Counts 7 million a call and 3 billion for starting; what counts `true` has no calls.
PERF = """#!/bin/sh
while [ "$1" != -- ]; do [ "$1" = -o ] && file=$2; [ "$1" = -e ] && event=$2; shift; done
shift
calls=0; before=
for word; do [ "$before" = --runs ] && calls=$word; before=$word; done
"$@" || exit
echo "# started on Tue Nov 24" > "$file"
echo >> "$file"
echo "$((3000000000 + 7000000 * calls)),,$event,600000000,100.00,," >> "$file"
"""
REFUSING = PERF.replace("$((3000000000 + 7000000 * calls))", "<not supported>")


def with_programs(folder: Path, **programs: str) -> str:
    """A PATH where these stand first, and neither perf nor valgrind behind them."""
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    real = [
        one
        for one in os.environ["PATH"].split(":")
        if not any((Path(one) / name).exists() for name in ("perf", "valgrind"))
    ]
    for name in ("sh", "true", "echo"):
        (folder / name).symlink_to(shutil.which(name) or "")
    return ":".join([str(folder), *real])


def test_bench_counts_by_perf_where_it_counts(place: Place, tmp_path: Path) -> None:
    runtimes = "cpp" if (paths.CPP_BIN / "bench").exists() else "python"
    flags = (
        "--routes",
        "script",
        "--input",
        place.tensor,
        *place.make,
        "--rounds",
        1,
        "--runs",
        2,
        "--warmup",
        0,
        "--batch-size",
        2,
    )
    done = python(
        "bench", "--model", "sound_module:net", "--runtimes", runtimes, *flags, "--artifacts", place.folder / "artifacts",
        "--results", tmp_path / "results", "--count-instructions",
        env={"PYTHONPATH": f"{ROOT / 'python'}:{place.folder}", "PATH": with_programs(tmp_path / "bin", perf=PERF)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "results").glob("*.json")
    lines = results_file.load(file)["instructions"]
    assert [(line["runner"], line["counter"], line["calls"]) for line in lines] == [
        ("python/eager", "perf", [20, 220]), (f"{runtimes}/script", "perf", [20, 220]),
    ]  # fmt: skip
    assert {stats.per_call(line) for line in lines} == {7e6}
    again = python("report", file)
    page = file.with_suffix(".md").read_text(encoding="utf-8")
    for said in (done.stdout, again.stdout, page):
        assert (
            f"million instructions of a call, one thread, by perf: python/eager 7.000, {runtimes}/script 7.000"
            in " ".join(said.split())
        )
    assert json.loads(python("report", file, "--json").stdout)["instructions"] == lines


def test_where_perf_cannot_count_valgrind_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    valgrind = (
        '#!/bin/sh\nfor word; do case $word in --callgrind-out-file=*) echo "summary: 5" > "${word#*=}";; esac; done\n'
    )
    monkeypatch.setenv("PATH", with_programs(tmp_path / "both", perf=REFUSING, valgrind=valgrind))
    assert instructions.choose().name == "callgrind"
    monkeypatch.setenv("PATH", with_programs(tmp_path / "one", perf=REFUSING))
    with pytest.raises(DeploybenchError, match=r"neither .* apt-get install valgrind"):
        instructions.choose()


def test_bench_says_at_once_that_nothing_counts(tmp_path: Path) -> None:
    done = python(
        "bench", "--runtimes", "python", "--results", tmp_path / "results", "--count-instructions",
        env={"PATH": with_programs(tmp_path / "bin")},
    )  # fmt: skip
    one_line_error(done, 3, "--count-instructions", "apt-get install valgrind")
    assert not (tmp_path / "results").exists()


def counted(place: Place, artifact: Path, counter: instructions.Counter) -> dict[str, Any]:
    model = models.Model("net", "sound_module:net")
    case = cases.Case(model, {("script", "fp32"): artifact}, {}, place.tensor)
    return instructions.count(case, "cpp/script", {"batch_size": 2, "runners": ["cpp/script"]}, counter)


@pytest.fixture
def callgrind() -> instructions.Counter:
    if not shutil.which("valgrind"):
        unavailable("valgrind: apt-get install valgrind")
    if not (paths.CPP_BIN / "bench").exists():
        unavailable("the C++ program is not built; make build")
    return instructions.COUNTERS[1]


def test_valgrind_counts_a_call(place: Place, callgrind: instructions.Counter) -> None:
    """Between the 768 additions of the mean over two images and what any call of such a net could take."""
    line = counted(place, place.script, callgrind)
    assert line["counter"] == "callgrind", line
    assert 1_000 < stats.per_call(line) < 5_000_000
    assert line["counts"][0] > 1e8, "the start is in both"


def test_a_worker_that_fails_under_the_counter_is_a_failure_of_its_line(place: Place) -> None:
    fails = instructions.Counter("callgrind", lambda file: ["sh", "-c", "exit 132"], "x", (3, 4))
    line = counted(place, place.script, fails)
    assert line["error"]["code"] == "unsupported"
    assert "AVX-512" in line["error"]["message"]
    says = instructions.Counter("perf", lambda file: ["env"], r"x", (3, 4))
    line = counted(place, place.folder / "absent.ts", says)
    if (paths.CPP_BIN / "bench").exists():
        assert line["error"]["code"] == "artifact_missing", json.dumps(line)


def test_calls_that_vanish_in_the_start_are_no_count(place: Place) -> None:
    """Such a line is a failure, or the file with all its times could not be read again."""
    same = instructions.Counter(
        "perf", lambda file: ["sh", "-c", f'echo 5 > {file}; exec "$@"', "sh"], r"^(\d+)$", (3, 4)
    )
    line = counted(place, place.script, same)
    assert line["error"]["message"] == "4 calls took no more instructions than 3: starting alone varies by more"
