"""Are shares, agreement and intervals of an evaluation what a person would work out, and are files that are none refused?"""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest
from bad_input import Run, sound_results
from conftest import one_line_error
from deploybench import accuracy, accuracy_table, proportions, record


@pytest.mark.parametrize(("hits", "count", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
])  # fmt: skip
def test_wilson_as_published(hits: int, count: int, low: float, high: float) -> None:
    """Table I of Newcombe 1998, method 3."""
    found = proportions.wilson(hits, count)
    assert (found.value, found.low, found.high) == pytest.approx((hits / count, low, high), abs=5e-5)
    mirrored = proportions.wilson(count - hits, count)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_of_one_photo() -> None:
    """z*z / (1 + z*z) = 3.8415 / 4.8415."""
    none, one = proportions.wilson(0, 1), proportions.wilson(1, 1)
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, 0.7935), abs=5e-5)
    assert (one.value, one.low, one.high) == pytest.approx((1, 0.2065, 1), abs=5e-5)


@pytest.mark.parametrize(("table", "low", "high"), [
    ((14, 5, 0, 22), 0.0115, 0.2265),  # Altman et al. 2000, Statistics with Confidence, table 6.2: 0.011 to 0.226
    ((1, 1, 7, 12), -0.5069, -0.0256),  # Fagerland et al. 2014, doi:10.1002/sim.6148: -0.507 to -0.026
    ((20, 12, 2, 16), 0.0562, 0.3292),  # Newcombe 1998, table II
], ids=str)  # fmt: skip
def test_paired_differences_as_published(table: tuple[int, int, int, int], low: float, high: float) -> None:
    both, first, second, neither = table
    found = proportions.paired_difference(*table)
    assert found.value == pytest.approx((first - second) / sum(table))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    swapped = proportions.paired_difference(both, second, first, neither)
    assert (swapped.low, swapped.high) == pytest.approx((-high, -low), abs=5e-5)


def test_paired_differences_at_the_ends() -> None:
    """Nothing differs: a wide interval of few photos, a narrow one of many; all differ; margins of 0."""
    few, many = proportions.paired_difference(6, 0, 0, 2), proportions.paired_difference(38_000, 0, 0, 12_000)
    assert few.value == many.value == 0
    assert few.high == -few.low > 0.2
    assert many.high == pytest.approx(-many.low)
    assert 0 < many.high < 1e-4
    assert proportions.paired_difference(0, 5, 0, 0).low > 0.2
    assert proportions.paired_difference(0, 5, 0, 0).high == 1
    for table in ((0, 0, 0, 9), (9, 0, 0, 0)):
        assert proportions.paired_difference(*table).value == 0


def evaluation() -> dict[str, Any]:
    """Ten photos of two classes. Eager: 7 right of the 9 that it reads; the other: 7 of 9, it reads another one not; they
    agree on 6 of the 8 that both read. Of these eager has 6 right, the other 6, both 5."""
    eager = [[0, 1], [0, 1], [0, 1], [0, 2], [2, 0], [1, 0], [1, 0], [1, 0], [2, 3], None]
    other = [[0, 1], [0, 1], [0, 1], [0, 2], [0, 2], [1, 0], [1, 0], [2, 3], None, [1, 2]]
    return {
        "kind": "evaluation", "schema": 1, "complete": True, "others": 0, "empty_folders": [],
        "environment": {**record.environment(), "torch": "2.13.0", "libtorch": "2.13.0 cpu (wheel)"},
        "config": {
            "models": ["resnet50"], "runners": ["python/eager", "cpp/script/bf16"], "device": "cpu", "data": "val", "classes": None,
            "limit": None, "generate": [], "artifacts": "artifacts", "batch_size": 1, "instances": None, "threads": None,
        },
        "photos": [f"{'zero' if number < 5 else 'one'}/{number}.jpg" for number in range(10)],
        "models": {"resnet50": {"classes": {"zero": 0, "one": 1}, "weights_origin": "pretrained"}},
        "runs": [
            {"model": "resnet50", "runner": runner, "artifact": "x", "fingerprint": "f", "top5": top5,
             "problems": {str(top5.index(None)): f"val/{photo}: is damaged; give another"},
             "timed_images": 9, "timed_seconds": seconds}
            for runner, top5, seconds, photo in (
                ("python/eager", eager, 3.0, "one/9.jpg"), ("cpp/script/bf16", other, 0.5, "one/8.jpg"))
        ],
    }  # fmt: skip


