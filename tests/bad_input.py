"""What the tests of bad input share: a sound case, the four programs under one name each, and ways to break an artifact.

Tables: a row is what is broken and the words that its error must hold. A row about artifacts, tensor files or flags runs
against the Python program and its C++ twin. Python rows run in this process, where torch is imported once (2.5 s); what
depends on a process of its own (a closed pipe, a full disk) gets one. The model is a user's own, of 16 numbers, so that
an artifact is 5 kB and every row of the tables can afford to be the real thing.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, Done, native, one_line_error, python
from deploybench import cli, library_paths, record
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


@pytest.fixture(scope="session")
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


def with_entry(name: str) -> Callable[[Path], bytes]:
    """The sound artifact with one more entry, below its own root."""

    def make(good: Path) -> bytes:
        made = io.BytesIO(patched(good))
        with zipfile.ZipFile(made, "a") as archive:
            root = archive.namelist()[0].partition("/")[0]
            archive.writestr(f"{root}/{name}", b"hello")
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


def photo(format: str, size: tuple[int, int] = (40, 30)) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(stream, format)
    return stream.getvalue()


def sound_results() -> dict[str, Any]:
    """A results file of one model, one runner and one round."""
    run = {
        "schema": 2, "runner": "python/eager", "model": "net", "round": 0, "route": "eager", "batch_size": 1,
        "artifact_bytes": 5000, "load_seconds": 0.1, "cold_start_seconds": 2.5, "warmup_seconds": [0.1] * 10, "warmup_steady": True,
        "run_seconds": [0.1] * 10, "turn_calls": [10], "peak_rss_bytes": 1000, "weights_origin": "random", "warnings": [],
        "build_type": None, "parity": {"ok": True, "reason": ""},
    }  # fmt: skip
    config = {"models": ["squeezenet1_1"], "runners": ["python/eager"], "device": "cpu", "threads": 1, "batch_size": 1}
    return {
        "schema": record.SCHEMA,
        "complete": True,
        "environment": record.environment(),
        "config": config,
        "runs": [run],
    }
