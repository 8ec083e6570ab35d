"""Does an output that cannot be written (a full disk, a closed pipe, a folder) end in one line, and half-write nothing?"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_input import (
    BENCH,
    CLASSES,
    WORKER,
    Place,
    Run,
    refused,
    sound_results,
    tree,
)
from conftest import ROOT, Done, native, one_line_error, python
from deploybench import routes


def full_disk() -> None:
    """For preexec_fn: no file may grow; the kernel answers a write as it does on a full disk, in the middle of it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))


def bad_outputs(folder: Path) -> dict[str, Path]:
    (folder / "file").touch()
    (folder / "folder.npy").mkdir()
    os.mkfifo(folder / "pipe.npy")
    return {
        "absent folder": folder / "absent" / "y.npy",
        "below a file": folder / "file" / "y.npy",
        "a folder": folder / "folder.npy",
        # renaming onto a device or a pipe would replace it: as root, `--output /dev/null` would break the machine
        "a pipe": folder / "pipe.npy",
        "a read-only file system": Path("/proc/y.npy"),
    }


@pytest.mark.parametrize("program", [WORKER, BENCH])
def test_bad_outputs_of_a_worker(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    for output in bad_outputs(tmp_path).values():
        flags = ("--artifact", place.script, "--output", output)
        refused(programs[program], (tmp_path,), 1, (str(output), "choose another"), *flags)
    assert (tmp_path / "pipe.npy").is_fifo()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
@pytest.mark.parametrize("program", [WORKER, BENCH])
def test_a_read_only_folder(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    flags = ("--artifact", place.script, "--output", tmp_path / "y.npy")
    refused(programs[program], (tmp_path,), 1, (str(tmp_path / "y.npy"), "Permission denied"), *flags)


def test_bad_outputs_of_preprocess(place: Place, here: Run, tmp_path: Path) -> None:
    for name, output in bad_outputs(tmp_path).items():
        if name != "absent folder":  # which is made
            flags = ("preprocess", place.photo, "--artifact", place.script, "--out", output)
            refused(here, (tmp_path,), 1, (str(output.parent),), *flags)
    assert (tmp_path / "pipe.npy").is_fifo()
    flags = ("preprocess", place.photo, "--artifact", place.script, "--out", tmp_path / "new" / "x.txt")
    refused(here, (tmp_path,), 2, ("x.txt", "--format"), *flags)


def test_bad_folders_for_artifacts(place: Place, here: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/artifacts")):
        flags = ("generate", "--model", "sound_module:net", *place.make, "--out", folder)
        before = tree(tmp_path)
        one_line_error(here(*flags), 1, str(folder), "--out")
        assert tree(tmp_path) == before
    pipe = tmp_path / "net.script-fp32-cpu.ts"
    os.mkfifo(pipe)
    one_line_error(here("generate", "--model", "sound_module:net", *place.make, "--out", tmp_path), 1, str(pipe))
    assert pipe.is_fifo()


def run_limited(program: str, place: Place, *arguments: object) -> Done:
    if program == BENCH:
        return native("bench", *arguments, preexec_fn=full_disk)
    environment = {"PYTHONPATH": f"{ROOT / 'python'}:{place.folder}", "PYTHONDONTWRITEBYTECODE": "1"}
    return python(*arguments, preexec_fn=full_disk, env=environment)


def test_a_full_disk(place: Place, tmp_path: Path) -> None:
    """In a process each: the limit cannot be lifted again."""
    old = tmp_path / "y.npy"
    old.write_bytes(b"old")
    flags = ("--artifact", place.script, "--runs", "1", "--warmup", "0", "--output", old)
    make = ("generate", "--model", "sound_module:net", *place.make, "--out", tmp_path)
    rows: list[tuple[str, tuple[object, ...], tuple[str, ...]]] = [
        (BENCH, flags, (str(old), "File too large", "--output")),
        (WORKER, ("worker", *flags), (str(old), "File too large")),
        (WORKER, make, ("net.script-fp32-cpu.ts", "File too large", "--out")),
        (WORKER, (*make, "--routes", "eager"), ("net.eager-fp32-cpu.pth", "File too large", "--out")),
        (WORKER, ("bench", "--runtimes", "python", "--results", tmp_path), ("File too large", "--results")),
    ]
    for program, arguments, words in rows:
        before = tree(tmp_path)
        one_line_error(run_limited(program, place, *arguments), 1, *words)
        assert tree(tmp_path) == before
        assert old.read_bytes() == b"old"


@pytest.mark.parametrize(("fails", "words"), [
    (lambda: torch.save(torch.zeros(1 << 20), "/dev/full"), ("cannot be written", "inline_container", "--out")),
    (lambda: torch.zeros(3).reshape(2), ("cannot be captured", "RuntimeError", "shape '[2]'")),
])  # fmt: skip
def test_an_exporter_that_fails(
    fails: Callable[[], None],
    words: tuple[str, ...],
    place: Place,
    here: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """torch says both as RuntimeError: what its zip writer meets on a disk, and what its compiler makes of a model."""
    kind = dataclasses.replace(routes.KINDS["script"], export=lambda *_: fails())
    monkeypatch.setitem(routes.KINDS, "script", kind)
    one_line_error(here("generate", "--model", "sound_module:net", *place.make, "--out", tmp_path), 1, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_stdout_that_takes_nothing(unbuffered: str, place: Place) -> None:
    """`> /dev/full`. Python finds out when it prints, or only when it ends, as PYTHONUNBUFFERED says."""
    flags = ("--artifact", place.script, "--runs", "1", "--warmup", "0")
    absent = ("--artifact", "absent.ts", "--json")  # a failure that is a record as well: the error is the failure's
    no_space, how = "No space left on device", {"env": {"PYTHONUNBUFFERED": unbuffered}}
    rows: list[tuple[Run, tuple[object, ...], str, dict[str, Any]]] = [
        (python, ("list",), no_space, how),
        (python, ("--help",), no_space, how),
        (python, ("generate", "--help"), no_space, how),
        (python, ("worker", *flags, "--json"), no_space, how),
        (python, ("worker", *absent), "absent.ts", how),
        (native, ("bench", *flags), no_space, {}),
        (native, ("bench", "--help"), no_space, {}),
        (native, ("infer", place.script, place.tensor), no_space, {}),
        (native, ("bench", *absent), "absent.ts", {}),
    ]
    with open("/dev/full", "w") as full:
        for run, arguments, word, more in rows if not unbuffered else rows[:5]:
            done = run(*arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE, **more)
            one_line_error(Done(done.args, done.returncode, "", done.stderr), 1, word)
            assert len([line for line in done.stderr.splitlines() if not line.startswith("notice:")]) == 1, done.stderr


def test_stdout_that_is_closed(place: Place) -> None:
    """`deploybench list >&-`, as some schedulers start programs: no place to write to, and no crash."""
    rows: list[tuple[Run, tuple[str, ...]]] = [
        (python, ("list",)),
        (python, ("--help",)),
        (native, ("bench", "--help")),
    ]
    for run, arguments in rows:
        done = run(*arguments, preexec_fn=lambda: os.close(1))
        assert 0 <= done.returncode <= 1
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 1


def test_a_pipe_that_is_closed(tmp_path: Path) -> None:
    """`deploybench report | head -1`: the reader has seen enough."""
    results = tmp_path / "results.json"
    results.write_text(json.dumps(sound_results()))
    for arguments in (("report", results), ("list",), ("bench", "--help")):
        command = [sys.executable, "-m", "deploybench", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
        reading, writing = os.pipe()
        os.close(reading)  # before a line is written
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
        os.close(writing)
        assert done.stderr == ""
        assert 0 <= done.returncode <= 1


def test_a_label_that_the_terminal_cannot_show(place: Place, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(["кот", "犬", "ñandú", "🦊", "a", "b"]) + "\n", encoding="utf-8")
    flags = ("infer", "--artifact", place.script, place.tensor, "--labels", labels, "--top-k", CLASSES)
    done = python(*flags, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 * (1 + CLASSES)
