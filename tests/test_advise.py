"""Does `advise` name what an exhaustive run would, within its limits, and do the commands that it gives work?"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import onnxruntime
import pytest
from conftest import ROOT, native, one_line_error, python
from deploybench import deployment, elf, models, panel, results_file, routes, search, selection, summary
from deploybench.verbs import advise

PANEL = ROOT / "docs" / "results" / "panel-cpu.json"


def a_run(runner: str, number: int, seconds: float, cold: float = 1.0, size: int = 1000) -> dict[str, Any]:
    return {
        "model": "m", "runner": runner, "round": number, "batch_size": 1, "instances": 1, "run_seconds": [seconds] * 3, "turn_calls": [3],
        "turn_rates": None, "cold_start_seconds": cold, "artifact_bytes": size,
    }  # fmt: skip


def of_round(run: dict[str, Any], number: int, rounds: int) -> dict[str, Any]:
    """The run as the round `number` of a search sees it: a few turns alone, after all rounds of the file the next ones."""
    turns = search.CALLS // 5
    first = number // rounds * turns
    before, calls = sum(run["turn_calls"][:first]), run["turn_calls"][first : first + turns]
    assert len(calls) == turns
    return {
        **run,
        "round": number,
        "turn_calls": calls,
        "run_seconds": run["run_seconds"][before : before + sum(calls)],
    }


@pytest.mark.parametrize("model", models.PANEL)
def test_the_choice_is_within_3_percent_of_the_exhaustive_one(model: str) -> None:
    """Of the panel's measured runs, the search sees two turns a round, as many rounds as it makes, and of each round only what
    it asks for; it is held to the medians of all of them."""
    results = results_file.load(PANEL)
    runs = {
        runner: [run for run in results["runs"] if (run["model"], run["runner"]) == (model, runner)]
        for runner in results["config"]["runners"]
        if runner != "python/eager"
    }
    sound = {runner: its for runner, its in runs.items() if not summary.trouble(its)}
    seen: dict[str, list[dict[str, Any]]] = {runner: [] for runner in sound}
    todo = list(sound)
    rounds = results["config"]["rounds"]
    for number in range(search.ROUNDS):
        for runner in todo:
            its = [run for run in sound[runner] if run["round"] == number % rounds]
            seen[runner] += [of_round(run, number, rounds) for run in its]
        todo = selection.undecided(seen, search.CLOSE)
        if not todo:
            break
    chosen = selection.best(seen, lambda name: selection.seconds(seen[name]))
    assert chosen is not None
    truth = {name: selection.seconds(its) for name, its in sound.items()}
    assert truth[chosen] <= 1.03 * min(truth.values()), f"{chosen}, and {min(truth, key=truth.__getitem__)} is best"


def test_who_is_measured_again() -> None:
    """By hand: b is 5 % slower in both rounds and decided; c is 2 % slower, then 2 % faster, and may win. (Of two rounds that
    differ at all Student's interval decides nothing.)"""
    measured = {
        "a": [a_run("a", 0, 0.100), a_run("a", 1, 0.100)],
        "b": [a_run("b", 0, 0.105), a_run("b", 1, 0.105)],
        "c": [a_run("c", 0, 0.102), a_run("c", 1, 0.098)],
        "d": [a_run("d", 0, 0.300), a_run("d", 1, 0.300)],
    }
    assert selection.near(measured) == ["a", "c", "b"]
    assert selection.undecided(measured, 0.01) == ["a", "c"]
    del measured["c"]
    assert selection.undecided(measured, 0.01) == []
    once = {name: runs[:1] for name, runs in measured.items()}
    assert selection.undecided(once, 0.01) == ["a", "b"], "one round has no interval"


def test_among_equals_cpp_and_full_precision_win() -> None:
    names = ["python/openvino", "cpp/direct/fp32", "cpp/direct/bf16"]
    assert selection.best(names, lambda name: 1.0) == "cpp/direct/bf16"
    assert selection.best(["python/openvino", "cpp/fused"], lambda name: 1.0) == "cpp/fused"
    assert selection.best([], lambda name: 1.0) is None


def test_candidates_are_every_way_of_cpp_and_the_peers() -> None:
    both, alone = (search.candidates("cpu", ("fp32", "bf16"), need) for need in (False, True))
    assert {panel.parts(name)[1] for name in alone} == {
        row.name for row in routes.ROUTES.values() if "cpp" in row.runtimes
    } - {"trace"}
    assert set(both) - set(alone) == {"python/onnxruntime", "python/openvino", "python/openvino/bf16"}
    order = [panel.parts(step[0])[1:] for step in search.steps(both)]
    quick = [("eager", "fp32"), ("script", "bf16")]
    assert order == [*quick, ("direct", "fp32"), ("direct", "bf16"), ("aoti", "fp32"), ("aoti", "bf16")]


def test_a_model_is_advised_and_the_commands_work(tmp_path: Path) -> None:
    """10 s are too few to compile anything, so that the answers are of the quick files, and the rest says why."""
    places = ("--artifacts", tmp_path / "art", "--results", tmp_path / "results")
    done = python("advise", "squeezenet1_1", "--budget", "10s", "--weights", "random", "--json", *places)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [one["what"] for one in said["answers"]] == [advise.LATENCY, advise.THROUGHPUT, advise.START, advise.SIZE]
    assert "within the budget" in said["left_out"]["cpp/aoti/bf16"]
    results = results_file.load(Path(said["results"][0]))
    assert results["complete"]
    for answer in said["answers"]:
        runs = [run for run in results["runs"] if run["runner"] == answer["runner"]]
        assert runs
        assert not summary.trouble(runs)
    best = said["answers"][0]
    timed = {
        one["runner"]: [run for run in results["runs"] if run["runner"] == one["runner"]] for one in results["runs"]
    }
    assert best["value"] == min(selection.seconds(runs) for name, runs in timed.items() if name != "python/eager")
    assert [row["runner"] for row in said["answers"]][3] in {
        "python/onnxruntime",
        "cpp/frozen/bf16",
        "cpp/fused/bf16",
        "cpp/script/bf16",
    }
    make, use, *_ = (shlex.split(line) for line in best["commands"])
    again = python(*make[1:])
    assert again.returncode == 0, again.stderr
    assert "up to date" in again.stdout or "kept" in again.stdout
    photo = str(ROOT / "data" / "images" / "chelsea.jpg")
    use = [photo if word == "PHOTO" else word for word in use]
    ran = python(*use[1:]) if use[0] == "deploybench" else native("infer", *use[1:])
    assert ran.returncode == 0, ran.stderr
    shown = python("report", said["results"][0])
    assert best["runner"] in shown.stdout


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("resnet51",), 2, ("resnet51", "did you mean resnet50")),
        (("resnet50", "--budget", "1s"), 2, ("10s", "2m")),
        (("resnet50", "--budget", "2 m"), 2, ("--budget", "2 m")),
        (("resnet50", "--max-p99", "0"), 2, ("--max-p99",)),
        (("resnet50", "--max-size", "-1"), 2, ("--max-size",)),
        (("resnet50", "--max-accuracy-drop", "0.5"), 2, ("--data FOLDER",)),
        (("resnet50", "--data", "no/such"), 1, ("no/such",)),
        (("resnet50", "--require", "rust"), 2, ("rust", "cpp")),
        (("no_such:factory", "--budget", "10s"), 1, ("no_such",)),
    ],
)
def test_bad_flags(flags: tuple[str, ...], code: int, words: tuple[str, ...], tmp_path: Path) -> None:
    one_line_error(python("advise", *flags, "--artifacts", tmp_path, "--results", tmp_path), code, *words)


