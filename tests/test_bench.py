"""Does `bench` alternate, compare, keep and resume as docs/measuring.md says? Through the real workers."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
from bad_input import Place, Run
from conftest import ROOT, Artifact, native, one_line_error, python, unavailable
from deploybench import (
    cases,
    checkout,
    configuration,
    library_paths,
    models,
    options,
    paths,
    record,
    results_file,
    rounds,
    routes,
    tables,
    tensor_file,
)
from deploybench.cases import Case
from deploybench.errors import DeploybenchError
from deploybench.verbs import bench
from PIL import Image

SHORT = ("--models", "squeezenet1_1", "--weights", "random", "--rounds", 2, "--runs", 6, "--warmup", 1, "--turn", 2)


def results_in(folder: Path) -> dict[str, Any]:
    """The one results file in `folder`."""
    (file,) = folder.glob("*.json")
    return results_file.load(file)


@pytest.fixture(scope="module")
def finished(artifact: Artifact, artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A short run of both languages: the folder of its results and what it printed."""
    if not (paths.CPP_BIN / "bench").exists():
        unavailable("the C++ program is not built; make build")
    folder = tmp_path_factory.mktemp("results")
    done = python("bench", *SHORT, "--artifacts", artifacts, "--results", folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_every_runner_in_every_round_and_nothing_is_thrown_away(finished: tuple[Path, str]) -> None:
    results = results_in(finished[0])
    order = [(run["round"], run["runner"]) for run in results["runs"]]
    runners = ["python/eager", "python/script", "cpp/script"]
    assert order == [(number, name) for number in (0, 1) for name in runners]
    for run in results["runs"]:
        assert len(run["run_seconds"]) == 3, "six timed calls, spread over two rounds"
        assert run["turn_calls"] == [2, 1]
        assert len(run["settle_seconds"]) == 2
        assert run["parity"]["ok"]
        first = run["warmup_seconds"] + run["settle_seconds"]
        assert run["load_seconds"] + first[0] < run["cold_start_seconds"] < run["load_seconds"] + first[0] + 30
    assert len({run["input_crc32"] for run in results["runs"]}) == 1
    assert results["complete"]


def test_the_table_fits_a_terminal_and_tells_all(finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, printed = finished
    table = printed.strip().splitlines()[:6]
    assert all(len(line) <= 80 for line in table), printed
    assert table[0].startswith("squeezenet1_1, batch 1, cpu, fp32, ")
    assert "RANDOM weights" in table[0]
    shown = table[1].split()
    every = ["runner", "median", "p90", "p99", "img/s", "load", "call1", "cold", "from", "RSS", "file", "speed-up"]
    gone = tables.DISPENSABLE[: len(every) - len(shown)]  # as many as the numbers of this run are wide
    assert shown == [name for name in every if name not in gone]
    monkeypatch.setattr(tables, "DISPENSABLE", gone[:-1])
    wider = tables.model_table(results_file.load(next(folder.glob("*.json"))), "squeezenet1_1").splitlines()[1:6]
    assert gone == () or max(map(len, wider)) > 80, "no column goes without need"
    assert [line.split()[0] for line in table[3:]] == ["python/eager", "python/script", "cpp/script"]
    again = python("report", "--results", folder)
    assert again.returncode == 0
    assert again.stdout.strip().splitlines()[:6] == table
    assert "| cpp/script" in next(folder.glob("*.md")).read_text(encoding="utf-8")


def a_run(runner: str, number: int, seconds: list[float], model: str = "m", **more: Any) -> dict[str, Any]:
    """Round `number` of `runner`, a turn of three calls. What else a table shows differs from round to round."""
    return {
        "model": model, "runner": runner, "round": number, "run_seconds": seconds, "turn_calls": [3], "batch_size": 4,
        "warmup_seconds": [(1.0, 3.0, 2.0)[number]], "load_seconds": (0.2, 0.25, 0.9)[number],
        "cold_start_seconds": (1.5, 4.0, 2.5)[number], "peak_rss_bytes": (100, 300, 200)[number] * 1_000_000,
        "artifact_bytes": 5_000_000, "parity": {"ok": True, "reason": ""}, **more,
    }  # fmt: skip


def test_numbers_in_the_table_come_from_the_raw_calls() -> None:
    """By hand: three rounds; the candidate takes half of eager's time in each.

    Eager's nine calls, sorted: 0.1 0.1 0.1 0.2 0.2 0.2 0.3 0.5 0.9. The 90 % quantile lies at position 7.2, which is
    0.5 + 0.2 * 0.4 = 0.58; that of 99 % at 7.92, 0.868. 4 images in 0.2 s are 20 a second.
    """
    calls = [[0.1, 0.2, 0.9], [0.1, 0.2, 0.5], [0.1, 0.2, 0.3]]
    runs = [a_run("python/eager", n, seconds) for n, seconds in enumerate(calls)]
    runs += [a_run("cpp/script", n, [second / 2 for second in seconds]) for n, seconds in enumerate(calls)]
    config = {"runners": ["python/eager", "cpp/script"], "batch_size": 4, "device": "cpu", "threads": 1}
    cells = [line.split() for line in tables.model_table({"config": config, "runs": runs}, "m").splitlines()[3:]]
    rest = ["250", "2000", "2500", "2", "300", "5.00"]  # medians of the rounds; the largest RSS
    assert cells == [
        ["python/eager", "200.0", "580", "868", "20.0", *rest, "1", "baseline"],
        ["cpp/script", "100.0", "290", "434", "40.0", *rest, "2.00", "2.00-2.00"],
    ]


def test_cpp_is_set_against_python_on_the_same_file() -> None:
    """By hand: 0.3 s in C++ where Python takes 0.2; a peer has no twin, and `#2` is compared with its first."""
    times = {
        "python/eager": 0.6,
        "python/script": 0.2,
        "cpp/script": 0.3,
        "python/fused/bf16": 0.4,
        "cpp/fused/bf16": 0.1,
    }
    runners = [*times, "cpp/script#2", "python/script#2", "python/openvino"]
    runs = [a_run(one, n, [times.get(one, 0.1)] * 3) for one in runners for n in range(3)]
    config = {"runners": runners, "batch_size": 4, "device": "cpu", "threads": 1}
    said = "time of C++ / Python, same file: script 1.50 1.50-1.50, fused/bf16 0.25 0.25-0.25"
    lines = tables.model_table({"config": config, "runs": runs}, "m").splitlines()
    assert " ".join(line.strip() for line in lines[-2:]) == said, "a terminal's line has 80 characters, this has 82"
    assert said in tables.model_table({"config": config, "runs": runs}, "m", "github").splitlines()
    alone = {"config": {**config, "runners": ["python/eager"]}, "runs": runs}
    assert "same file" not in tables.model_table(alone, "m")


def test_the_best_of_ours_against_the_best_peer() -> None:
    """By hand: 0.1 / 0.2 s of one model, 0.4 / 0.2 s of the other; what is not equal to eager is no best."""
    times = {
        "a": {"cpp/fused": 0.1, "cpp/script": 0.3, "python/openvino": 0.2, "python/onnxruntime": 0.4},
        "b": {"cpp/fused": 0.6, "cpp/script": 0.4, "python/openvino": 0.9, "python/onnxruntime": 0.2},
    }
    wrong = {"parity": {"ok": False, "reason": "another top 5 than eager's"}}
    runs = [
        a_run(runner, n, [seconds] * 3, model)
        for model, row in times.items()
        for runner, seconds in row.items()
        for n in range(3)
    ]
    runs += [a_run("cpp/aoti", n, [0.001] * 3, "a", **wrong) for n in range(3)]
    runs += [a_run("python/eager", n, [0.001] * 3, "a") for n in range(3)]  # neither C++ nor a peer
    lines = tables.peers_table({"config": {}, "runs": runs}).splitlines()
    assert [line.split() for line in lines if line.startswith(("a ", "b "))] == [
        ["a", "fp32", "fused", "100.0", "openvino", "200.0", "0.50", "0.50-0.50"],
        ["b", "fp32", "script", "400.0", "onnxruntime", "200.0", "2.00", "2.00-2.00"],
    ]
    assert lines[-1] == "fp32: geometric mean 1.00 over 2 models, the largest 2.00"


def test_what_a_run_is_held_to(tmp_path: Path) -> None:
    """Beside its last output: the others, within 0.001 of the largest logit, here 10, and the bytes it was fed."""
    logits = numpy.array([[10, 1, 2, 3, 4, 5, 6]], numpy.float32)
    output, reference = tmp_path / "output.npy", tmp_path / "reference.npy"
    sound = {
        "precision": "fp32", "device": "cpu", "output_drift": 0.0, "output_finite": True, "input_crc32": "00c0ffee",
    }  # fmt: skip

    def verdict(runner: str, found: numpy.ndarray, **more: object) -> Any:
        tensor_file.write_array(output, found)
        line: dict[str, Any] = {**sound, **more}
        rounds.compare_with(line, output, reference, runner)
        return line["parity"] and line["parity"]["reason"]

    assert verdict("cpp/script", logits) is None, "before eager's there is nothing to compare with"
    assert verdict("python/eager", logits) == verdict("cpp/script", logits) == ""
    assert verdict("cpp/script", logits[:, ::-1].copy()) == "another top 5 than eager's"
    assert verdict("cpp/script", logits, output_drift=0.009) == ""
    assert verdict("cpp/script", logits, output_drift=0.011) == "outputs of the timed runs differ by up to 1.1e-02"
    assert "NaN" in verdict("cpp/script", logits, output_finite=False)
    assert "not eager's" in verdict("cpp/script", logits, input_crc32="00c0ffef")
    assert verdict("python/eager", logits[:, ::-1].copy()) == "another top 5 than eager's", "the reference is the first"


def test_no_parity_no_number(artifact: Artifact, artifacts: Path, tmp_path: Path) -> None:
    """A script artifact with other weights than eager's, planted under the right name."""
    folder = tmp_path / "artifacts"
    folder.mkdir()
    shutil.copy(artifact("squeezenet1_1", "eager"), folder)
    file = folder / artifact("squeezenet1_1", "script").name
    plant = (
        "import sys, torch\nextra = {'deploybench.json': ''}\nm = torch.jit.load(sys.argv[1], _extra_files=extra)\n"
        "with torch.no_grad(): list(m.parameters())[-1].add_(torch.linspace(0, 1, 1000))\n"
        "torch.jit.save(m, sys.argv[2], _extra_files=extra)\n"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", plant, artifact("squeezenet1_1", "script"), file],
        check=True,
        timeout=120,
    )
    done = python("bench", *SHORT, "--runtimes", "python", "--artifacts", folder, "--results", tmp_path / "results")
    assert done.returncode == 1
    row = next(line for line in done.stdout.splitlines() if line.startswith("python/script"))
    assert "no number" in row
    assert "python/script: not equal to eager" in done.stdout


def bench_own(factory: str, folder: Path, *flags: object) -> subprocess.CompletedProcess[str]:
    """Two short rounds of a model of one's own, whose module, artifacts and results lie in `folder`."""
    places = ("--artifacts", folder, "--results", folder / "results", "--rounds", 2, "--runs", 6)
    more = {"PYTHONPATH": f"{ROOT / 'python'}:{folder}"}
    return python("bench", "--model", factory, "--weights", "random", *places, *flags, env=more)


def test_a_runner_that_fails_is_a_row(tmp_path: Path) -> None:
    """A model that cannot be scripted: eager is measured, script says why not."""
    (tmp_path / "odd.py").write_text(
        "import torch\n\n\nclass Odd(torch.nn.Conv2d):\n    def forward(self, x):\n"
        "        pool = lambda y: y.mean([2, 3])\n        return pool(super().forward(x))\n\n\n"
        "def odd():\n    return Odd(3, 10, 3)\n"
    )
    done = bench_own("odd:odd", tmp_path, "--runtimes", "python")
    assert done.returncode == 1
    assert "python/script: artifact_missing: odd: cannot be scripted" in done.stdout
    assert any(line.startswith("python/eager") and "baseline" in line for line in done.stdout.splitlines())
    failures = [run for run in results_in(tmp_path / "results")["runs"] if "error" in run]
    assert [run["runner"] for run in failures] == ["python/script"] * 2


def test_a_model_that_a_route_is_not_made_for_is_a_row_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "import torch\n\n\nclass Odd(torch.nn.Conv2d):\n    def forward(self, x):\n"
        "        return super().forward(x).atan().mean([2, 3])\n\n\ndef odd():\n    return Odd(3, 10, 3)\n"
    )
    done = bench_own("odd:odd", tmp_path, "--runners", "python/direct")
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("python/direct"))
    assert "not for this, see below" in row
    assert "python/direct: unsupported: odd: aten.atan.default" in done.stdout
    assert [run["error"]["code"] for run in results_in(tmp_path / "results")["runs"] if "error" in run] == [
        "unsupported"
    ] * 2
    again = python("report", "--results", tmp_path / "results")
    assert again.returncode == 0


