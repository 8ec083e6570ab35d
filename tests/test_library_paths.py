"""Do Python and C++ each map their own torch libraries only, whatever LD_LIBRARY_PATH and LD_PRELOAD hold?

The witness is /proc/<pid>/maps of the live process: the files that the kernel has mapped into it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploybench import libtorch_folder, paths
from deploybench.library_paths import cpp_environment, python_environment

SECONDS = 120
TORCH = ("libc10.so", "libtorch_cpu.so")
MODEL = "squeezenet1_1"  # the smallest artifact: 5 MB
PYTHON_TORCH = Path(importlib.util.find_spec("torch").origin).parent.resolve() / "lib"  # type: ignore[union-attr, arg-type]
LIBTORCH = (paths.LIBTORCH / "lib").resolve()

LIVE_PYTHON = "import torch; print('ready', flush=True); input()"


def needs(there: object, what: str) -> None:
    """Skip on a laptop, fail in CI: there everything is built before the tests."""
    if not there:
        pytest.fail(what) if os.environ.get("CI") == "true" else pytest.skip(what)


@pytest.fixture(params=["broken", "other-side", "broken-and-other-side", "preload", "current-folder"])
def poison(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Variables that lead the linker astray; `{other}` stands for the lib folder of the other side."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "libc10.so").write_text("no library\n")
    variables: dict[str, dict[str, str]] = {
        "broken": {"LD_LIBRARY_PATH": f"{broken}"},
        "other-side": {"LD_LIBRARY_PATH": "/nowhere:{other}"},
        "broken-and-other-side": {"LD_LIBRARY_PATH": f"{broken};{{other}}:/nowhere"},
        "preload": {"LD_PRELOAD": "{other}/libc10.so"},
        "current-folder": {
            "LD_LIBRARY_PATH": ":/nowhere:"
        },  # an empty entry is the folder that the process is started in
    }
    return variables[request.param]


def poisoned(poison: dict[str, str], other: Path) -> dict[str, str]:
    more = {name: value.format(other=other) for name, value in poison.items()}
    return {**os.environ, "PYTHONPATH": str(paths.ROOT / "python"), **more}


@contextlib.contextmanager
def alive(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The running process, started in `folder`; killed at the end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def mapped(process: subprocess.Popen[str], *more: str) -> dict[str, set[Path]]:
    """The torch libraries in the process, name -> the folders it is mapped from, once both of TORCH and `more` are in."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        text = Path(f"/proc/{process.pid}/maps").read_text()
        found: dict[str, set[Path]] = {}
        for path in set(re.findall(r"\s(/.*/lib(?:c10|torch)[^/\n]*)$", text, re.MULTILINE)):
            found.setdefault(Path(path).name, set()).add(Path(path).parent)
        if {*TORCH, *more} <= found.keys():
            return found
        if process.poll() is not None:
            pytest.fail(f"it ended with {process.returncode}: {process.stderr.read() if process.stderr else ''}")
        time.sleep(0.005)
    pytest.fail(f"torch was not mapped within {SECONDS} s")


def needs_two_sides() -> None:
    needs(libtorch_folder.installed(), "vendor/libtorch is not there; type `make libtorch`")
    if LIBTORCH == PYTHON_TORCH:
        pytest.skip("LibTorch is the folder of Python's torch (make libtorch LIBTORCH=...): there is no other side")


def built_with() -> Path | None:
    """The LibTorch's lib folder that the C++ programs were linked with; it stands in them (DT_RPATH)."""
    cache = paths.CPP_BIN.parent / "CMakeCache.txt"
    found = re.search(r"^DEPLOYBENCH_LIBTORCH:\w+=(.+)$", cache.read_text(), re.MULTILINE) if cache.exists() else None
    return (Path(found.group(1)) / "lib").resolve() if found else None