def test_shares_by_hand() -> None:
    found = accuracy.of_model(evaluation(), "resnet50")
    eager, other = found["python/eager"], found["cpp/script/bf16"]
    assert (eager.photos, eager.broken, eager.images_per_second) == (9, 1, 3.0)
    assert eager.top1 == proportions.wilson(7, 9)
    assert eager.top5 == proportions.wilson(8, 9)
    assert (eager.agreement, eager.difference) == (None, None)
    assert (other.photos, other.broken, other.images_per_second) == (9, 1, None), "half a second is no rate"
    assert other.top1 == proportions.wilson(8, 9)
    assert other.top5 == proportions.wilson(8, 9)
    assert other.agreement == proportions.wilson(6, 8)
    assert other.difference == proportions.paired_difference(6, 1, 1, 0)


def test_a_run_that_is_not_whole_gives_no_number() -> None:
    results = evaluation()
    results["runs"][0]["top5"].pop()
    found = accuracy.of_model(results, "resnet50")
    assert found["python/eager"].trouble == "9 of 10 photos so far"
    assert found["python/eager"].top1 is None
    assert found["cpp/script/bf16"].top1 is not None
    assert found["cpp/script/bf16"].difference is None
    assert not accuracy_table.all_sound(results)
    results["runs"][1] |= {"top5": [None] * 10}
    assert accuracy.of_model(results, "resnet50")["cpp/script/bf16"].trouble == "no photo could be read"
    results["runs"] = []
    assert accuracy.of_model(results, "resnet50")["python/eager"].trouble == "not evaluated yet"


def test_fifty_thousand_photos_fit_a_terminal() -> None:
    """Two decimals, the longest names; top-5 keeps its interval. 1000 of 50,000 lost: 2 points, give or take
    1.96 * sqrt(1000 - 20) / 500 = 0.12."""
    results = evaluation()
    count = 50_000
    results["photos"] = [f"zero/{number:08}.JPEG" for number in range(count)]
    results["config"]["runners"] = ["python/eager", "cpp/direct/bf16", "python/onnxruntime", "python/openvino/bf16"]
    right = [[0, 1]] * 38_000 + [[1, 0]] * 8_000 + [[1, 2]] * 4_000
    results["runs"] = [
        {**results["runs"][0], "runner": runner, "top5": right[:-miss] + [[2, 1]] * miss, "problems": {}, "timed_seconds": 400.0,
         "timed_images": count}
        for runner, miss in zip(results["config"]["runners"], (1, 13_000, 30, 40), strict=True)
    ]  # fmt: skip
    text = accuracy_table.of_model(results, "resnet50")
    assert max(map(len, text.splitlines())) <= 80, text
    assert "76.00 75.62-76.37 92.0 91.8-92.2" in text
    assert "-2.00 -2.12..-1.88" in text, text


BAD = [
    ("empty", b"", ""), ("text", b"hello", ""), ("a list", b"[]", "of another kind"), ("nested", b"[" * 100_000, ""),
    ("of bench", json.dumps(sound_results()).encode(), "of another kind"),
]  # fmt: skip
CHANGES: list[tuple[str, list[Any], Any]] = [
    ("another schema", ["schema"], 2),
    ("no photos", ["photos"], None),
    ("a photo is a number", ["photos", 0], 5),
    ("runs is a number", ["runs"], 3),
    ("a run is a text", ["runs", 0], "x"),
    ("no answers", ["runs", 0, "top5"], None),
    ("an answer is a number", ["runs", 0, "top5", 0], 3),
    ("an answer is empty", ["runs", 0, "top5", 0], []),
    ("a class is negative", ["runs", 0, "top5", 0, 0], -1),
    ("a class is a text", ["models", "resnet50", "classes", "one"], "1"),
    ("a class is missing", ["models", "resnet50", "classes"], {"one": 1}),
    ("models is a list", ["models"], []),
    ("more answers than photos", ["photos"], ["one/1.jpg"]),
    ("problems is a list", ["runs", 0, "problems"], []),
    ("a problem of no photo", ["runs", 0, "problems"], {"10": "x"}),
    ("a problem without a number", ["runs", 0, "problems"], {"first": "x"}),
    ("a problem is a list", ["runs", 0, "problems"], {"1": []}),
    ("an error is a text", ["runs", 0, "error"], "broken"),
    ("seconds as text", ["runs", 0, "timed_seconds"], "fast"),
    ("no runners", ["config", "runners"], None),
    ("no config", ["config"], None),
    ("limit is a text", ["config", "limit"], "all"),
    ("no environment", ["environment"], None),
    ("an environment of nothing", ["environment"], {}),
]


