"""Is the Python API the verbs by another door: the same flags, the same answers, nothing on stdout, nothing heavy on import?"""

from __future__ import annotations

import json
import subprocess
import sys
import typing
from pathlib import Path

import deploybench as db
import pytest
from conftest import ROOT, Artifact, python
from deploybench import api, cli, library_paths, paths

NOT_FLAGS = {"help", "json", "format_", "csv"}
# what a function takes by position instead
PLACES = {"generate": {"models"}, "bench": {"models"}, "infer": {"inputs", "format"}, "preprocess": {"photos"}}


def test_every_verb_has_a_function_or_a_reason() -> None:
    assert set(api.FLAGS) | set(api.NOT_IN_API) == set(cli.VERBS)
    assert not set(api.FLAGS) & set(api.NOT_IN_API)
    assert set(api.FLAGS) < set(db.__all__)
    for name in db.__all__:
        assert getattr(db, name).__doc__, name
        assert getattr(db, name).__module__.startswith("deploybench.")


@pytest.mark.parametrize("verb", [verb for verb, flags in api.FLAGS.items() if flags is not dict])
def test_its_keywords_are_the_flags_of_the_verb(verb: str) -> None:
    dests = {action.dest for action in cli.parser({verb}).verbs[verb]._actions}
    assert set(typing.get_type_hints(api.FLAGS[verb])) == dests - NOT_FLAGS - PLACES[verb]


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, deploybench as db; before = set(sys.modules); assert 'bench' in dir(db)\n"
        "assert not {'torch', 'numpy', 'deploybench.api', 'argparse'} & before, before\n"
        "assert callable(db.bench) and callable(db.generate) and 'torch' not in sys.modules\n"
        "from deploybench.verbs import bench; assert callable(db.bench)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "python", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_generate_preprocess_and_infer_answer_as_the_verbs_do(
    artifact: Artifact, artifacts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = artifact("squeezenet1_1", "script")
    made = db.generate("squeezenet1_1", weights="random", artifacts=artifacts, quiet=True)
    (record,) = made.records
    assert (record["status"], Path(record["file"]), record["bytes"]) == ("up to date", file, file.stat().st_size)
    tensor = db.preprocess(paths.PHOTO, artifact=file, out=tmp_path / "a.npy")
    assert tensor.records[0]["shape"] == [1, 3, 224, 224]
    ours = db.infer(tmp_path / "a.npy", artifact=file, top_k=3, threads=1)
    assert capfd.readouterr().out == ""
    theirs = python("infer", tmp_path / "a.npy", "--artifact", file, "--top-k", 3, "--threads", 1, "--json")
    assert ours.records == [json.loads(line) for line in theirs.stdout.splitlines()]
    saved = ours.save(tmp_path / "new folder" / "answers.json")
    assert [json.loads(line) for line in saved.read_text(encoding="utf-8").splitlines()] == ours.records


def test_bench_gives_records_rows_and_the_table_of_report(artifact: Artifact, artifacts: Path, tmp_path: Path) -> None:
    artifact("squeezenet1_1", "script")
    measured = db.bench(
        ["squeezenet1_1"], routes=["script"], runtimes="python", weights="random", artifacts=artifacts, results=tmp_path,
        rounds=2, runs=4, warmup=1, turn=2, batch_size=[2], threads=1, quiet=True,
    )  # fmt: skip
    assert measured.sound
    assert measured.results["config"]["batch_sizes"] == [2]
    assert [len(record["run_seconds"]) for record in measured.records] == [2] * 4  # rounds x runners
    assert [(row["runner"], row["batch_size"]) for row in measured.rows] == [
        ("python/eager", 2), ("python/script", 2),
    ]  # fmt: skip
    assert python("report", measured.file).stdout.split() == measured.table().split()
    again = db.report(measured.save(tmp_path / "copy" / "a.json"))
    assert again.rows == measured.rows
    shown = json.loads(python("report", measured.file, "--json").stdout)
    assert shown["rows"] == measured.rows


def test_rows_by_hand() -> None:
    """Two rounds of two calls and no turns: the medians, the 99th percentile and the ratio can be worked on paper."""
    results = json.loads((ROOT / "docs/results/resnet50-cpu.json").read_text(encoding="utf-8"))
    times = {"python/eager": 0.4, "python/script": 0.2}
    results["config"]["runners"] = list(times)
    results["runs"] = [
        {
            **run,
            "run_seconds": [times[run["runner"]]] * 4,
            "turn_calls": [4],
            "turn_seconds": [4 * times[run["runner"]]],
        }
        for run in results["runs"]
        if run["runner"] in times
    ]
    eager, script = api.BenchResult(Path("a.json"), results).rows
    assert (eager["median_seconds"], script["p99_seconds"], script["images_per_second"]) == (0.4, 0.2, 5)
    assert [script[name] for name in ("speedup", "speedup_low", "speedup_high")] == pytest.approx([2, 2, 2])


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        (lambda: db.generate("resnet5O"), "usage", "did you mean resnet50"),
        (lambda: db.generate("resnet18", rotes="script"), "usage", "rotes"),  # type: ignore[call-arg]
        (lambda: db.bench(rounds=0), "usage", "--rounds"),
        (lambda: db.bench(tf32="yes"), "usage", "--tf32"),  # type: ignore[arg-type]
        (lambda: db.report("absent.json"), "input_missing", "absent.json"),
        (lambda: db.infer("x.jpg", artifact="absent.ts"), "artifact_missing", "absent.ts"),
        (lambda: db.preprocess("-absent.jpg", model="squeezenet1_1"), "input_missing", "-absent.jpg"),
        (lambda: db.generate("absent:net", weights="random"), "usage", "absent:net"),
    ],
)
def test_what_a_user_can_mend_is_one_exception(call: typing.Callable[[], object], code: str, words: str) -> None:
    with pytest.raises(db.DeploybenchError, match=words) as caught:
        call()
    assert caught.value.code == code


def test_a_poisoned_library_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "libtorch_cpu.so").touch()
    code = "import deploybench as db\ntry: db.report('x')\nexcept db.DeploybenchError as error: print(error)"
    environment = {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "unset LD_LIBRARY_PATH" in done.stdout, done.stderr


def test_generate_in_a_program_that_has_more_to_do(tmp_path: Path) -> None:
    """Several files at a time from another thread than the main one; and what is interrupted ends its own processes alone."""
    (tmp_path / "own.py").write_text(FACTORY)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**library_paths.python_environment(), "PYTHONPATH": f"{ROOT / 'python'}:{tmp_path}"}
    command = [sys.executable, str(program)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["['made', 'made']", "interrupted", "the other lives: True"], done.stderr


FACTORY = """
import time


def sleeps():
    open("building", "w").close()
    time.sleep(600)
"""
PROGRAM = """
import multiprocessing, os, signal, threading, time
import deploybench as db


def generate(model):
    return db.generate(model, routes=["script", "trace"], weights="random", artifacts="artifacts", jobs=2)


def interrupt():
    while not os.path.exists("building"):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    other.start()
    thread = threading.Thread(target=lambda: print([one["status"] for one in generate("squeezenet1_1").records]))
    thread.start()
    thread.join()
    threading.Thread(target=interrupt).start()
    try:
        generate("own:sleeps")
    except KeyboardInterrupt:
        print("interrupted")
    print("the other lives:", other.is_alive())
    other.kill()
"""