def test_what_is_shipped_runs_as_it_was_measured() -> None:
    """A frozen file has two routes, and `infer` takes the first; CUDA's libraries are not bundled."""
    lines = deployment.commands("cpp/fused", "my files/m.frozen-fp32-cpu.ts", ["--models", "m"])
    assert lines[2] == "deploybench bundle --artifact 'my files/m.frozen-fp32-cpu.ts' --route fused"
    assert deployment.commands("cpp/frozen", "m.ts", ["--models", "m"])[2] == "deploybench bundle --artifact m.ts"
    on_cuda = deployment.commands("cpp/aoti/fp16", "m.pt2", ["--models", "m", "--device", "cuda"])
    assert not any("bundle" in line for line in on_cuda)


def test_limits_that_nothing_keeps_say_what_could_be_had() -> None:
    """By hand: the p99 of three equal calls is theirs."""
    import argparse

    from deploybench.errors import DeploybenchError

    measured = {
        "cpp/a": [a_run("cpp/a", 0, 0.020, size=3_000_000)],
        "cpp/b": [a_run("cpp/b", 0, 0.010, size=9_000_000)],
    }
    args = argparse.Namespace(model="m", max_p99=0.015, max_size=None)
    assert advise.fitting(measured, args, {}) == ["cpp/b"]
    assert list(advise.soon_enough(measured, 0.015)) == ["cpp/b"], "of several instances, too"
    assert list(advise.soon_enough(measured, None)) == ["cpp/a", "cpp/b"]
    args.max_size = 5
    with pytest.raises(DeploybenchError, match=r"least p99 is 0\.01 s, the smallest artifact has 3\.0 MB"):
        advise.fitting(measured, args, {})
    with pytest.raises(DeploybenchError, match="m: nothing could be measured: no disk"):
        advise.fitting({}, args, {"cpp/a": "no disk"})
    args.max_p99 = None
    assert advise.fitting(measured, args, {}) == ["cpp/a"]


