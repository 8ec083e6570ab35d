"""Is everything that can be wrong refused in one line, that says what, which file and what to type next, in both languages?

Tables: a row is what is broken and the words that its error must hold. A row about artifacts, tensor files or flags runs
against the Python program and its C++ twin. Python rows run in this process, where torch is imported once (2.5 s); what
depends on a process of its own (a closed pipe, a full disk) gets one. The model is a user's own, of 16 numbers, so that
an artifact is 5 kB and every row of the tables can afford to be the real thing.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, Done, native, one_line_error, python
from deploybench import cli, library_paths, paths, record
from PIL import Image

SIDE, CLASSES = 16, 6
WORKER, INFER, BENCH, CPP_INFER = "worker", "infer", "bench", "cpp infer"
CUDA = torch.cuda.is_available()

# The user's module: `net` is sound, each other factory is one way to be wrong.
FACTORIES = """
import sys
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 6)

    def forward(self, x):
        return self.head(x.mean((2, 3)))


class Pair(Net):
    def forward(self, x):
        return self.head(x.mean((2, 3))), x


class Failing(Net):
    def forward(self, x):
        raise ValueError("no\\nway")


class Unscriptable(Net):
    def forward(self, x):
        return self.head(x.mean((2, 3))) + 0 * len(globals())


class Image(Net):
    def forward(self, x):
        return x


def net():
    return Net()


def pair():
    return Pair()


def failing():
    return Failing()


def image():
    return Image()


def unscriptable():
    return Unscriptable()


def raises():
    raise KeyError("weights of last year")


def nothing():
    return None


def a_class():
    return Net


def needs_an_argument(size):
    return Net()


def leaves():
    sys.exit(0)


not_callable = 5
"""


@dataclass(frozen=True)
class Place:
    """A folder with a sound artifact of each route, sound inputs, and the flags that make the artifact again."""

    folder: Path
    script: Path
    eager: Path
    tensor: Path
    photo: Path
    make: tuple[str, ...]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("sound")
    for name, text in {
        "sound_module": FACTORIES,
        "broken_syntax": "def net(:\n",
        "raises_on_import": "raise RuntimeError('old\\nlicence')\n",
        "leaves_on_import": "import sys\nsys.exit(3)\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "labels.txt").write_text("".join(f"label {index}\n" for index in range(CLASSES)))
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((2, 3, SIDE, SIDE), np.float32))
    Image.new("RGB", (20, 30), (10, 200, 30)).save(folder / "photo.png")
    sys.path.insert(0, str(folder))
    make = ("--crop", str(SIDE), "--resize", str(SIDE), "--labels", str(folder / "labels.txt"))
    out = folder / "artifacts"
    done = python(
        "generate", "--model", "sound_module:net", "--routes", "script,eager", *make, "--out", out,
        env={"PYTHONPATH": f"{ROOT / 'python'}:{folder}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    yield Place(
        folder, out / "net.script-fp32-cpu.ts", out / "net.eager-fp32-cpu.pth", folder / "x.npy", folder / "photo.png", make
    )  # fmt: skip
    sys.path.remove(str(folder))


Run = Callable[..., Done]


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`python`, but in this process: the same main(), its exit code and what it wrote."""
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: None)  # torch allows it once a process
    monkeypatch.setattr(library_paths, "restart_clean", lambda: None)  # it would start pytest again

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["deploybench", *map(str, arguments)])
        capfd.readouterr()
        code = cli.main()
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return Done(sys.argv, code, out, err)

    return run


@pytest.fixture
def programs(here: Run) -> dict[str, Run]:
    """The four programs by one name each, flags spelt alike: --artifact FILE --input FILE."""

    def infer(run: Run) -> Run:
        def call(*arguments: object, **more: object) -> Done:
            flags, inputs = list(arguments), []
            while "--input" in flags:
                at = flags.index("--input")
                inputs.append(flags[at + 1])
                del flags[at : at + 2]
            return run(*inputs, *flags, **more)

        return call

    def cpp_infer(*arguments: object, **more: object) -> Done:
        flags = list(arguments)
        if "--artifact" in flags:
            at = flags.index("--artifact")
            flags = [flags[at + 1], *flags[:at], *flags[at + 2 :]]
        return native("infer", *[flag for flag in flags if flag != "--input"], errors="backslashreplace", **more)

    quick = ("--warmup", "0", "--runs", "1")
    return {
        WORKER: lambda *arguments, **more: here("worker", *quick, *arguments, **more),
        BENCH: lambda *arguments, **more: native("bench", *quick, *arguments, errors="backslashreplace", **more),
        INFER: infer(lambda *arguments, **more: here("infer", *arguments, **more)),
        CPP_INFER: cpp_infer,
    }