def assert_only_from(folder: Path, found: dict[str, set[Path]]) -> None:
    assert set().union(*found.values()) == {folder}, found


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small TorchScript artifact, made by the program."""
    folder = tmp_path_factory.mktemp("artifacts")
    flags = ["--models", MODEL, "--weights", "random", "--out", str(folder)]
    environment = python_environment({**os.environ, "PYTHONPATH": str(paths.ROOT / "python")})
    made = subprocess.run(
        [sys.executable, "-m", "deploybench", "generate", *flags], env=environment, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return next(folder.glob("*.script-*.ts"))


# --- what is mapped


def test_the_poison_is_one(tmp_path: Path) -> None:
    """Without our environments this Python does not even import torch: else the tests below would prove nothing."""
    if (PYTHON_TORCH / "libtorch_cuda.so").exists():
        pytest.skip(
            "a CUDA build has DT_RPATH, which the linker reads before LD_LIBRARY_PATH; a CPU build has DT_RUNPATH"
        )
    (tmp_path / "libc10.so").write_text("no library\n")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    broken = subprocess.run([sys.executable, "-c", "import torch"], env=environment, capture_output=True, text=True)
    assert broken.returncode != 0
    assert f"{tmp_path}/libc10.so" in broken.stderr


def test_python_in_its_environment(poison: dict[str, str], tmp_path: Path) -> None:
    needs_two_sides()
    environment = python_environment(poisoned(poison, other=LIBTORCH))
    with alive([sys.executable, "-c", LIVE_PYTHON], environment, tmp_path / "broken") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.stderr
        assert_only_from(PYTHON_TORCH, mapped(process, "libtorch_python.so"))


def test_python_worker(poison: dict[str, str], artifact: Path, tmp_path: Path) -> None:
    """The real worker, started straight from the poisoned environment: it restarts itself in the clean one."""
    needs_two_sides()
    flags = ["worker", "--artifact", str(artifact), "--threads", "1", "--min-seconds", "60"]
    environment = poisoned(poison, other=LIBTORCH)
    with alive([sys.executable, "-m", "deploybench", *flags], environment, tmp_path / "broken") as process:
        assert_only_from(PYTHON_TORCH, mapped(process, "libtorch_python.so"))


@pytest.fixture(scope="module")
def bare_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that needs LibTorch and, unlike ours, has no path of its own to it: it lives by its environment alone."""
    compiler = next((found for name in ("cc", "gcc", "g++", "clang", "clang++") if (found := shutil.which(name))), None)
    assert compiler, "a C compiler is needed"
    folder = tmp_path_factory.mktemp("bare")
    (folder / "bare.c").write_text("#include <unistd.h>\nint main(void) { pause(); return 0; }\n")
    flags = ["-Wl,--no-as-needed", "-Wl,--unresolved-symbols=ignore-all", f"-L{LIBTORCH}", "-ltorch_cpu", "-lc10"]
    subprocess.run([compiler, "bare.c", "-o", "bare", *flags], cwd=folder, check=True)
    return folder / "bare"


def test_cpp_environment(poison: dict[str, str], bare_program: Path, tmp_path: Path) -> None:
    needs_two_sides()
    environment = cpp_environment(base=poisoned(poison, other=PYTHON_TORCH))
    with alive([str(bare_program)], environment, tmp_path / "broken") as process:
        assert_only_from(LIBTORCH, mapped(process))


def test_cpp_worker(poison: dict[str, str], artifact: Path, tmp_path: Path) -> None:
    needs_two_sides()
    needs((paths.CPP_BIN / "bench").exists(), "cpp/build/bin/bench is not there; type `make build`")
    needs(
        built_with() == LIBTORCH, f"cpp/build was made with {built_with()}, not with vendor/libtorch; type `make build`"
    )
    command = [str(paths.CPP_BIN / "bench"), "--artifact", str(artifact), "--threads", "1", "--min-seconds", "60"]
    environment = cpp_environment(base=poisoned(poison, other=PYTHON_TORCH))
    with alive(command, environment, tmp_path / "broken") as process:
        assert_only_from(LIBTORCH, mapped(process))


