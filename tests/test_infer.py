"""Do both languages' `infer` say the same, of photos, folders and tensor files, and does a stream of photos survive what
happens to streams?"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
from conftest import PHOTOS, Artifact, native, one_line_error, python
from deploybench import images, library_paths, paths
from deploybench.errors import DeploybenchError
from deploybench.stream import photo_files
from photos import scene
from PIL import Image

needs_photos = pytest.mark.usefixtures("photo_libraries")


def both(file: Path, *arguments: object, code: int = 0) -> tuple[str, str]:
    """What Python and C++ print."""
    ours, theirs = python("infer", "--artifact", file, *arguments), native("infer", file, *arguments)
    assert (ours.returncode, theirs.returncode) == (code, code), ours.stderr + theirs.stderr
    return ours.stdout, theirs.stdout


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def alike(mine: dict[str, Any], other: dict[str, Any]) -> None:
    """Two lines of JSON: the same keys, classes and labels; probabilities as far apart as JPEG decoders may bring them."""
    assert list(mine) == list(other)
    for key in mine.keys() - {"predictions", "error"}:
        assert mine[key] == other[key], key
    if "error" in mine:
        assert mine["error"]["code"] == other["error"]["code"]
        return
    for ours, theirs in zip(mine["predictions"], other["predictions"], strict=True):
        assert (ours["index"], ours["label"]) == (theirs["index"], theirs["label"])
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=2e-3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos in folders, two of them broken, and what is no photo."""
    shutil.copy(PHOTOS[0], tmp_path / f"b{PHOTOS[0].suffix.upper()}")
    (tmp_path / "a").mkdir()
    for name, size in (("wide.png", (300, 90)), ("tall.jpg", (60, 200))):
        scene(*size).save(tmp_path / "a" / name)
    (tmp_path / "half.jpg").write_bytes(PHOTOS[0].read_bytes()[:5000])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "note.txt").write_text("no photo")
    return tmp_path


@needs_photos
def test_a_folder_in_json(artifact: Artifact, folder: Path) -> None:
    ours, theirs = map(objects, both(artifact("resnet18"), folder, "--json", code=1))
    names = [Path(line["input"]).name for line in theirs]
    assert names == ["tall.jpg", "wide.png", "b.JPG", "empty.png", "half.jpg"]
    assert [("error" in line) for line in theirs] == [False, False, False, True, True]
    for mine, other in zip(ours, theirs, strict=True):
        alike(mine, other)


def address_space(process: subprocess.Popen[str]) -> int:
    """Bytes, at most, until it ended."""
    most = 0
    while process.poll() is None:
        found = re.search(r"VmPeak:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8"))
        most = int(found[1]) * 1024 if found else most
        time.sleep(0.005)
    assert process.returncode == 0
    return most


@needs_photos
@pytest.mark.parametrize("language", ["python", "cpp"])
def test_a_photo_that_memory_does_not_suffice_for(language: str, artifact: Artifact, tmp_path: Path) -> None:
    """It is that photo's error, and the others are classified."""
    file, photo = artifact("squeezenet1_1"), PHOTOS[0]
    large = [tmp_path / "large.png", tmp_path / "large.jpg"]
    for path in large:  # 500 MB as 8-bit RGB
        Image.new("L", (13_000, 13_000)).save(path)
    if language == "cpp":
        command, environment = [str(paths.CPP_BIN / "infer"), str(file)], library_paths.cpp_environment()
    else:
        command = [sys.executable, "-m", "deploybench", "infer", "--artifact", str(file)]
        environment = {**library_paths.python_environment(), "PYTHONPATH": str(paths.ROOT / "python")}
    command = [*command, "--instances", "1", "--threads", "1"]
    silent = subprocess.DEVNULL
    sizing = partial(
        subprocess.Popen, [*command, photo, photo], env=environment, text=True, stdout=silent, stderr=silent
    )
    limit = max(address_space(sizing()) for _ in range(3)) + 300_000_000  # whose last moments may go unseen
    limited = partial(resource.setrlimit, resource.RLIMIT_AS, (limit, limit))
    done = subprocess.run(
        [*command, large[0], photo, large[1], "--json"],
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=limited,
    )
    assert done.returncode == 1, done.stderr
    first, second, third = objects(done.stdout)
    for line, path in ((first, large[0]), (third, large[1])):
        assert line["error"]["code"] == "out_of_memory", line
        assert line["error"]["message"] == f"{path}: not enough memory for its pixels; give a smaller photo"
    assert len(second["predictions"]) == 5