def tree(*folders: Path) -> list[tuple[str, int]]:
    """Every file below, with its size: must be the same after a failure as before."""
    return sorted(
        (str(path), path.lstat().st_size if path.is_file() else -1)
        for folder in folders
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    )


def refused(
    run: Run, folders: tuple[Path, ...], code: int, words: tuple[str, ...], *arguments: object, **more: Any
) -> Done:
    """Runs it, and asserts the one line, the exit code, that nothing else is said and that nothing was left behind."""
    before = tree(*folders)
    done = run(*arguments, **more)
    one_line_error(done, code, *words)
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("notice: ", "warning: "))]
    assert len(lines) == 1, done.stderr
    assert "; " in lines[0], f"names no next step: {lines[0]}"
    assert "internal error" not in lines[0]
    assert lines[0].isprintable(), repr(lines[0])
    assert len(lines[0]) < 600, f"{len(lines[0])} characters are no line for a person: {lines[0][:200]}..."
    assert tree(*folders) == before
    return done


# --- control: what the rows break is sound before


@pytest.mark.parametrize("program", [WORKER, INFER, BENCH, CPP_INFER])
def test_the_sound_case_runs(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    copy = tmp_path / "copy.ts"
    copy.write_bytes(patched(place.script))
    done = programs[program]("--artifact", copy, "--input", place.tensor)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr


# --- artifacts


def patched(
    good: Path, *, drop: str = "", replace: dict[str, bytes] | None = None, compress: bool = False, **fields: Any
) -> bytes:
    """The artifact with entries dropped or replaced (by the end of their names) and metadata fields changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("/extra/deploybench.json") and fields:
                content = json.dumps({**json.loads(content), **fields}).encode()
            content = next((other for end, other in (replace or {}).items() if name.endswith(end)), content)
            if not (drop and name.endswith(drop)):
                new.writestr(name, content, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
    return made.getvalue()


def metadata(text: bytes, **more: Any) -> Callable[[Path], bytes]:
    return lambda good: patched(good, replace={"/extra/deploybench.json": text}, **more)


def field(**fields: Any) -> Callable[[Path], bytes]:
    return lambda good: patched(good, **fields)


def cut(size: int) -> Callable[[Path], bytes]:
    return lambda good: good.read_bytes()[:size]


def zipped(**entries: bytes) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return made.getvalue()

    return make


class Lambda(torch.nn.Module):
    """A function as a module, to be traced."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def torchscript(
    function: Callable[[torch.Tensor], Any], known: bool = True, side: int = SIDE
) -> Callable[[Path], bytes]:
    """A TorchScript of `function` on images of `side`, with the metadata of the sound one or without any."""

    def make(good: Path) -> bytes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated since torch 2.11
            traced = torch.jit.trace(Lambda(function), torch.ones(1, 3, side, side), check_trace=False)
        with zipfile.ZipFile(good) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/extra/deploybench.json"))
            extra = {"deploybench.json": archive.read(name)} if known else {}
        return bytes(traced.save_to_buffer(_extra_files=extra))

    return make


def encrypted(good: Path) -> bytes:
    """Bit 0 of the flags in both headers of every entry says: encrypted."""
    content = bytearray(good.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(magic)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(magic, at + 4)
    return bytes(content)


def flipped(entry: str, at: int) -> Callable[[Path], bytes]:
    """One byte of the content of an entry changed, its checksum left."""

    def make(good: Path) -> bytes:
        content = bytearray(good.read_bytes())
        with zipfile.ZipFile(good) as archive:
            info = next(info for info in archive.infolist() if info.filename.endswith(entry))
        start = (
            info.header_offset
            + 30
            + int.from_bytes(content[info.header_offset + 26 : info.header_offset + 28], "little")
        )
        start += int.from_bytes(content[info.header_offset + 28 : info.header_offset + 30], "little")
        content[start + at] ^= 0xFF
        return bytes(content)

    return make


LABELS = [f"label {index}" for index in range(CLASSES)]
WRONG = ("deploybench.json", "deploybench generate --models")
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
    ("encrypted", encrypted, ("generate --models",)),
    ("code missing", lambda good: patched(good, drop="sound_module.py"), ("generate --models",)),
    ("data.pkl missing", lambda good: patched(good, drop="data.pkl"), ("generate --models",)),
    ("a weight missing", lambda good: patched(good, drop="/data/0"), ("generate --models",)),
    ("data.pkl is noise", lambda good: patched(good, replace={"data.pkl": b"\x80\x02noise."}), ("generate --models",)),
    ("data.pkl is a hostile pickle", lambda good: patched(good, replace={"data.pkl": pickle.dumps(os.getcwd)}), ("generate",)),
    ("code is noise", lambda good: patched(good, replace={"sound_module.py": b"\0\xff(" * 50}), ("generate --models",)),
    ("a byte of data.pkl flipped", flipped("data.pkl", 2), ("generate --models",)),
    ("metadata of another schema", field(schema=2), ("made by another version of deploybench", "generate")),
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
    ("dynamic_batch as text", field(dynamic_batch="no"), WRONG),
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
    ("one batch only", field(dynamic_batch=False), ("bad.ts", "batches of 1 only, not")),
]  # fmt: skip


