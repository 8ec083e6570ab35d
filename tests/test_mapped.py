"""Are the weights of a `direct` file mapped from it, and not unpacked, in both languages; and is it unpacked where that cannot be?"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy
import pytest
from conftest import ROOT, Artifact, native, one_line_error, python
from deploybench import artifact as artifacts_module
from deploybench import library_paths, paths
from deploybench.routes.direct import mapped

RUNTIMES = ("python", "cpp")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_weights_are_mapped_from_the_file(runtime: str, artifact: Artifact, tmp_path: Path) -> None:
    """There is no folder where anything could be unpacked. A file that is put in its place is another."""
    file = tmp_path / "net.pt2"
    shutil.copy(artifact("squeezenet1_1", "direct"), file)
    program, environment = [sys.executable, "-m", "deploybench", "worker"], library_paths.python_environment()
    if runtime == "cpp":
        program, environment = [str(paths.CPP_BIN / "bench")], library_paths.cpp_environment(ROOT / "vendor/libtorch")
    environment |= {"PYTHONPATH": str(ROOT / "python"), "TMPDIR": str(tmp_path / "none")}
    command = [*program, "--artifact", str(file), "--json", "--warmup", "1", "--runs", "20", "--turn", "10"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as worker:
        assert worker.stdout is not None
        assert [worker.stdout.readline() for _ in range(2)] == ["answered\n", "ready\n"]
        assert f"{file}\n" in Path(f"/proc/{worker.pid}/maps").read_text()
        (tmp_path / "other").write_bytes(b"another")
        (tmp_path / "other").rename(file)
        line = json.loads(worker.communicate("\n\n")[0].splitlines()[-1])
    assert line["output_drift"] == 0
    assert line["output_finite"]


def changed(made: Path, file: Path, place: object, aligned: bool = True) -> Path:
    """The artifact with another place of its weights in its metadata, and where not `aligned` on no page of the file."""
    built_for = artifacts_module.read_metadata(made).built_for | {"mapped": place}
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(file, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("deploybench.json"):
                data = json.dumps(json.loads(data) | {"built_for": built_for}).encode()
            target.writestr(entry if aligned else entry.filename, data)
    return file


ANOTHER_PROGRAM = "packed again by another program"
PLACES: dict[
    str, Callable[[int, int], list[int]]
] = {  # of an artifact whose weights begin at 4096 x n: where they are not
    "beyond the end": lambda begin, size: [begin, size + (1 << 30)],
    "begins on no page": lambda begin, size: [begin + 100, size],
    "ends on no page": lambda begin, size: [begin, size - 100],
    "begins beyond the end": lambda begin, size: [1 << 30, 4096],
    "the largest there is": lambda begin, size: [1 << 31, 1 << 31],
    ANOTHER_PROGRAM: lambda begin, size: [begin, size],
}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", PLACES)
def test_what_cannot_be_mapped_is_unpacked(
    runtime: str, name: str, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so wants a folder for it."""
    made = artifact("squeezenet1_1", "direct")
    place = PLACES[name](*artifacts_module.read_metadata(made).built_for["mapped"])
    file = changed(made, tmp_path / "net.pt2", place, name != ANOTHER_PROGRAM)
    run, verb = (python, "worker") if runtime == "python" else (native, "bench")
    outputs: list[numpy.ndarray] = []
    for one in (made, file):
        out = tmp_path / f"{len(outputs)}.npy"
        done = run(verb, "--artifact", one, "--warmup", 0, "--runs", 3, "--output", out)
        assert done.returncode == 0, done.stderr
        outputs.append(numpy.load(out))
    assert numpy.array_equal(outputs[0], outputs[1])
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    one_line_error(run(verb, "--artifact", file, "--runs", 3), 1, str(file), "unpacked", "set TMPDIR")


def test_a_library_of_two_gigabytes_lies_on_pages_too(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From there on zip gives an entry a field more. Here it does so from 1 MB on."""
    made, library, file = artifact("squeezenet1_1", "direct"), tmp_path / "library.so", tmp_path / "net.pt2"
    with zipfile.ZipFile(made) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(mapped.LIBRARY)]
        library.write_bytes(archive.read(name))
    plain, metadata = tmp_path / "plain.pt2", artifacts_module.read_metadata(made)
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(plain, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith("deploybench.json"):
                target.writestr(entry, source.read(entry))
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1 << 20)
    mapped.keep(plain, library, file, metadata)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    for run, verb in ((python, "worker"), (native, "bench")):
        done = run(verb, "--artifact", file, "--runs", 3)
        assert done.returncode == 0, done.stderr


def test_a_file_that_was_checked_is_not_mapped(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would change with the file: so it wants a folder to be unpacked into."""
    file = artifact("squeezenet1_1", "direct")
    zeros = tmp_path / "zeros.npy"
    numpy.save(zeros, numpy.zeros((1, 3, 224, 224), numpy.float32))
    checked = ("infer", file, zeros, "--sha256", hashlib.sha256(file.read_bytes()).hexdigest())
    assert native(*checked).returncode == 0
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    assert native("infer", file, zeros).returncode == 0
    one_line_error(native(*checked), 1, str(file), "unpacked", "set TMPDIR")


def test_a_file_that_is_cut_short_meanwhile_is_no_library(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first half would be mapped, and the process die of the first weight of the other."""
    file, found = tmp_path / "net.pt2", mapped._entry
    shutil.copy(artifact("squeezenet1_1", "direct"), file)

    def cut(package: IO[bytes], archive: zipfile.ZipFile) -> tuple[int, int]:
        place = found(package, archive)
        os.truncate(file, file.stat().st_size // 2)
        return place

    monkeypatch.setattr(mapped, "_entry", cut)
    with pytest.raises(RuntimeError, match="zip archive"):
        mapped.load(file, artifacts_module.read_metadata(file))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("place", ["here", [1], [0, 4096], [4096, (1 << 31) + 1], [4096.5, 1]])
def test_a_place_that_is_no_place_is_refused(runtime: str, place: object, artifact: Artifact, tmp_path: Path) -> None:
    run, verb = (python, "worker") if runtime == "python" else (native, "bench")
    file = changed(artifact("squeezenet1_1", "direct"), tmp_path / "net.pt2", place)
    done = run(verb, "--artifact", file, "--runs", 3)
    assert done.returncode == 1
    assert "built_for" in done.stderr
    assert "Traceback" not in done.stderr