def test_files_are_made_side_by_side_where_memory_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    config: dict[str, Any] = {"device": "cpu", "generate": ["--weights", "auto"]}
    monkeypatch.setattr(options, "usable_cpus", lambda: 4)
    for memory, jobs in ((0, "1"), (2.5 * cases.JOB_BYTES, "2"), (99 * cases.JOB_BYTES, "4")):
        monkeypatch.setattr(record, "available_memory", lambda memory=memory: int(memory))
        assert cases._jobs(config) == ["--jobs", jobs]
    measuring: dict[str, Any] = {"device": "cpu", "generate": ["--memory-format", "auto"]}
    assert cases._jobs(config | {"device": "cuda"}) == cases._jobs(measuring) == []


def test_files_of_both_precisions_are_made_by_one_process() -> None:
    rows, bf16 = [routes.route(name) for name in ("eager", "fused", "aoti")], "bf16"
    both = [(row, precision) for precision in ("fp32", bf16) for row in rows]
    assert cases._alike(both) == [(["fp32", bf16], rows)]
    assert cases._alike(both[:-1]) == [(["fp32"], rows), ([bf16], rows[:2])], "a file that nobody wants is not made"
    frozen = [(routes.route(name), "fp32") for name in ("frozen", "fused")]
    assert cases._alike(frozen) == [(["fp32"], [routes.route("fused")])], "they run the same file"