@needs_photos
def test_a_folder_in_text_and_csv(artifact: Artifact, folder: Path) -> None:
    file = artifact("resnet18")
    ours, theirs = both(file, folder / "a" / "wide.png", folder / "half.jpg", PHOTOS[1], "--top-k", 2, code=1)
    lines = theirs.splitlines()
    assert [lines[0], lines[3], lines[5]] == [f"{folder}/a/wide.png:", f"{folder}/half.jpg:", f"{PHOTOS[1]}:"]
    assert lines[4].startswith(f"error: {folder}/half.jpg: is truncated or damaged")
    assert [line for line in ours.splitlines() if not line.startswith("error")] == [*lines[:4], *lines[5:]]

    rows, other = (list(csv.reader(io.StringIO(text))) for text in both(file, folder, "--csv", "--top-k", 2, code=1))
    assert rows[0] == other[0] == ["input", "image", "rank", "index", "label", "probability", "error"]
    assert len(rows) == len(other) == 1 + 3 * 2 + 2
    for mine, theirs_row in zip(rows[1:], other[1:], strict=True):
        assert mine[:5] == theirs_row[:5]
        assert bool(mine[6]) == bool(theirs_row[6]) == (mine[5] == "")
    one_line_error(native("infer", file, PHOTOS[0], "--csv", "--json"), 2, "--csv", "--json")
    one_line_error(python("infer", "--artifact", file, PHOTOS[0], "--csv", "--json"), 2, "--csv", "--json")


@pytest.mark.parametrize("route", ["script", "aoti"])
def test_a_tensor_file(route: str, artifact: Artifact, tensor: Callable[[str], Path]) -> None:
    """Two images, also through a package that takes one at a time."""
    file, images = artifact("squeezenet1_1", route), tensor("squeezenet1_1")
    ours, theirs = map(objects, both(file, images, "--json"))
    assert [line["image"] for line in theirs] == [0, 1]
    for mine, other in zip(ours, theirs, strict=True):
        alike(mine, other)
    text, same = both(file, images, "--top-k", 3)
    assert text == same
    lines = text.splitlines()
    assert [lines[0], lines[4]] == ["image 0:", "image 1:"]
    assert lines[1] == f"{theirs[0]['predictions'][0]['probability'] * 100:.2f}% {theirs[0]['predictions'][0]['label']}"


@needs_photos
@pytest.mark.parametrize("flags", [
    ("--instances", 3, "--threads", 1), ("--instances", 2, "--batch-size", 4), (),
], ids=["three", "two by four", "as usual"])  # fmt: skip
def test_instances_and_batches_change_nothing(flags: tuple[object, ...], artifact: Artifact, tmp_path: Path) -> None:
    """Each photo keeps its own answer, in order, however many are under way."""
    for number in range(17):
        scene(40 + 13 * number, 60).save(tmp_path / f"{number:02}.png")
    file = artifact("resnet18")
    (tmp_path / "05.png").write_bytes(b"broken")
    expected = objects(python("infer", "--artifact", file, tmp_path, "--json", "--instances", 1).stdout)
    assert len({line["predictions"][0]["probability"] for line in expected if "error" not in line}) > 10, (
        "they are unlike"
    )
    for done in (native("infer", file, tmp_path, "--json", *flags),
                 python("infer", "--artifact", file, tmp_path, "--json", *flags)):  # fmt: skip
        found = objects(done.stdout)
        assert len(found) == 17
        for mine, other in zip(expected, found, strict=True):
            alike(mine, other)


@needs_photos
def test_photos_by_a_route_that_wants_them_in_c_order(artifact: Artifact) -> None:
    """OpenVINO takes the memory as it is, on a thread each; the photos come out of torchvision channels last."""
    pytest.importorskip("openvino")
    script, peer = artifact("squeezenet1_1"), artifact("squeezenet1_1", "openvino")
    ours, theirs = (
        objects(python("infer", "--artifact", file, *flags, *PHOTOS, *PHOTOS, "--json").stdout)
        for file, flags in ((script, ()), (peer, ("--route", "openvino")))
    )
    assert len(theirs) == 4
    for mine, other in zip(ours, theirs, strict=True):
        alike({**mine, "artifact": ""}, {**other, "artifact": ""})