@pytest.mark.parametrize("program", [WORKER, INFER, BENCH])
@pytest.mark.parametrize(("name", "make", "words"), LYING, ids=[row[0] for row in LYING])
def test_artifacts_that_lie(
    name: str, make: Any, words: tuple[str, ...], program: str, place: Place, programs: dict[str, Run], tmp_path: Path
) -> None:
    (tmp_path / "bad.ts").write_bytes(make(place.script))
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
    (tmp_path / "bad.ts").write_bytes(patched(place.script, route="onnx"))
    words = ("bad.ts", "'onnx'", "eager, script, trace", "generate --models")
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
    words = (str(bad), "made for cuda, not for cpu", "deploybench generate --models net --device cpu")
    refused(programs[program], (tmp_path,), 1, words, "--artifact", bad, "--device", "cpu", "--input", place.tensor)


@pytest.mark.parametrize("program", [WORKER, INFER, BENCH, CPP_INFER])
def test_another_torch_under_strict(program: str, place: Place, programs: dict[str, Run], tmp_path: Path) -> None:
    bad = tmp_path / "bad.ts"
    bad.write_bytes(patched(place.script, torch_version="1.2.3"))
    flags = ("--artifact", bad, "--input", place.tensor)
    refused(programs[program], (tmp_path,), 1, (str(bad), "1.2.3", "deploybench generate"), *flags, "--strict")
    assert programs[program](*flags).returncode == 0


# --- tensor files


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


ONES = np.ones((1, 3, SIDE, SIDE), np.float32)
HOLED = ONES.copy()
HOLED[0, 2, 5, 5] = np.nan
ENDLESS = ONES.copy()
ENDLESS[0, 0, 0, 0] = -np.inf
HEADER = b"\x93NUMPY\x01\x00"