# --- the environments


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Folders by what they hold: torch libraries of four kinds, and none."""
    for name in (
        "own/lib/libc10.so",
        "c10/libc10.so",
        "versioned/libtorch_cpu.so.2.13",
        "cuda/libtorch_cuda.so",
        "plain/libm.so",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling" / "libc10.so").symlink_to("/nowhere/libc10.so")
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers" / "libtorch.txt").write_text("")
    return tmp_path


def test_every_torch_folder_is_taken_out(folders: Path) -> None:
    names = ("plain", "own/lib", "c10", "versioned", "headers", "cuda", "dangling", "nowhere")
    base = {"LD_LIBRARY_PATH": ":".join(f"{folders}/{name}" for name in names), "HOME": "/root"}
    kept = f"{folders}/plain:{folders}/headers:{folders}/nowhere"
    assert python_environment(base) == {"LD_LIBRARY_PATH": kept, "HOME": "/root"}
    assert cpp_environment(folders / "own", base)["LD_LIBRARY_PATH"] == f"{folders}/own/lib:{kept}"


@pytest.mark.parametrize("variable", ["LD_LIBRARY_PATH", "LD_PRELOAD"])
def test_a_variable_with_nothing_left_is_removed(folders: Path, variable: str) -> None:
    entry = f"{folders}/c10" if variable == "LD_LIBRARY_PATH" else f"{folders}/c10/libc10.so"
    assert python_environment({variable: f"{entry}:"}) == {}
    assert cpp_environment(folders / "own", {variable: entry}) == {"LD_LIBRARY_PATH": f"{folders}/own/lib"}


def test_other_preloaded_libraries_stay() -> None:
    preload = "/usr/lib/libjemalloc.so.2 /x/libtorch_cpu.so:/usr/lib/libtcmalloc.so"
    assert python_environment({"LD_PRELOAD": preload}) == {
        "LD_PRELOAD": "/usr/lib/libjemalloc.so.2:/usr/lib/libtcmalloc.so"
    }


def test_the_environment_given_is_not_changed(folders: Path) -> None:
    base = {"LD_LIBRARY_PATH": f"{folders}/c10"}
    python_environment(base)
    cpp_environment(folders / "own", base)
    assert base == {"LD_LIBRARY_PATH": f"{folders}/c10"}


# --- the restart


def test_restart_keeps_the_process_and_its_arguments(folders: Path) -> None:
    code = (
        "import os, sys; from deploybench.library_paths import restart_clean; print(os.getpid(), flush=True); "
        "restart_clean(); print(sys.flags.utf8_mode, sys.argv, os.environ.get('LD_LIBRARY_PATH'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT / "python")}
    for folder, starts in ((folders / "c10", 2), (folders / "plain", 1)):
        result = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", code, "a b", "--flag"],
            env={**environment, "LD_LIBRARY_PATH": str(folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        *process_ids, last = result.stdout.splitlines()
        assert len(process_ids) == starts
        assert len(set(process_ids)) == 1
        assert last == f"1 ['-c', 'a b', '--flag'] {None if starts == 2 else folder}"


def test_restart_does_not_loop(folders: Path) -> None:
    """A Python whose start sets the path again, as a wrapper script does, is told so after one restart."""
    (folders / "sitecustomize.py").write_text(f"import os; os.environ['LD_LIBRARY_PATH'] = '{folders}/c10'")
    environment = {**os.environ, "PYTHONPATH": f"{folders}:{paths.ROOT / 'python'}"}
    command = [sys.executable, "-m", "deploybench", "worker", "--artifact", "none.ts"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: LD_LIBRARY_PATH: {folders}/c10 holds another LibTorch")
    assert "unset LD_LIBRARY_PATH" in result.stderr
