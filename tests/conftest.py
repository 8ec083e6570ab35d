"""What the tests share: the real programs, and artifacts made once a run by the real `generate`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deploybench import library_paths, paths, routes

pytest_plugins = [
    "bad_input",
    "agreement",
    "photos",
    "checkout",
    "browser",
    "colours",
]  # their fixtures: place, here, programs; eager_of; photo_libraries; checkout; browser; colours

ROOT = paths.ROOT
PHOTOS = sorted(path for path in (paths.DATA / "images").iterdir() if path.suffix in (".jpg", ".png"))
SHARED = ROOT.parent / "shared" / "data"  # real weights and photos, where they are there
SECONDS = 600  # no program of ours hangs
LONGEST = ("test_bench.py", "test_compiled.py", "test_direct.py", "test_runtimes.py")  # minutes each

# Two files are tested side by side, and OpenMP's threads, waiting for each other, would spin on the cores of the other one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A background job of a shell inherits SIGINT ignored, and so would every program that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

Done = subprocess.CompletedProcess[str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: at the end short ones keep both workers of xdist busy."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def unavailable(reason: str) -> None:
    """Skips the test on a laptop and fails it in CI, where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI this must be there: {reason}")
    pytest.skip(reason)


def python(*arguments: object, **more: object) -> Done:
    """Runs `python -m deploybench ARGUMENTS` as a user would, from the repository's root."""
    command = [sys.executable, "-m", "deploybench", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python"), **dict(more.pop("env", {}))}  # type: ignore[call-overload]
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": SECONDS, **more}
    return subprocess.run(command, env=environment, **options)  # type: ignore[call-overload, no-any-return]


def native(program: str, *arguments: object, **more: object) -> Done:
    """Runs cpp/build/bin/`program`, LibTorch's libraries first."""
    file = paths.CPP_BIN / program
    if not file.exists():
        unavailable(f"{file.name} is not built; make build")
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": SECONDS, **more}
    command = [str(file), *map(str, arguments)]
    return subprocess.run(command, env=library_paths.cpp_environment(), **options)  # type: ignore[call-overload, no-any-return]


def one_line_error(done: Done, code: int, *words: str) -> None:
    """Asserts what every failure looks like: the exit code, one `error:` line with the words, no traceback."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == code, f"exit {done.returncode}, wanted {code}\n{done.stdout}\n{done.stderr}"
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in errors[0], f"{word!r} is not in {errors[0]!r}"


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Alone with what `file` stands for: two test files run side by side, and may want to make the same."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this run's artifacts, one for all workers of xdist."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return tmp_path_factory.mktemp("artifacts")
    folder = tmp_path_factory.getbasetemp().parent / "artifacts"
    folder.mkdir(exist_ok=True)
    return folder


Artifact = Callable[..., Path]


def generate(artifacts: Path, models: str, ways: str, precisions: str) -> None:
    """Files of random weights, by one process: a start costs 3 s, and a model is built once."""
    flags = ("--routes", ways, "--precisions", precisions, "--weights", "random", "--artifacts", artifacts)
    done = python("generate", "--models", models, *flags, timeout=3 * SECONDS)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def artifact(artifacts: Path) -> Artifact:
    """artifact(model, route, precision): the file, generated with random weights the first time it is asked for, with what the
    same tests want beside it."""

    def make(model: str, route: str = "script", precision: str = "fp32") -> Path:
        kind = routes.route(route).kind
        file = artifacts / f"{model}.{kind.name}-{precision}-cpu{kind.suffix}"
        together = "eager,script" if kind.name in ("eager", "script") else route
        precisions = "fp32,bf16" if kind.name == "frozen" else precision
        with locked(artifacts / f".{model}.{together}.{precisions}.lock"):
            if not file.exists():
                generate(artifacts, model, together, precisions)
        return file

    return make


@pytest.fixture(scope="session")
def tensor(artifacts: Path, artifact: Artifact) -> Callable[[str], Path]:
    """tensor(model): the photos of data/ as a tensor file, by the model's own transform."""

    def make(model: str) -> Path:
        file, made_from = artifacts / f"{model}.npy", artifact(model, "script")
        with locked(artifacts / f".{model}.tensor.lock"):
            if not file.exists():
                done = python("preprocess", "--artifact", made_from, *PHOTOS, "--out", file)
                assert done.returncode == 0, done.stderr
        return file

    return make