def headed(shape: str) -> bytes:
    """A npy file of four bytes that says it has this shape."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n"
    return HEADER + len(text).to_bytes(2, "little") + text.encode() + b"1234"


# file name, content (None: no file), words; all exit with 1 and name the file
TENSORS: list[tuple[str, bytes | None, tuple[str, ...]]] = [
    ("missing.npy", None, ("no such file",)),
    ("empty.npy", b"", ("empty",)),
    ("empty.dat", b"", ("empty",)),
    ("float64.npy", npy(ONES.astype(np.float64)), ("<f8", "float32")),
    ("uint8.npy", npy(ONES.astype(np.uint8)), ("|u1", "float32")),
    ("float16.npy", npy(ONES.astype(np.float16)), ("<f2", "float32")),
    ("big-endian.npy", npy(ONES.astype(">f4")), (">f4", "little-endian")),
    ("pickle.npy", npy(np.array([os.getcwd], dtype=object)), ("|O",)),
    ("record.npy", npy(np.zeros(3, [("a", "<f4")])), ()),
    ("fortran.npy", npy(np.asfortranarray(np.ones((2, 3, SIDE, SIDE), np.float32))), ("Fortran order",)),
    ("other-size.npy", npy(np.ones((1, 3, SIDE, SIDE + 1), np.float32)), (f"[N,3,{SIDE},{SIDE}]", str(SIDE + 1))),
    ("three-dimensions.npy", npy(ONES[0]), (f"[N,3,{SIDE},{SIDE}]",)),
    ("channels-last.npy", npy(np.ascontiguousarray(ONES.transpose(0, 2, 3, 1))), (f"[N,3,{SIDE},{SIDE}]",)),
    ("no-images.npy", npy(ONES[:0]), ()),
    ("nan.npy", npy(HOLED), ("NaN",)),
    ("inf.npy", npy(ENDLESS), ("NaN or infinit",)),
    ("nan.dat", HOLED.tobytes(), ("NaN",)),
    ("cut.npy", npy(ONES)[:-4], ("truncated",)),
    ("trailing.npy", npy(ONES) + b"\0", ("too many",)),
    ("cut.dat", ONES.tobytes()[:-1], (str(ONES.nbytes),)),
    ("trailing.dat", ONES.tobytes() + b"\0" * 4, (str(ONES.nbytes),)),
    ("cut-in-magic.npy", HEADER[:4], ()),
    ("cut-in-header.npy", npy(ONES)[:60], ("truncated",)),
    ("huge.npy", headed(f"({10**17}, 3, {SIDE}, {SIDE})"), ("truncated",)),
    ("overflow.npy", headed(f"({2**64}, 3, {SIDE}, {SIDE})"), ()),
    ("code.npy", headed("(exit(),)"), ()),
    ("photo.npy", b"\x89PNG\r\n\x1a\n" + b"x" * 100, ()),
    ("tensor.pt", npy(ONES), ()),
    ("tensor.NPY", npy(ONES), ()),
    ("tensor", npy(ONES), ()),
]  # fmt: skip


@pytest.mark.parametrize("program", [WORKER, BENCH])
@pytest.mark.parametrize(("name", "content", "words"), TENSORS, ids=[row[0] for row in TENSORS])
def test_bad_tensor_files(
    name: str,
    content: bytes | None,
    words: tuple[str, ...],
    program: str,
    place: Place,
    programs: dict[str, Run],
    tmp_path: Path,
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    flags = ("--artifact", place.script, "--input", tmp_path / name, "--output", tmp_path / "y.npy")
    refused(programs[program], (tmp_path,), 1, (str(tmp_path / name), "deploybench preprocess", *words), *flags)


@pytest.mark.parametrize("program", [INFER, CPP_INFER])
def test_the_same_file_is_refused_by_infer(
    program: str, place: Place, programs: dict[str, Run], tmp_path: Path
) -> None:
    for name, content, words in TENSORS[:2] + TENSORS[3:4]:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        flags = ("--artifact", place.script, "--input", tmp_path / name)
        refused(programs[program], (tmp_path,), 1, (str(tmp_path / name), *words), *flags)
    (tmp_path / "folder.npy").mkdir()
    flags = ("--artifact", place.script, "--input", tmp_path / "folder.npy")
    refused(programs[program], (tmp_path,), 1, (str(tmp_path / "folder.npy"),), *flags)


# --- photos, which only Python reads


def photo(format: str, size: tuple[int, int] = (40, 30)) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(stream, format)
    return stream.getvalue()


def bomb() -> bytes:
    """A PNG of 70 bytes that says it has 60000x60000 pixels."""
    content = bytearray(photo("PNG", (1, 1)))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


PHOTOS: list[tuple[str, bytes | None, tuple[str, ...]]] = [
    ("missing.jpg", None, ("no such file",)),
    ("empty.jpg", b"", ("empty",)),
    ("cut.jpg", photo("JPEG")[:-300], ("truncated",)),
    ("cut.png", photo("PNG")[:-300], ("truncated",)),
    ("cut-early.png", photo("PNG")[:20], ()),
    ("text.jpg", b"<html>404 Not Found</html>", ("not an image",)),
    ("noise.jpg", b"\xff\xd8\xff\xe0" + np.random.default_rng(2).bytes(400), ()),
    ("bomb.png", bomb(), ("bomb",)),
    ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", ("not an image",)),
    ("escape\x1b[2J.jpg", None, ("no such file",)),
    ("two\nlines.jpg", None, ("no such file",)),
    ("folder", None, ()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), PHOTOS, ids=[repr(row[0]) for row in PHOTOS])
def test_bad_photos(
    name: str, content: bytes | None, words: tuple[str, ...], place: Place, here: Run, tmp_path: Path
) -> None:
    bad = tmp_path / name
    if content is not None:
        bad.write_bytes(content)
    elif name == "folder":
        bad.mkdir()
    words = (name if name.isprintable() else str(tmp_path), *words)
    folders = (tmp_path, place.folder)
    refused(here, folders, 1, words, "infer", "--artifact", place.script, place.photo, bad)
    flags = ("--artifact", place.script, "--out", tmp_path / "new" / "x.npy")
    refused(here, folders, 1, words, "preprocess", place.photo, bad, *flags)


BAD_PREPROCESSING = [
    ("null", None),
    ("crop of a million", {"crop": 1_000_000}),
    ("crop of another size", {"crop": SIDE * 2}),
    ("std of zero", {"std": [0, 0, 0]}),
    ("two means", {"mean": [0, 0]}),
    ("an unknown interpolation", {"interpolation": "psychic"}),
]


@pytest.mark.parametrize(("name", "fields"), BAD_PREPROCESSING, ids=[row[0] for row in BAD_PREPROCESSING])
def test_bad_preprocessing_in_an_artifact(
    name: str, fields: dict[str, Any] | None, place: Place, here: Run, tmp_path: Path
) -> None:
    with zipfile.ZipFile(place.script) as archive:
        entry = next(name for name in archive.namelist() if name.endswith("/extra/deploybench.json"))
        sound = json.loads(archive.read(entry))["preprocessing"]
    bad = tmp_path / "bad.ts"
    bad.write_bytes(patched(place.script, preprocessing=fields and {**sound, **fields}))
    refused(here, (tmp_path,), 1, (str(bad), "generate"), "infer", "--artifact", bad, place.photo)


# --- flags

ALL, WORKERS, INFERS = (WORKER, BENCH, INFER, CPP_INFER), (WORKER, BENCH), (INFER, CPP_INFER)
# what is typed behind --artifact and --input, the programs that know the flag, words
FLAGS: list[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = [
    (("--threads", "0"), ALL, ("--threads",)),
    (("--threads", "-2"), WORKERS, ("--threads",)),
    (("--threads", "2.5"), WORKERS, ("--threads",)),
    (("--threads", "two"), WORKERS, ("--threads",)),
    (("--threads", "1_0"), WORKERS, ("--threads",)),
    (("--threads", ""), WORKERS, ("--threads",)),
    (("--threads", "100000000"), ALL, ("--threads",)),
    (("--threads", str(10**30)), WORKERS, ("--threads",)),
    (("--interop-threads", "0"), WORKERS, ("--interop-threads",)),
    (("--interop-threads", "100000000"), WORKERS, ("--interop-threads",)),
    (("--warmup", "-1"), WORKERS, ("--warmup",)),
    (("--runs", "0"), WORKERS, ("--runs",)),
    (("--runs", "-5"), WORKERS, ("--runs",)),
    (("--runs", "0x10"), WORKERS, ("--runs",)),
    (("--runs", str(10**30)), WORKERS, ("--runs",)),
    (("--batch-size", "0"), WORKERS, ("--batch-size",)),
    (("--batch-size", "-3"), WORKERS, ("--batch-size",)),
    (("--batch-size", "99999999999"), WORKERS, ("--batch-size",)),
    (("--seed", "-1"), WORKERS, ("--seed",)),
    (("--seed", str(2**64)), WORKERS, ("--seed",)),
    (("--max-seconds", "0"), WORKERS, ("--max-seconds",)),
    (("--max-seconds", "-1"), WORKERS, ("--max-seconds",)),
    (("--max-seconds", "nan"), WORKERS, ("--max-seconds",)),
    (("--max-seconds", "inf"), WORKERS, ("--max-seconds",)),
    (("--min-seconds", "1e999"), WORKERS, ("--min-seconds",)),
    (("--min-seconds", "-0.5"), WORKERS, ("--min-seconds",)),
    (("--min-seconds", "soon"), WORKERS, ("--min-seconds",)),
    (("--device", "tpu"), ALL, ("--device", "cpu")),
    (("--nonsense",), ALL, ("--nonsense",)),
    (("--thread", "1"), ALL, ("--thread",)),  # no abbreviations: a later flag could change what they mean
    (("--runs",), WORKERS, ("--runs",)),
    (("--artifact",), WORKERS, ("--artifact",)),
    (("--json=yes",), ALL, ("--json",)),
    (("--top-k", "0"), INFERS, ("--top-k",)),
    (("--top-k", "-1"), INFERS, ("--top-k",)),
    (("--top-k", str(CLASSES + 1)), INFERS, ("--top-k", str(CLASSES))),
    (("--top-k", str(10**30)), INFERS, ("--top-k",)),
    (("--top-k", "all"), INFERS, ("--top-k",)),
]  # fmt: skip


@pytest.mark.parametrize("language", ["python", "cpp"])
@pytest.mark.parametrize(("flags", "known", "words"), FLAGS, ids=[" ".join(row[0])[:40] for row in FLAGS])
def test_bad_flags(
    flags: tuple[str, ...],
    known: tuple[str, ...],
    words: tuple[str, ...],
    language: str,
    place: Place,
    programs: dict[str, Run],
    tmp_path: Path,
) -> None:
    for program in {"python": (WORKER, INFER), "cpp": (BENCH, CPP_INFER)}[language]:
        if program in known:
            sound = ("--artifact", place.script, "--input", place.tensor)
            refused(programs[program], (tmp_path, place.folder), 2, words, *sound, *flags)


def test_what_is_required(here: Run, place: Place, tmp_path: Path) -> None:
    for run, words in (
        (here, ("VERB", "--help")),
        (lambda: here("nonsense"), ("nonsense", "generate", "--help")),
        (lambda: here("worker"), ("--artifact", "--help")),
        (lambda: native("bench"), ("--artifact", "--help")),
        (lambda: native("infer"), ("ARTIFACT", "--help")),
        (lambda: native("infer", place.script), ("INPUT", "--help")),
        (lambda: native("infer", place.script, place.tensor, place.tensor), ("too many",)),
        (lambda: here("infer", "--artifact", place.script, place.tensor, place.photo), ("one tensor file", "not both")),
        (lambda: here("infer", "--model", "resnet18,resnet34", place.photo), ("--model", "name one")),
        (lambda: here("infer", "--model", "resnet5O", place.photo), ("resnet5O", "did you mean", "resnet50")),
        (lambda: here("infer", "--route", "onnx", place.photo), ("--route", "onnx", "script")),
        (lambda: here("preprocess", "--model", "resnet*", place.photo), ("--model", "name one")),
        (lambda: here("preprocess", "--format", "png", place.photo), ("--format", "npy")),
    ):
        refused(run, (tmp_path,), 2, words)


@pytest.mark.parametrize("program", [WORKER, BENCH])
def test_a_failure_with_json_is_a_record_too(program: str, place: Place, programs: dict[str, Run]) -> None:
    from jsonschema import validate

    schema = json.loads((paths.DATA / "record.schema.json").read_text(encoding="utf-8"))
    for flags, code, status in (
        (("--artifact", "missing.ts"), "artifact_missing", 1),
        (("--artifact", place.script, "--input", "missing.npy"), "input_missing", 1),
        (("--artifact", place.script, "--runs", "0"), "usage", 2),
        (("--nonsense",), "usage", 2),
    ):
        done = programs[program](*flags, "--json")
        one_line_error(done, status)
        line = json.loads(done.stdout)
        validate(line, schema)
        assert line["error"]["code"] == code
        assert done.stderr.strip() == f"error: {line['error']['message']}"


# --- labels

BAD_LABELS: list[tuple[str, bytes | None, tuple[str, ...]]] = [
    ("missing", None, ("labels.txt",)),
    ("empty", b"", ("labels.txt",)),
    ("too few", b"a\nb\nc\n", ("3 labels", "6")),
    ("too many", b"a\nb\nc\nd\ne\nf\ng\n", ("7 labels", "6")),
    ("an empty line", b"a\n\nc\nd\ne\nf\n", ("line 2",)),
    ("not UTF-8", b"a\nb\n\xff\xfe\nd\ne\nf\n", ("UTF-8",)),
    ("UTF-16", "a\nb\nc\nd\ne\nf\n".encode("utf-16"), ("labels.txt",)),
]


@pytest.mark.parametrize("program", [INFER, CPP_INFER])
@pytest.mark.parametrize(("name", "content", "words"), BAD_LABELS, ids=[row[0] for row in BAD_LABELS])
def test_bad_labels(
    name: str,
    content: bytes | None,
    words: tuple[str, ...],
    program: str,
    place: Place,
    programs: dict[str, Run],
    tmp_path: Path,
) -> None:
    labels = tmp_path / "labels.txt"
    if content is not None:
        labels.write_bytes(content)
    flags = ("--artifact", place.script, "--input", place.tensor, "--labels", labels)
    refused(programs[program], (tmp_path,), 1, (str(labels), *words), *flags)


# --- where the output goes


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


# --- generate

# flags, exit code, words
GENERATE: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
    (("--model", "resnet5O"), 2, ("resnet5O", "did you mean", "resnet50", "deploybench list")),
    (("--model", "Siberian husky"), 2, ("Siberian husky", "deploybench list")),
    (("--model", "nothing*"), 2, ("nothing*", "deploybench list")),
    (("--model", ","), 2, ("--models", "deploybench list")),
    (("--model", "sound_module:net,raises_on_import:net"), 2, ("sound_module:net", "raises_on_import:net", "name one")),
    (("--model", "../../etc/passwd"), 2, ("etc/passwd", "deploybench list")),
    (("--model", "sound_module:"), 2, ("sound_module:", "package.module:factory")),
    (("--model", ":net"), 2, (":net", "package.module:factory")),
    (("--model", "a/b:../../c"), 2, ("a/b:../../c", "package.module:factory")),
    (("--model", "absent_module:net"), 1, ("absent_module", "package.module:factory")),
    (("--model", "absent.module.deeper:net"), 1, ("absent", "package.module:factory")),
    (("--model", "sound_module:absent"), 1, ("sound_module:absent", "package.module:factory")),
    (("--model", "broken_syntax:net"), 1, ("broken_syntax:net",)),
    (("--model", "raises_on_import:net"), 1, ("raises_on_import:net", "old", "licence")),
    (("--model", "leaves_on_import:net"), 1, ("leaves_on_import:net",)),
    (("--model", "sound_module:not_callable"), 1, ("sound_module:not_callable",)),
    (("--model", "sound_module:raises"), 1, ("sound_module:raises", "weights of last year")),
    (("--model", "sound_module:needs_an_argument"), 1, ("sound_module:needs_an_argument", "size")),
    (("--model", "sound_module:leaves"), 1, ("sound_module:leaves",)),
    (("--model", "sound_module:nothing"), 1, ("sound_module:nothing", "torch.nn.Module")),
    (("--model", "sound_module:a_class"), 1, ("sound_module:a_class", "torch.nn.Module")),
    (("--model", "sound_module:pair"), 1, ("pair", "tuple", "one tensor [N, classes]")),
    (("--model", "sound_module:image"), 1, ("image", "one tensor [N, classes]")),
    (("--model", "sound_module:failing"), 1, ("failing", "ValueError: no")),
    (("--model", "sound_module:unscriptable"), 1, ("unscriptable", "--capture trace")),
    (("--model", "sound_module:net", "--weights", "absent.pth"), 1, ("absent.pth", "--weights")),
    (("--model", "sound_module:net", "--weights", "~nobody-of-this-name/x.pth"), 1, ("~nobody-of-this-name",)),
    (("--model", "sound_module:net", "--weights", "."), 1, ("--weights",)),
    (("--model", "sound_module:net", "--weights", "pretrained"), 1, ("sound_module:net", "--weights FILE")),
    (("--model", "resnet18,resnet34", "--weights", "x.pth"), 2, ("--weights", "one model")),
    (("--model", "sound_module:net", "--routes", "onnx"), 2, ("onnx", "eager, script, trace")),
    (("--model", "sound_module:net", "--routes", ","), 2, ("--routes",)),
    (("--model", "sound_module:net", "--jobs", "0"), 2, ("--jobs",)),
    (("--model", "sound_module:net", "--jobs", "-1"), 2, ("--jobs",)),
    (("--model", "sound_module:net", "--crop", "0"), 2, ("--crop",)),
    (("--model", "sound_module:net", "--crop", "100000000"), 2, ("--crop",)),
    (("--model", "sound_module:net", "--std", "0,0,0"), 2, ("--std",)),
    (("--model", "sound_module:net", "--std", "1,1"), 2, ("--std",)),
    (("--model", "sound_module:net", "--mean", "nan,0,0"), 2, ("--mean",)),
    (("--model", "sound_module:net", "--mean", "1/0,0,0"), 2, ("--mean",)),
    (("--model", "sound_module:net", "--labels", "absent.txt"), 1, ("absent.txt",)),
    (("--model", "sound_module:net", "--labels", "README.md"), 1, ("labels", "6")),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "code", "words"), GENERATE, ids=[" ".join(row[0][1:])[:60] for row in GENERATE])
def test_generate(
    flags: tuple[str, ...], code: int, words: tuple[str, ...], place: Place, here: Run, tmp_path: Path
) -> None:
    out = tmp_path / "artifacts"
    out.mkdir()
    labels = () if "--labels" in flags else ("--labels", place.folder / "labels.txt")
    size = () if "--crop" in flags else ("--crop", SIDE)
    done = here("generate", "--resize", SIDE, *size, *labels, *flags, "--out", out)
    one_line_error(done, code, *words)
    assert tree(out) == []


def test_the_second_time_is_refused_too(place: Place, here: Run, tmp_path: Path) -> None:
    """Where an artifact of that name lies, other code looks at the factory first: whether it is up to date."""
    (tmp_path / "net.script-fp32-cpu.ts").write_bytes(place.script.read_bytes())
    package = place.folder / "raising_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('old licence')\n")
    for factory in (
        "absent_module:net", "absent.module.deeper:net", "raises_on_import:net", "broken_syntax:net",
        "raising_package.module:net",
    ):  # fmt: skip
        before = tree(tmp_path)
        one_line_error(here("generate", "--model", factory, *place.make, "--out", tmp_path), 1, factory)
        assert tree(tmp_path) == before


def test_one_bad_model_does_not_stop_the_others(place: Place, here: Run, tmp_path: Path) -> None:
    several = "sound_module:raises,sound_module:failing,sound_module:net,sound_module:pair"
    done = here("generate", "--model", several, *place.make, "--out", tmp_path)
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["net.script-fp32-cpu.ts"]


def state(**tensors: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(tensors, stream)
    return stream.getvalue()


HEAD, BIAS = torch.zeros(6, 3), torch.zeros(6)
WEIGHTS: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("empty", b"", ("not a state_dict",)),
    ("random bytes", np.random.default_rng(3).bytes(1000), ("not a state_dict",)),
    ("a photo", photo("PNG"), ("not a state_dict",)),
    ("a pickle that would run code", pickle.dumps({"head.weight": os.getcwd}), ("not a state_dict",)),
    ("cut", state(**{"head.weight": HEAD, "head.bias": BIAS})[:-30], ("not a state_dict",)),
    ("a tensor alone", b"", ("state_dict",)),
    ("other keys", state(**{"fc.weight": HEAD}), ("missing head.weight", "unexpected fc.weight")),
    ("another shape", state(**{"head.weight": HEAD.T, "head.bias": BIAS}), ("head.weight is [3, 6]", "[6, 3]")),
    ("numbers instead of tensors", state(**{"head.weight": 1, "head.bias": 2}), ("state_dict",)),
    ("NaN", state(**{"head.weight": HEAD * float("nan"), "head.bias": BIAS}), ("NaN",)),
]


@pytest.mark.parametrize(("name", "content", "words"), WEIGHTS, ids=[row[0] for row in WEIGHTS])
def test_bad_weights(
    name: str, content: bytes, words: tuple[str, ...], place: Place, here: Run, tmp_path: Path
) -> None:
    if name == "a tensor alone":
        stream = io.BytesIO()
        torch.save(HEAD, stream)
        content = stream.getvalue()
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    before = tree(tmp_path)
    one_line_error(
        here("generate", "--model", "sound_module:net", *place.make, "--weights", file, "--out", tmp_path), 1, *words
    )
    assert tree(tmp_path) == before


def test_torchscript_is_no_weights_file(place: Place, here: Run, tmp_path: Path) -> None:
    flags = ("--model", "sound_module:net", *place.make, "--weights", place.script, "--out", tmp_path)
    one_line_error(here("generate", *flags), 1, str(place.script), "state_dict")
    assert tree(tmp_path) == []


def test_pretrained_weights(here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Offline, then with a damaged file in torch.hub's cache: the error names the file, and the URL where one is needed."""
    from deploybench import weights

    monkeypatch.setattr(weights, "_unreachable", {})
    monkeypatch.setattr("urllib.request._opener", None)  # else the proxies of its first use are kept
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    file = tmp_path / "home" / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    url = "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    flags = ("--model", "squeezenet1_1", "--weights", "pretrained", "--out", tmp_path / "out")
    one_line_error(here("generate", *flags), 1, str(file), url, "--weights random")
    one_line_error(here("download", "--model", "squeezenet1_1"), 1, str(file), url)
    assert tree(tmp_path) == []
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a file")
    one_line_error(here("generate", *flags), 1, str(file), "squeezenet1_1-b8a52dc0.pth", "delete")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


