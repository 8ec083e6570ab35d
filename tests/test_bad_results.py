"""Are results files that are damaged or foreign, and flags of bench, refused in one line?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bad_input import (
    Run,
    refused,
    sound_results,
    tree,
)
from conftest import one_line_error
from deploybench import options, paths
from deploybench.verbs import bench


def changed(key: str, value: Any) -> bytes:
    """The sound results with one value at a dotted path replaced."""
    results = sound_results()
    *way, last = key.split(".")
    at: Any = results
    for name in way:
        at = at[int(name)] if name.isdigit() else at[name]
    if value is KeyError:
        del at[last]
    else:
        at[last] = value
    return json.dumps(results).encode()


RESULTS: list[tuple[str, bytes | None, tuple[str, ...]]] = [
    ("missing", None, ("no such results file", "make bench")),
    ("empty", b"", ()),
    ("cut", json.dumps({"schema": 2}).encode()[:-1], ()),
    ("text", b"hello", ()),
    ("not UTF-8", b"\xff\xfe\x00", ()),
    ("nested", b"[" * 100_000, ()),
    ("a list", b"[]", ()),
    ("another schema", changed("schema", 1), ("schema 1",)),
    ("no schema", changed("schema", KeyError), ()),
    ("no runs", changed("runs", KeyError), ()),
    ("runs is a number", changed("runs", 5), ()),
    ("a run is a text", changed("runs", ["x"]), ()),
    ("a run without a model", changed("runs.0.model", KeyError), ()),
    ("a run without times", changed("runs.0.run_seconds", KeyError), ()),
    ("a run with no time", changed("runs.0.run_seconds", []), ()),
    ("a run of no seconds", changed("runs.0.run_seconds", [0.0, 0.0]), ()),
    ("a time as text", changed("runs.0.run_seconds", ["fast"]), ()),
    ("a time of NaN", changed("runs.0.run_seconds", [float("nan")]), ()),
    ("a time of a century of centuries", changed("runs.0.load_seconds", 1e300), ()),
    ("calls that no turn has", changed("runs.0.turn_calls", [1000]), ("turn_calls",)),
    ("turns without their times", changed("runs.0.turn_seconds", [1.0] * 99), ("turn_seconds",)),
    ("a cosine as text", changed("runs.0.parity", {"ok": True, "reason": "", "cosine": "fine"}), ("cosine",)),
    ("a bound as text", changed("config.latency_bound", "soon"), ("latency_bound",)),
    ("stolen time as text", changed("stolen_fraction", "none"), ("stolen_fraction",)),
    ("an error that is a text", changed("runs.0.error", "broken"), ()),
    ("parity as text", changed("runs.0.parity", "fine"), ()),
    ("no runners", changed("config.runners", KeyError), ()),
    ("runners are a number", changed("config.runners", 3), ()),
    ("no threads", changed("config.threads", KeyError), ()),
    ("whether it is complete, unsaid", changed("complete", KeyError), ("results.complete",)),
    ("no environment", changed("environment", []), ()),
    ("no cpus", changed("environment.cpus", KeyError), ()),
    ("load average as text", changed("environment.load_average_1min", "high"), ()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), RESULTS, ids=[row[0] for row in RESULTS])
def test_report(name: str, content: bytes | None, words: tuple[str, ...], here: Run, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    if content is not None:
        file.write_bytes(content)
    for run in (
        lambda: here("report", file),
        lambda: here("report", file, "--format", "markdown"),
        lambda: here("bench", "--resume", file),
    ):
        refused(run, (tmp_path,), 1, (str(file), *words))


def test_the_sound_report(here: Run, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(sound_results()))
    done = here("report", tmp_path / "results.json")
    assert done.returncode == 0, done.stderr
    assert "python/eager" in done.stdout


def test_report_of_a_folder_without_results(here: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        refused(lambda folder=folder: here("report", "--results", folder), (tmp_path,), 1, (str(folder), "make bench"))
    refused(lambda: here("report", tmp_path), (tmp_path,), 1, (str(tmp_path),))


BENCH_FLAGS: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
    (("--models", "resnet5O"), 2, ("resnet5O", "resnet50", "deploybench list")),
    (("--routes", "rocket"), 2, ("rocket", "eager, script, trace")),
    (("--runtimes", "rust"), 2, ("rust", "python,cpp")),
    (("--runtimes", ""), 2, ("--runtimes",)),
    (("--rounds", "0"), 2, ("--rounds",)),
    (("--runs", "0"), 2, ("--runs",)),
    (("--threads", "0"), 2, ("--threads",)),
    (("--threads", "100000000"), 2, ("--threads",)),
    (("--batch-size", "-1"), 2, ("--batch-size",)),
    (("--max-seconds", "0"), 2, ("--max-seconds",)),
    (("--cuda-graph", "on"), 2, ("--cuda-graph on", "--device cuda")),
    (("--min-seconds", "nan"), 2, ("--min-seconds",)),
    (("--input", "absent.jpg"), 1, ("absent.jpg", "--input")),
    (("--input", "data"), 1, ("data", "--input")),
    (("--weights", "x.pth", "--models", "resnet18,resnet34"), 2, ("--weights", "one")),
    (("--weights", "absent.pth", "--models", "resnet18"), 1, ("absent.pth", "--weights")),
    (("--nonsense",), 2, ("--nonsense", "--help")),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "code", "words"), BENCH_FLAGS, ids=[" ".join(row[0]) for row in BENCH_FLAGS])
def test_bench(flags: tuple[str, ...], code: int, words: tuple[str, ...], here: Run, tmp_path: Path) -> None:
    """Refused at once, before a results file is made."""
    refused(here, (tmp_path,), code, words, "bench", "--runtimes", "python", "--results", tmp_path, *flags)


def test_programs_that_are_not_built(here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each says what its own flags can do about it."""
    monkeypatch.setattr(paths, "CPP_BIN", tmp_path / "bin")
    flags = ("--artifacts", tmp_path / "artifacts", "--results", tmp_path / "results")
    for verb in (("bench",), ("advise", "squeezenet1_1"), ("migrate", "squeezenet1_1")):
        done = here(*verb, *flags)
        one_line_error(done, 1, "not built; make build")
        assert ("--runtimes python" in done.stderr) == (verb == ("bench",))
    assert tree(tmp_path) == []