@needs_photos
def test_a_list_of_photos(artifact: Artifact, folder: Path) -> None:
    """More than a command line holds, from a file or standard input, after what stands in the line; in its order."""
    file, listed = artifact("squeezenet1_1"), folder / "list"
    names = [folder / "b.JPG", folder / "gone.png", folder / "a" / "wide.png", folder / "a" / "wide.png"]
    listed.write_text("".join(f"{name}\n" for name in names))
    wanted = [*map(str, [PHOTOS[0], *names])]
    ours, theirs = map(objects, both(file, PHOTOS[0], "--list", listed, "--json", code=1))
    assert [line["input"] for line in ours] == [line["input"] for line in theirs] == wanted
    assert [line["input"] for line in ours if "error" in line] == [str(names[1])]
    text = listed.read_text().strip()  # no newline at its end
    for done in (native("infer", file, "--list", "-", "--csv", "--top-k", 1, input=text),
                 python("infer", "--artifact", file, "--list", "-", "--csv", "--top-k", 1, input=text)):  # fmt: skip
        assert [row[0] for row in csv.reader(io.StringIO(done.stdout))][1:] == list(map(str, names))


@pytest.mark.parametrize(("text", "words"), [
    ("", "the file is empty"), ("\n", "line 1 is empty"), ("a.jpg\n\nb.jpg\n", "line 2 is empty"), (None, "no such file"),
])  # fmt: skip
def test_a_list_that_is_none(text: str | None, words: str, artifact: Artifact, tmp_path: Path) -> None:
    file, listed = artifact("squeezenet1_1"), tmp_path / "list"
    if text is not None:
        listed.write_text(text)
    one_line_error(native("infer", file, "--list", listed), 1, f"{listed}: {words}", "give --list a file")
    one_line_error(python("infer", "--artifact", file, "--list", listed), 1, str(listed), words, "give --list a file")