def test_what_loses_too_much_is_left_out() -> None:
    """By hand: 0.4 points of 0.5 allowed stay, 0.6 go; fp32 has no change."""
    measured: selection.Runs = {"cpp/a": [], "cpp/a/bf16": [], "cpp/b/bf16": []}
    left_out: dict[str, str] = {}
    changes = {"cpp/a/bf16": -0.004, "cpp/b/bf16": -0.006}
    assert list(advise.accurate(measured, changes, 0.005, left_out)) == ["cpp/a", "cpp/a/bf16"]
    assert left_out == {"cpp/b/bf16": "top-1 falls by 0.60 points"}
    del changes["cpp/a/bf16"]
    assert list(advise.accurate(measured, changes, 0.005, left_out)) == ["cpp/a"]
    assert left_out["cpp/a/bf16"] == "top-1 could not be counted"
    assert list(advise.accurate(measured, changes, None, left_out)) == list(measured)


def test_what_cannot_be_counted_is_not_the_smallest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without pyelftools nobody knows what a C++ program needs: not 0 bytes."""
    monkeypatch.setattr(elf, "mapped", Mock(side_effect=ImportError))
    deployment.library_bytes.cache_clear()
    try:
        runs = {name: [{**a_run(name, 0, 0.01), "threads": 1}] for name in ("cpp/script", "python/onnxruntime")}
        answers = advise._answers(models.find("resnet50"), Path("artifacts"), "cpu", runs, {})
        assert {one.what: one.runner for one in answers}[advise.SIZE] == "python/onnxruntime"
        assert "cpp/script: cannot be among the smallest" in capsys.readouterr().err
        del runs["python/onnxruntime"]
        answers = advise._answers(models.find("resnet50"), Path("artifacts"), "cpu", runs, {})
        assert advise.SIZE not in {one.what for one in answers}
    finally:
        deployment.library_bytes.cache_clear()


def test_what_is_shipped_is_counted() -> None:
    libtorch = ROOT / "vendor" / "libtorch" / "lib" / "libtorch_cpu.so"
    assert (deployment.library_bytes("cpp/script") or 0) > libtorch.stat().st_size
    assert deployment.library_bytes("python/no_such_package") is None
    numpy_alone, with_runtime = (deployment.library_bytes(f"python/{name}") or 0 for name in ("numpy", "onnxruntime"))
    own = sum(file.stat().st_size for file in Path(onnxruntime.__file__).parent.rglob("*") if file.suffix == ".so")
    assert with_runtime > own + numpy_alone > numpy_alone > 10e6, "with the packages that it needs"
