"""Are old programs run beside new ones, each with its own code? Through real workers, the old ones made slower."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bad_input import Place
from conftest import ROOT, python
from deploybench import checkout, paths, results_file
from deploybench.record import OLD
from deploybench.rounds import BASELINE

ROUNDS = 6  # the least with an interval
SLOWER = 0.02  # seconds a call; the model takes some 0.0001


@pytest.fixture(scope="module")
def old_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout as it might have been: its Python calls take longer."""
    root = tmp_path_factory.mktemp("old")
    (root / "python" / "deploybench").mkdir(parents=True)
    for name in ("data", "vendor", "cpp"):
        (root / name).symlink_to(ROOT / name)
    for file in (paths.ROOT / "python" / "deploybench").rglob("*"):
        place = root / "python" / "deploybench" / file.relative_to(paths.ROOT / "python" / "deploybench")
        if file.suffix in (".py", ".hpp", ".cpp"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
    running = root / "python" / "deploybench" / "running.py"
    plain = running.read_text(encoding="utf-8")
    slow = plain.replace(
        "        return (clock() - start) / 1e9, None",
        f"        time.sleep({SLOWER})\n        return (clock() - start) / 1e9, None",
    )
    assert slow != plain
    running.write_text(slow, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def files(place: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two short measurements of the user's own model by both languages, of two rounds: too few to say anything."""
    folder = tmp_path_factory.mktemp("results")
    flags = ("--routes", "script", "--input", place.tensor, *place.make, "--threads", 1, "--batch-size", 2)
    short = ("--rounds", 2, "--runs", 4, "--turn", 2, "--warmup", 1, "--artifacts", place.folder / "artifacts")
    environment = {"PYTHONPATH": f"{ROOT / 'python'}:{place.folder}"}
    runtimes = "python,cpp" if (paths.CPP_BIN / "bench").exists() else "python"
    done = python(
        "bench", "--model", "sound_module:net", "--runtimes", runtimes, *flags, *short, "--results", folder, env=environment
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (new,) = folder.glob("*.json")
    results = results_file.load(new)
    results["runs"] = [run for run in results["runs"] if run["runner"] in (BASELINE, "cpp/script")]
    new.write_text(json.dumps(results))
    for run in results["runs"]:
        run["run_seconds"] = [second * 1.01 for second in run["run_seconds"]]
    (folder / "old.json").write_text(json.dumps(results))
    return folder / "old.json", new


def again(files: tuple[Path, Path], old: Path, *flags: object) -> tuple[str, ...]:
    results = files[0].parent / "again"
    said = ("compare", *files, "--remeasure", "--old-checkout", old, "--results", results, *flags)
    return tuple(map(str, said))


def environment(place: Place) -> dict[str, str]:
    return {"PYTHONPATH": f"{ROOT / 'python'}:{place.folder}"}


def test_the_old_programs_run_beside_the_new_ones(place: Place, files: tuple[Path, Path], old_checkout: Path) -> None:
    """What is slower in the old checkout is a win; what is the same there is none. Its artifacts are its own."""
    before = {file: file.stat().st_mtime_ns for file in (place.folder / "artifacts").iterdir()}
    done = python(*again(files, old_checkout, "--rounds", ROUNDS, "--json"), env=environment(place))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    cases = {case["runner"]: case for case in said["cases"]}
    assert all(case["interleaved"] and case["rounds"] == [ROUNDS, ROUNDS] for case in cases.values()), said
    assert cases[BASELINE]["verdict"] == "WIN"
    assert cases[BASELINE]["old"] > SLOWER > cases[BASELINE]["new"]
    if "cpp/script" in cases:
        assert cases["cpp/script"]["old"] < SLOWER, "the old C++ program has no such fault"
    kept = results_file.load(ROOT / said["files"]["again"])
    order = [name for runner in cases for name in (runner, runner + OLD)]
    assert [run["runner"] for run in kept["runs"]] == order * ROUNDS
    assert all(run["parity"]["ok"] for run in kept["runs"])
    assert len({run["input_crc32"] for run in kept["runs"]}) == 1
    places: dict[bool, set[Path]] = {True: set(), False: set()}
    for run in kept["runs"]:
        places[run["runner"].endswith(OLD)].add(Path(run["artifact"]).parent)
    assert places == {True: {old_checkout / "artifacts"}, False: {place.folder / "artifacts"}}
    assert {file: file.stat().st_mtime_ns for file in before} == before
    shown = python("compare", said["files"]["again"])
    assert "WIN *" in shown.stdout, shown.stderr
    assert "#old" in python("report", said["files"]["again"]).stdout


def test_ctrl_c_keeps_what_was_measured(place: Place, files: tuple[Path, Path], old_checkout: Path) -> None:
    folder = files[0].parent / "interrupted"
    command = [sys.executable, "-m", "deploybench", *again(files, old_checkout, "--rounds", 50)]
    command[command.index("--results") + 1] = str(folder)
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        end = time.monotonic() + 300
        while time.monotonic() < end and not any(runs_in(file) for file in folder.glob("*.json")):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    (file,) = folder.glob("*.json")
    assert f"interrupted; what there is: deploybench compare {paths.shown(file)}" in said
    assert not results_file.load(file)["complete"]
    assert "not complete" in python("compare", file).stdout


def runs_in(file: Path) -> list[Any]:
    return list(json.loads(file.read_text() or "{}").get("runs", []))


def test_a_checkout_starts_its_own_programs() -> None:
    """Its Python where it has one of its own, else this one; LibTorch's folder is its own."""
    old = checkout.Checkout(Path("/old"))
    assert old.worker("cpp") == ["/old/cpp/build/bin/bench"]
    assert old.environment("cpp")["LD_LIBRARY_PATH"].split(":")[0] == "/old/vendor/libtorch/lib"
    assert old.verb("worker") == [sys.executable, "-m", "deploybench", "worker"]
    assert old.environment("python")["PYTHONPATH"].split(":")[0] == "/old/python"
    assert checkout.HERE.own
    assert checkout.HERE.folder is None
    assert not old.own
