"""Is every artifact that is damaged, foreign or lying refused in one line, in both languages?"""

from __future__ import annotations

import os
import pickle
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_input import (
    BENCH,
    CPP_INFER,
    CUDA,
    INFER,
    LABELS,
    SIDE,
    WORKER,
    WRONG,
    Place,
    Run,
    cut,
    encrypted,
    field,
    flipped,
    metadata,
    patched,
    refused,
    torchscript,
    tree,
    with_entry,
    zipped,
)
from conftest import native, one_line_error


@pytest.mark.parametrize("program", [WORKER, INFER, BENCH, CPP_INFER])
def test_the_sound_case_runs(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    copy = tmp_path / "copy.ts"
    copy.write_bytes(patched(place.script))
    done = programs[program]("--artifact", copy, "--input", place.tensor)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr


# name, how it is made from a sound one, words of the error beside the file's name; all exit with 1
ARTIFACTS: list[tuple[str, Callable[[Path], bytes], tuple[str, ...]]] = [
    ("empty", lambda good: b"", ("empty", "generate --models")),
    ("one byte", cut(1), ("not an artifact", "generate --models")),
    ("cut in the first header", cut(20), ("artifact", "generate --models")),
    ("cut in the middle", cut(2000), ("truncated", "generate --models")),
    ("cut before the end record", cut(-22), ("truncated", "generate --models")),
    ("the last byte missing", cut(-1), ("truncated", "generate --models")),
    ("random bytes", lambda good: np.random.default_rng(1).bytes(5000), ("not an artifact", "generate --models")),
    ("random bytes behind the magic", lambda good: b"PK\x03\x04" + np.random.default_rng(1).bytes(5000), ("truncated",)),
    ("text", lambda good: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ("not an artifact",)),
    ("a zip that is no TorchScript", zipped(**{"photo.txt": b"hello"}), ("generate --models",)),
    ("an empty zip", zipped(), ("generate --models",)),
    ("a zip with our metadata alone", zipped(**{"a/extra/deploybench.json": b"{}"}), ("generate --models",)),
    ("TorchScript without our metadata", torchscript(lambda x: x * 2, known=False), ("holds no deploybench.json", "generate --models")),
    ("an entry that leads out", with_entry("../../evil"), ("leads out of its folder", "do not use it", "generate --models")),
    ("an entry that leads out, deep", with_entry("data/../../evil"), ("leads out of its folder", "generate --models")),
    ("encrypted", encrypted, ("generate --models",)),
    ("code missing", lambda good: patched(good, drop="sound_module.py"), ("generate --models",)),
    ("data.pkl missing", lambda good: patched(good, drop="data.pkl"), ("generate --models",)),
    ("a weight missing", lambda good: patched(good, drop="/data/0"), ("generate --models",)),
    ("data.pkl is noise", lambda good: patched(good, replace={"data.pkl": b"\x80\x02noise."}), ("generate --models",)),
    ("data.pkl is a hostile pickle", lambda good: patched(good, replace={"data.pkl": pickle.dumps(os.getcwd)}), ("generate",)),
    ("code is noise", lambda good: patched(good, replace={"sound_module.py": b"\0\xff(" * 50}), ("generate --models",)),
    ("a byte of data.pkl flipped", flipped("data.pkl", 2), ("generate --models",)),
    ("metadata of another schema", field(schema=1), ("made by another version of deploybench", "generate")),
    ("schema as text", field(schema="1"), ("made by another version of deploybench", "generate")),
    ("metadata is no JSON", metadata(b"{'schema': 1}"), WRONG),
    ("metadata is empty", metadata(b""), WRONG),
    ("metadata is a list", metadata(b"[1]"), WRONG),
    ("metadata is not UTF-8", metadata(b'{"schema": 1, "model": "\xff"}'), WRONG),
    ("metadata nested 100,000 deep", metadata(b"[" * 100_000), WRONG),
    ("metadata of 17 MB", metadata(b" " * (17 << 20), compress=True), WRONG),
    ("metadata with a wrong checksum", flipped("deploybench.json", 5), ("generate --models",)),
    ("model is a number", field(model=5), WRONG),
    ("labels are numbers", field(labels=[1, 2, 3, 4, 5, 6]), WRONG),
    ("labels are one text", field(labels="abcdef"), WRONG),
    ("one label too few", field(labels=LABELS[1:]), WRONG),
    ("an empty label", field(labels=["", *LABELS[1:]]), WRONG),
    ("a label of 2 kB", field(labels=["x" * 2000, *LABELS[1:]]), WRONG),
    ("a label with half a surrogate", field(labels=["\ud800", *LABELS[1:]]), WRONG),
    ("classes as text", field(classes="6"), WRONG),
    ("classes with a fraction", field(classes=6.0), WRONG),
    ("classes are true", field(classes=True, labels=["a"]), WRONG),
    ("classes are none", field(classes=0, labels=[]), WRONG),
    ("classes beyond 64 bits", field(classes=10**30), WRONG),
    ("three sizes", field(input_shape=[3, SIDE, SIDE]), WRONG),
    ("a size as text", field(input_shape=[1, 3, SIDE, "16"]), WRONG),
    ("a size of zero", field(input_shape=[1, 3, 0, SIDE]), WRONG),
    ("a size of true", field(input_shape=[1, 3, True, SIDE]), WRONG),
    ("a size that fills the memory", field(input_shape=[1, 3, 1 << 19, 1 << 19]), WRONG),
    ("sizes that fill it together", field(input_shape=[1, 3, 1 << 14, 1 << 14]), WRONG),
    ("a batch that fills it", field(batches=[1 << 20, 1 << 20], input_shape=[1, 3, 224, 224]), WRONG),
    ("flags without end", field(built_for={"cpu_flags": ["avx2"] * 1025}), WRONG),
    ("batches as text", field(batches="any"), WRONG),
    ("batches from 2 to 1", field(batches=[2, 1]), WRONG),
    ("batches from 0", field(batches=[0, 1]), WRONG),
    ("an unknown device", field(device="tpu"), WRONG),
    ("device is a number", field(device=0), WRONG),
    ("an unknown origin", field(weights={"origin": "stolen", "name": "x", "sha256": "0"}), WRONG),
    ("weights are null", field(weights=None), WRONG),
    ("torch_version is null", field(torch_version=None), WRONG),
    ("a terminal's escape code as model", field(schema=9, model="\x1b[2J\x1b[31m"), ("another version",)),
    ("a model's name of 1 MB", field(schema=9, model="x" * 1_000_000), ("another version",)),
]  # fmt: skip


@pytest.mark.parametrize("program", [WORKER, BENCH])
@pytest.mark.parametrize(("name", "make", "words"), ARTIFACTS, ids=[row[0] for row in ARTIFACTS])
def test_bad_artifacts(
    name: str, make: Any, words: tuple[str, ...], program: str, place: Place, programs: dict[str, Run], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.ts"
    bad.write_bytes(make(place.script))
    output = ("--output", tmp_path / "y.npy")
    refused(programs[program], (tmp_path,), 1, (str(bad), *words), "--artifact", bad, "--input", place.tensor, *output)


# What shows only when it is run: the file is sound and its metadata lies.
LYING: list[tuple[str, Callable[[Path], bytes], tuple[str, ...]]] = [
    ("gives a tuple", torchscript(lambda x: (x.mean((2, 3)), x * 2)), ("bad.ts", "one tensor [N,6]")),
    ("gives other classes", torchscript(lambda x: x.mean((2, 3))), ("bad.ts", "one tensor [N,6]")),
    ("gives an image", torchscript(lambda x: x * 2), ("bad.ts", "one tensor [N,6]")),
    ("gives whole numbers", torchscript(lambda x: x.mean((2, 3)).repeat(1, 2).long()), ("bad.ts", "one tensor [N,6]")),
    ("wants another shape", torchscript(lambda x: x.reshape(-1, 3 * 17 * 17)[:, :6], side=17), ("bad.ts", "generate")),
]  # fmt: skip


@pytest.mark.parametrize("program", [WORKER, INFER, BENCH])
@pytest.mark.parametrize(("name", "make", "words"), LYING, ids=[row[0] for row in LYING])
def test_artifacts_that_lie(
    name: str, make: Any, words: tuple[str, ...], program: str, place: Place, programs: dict[str, Run], tmp_path: Path
) -> None:
    (tmp_path / "bad.ts").write_bytes(make(place.script))
    refused(programs[program], (tmp_path,), 1, words, "--artifact", tmp_path / "bad.ts", "--input", place.tensor)


@pytest.mark.parametrize("program", [WORKER, BENCH])
def test_a_batch_that_the_artifact_does_not_take(
    program: str, place: Place, programs: dict[str, Run], tmp_path: Path
) -> None:
    """A worker measures the batch it is told; `infer` gives such a file its images one by one."""
    (tmp_path / "bad.ts").write_bytes(field(batches=[1, 1])(place.script))
    words = ("bad.ts", "batches of 1 only, not")
    refused(programs[program], (tmp_path,), 1, words, "--artifact", tmp_path / "bad.ts", "--input", place.tensor)


@pytest.mark.parametrize("program", [INFER, CPP_INFER])
def test_a_model_of_three_classes_needs_no_top_k(
    program: str, place: Place, programs: dict[str, Run], tmp_path: Path
) -> None:
    make = torchscript(lambda x: x.mean((2, 3)))
    (tmp_path / "three.ts").write_bytes(make(place.script))
    (tmp_path / "three.ts").write_bytes(patched(tmp_path / "three.ts", classes=3, labels=["a", "b", "c"]))
    done = programs[program]("--artifact", tmp_path / "three.ts", "--input", place.tensor)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 * (1 + 3)


@pytest.mark.parametrize("program", [INFER, CPP_INFER])
def test_an_output_of_nan_is_no_answer(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    make = torchscript(lambda x: x.mean((2, 3)).repeat(1, 2) * float("nan"))
    (tmp_path / "bad.ts").write_bytes(make(place.script))
    flags = ("--artifact", tmp_path / "bad.ts", "--input", place.tensor)
    refused(programs[program], (tmp_path,), 1, ("bad.ts", "NaN"), *flags)


@pytest.mark.parametrize("program", [WORKER, INFER, BENCH, CPP_INFER])
def test_places_that_hold_no_artifact(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.ts").mkdir()
    os.mkfifo(tmp_path / "pipe.ts")
    rows = {"missing.ts": "no such", "folder.ts": "", "pipe.ts": "", "file/x.ts": "", "x" * 300: "", ".": ""}
    if os.geteuid() != 0:
        (tmp_path / "secret.ts").write_bytes(place.script.read_bytes())
        (tmp_path / "secret.ts").chmod(0)
        rows["secret.ts"] = "ermission denied"
    for name, word in rows.items() if program in (WORKER, BENCH) else [("missing.ts", "no such")]:
        words = (str(tmp_path / name), word, "generate")
        refused(programs[program], (tmp_path,), 1, words, "--artifact", tmp_path / name, "--input", place.tensor)


def test_a_route_that_nobody_knows(place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    (tmp_path / "bad.ts").write_bytes(patched(place.script, route="rocket"))
    words = ("bad.ts", "'rocket'", "eager, script, trace", "generate --models")
    refused(programs[WORKER], (tmp_path,), 1, words, "--artifact", tmp_path / "bad.ts")
    refused(programs[BENCH], (tmp_path,), 1, ("bad.ts", "eager script trace"), "--artifact", tmp_path / "bad.ts")


@pytest.mark.parametrize("program", [WORKER, BENCH])
def test_a_precision_that_nobody_knows(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    (tmp_path / "bad.ts").write_bytes(patched(place.script, precision="int3"))
    refused(programs[program], (tmp_path,), 1, ("bad.ts", "precision", "fp32"), "--artifact", tmp_path / "bad.ts")


def test_an_eager_artifact_is_for_python_only(place: Place) -> None:
    words = (str(place.eager), "Python only", "generate --models")
    refused(native, (place.folder,), 1, words, "bench", "--artifact", place.eager)


EAGER: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("another class", {"factory": "sound_module:nothing"}, ("sound_module:nothing",)),
    ("no such factory", {"factory": "sound_module:absent"}, ("sound_module:absent",)),
    ("a module that is not there", {"factory": "absent_module:net"}, ("absent_module:net",)),
    ("another model", {"factory": "torchvision.models:squeezenet1_1"}, ("generate --models",)),
    ("no factory at all", {"factory": "net"}, ("factory", "generate --models")),
]


@pytest.mark.parametrize(("name", "fields", "words"), EAGER, ids=[row[0] for row in EAGER])
def test_bad_eager_artifacts(
    name: str, fields: dict[str, Any], words: tuple[str, ...], place: Place, programs: dict[str, Run], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.pth"
    bad.write_bytes(patched(place.eager, **fields))
    before = tree(tmp_path)
    done = programs[WORKER]("--artifact", bad)
    one_line_error(done, done.returncode, *words)
    assert done.returncode in (1, 2)
    assert tree(tmp_path) == before


@pytest.mark.skipif(CUDA, reason="this machine has CUDA")
@pytest.mark.parametrize("verb", ["generate", "bench", "infer"])
def test_verbs_on_cuda_where_there_is_none(verb: str, here: Run, tmp_path: Path) -> None:
    flags = (verb, "--model", "squeezenet1_1", "--device", "cuda")
    where = {"bench": ("--runtimes", "python", "--results", tmp_path)}.get(verb, ("--out", tmp_path))
    refused(here, (tmp_path,), 1, ("--device cuda", "--device cpu"), *flags, *where)


@pytest.mark.skipif(CUDA, reason="this machine has CUDA")
@pytest.mark.parametrize("program", [WORKER, INFER, BENCH, CPP_INFER])
def test_cuda_where_there_is_none(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    bad = tmp_path / "net.script-fp32-cuda.ts"
    bad.write_bytes(patched(place.script, device="cuda"))
    for flags in (("--artifact", bad), ("--artifact", bad, "--device", "cuda")):
        words = ("CUDA",)
        refused(programs[program], (tmp_path,), 1, words, *flags, "--input", place.tensor)


@pytest.mark.parametrize("program", [WORKER, INFER, BENCH, CPP_INFER])
def test_an_artifact_of_another_device(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    bad = tmp_path / "net.script-fp32-cuda.ts"
    bad.write_bytes(patched(place.script, device="cuda"))
    make = "deploybench generate --models sound_module:net --routes script --device cpu"
    words = (str(bad), "made for cuda, not for cpu", make)
    refused(programs[program], (tmp_path,), 1, words, "--artifact", bad, "--device", "cpu", "--input", place.tensor)


@pytest.mark.parametrize("program", [WORKER, BENCH])
def test_the_command_that_makes_it_again(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    """In both languages it names one's own factory, all that was asked for, and the folder, as words of a shell."""
    bad = tmp_path / "my files" / "net.script-bf16-cuda.ts"
    bad.parent.mkdir()
    weights = {"origin": "file", "name": "it's mine.pth", "sha256": "0"}
    bad.write_bytes(patched(place.script, precision="bf16", device="cuda", weights=weights))
    done = programs[program]("--artifact", bad, "--device", "cpu", "--input", place.tensor)
    asked = ["--routes", "script", "--precisions", "bf16", "--device", "cpu", "--weights", "it's mine.pth"]
    made = ["deploybench", "generate", "--models", "sound_module:net", *asked, "--artifacts", str(bad.parent)]
    one_line_error(done, 1, str(bad), shlex.join(made))


@pytest.mark.parametrize("program", [WORKER, INFER, BENCH, CPP_INFER])
def test_another_torch_under_strict(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    bad = tmp_path / "bad.ts"
    bad.write_bytes(patched(place.script, torch_version="1.2.3"))
    flags = ("--artifact", bad, "--input", place.tensor)
    refused(programs[program], (tmp_path,), 1, (str(bad), "1.2.3", "deploybench generate"), *flags, "--strict")
    assert programs[program](*flags).returncode == 0