def test_what_was_made_before_the_budget_was_over_counts(tmp_path: Path) -> None:
    outcome = {"route": "eager", "precision": "fp32"}
    (tmp_path / "slow.py").write_text(f"import time\nprint('{json.dumps(outcome)}', flush=True)\ntime.sleep(60)\n")

    class Slow(checkout.Checkout):
        def verb(self, *arguments: str) -> list[str]:
            return [sys.executable, str(tmp_path / "slow.py")]

    said, failure = cases._generate([], Slow(ROOT), time.monotonic() + 6)
    assert said == {("eager", "fp32"): None}
    assert failure is not None
    assert "within the budget" in str(failure)


@pytest.mark.skipif(options.usable_cpus() == 1, reason="one file at a time is made on one core")
def test_what_dies_among_others_is_made_again_alone(tmp_path: Path) -> None:
    """As the kernel ends a process where memory does not hold two of its size."""
    (tmp_path / "large.py").write_text(
        "import multiprocessing\nimport os\n\nfrom torch import nn\n\n\ndef net():\n"
        "    if multiprocessing.parent_process():\n        os.kill(os.getpid(), 9)\n"
        "    return nn.Sequential(nn.Conv2d(3, 10, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    more = {"PYTHONPATH": f"{ROOT / 'python'}:{tmp_path}"}
    mine = ("--model", "large:net", "--weights", "random")
    together = python("generate", *mine, "--routes", "eager,script", "--jobs", 2, "--artifacts", tmp_path, env=more)
    assert together.returncode == 1
    assert "a process died" in together.stderr
    done = bench_own("large:net", tmp_path, "--runtimes", "python")
    assert done.returncode == 0, done.stderr
    assert not [run for run in results_in(tmp_path / "results")["runs"] if "error" in run]


def test_a_peer_that_is_not_installed_is_a_row(artifact: Artifact, artifacts: Path, tmp_path: Path) -> None:
    """A module in its place that says what Python says of a missing one."""
    artifact("squeezenet1_1", "onnxruntime")
    (tmp_path / "openvino.py").write_text("raise ModuleNotFoundError(\"No module named 'openvino'\")\n")
    flags = ("--runners", "python/eager,python/openvino", "--artifacts", artifacts, "--results", tmp_path / "results")
    done = python("bench", *SHORT, *flags, env={"PYTHONPATH": f"{ROOT / 'python'}:{tmp_path}"})
    assert done.returncode == 1
    assert any(line.startswith("python/eager") and "baseline" in line for line in done.stdout.splitlines())
    assert "openvino: not installed" in done.stdout
    assert "pip install" in done.stdout


def test_interrupted_and_resumed(artifact: Artifact, artifacts: Path, tmp_path: Path) -> None:
    artifact("squeezenet1_1", "eager")
    command = [sys.executable, "-m", "deploybench", "bench", *map(str, SHORT), "--runtimes", "python"]
    command += ["--artifacts", str(artifacts), "--results", str(tmp_path)]
    environment = {**library_paths.python_environment(), "PYTHONPATH": str(ROOT / "python")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)  # type: ignore[call-overload]
    deadline = time.monotonic() + 120
    while (
        not (files := [file for file in tmp_path.glob("*.json") if file.stat().st_size])
        or not results_file.load(files[0])["runs"]
    ):
        assert time.monotonic() < deadline, "no first run"
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "deploybench bench --resume" in errors
    assert "Traceback" not in errors
    kept = results_in(tmp_path)
    assert [(run["runner"], run["round"]) for run in kept["runs"]] == [("python/eager", 0), ("python/script", 0)]
    assert not kept["complete"]
    assert "stolen_fraction" in kept, "what else the machine did is known, too"
    done = python("bench", "--resume", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    whole = results_in(tmp_path)
    assert whole["complete"]
    assert whole["runs"][: len(kept["runs"])] == kept["runs"], "what was measured is not measured again"
    assert sorted((run["runner"], run["round"]) for run in whole["runs"]) == [
        (runner, round) for runner in ("python/eager", "python/script") for round in (0, 1)
    ]


def test_a_round_with_a_failure_is_measured_again(finished: tuple[Path, str], tmp_path: Path) -> None:
    results = results_in(finished[0])
    first = results["runs"][1]
    assert (first["round"], first["runner"]) == (0, "python/script")
    failed = record.failure("python", None, "out_of_memory", "killed")
    results["runs"][1] = {**failed, **{key: first[key] for key in ("model", "round", "runner", "batch_size")}}
    file = tmp_path / "results.json"
    results_file.save(file, {**results, "complete": False})
    done = python("bench", "--resume", file)
    assert done.returncode == 0, done.stderr
    whole = results_file.load(file)["runs"]
    assert sorted((run["round"], run["runner"]) for run in whole) == sorted(
        (run["round"], run["runner"]) for run in results["runs"]
    ), "each once"
    assert all(run["parity"]["ok"] for run in whole)
    assert [run for run in whole if run["round"] == 1] == results["runs"][3:], "a whole round stays"
    assert not [run for run in whole if run["round"] == 0 and run in results["runs"]], "one with a failure does not"


def test_gone_on_with_the_warnings_stay(finished: tuple[Path, str], tmp_path: Path) -> None:
    """Where nothing is left to measure, nothing is known of the machine that was not known before."""
    file = tmp_path / "results.json"
    results_file.save(file, {**results_in(finished[0]), "stolen_fraction": 0.32, "others_fraction": 0.25})
    done = python("bench", "--resume", file)
    assert done.returncode == 0, done.stderr
    assert "32 %" in done.stdout
    whole = results_file.load(file)
    assert (whole["stolen_fraction"], whole["others_fraction"]) == (0.32, 0.25)


def test_old_programs_are_not_gone_on_with(finished: tuple[Path, str], tmp_path: Path) -> None:
    """Of a file that `compare --remeasure` left: without --resume's FILE the last one that is bench's is taken."""
    results = results_in(finished[0])
    own, others = tmp_path / "1.json", tmp_path / "2.json"
    results_file.save(own, {**results, "complete": False})
    results["config"]["runners"].append("cpp/script#old")
    results_file.save(others, {**results, "complete": False})
    (tmp_path / "3.json").write_text("{}")  # damaged, which is nothing to go on with either
    done = python("bench", "--resume", others)
    one_line_error(done, 2, str(others), "holds old programs", "compare OLD NEW --remeasure")
    done = python("bench", "--resume", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"going on with {own}" in done.stderr
    assert f"{others}: not complete; measure again by compare --remeasure" in python("report", others).stdout


def test_a_refusal_is_not_tried_again(finished: tuple[Path, str], tmp_path: Path) -> None:
    """Nor does it make its round a failed one."""
    results = results_in(finished[0])
    refused = record.failure("python", None, "unsupported", "not for it")
    for index in (1, 4):
        run = results["runs"][index]
        results["runs"][index] = {**refused, **{key: run[key] for key in ("model", "round", "runner", "batch_size")}}
    file = tmp_path / "results.json"
    results_file.save(file, {**results, "complete": False})
    done = python("bench", "--resume", file)
    assert done.returncode == 0, done.stderr
    assert results_file.load(file)["runs"] == results["runs"]
    markdown = tables.markdown(results_file.load(file)).splitlines()
    assert markdown[markdown.index("- python/script: unsupported: not for it") - 1] == "", "no row of the table"


@pytest.mark.parametrize(("count", "runs"), [(2, 100), (12, 100), (20, 62), (32, 40)])
def test_many_runners_make_fewer_calls(count: int, runs: int) -> None:
    assert configuration.calls_of_each(count, rounds=2, turn=5) == runs
    assert configuration.calls_of_each(count, rounds=30, turn=5) == 150, "a turn a round"


def configured(*flags: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return dict(configuration.configure(parser.parse_args([*flags]))["config"])


def test_of_many_runners_those_that_compile_take_part_once() -> None:
    many = ("--routes", "all", "--precisions", "fp32,bf16")
    config = configured(*many)
    assert config["once"] == ["python/compile", "python/compile/bf16"]
    assert set(rounds.taking_part(config, 0)) - set(rounds.taking_part(config, 1)) == set(config["once"])
    assert configured(*many, "--rounds", "2")["once"] == [], "asked for"
    assert configured("--routes", "script,compile")["once"] == [], "there is time"


def test_a_round_is_whole_without_those_that_take_part_once(finished: tuple[Path, str], tmp_path: Path) -> None:
    results = results_in(finished[0])
    results["config"]["once"] = ["python/script"]
    results["runs"] = results["runs"][:3]
    file = tmp_path / "results.json"
    results_file.save(file, {**results, "complete": False})
    done = python("bench", "--resume", file)
    assert done.returncode == 0, done.stderr
    whole = results_file.load(file)["runs"]
    assert [(run["round"], run["runner"]) for run in whole] == [
        (0, "python/eager"), (0, "python/script"), (0, "cpp/script"), (1, "python/eager"), (1, "cpp/script"),
    ]  # fmt: skip
    assert whole[:3] == results["runs"]
    table = python("report", file)
    assert table.returncode == 0, table.stderr


def test_turns_and_rounds_alternate(
    artifact: Artifact, artifacts: Path, here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two rounds of two turns, ABBA BAAB, read off the driver while the real workers run."""
    artifact("squeezenet1_1", "eager")
    order, turn = [], rounds.Worker.turn

    def listed(worker: rounds.Worker) -> None:
        order.append(worker.runner.removeprefix("python/"))
        turn(worker)

    monkeypatch.setattr(rounds.Worker, "turn", listed)
    monkeypatch.setattr(record, "available_memory", lambda: 1 << 40)  # for both at a time
    done = here("bench", *SHORT, "--runtimes", "python", "--artifacts", artifacts, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert order == ["eager", "script", "script", "eager", "script", "eager", "eager", "script"]


@pytest.mark.parametrize("runtime", ["python", "cpp"])
def test_a_worker_waits_for_its_turn(runtime: str, artifact: Artifact) -> None:
    flags = ("--artifact", artifact("squeezenet1_1", "script"), "--json", "--warmup", 0, "--runs", 3, "--turn", 2)
    program, verb = (python, "worker") if runtime == "python" else (native, "bench")
    done = program(verb, *flags, input="\n\n")
    *ready, line = done.stdout.splitlines()
    assert ready == ["ready", "answered", "ready"], "without a warm-up the first answer comes in the first turn"
    assert json.loads(line)["turn_calls"] == [2, 1]
    assert len(json.loads(line)["settle_seconds"]) == 2
    one_line_error(program(verb, *flags, input="\n"), 1, "standard input: ended before the run", "--turn")


def test_workers_that_memory_does_not_hold_together_go_in_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "net.ts"
    file.write_bytes(b"1" * 1000)
    case = Case(
        models.find("resnet18"),
        {("eager", "fp32"): file, ("script", "fp32"): file},
        {("trace", "fp32"): DeploybenchError("runtime", "no")},
        file,
    )
    runners = ["python/eager", "python/script", "python/trace", "cpp/script", "cpp/script#2"]
    each = rounds.WORKER_BYTES + rounds.COPIES * 1000
    monkeypatch.setattr(record, "available_memory", lambda: int(2.1 * each / rounds.MEMORY_SHARE))
    assert rounds._groups(case, runners) == [runners[:3], runners[3:]], "a trace that failed needs none"
    monkeypatch.setattr(record, "available_memory", lambda: 0)
    assert rounds._groups(case, runners) == [[runner] for runner in runners]


def test_another_photo_by_the_same_name_is_another_tensor(place: Place, tmp_path: Path) -> None:
    """`mv older.jpg photo.jpg` keeps the older time; what was made of the first photo may not be measured."""
    made, photo, older = tmp_path / place.script.name, tmp_path / "photo.png", tmp_path / "older.png"
    shutil.copy(place.script, made)
    for file, colour in ((photo, "green"), (older, "red")):
        Image.new("RGB", (20, 30), colour).save(file)
    os.utime(older, (0, 0))
    first = cases._tensor(photo, made)
    assert cases._tensor(photo, made) == first, "made once"
    os.replace(older, photo)
    assert (numpy.load(cases._tensor(photo, made)) != numpy.load(first)).any()


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    files = [results_file.new_path(tmp_path) for _ in range(3)]
    assert len(set(files)) == 3


def test_another_environment_is_not_mixed_in(finished: tuple[Path, str], tmp_path: Path) -> None:
    results = results_in(finished[0])
    results["environment"]["torch"] = "1.0"
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps(results), encoding="utf-8")
    done = python("bench", "--resume", file)
    assert done.returncode == 2
    assert "another environment (torch was 1.0" in done.stderr


TALKATIVE = """
import torch

print("imported")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 4)

    def forward(self, images):
        print("ready")
        return self.head(images.mean([2, 3]))


def net():
    print("answered")
    return Net()
"""


def test_what_a_model_prints_is_not_taken_for_the_worker(tmp_path: Path) -> None:
    """A scripted module prints in C++, too."""
    (tmp_path / "talkative.py").write_text(TALKATIVE)
    own = ("--model", "talkative:net", "--weights", "random", "--artifacts", tmp_path / "artifacts", "--json")
    short = ("--rounds", 1, "--runs", 4, "--warmup", 1, "--turn", 2, "--results", tmp_path, "--input", paths.PHOTO)
    env = {"PYTHONPATH": f"{ROOT / 'python'}:{tmp_path}"}
    done = python("bench", *own, *short, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["runner"] for row in rows] == ["python/eager", "python/script", "cpp/script"]
    assert all(row["calls"] == 4 for row in rows)
    done = python("infer", *own[:-1], paths.PHOTO, "--json", env=env)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert len(json.loads(line)["predictions"]) == 4
    assert "ready" in done.stderr
    done = native("infer", tmp_path / "artifacts" / "net.script-fp32-cpu.ts", paths.PHOTO, "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert len(json.loads(line)["predictions"]) == 4
    assert "ready" in done.stderr