@pytest.mark.parametrize(("name", "data", "words"), BAD, ids=[row[0] for row in BAD])
def test_other_files(name: str, data: bytes, words: str, tmp_path: Path, here: Run) -> None:
    file = tmp_path / "x.evaluation.json"
    file.write_bytes(data)
    for done in (here("report", file), here("evaluate", "--resume", file)):
        one_line_error(done, 1, "x.evaluation.json: not an evaluation", words, "deploybench evaluate --data FOLDER")


@pytest.mark.parametrize(("name", "way", "value"), CHANGES, ids=[row[0] for row in CHANGES])
def test_damaged_files(name: str, way: list[Any], value: Any, tmp_path: Path, here: Run) -> None:
    results = evaluation()
    at: Any = results
    for key in way[:-1]:
        at = at[key]
    at[way[-1]] = value
    file = tmp_path / "x.evaluation.json"
    file.write_text(json.dumps(results))
    one_line_error(here("report", file), 1, "x.evaluation.json: not an evaluation")


def test_a_name_that_hides_what_it_is(tmp_path: Path, here: Run) -> None:
    (tmp_path / "x.json").write_text(json.dumps(evaluation()))
    one_line_error(
        here("report", tmp_path / "x.json"), 1, "x.json", "one of evaluate, whose name ends in .evaluation.json"
    )


def test_accuracy_joins_the_times(tmp_path: Path, here: Run) -> None:
    timed = sound_results()
    (model,) = {run["model"] for run in timed["runs"]}
    results = evaluation()
    results["config"]["runners"] = timed["config"]["runners"]
    runners = timed["config"]["runners"]
    results["runs"] = [
        {**copy.deepcopy(run), "model": model, "runner": runner}
        for runner, run in zip(runners, results["runs"] * len(runners), strict=False)
    ]
    results["models"] = {model: results["models"]["resnet50"]}
    (tmp_path / "times.json").write_text(json.dumps(timed))
    (tmp_path / "x.evaluation.json").write_text(json.dumps(results))
    alone = here("report", tmp_path / "times.json").stdout
    assert "top-1" not in alone
    done = here("report", tmp_path / "times.json", "--accuracy", tmp_path / "x.evaluation.json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].split()[-3:] == ["speed-up", "top-1", "change"]
    eager = next(line for line in lines if line.startswith("python/eager"))
    assert "77.8" in eager.split()
    assert "accuracy: of 10 photos, " in done.stdout
    beside = ("--accuracy", tmp_path / "x.evaluation.json", "--format", "csv")
    rows = list(csv.DictReader(here("report", tmp_path / "times.json", *beside).stdout.splitlines()))
    assert next(float(row["top1"]) for row in rows if row["runner"] == "python/eager") == pytest.approx(7 / 9)
    page = tmp_path / "page.html"
    assert here("report", tmp_path / "times.json", *beside[:2], "--out", page).returncode == 0
    assert "Latency and accuracy" in page.read_text(encoding="utf-8")
    assert here("report", tmp_path / "times.json", "--out", page).returncode == 0
    assert "Latency and accuracy" not in page.read_text(encoding="utf-8")
    one_line_error(
        here("report", tmp_path / "times.json", "--accuracy", tmp_path / "times.json"), 1, "not an evaluation"
    )
    results["models"] = {}
    results["runs"] = []
    (tmp_path / "x.evaluation.json").write_text(json.dumps(results))
    done = here("report", tmp_path / "times.json", "--accuracy", tmp_path / "x.evaluation.json")
    lacks = f"x.evaluation.json: it has nothing of {model}: deploybench evaluate --data FOLDER"
    assert lacks in " ".join(done.stdout.split())
    times = (tmp_path / "times.json", "--accuracy", tmp_path / "x.evaluation.json")
    assert any(lacks in text for text in json.loads(here("report", *times, "--json").stdout)["warnings"])
    assert here("report", *times, "--out", page).returncode == 0
    assert lacks in page.read_text(encoding="utf-8")
    assert lacks in here("report", *times, "--format", "csv").stderr