def test_an_empty_folder(artifact: Artifact, tmp_path: Path) -> None:
    for done in (
        native("infer", artifact("resnet18"), tmp_path),
        python("infer", "--artifact", artifact("resnet18"), tmp_path),
    ):
        one_line_error(done, 1, f"{tmp_path}: no photo in it")


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that other users reach; pytest's own lies in one that they do not."""
    with tempfile.TemporaryDirectory(prefix="deploybench-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_folder_that_cannot_be_read(open_to_all: Path) -> None:
    """It is an answer of its own, in the place of its photos. The words of C++ are in cpp/tests/test_stream.cpp."""
    for name in ("a", "shut"):
        (open_to_all / name).mkdir()
    scene(20, 20).save(open_to_all / "a" / "x.png")
    (open_to_all / "shut").chmod(0)
    user = os.geteuid()
    if user == 0:  # to root no folder is shut
        os.seteuid(65534)
    try:
        assert photo_files([open_to_all]) == [open_to_all / "a" / "x.png", open_to_all / "shut"]
        with pytest.raises(DeploybenchError, match="shut: cannot be opened: Permission denied; ") as refused:
            images.open_image(open_to_all / "shut")
        assert refused.value.code == "input_invalid"
    finally:
        os.seteuid(user)
        (open_to_all / "shut").chmod(0o700)


def test_a_pinned_artifact(artifact: Artifact, tmp_path: Path) -> None:
    """--sha256 is checked before anything of the file is read: a file that is no artifact fails by it."""
    import hashlib

    file = artifact("squeezenet1_1")
    pin = hashlib.sha256(file.read_bytes()).hexdigest()
    assert native("infer", file, PHOTOS[0], "--sha256", pin.upper()).returncode == 0
    other = tmp_path / "other.ts"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    other.write_bytes(data)
    one_line_error(native("infer", other, PHOTOS[0], "--sha256", pin), 1, "its SHA-256 is", str(other))
    other.write_bytes(b"PK\x03\x04 and nothing else")
    one_line_error(native("infer", other, PHOTOS[0], "--sha256", pin), 1, "its SHA-256 is")
    one_line_error(native("infer", file, PHOTOS[0], "--sha256", "12"), 2, "64 hexadecimal digits")


class Stream:
    """A real `infer` over many photos, its output read line by line while it works."""

    def __init__(self, file: Path, folder: Path, count: int, *flags: object) -> None:
        self.folder, self.count = folder, count
        scene(64, 64).save(folder / "00000.png")
        for number in range(1, count):
            os.link(folder / "00000.png", folder / f"{number:05}.png")
        command = [paths.CPP_BIN / "infer", file, folder, "--json", *flags]
        self.errors = folder / "errors.txt"  # a file: the pipe of one could fill up while the other is read
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                list(map(str, command)),
                env=library_paths.cpp_environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        self.out = self.process.stdout

    def lines(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(self.out.readline()) for _ in range(count)]

    def rest(self) -> str:
        """What comes until its end."""
        with self.out:
            text = self.out.read()
        self.process.wait(60)
        return text


@needs_photos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_what_is_at_hand(number: signal.Signals, artifact: Artifact, tmp_path: Path) -> None:
    """Whole lines of the first photos without a gap, then the end by that very signal."""
    native("infer", "--help")
    stream = Stream(artifact("squeezenet1_1"), tmp_path, 20_000)
    first = stream.lines(20)
    stream.process.send_signal(number)
    rest = stream.rest()
    assert stream.process.returncode == -number, stream.errors.read_text()
    shown = first + objects(rest)
    assert 20 <= len(shown) < stream.count
    assert [line["input"] for line in shown] == [f"{tmp_path}/{n:05}.png" for n in range(len(shown))]
    assert rest.endswith("\n")


def test_a_signal_finishes_the_images_at_hand_of_a_tensor_file(artifact: Artifact, tmp_path: Path) -> None:
    """They are shown as they are answered, and none is begun after the signal."""
    images = 400
    file = tmp_path / "images.npy"
    numpy.save(file, numpy.zeros((images, 3, 224, 224), numpy.float32))
    command = [paths.CPP_BIN / "infer", artifact("resnet18"), file, "--json"]
    pipe, environment = subprocess.PIPE, library_paths.cpp_environment()
    with subprocess.Popen(list(map(str, command)), env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate()
    assert process.returncode == -signal.SIGINT, errors
    shown = objects(first + rest)
    assert [line["image"] for line in shown] == list(range(len(shown)))
    assert 1 <= len(shown) < images


@needs_photos
def test_a_closed_pipe_ends_it(artifact: Artifact, tmp_path: Path) -> None:
    stream = Stream(artifact("squeezenet1_1"), tmp_path, 20_000)
    stream.lines(3)
    stream.out.close()
    begin = time.monotonic()
    assert stream.process.wait(60) == 1
    assert time.monotonic() - begin < 30
    errors = stream.errors.read_text().splitlines()
    assert errors[-1].startswith("error: standard output: Broken pipe")


@needs_photos
def test_a_photo_that_vanishes(artifact: Artifact, tmp_path: Path) -> None:
    stream = Stream(artifact("squeezenet1_1"), tmp_path, 400)
    stream.lines(1)
    (tmp_path / "00399.png").unlink()
    shown = objects(stream.rest())
    assert stream.process.returncode == 1
    assert len(shown) == 399, "all others are answered"
    assert shown[-1]["error"]["code"] == "input_missing"
    assert "00399.png: no such file" in stream.errors.read_text()


def test_an_artifact_that_is_replaced_while_it_loads(artifact: Artifact, tmp_path: Path) -> None:
    """Another program puts a new file in its place by a rename, over and over: each run sees one or the other, whole."""
    one, other = artifact("squeezenet1_1"), artifact("resnet18")
    file = tmp_path / "served.ts"
    shutil.copy(one, file)
    command = [str(paths.CPP_BIN / "infer"), str(file), str(PHOTOS[0]), "--json"]
    native("infer", "--help")
    seen = set()
    for _ in range(6):
        process = subprocess.Popen(
            command, env=library_paths.cpp_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None:
            for source in (other, one):
                os.link(source, tmp_path / "new")
                (tmp_path / "new").replace(file)
        out, errors = process.communicate()
        assert process.returncode == 0, errors
        (line,) = objects(out)
        seen.add(line["model"])
    assert seen <= {"squeezenet1_1", "resnet18"}