REPORT_FLAGS: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
    ("x.json", ("--json", "--format", "csv"), ("--json", "--format")),
    ("x.evaluation.json", ("--accuracy", "x.json"), ("--accuracy", "leave it out")),
]


@pytest.mark.parametrize(("name", "flags", "words"), REPORT_FLAGS, ids=[row[0] for row in REPORT_FLAGS])
def test_flags_that_report_would_not_heed(
    name: str, flags: tuple[str, ...], words: tuple[str, ...], here: Run, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps(sound_results()))
    refused(here, (tmp_path,), 2, words, "report", tmp_path / name, *flags)


RESUMED: list[tuple[tuple[str, ...], str, str]] = [
    (("--rounds", "12"), "--rounds", "with 6"),
    (("--batch-size", "4"), "--batch-size", "with 1"),
    (("--turn", "7"), "--turn", "with 5"),
    (("--rate", "3"), "--rate", "without"),
    (("--strict",), "--strict", "without"),
    (("--self-check",), "--self-check", "without"),
    (("--models", "alexnet,vgg11"), "--models", "with resnet50"),
    (
        ("--routes", "fused"),
        "the runners, by --routes, --precisions, --device or --runners",
        "with python/eager, python/script",
    ),
    (
        ("--runners", "cpp/aoti"),
        "the runners, by --routes, --precisions, --device or --runners",
        "with python/eager, python/script",
    ),
    (("--weights", "random"), "how files are made", "with --weights auto"),
    (("--crop", "200"), "how files are made", "with --weights auto"),
    (("--input", "data/images/coffee.png"), "--input", "with data/images/chelsea.jpg"),
    (("--instances", "7"), "--instances", "with 1"),
]


def test_settings_that_resume_would_not_heed(here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the file says is measured; the same again, as `make bench` gives it, is no contradiction."""
    monkeypatch.setattr(bench, "measure", lambda *_: None)
    begun = here("bench", "--runtimes", "python", "--results", tmp_path, "--threads", "1")
    assert begun.returncode == 0, begun.stderr
    (file,) = tmp_path.glob("*.json")
    for flags, what, how in RESUMED:
        words = (f"{what}: {file} was begun {how};", "without --resume")
        refused(here, (tmp_path,), 2, words, "bench", "--resume", file, *flags)
    same = ("--rounds", "6", "--threads", "1", "--batch-size", "1", "--models", "resnet50", "--runtimes", "python")
    assert here("bench", "--resume", file, *same, "--target", "latency").returncode == 0


def test_resume_with_instances_that_were_counted(here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file says how many `--target throughput` and `--instances auto` came to, on this machine."""
    monkeypatch.setattr(bench, "measure", lambda *_: None)
    monkeypatch.setattr(options, "usable_cpus", lambda: 4)
    here("bench", "--runtimes", "python", "--results", tmp_path, "--target", "throughput")
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["config"]["instances"] == 4
    for flags in (("--target", "throughput"), ("--instances", "auto", "--threads", "1"), ("--threads", "1")):
        done = here("bench", "--resume", file, *flags)
        assert done.returncode == 0, done.stderr
    words = ("--instances: ", "was begun with 4")
    refused(here, (tmp_path,), 2, words, "bench", "--resume", file, "--instances", "auto", "--threads", "2")


def test_bench_where_no_results_can_be(here: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/results")):
        words = (str(folder), "--results")
        refused(here, (tmp_path,), 1, words, "bench", "--runtimes", "python", "--results", folder)


def test_resume_of_another_machine(here: Run, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_bytes(changed("environment.host", "somebody-elses"))
    refused(here, (tmp_path,), 2, (str(file), "host was somebody-elses", "without --resume"), "bench", "--resume", file)
    refused(here, (tmp_path,), 1, (str(tmp_path), "make bench"), "bench", "--resume", "--results", tmp_path / "absent")
    file.write_text(json.dumps(sound_results()))
    refused(here, (tmp_path,), 1, (str(file), "config lacks", "without --resume"), "bench", "--resume", file)


LIST: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("resnet5O",), ("resnet5O", "resnet50")),
    (("sound_module:/absolute",), ("package.module:factory",)),
    (("--nonsense",), ("--nonsense",)),
]


@pytest.mark.parametrize(("flags", "words"), LIST, ids=[" ".join(row[0]) for row in LIST])
def test_list(flags: tuple[str, ...], words: tuple[str, ...], here: Run, tmp_path: Path) -> None:
    refused(here, (tmp_path,), 2, words, "list", *flags)