# --- bench and report, which need no torch


def sound_results() -> dict[str, Any]:
    """A results file of one model, one runner and one round."""
    run = {
        "schema": 2, "runner": "python/eager", "model": "net", "round": 0, "route": "eager", "batch_size": 1,
        "artifact_bytes": 5000, "load_seconds": 0.1, "warmup_seconds": [0.1] * 10, "warmup_steady": True,
        "run_seconds": [0.1] * 10, "turn_calls": [10], "peak_rss_bytes": 1000, "weights_origin": "random", "warnings": [],
        "build_type": None, "parity": {"ok": True, "reason": ""},
    }  # fmt: skip
    config = {"models": ["squeezenet1_1"], "runners": ["python/eager"], "device": "cpu", "threads": 1, "batch_size": 1}
    return {"schema": 2, "complete": True, "environment": record.environment(), "config": config, "runs": [run]}


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
    ("another schema", changed("schema", 2), ("schema 2",)),
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
    ("an error that is a text", changed("runs.0.error", "broken"), ()),
    ("parity as text", changed("runs.0.parity", "fine"), ()),
    ("no runners", changed("config.runners", KeyError), ()),
    ("runners are a number", changed("config.runners", 3), ()),
    ("no threads", changed("config.threads", KeyError), ()),
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
        lambda: here("report", file, "--markdown"),
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
    (("--routes", "onnx"), 2, ("onnx", "eager, script, trace")),
    (("--runtimes", "rust"), 2, ("rust", "python,cpp")),
    (("--runtimes", ""), 2, ("--runtimes",)),
    (("--rounds", "0"), 2, ("--rounds",)),
    (("--runs", "0"), 2, ("--runs",)),
    (("--threads", "0"), 2, ("--threads",)),
    (("--threads", "100000000"), 2, ("--threads",)),
    (("--batch-size", "-1"), 2, ("--batch-size",)),
    (("--max-seconds", "0"), 2, ("--max-seconds",)),
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


# --- some rows again, as a user meets them: a process each


def test_in_a_process_of_its_own(place: Place, tmp_path: Path) -> None:
    (tmp_path / "bad.ts").write_bytes(place.script.read_bytes()[:2000])
    for arguments, code, words in (
        (("worker", "--artifact", tmp_path / "bad.ts"), 1, ("bad.ts", "truncated", "generate --models")),
        (("infer", "--model", "resnet5O"), 2, ("resnet5O", "resnet50")),
        (("worker", "--artifact", place.script, "--threads", "0"), 2, ("--threads", "--help")),
        (("preprocess", tmp_path / "absent.jpg", "--artifact", place.script), 1, ("absent.jpg", "no such file")),
    ):
        refused(python, (tmp_path, place.folder), code, words, *arguments)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = python("--debug", "report", tmp_path / "absent.json")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
