"""Does Ctrl-C end every program at once, at any moment, with nothing half-made left and what was measured kept?

The moments are not guessed by a clock, which would be another moment on a slower machine: each waits until something can
be seen from outside (a library that is mapped, a file that is there), and sends SIGINT to the whole process group, as a
terminal does.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
from conftest import PHOTOS, ROOT, Artifact, native, python
from deploybench import child, library_paths, paths

# Seconds until a moment comes, and until the program has ended: a machine with other things to do is slow, and torch does not
# listen while it loads a library. One that does not hear at all goes on to another end.
PATIENCE = 120
# A user's model that is slow where the moment is: `heavy` while it is built, the module while it runs.
SLOW = """
import os
import time
from torch import nn


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 10)

    def forward(self, x):
        return self.head(x.mean((2, 3)))


def sleeps():
    with open("building", "w") as file:
        file.write(str(os.getpid()))
    try:
        time.sleep(300)
    except SystemExit:  # its own code's, it thinks
        time.sleep(600)


def heavy():
    model = Slow()
    model.spare = nn.Linear(8000, 8000)  # 256 MB: time enough to see the file grow
    return model
"""

Moment = Callable[[int], bool]  # of the process id: whether it has come


def mapped(library: str) -> Moment:
    """The program, or one that it started, has this library in its memory."""

    def come(pid: int) -> bool:
        for process in child.family(pid):
            try:
                if library in Path("/proc", str(process), "maps").read_text(encoding="utf-8", errors="replace"):
                    return True
            except OSError:
                continue  # it has ended
        return False

    return come


def compiles(pid: int) -> bool:
    """A compiler is at it: not its driver, which goes where it is told, but what does the work below that."""
    return any(name in ("cc1plus", "clang") for name in map(name_of, child.family(pid)))


def name_of(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""  # it has ended


def exists(folder: Path, pattern: str) -> Moment:
    return lambda pid: any(folder.glob(pattern))


def runs_in(folder: Path, count: int) -> Moment:
    """A results file holds so many runs."""

    def come(pid: int) -> bool:
        texts = [file.read_text(encoding="utf-8") for file in folder.glob("*.json")]
        return any(text and len(json.loads(text)["runs"]) >= count for text in texts)

    return come


def pool(pid: int) -> Iterator[int]:
    """The processes of the pool that the process has."""
    for process in child.family(pid):
        with contextlib.suppress(OSError):  # it has ended
            if b"spawn_main" in Path("/proc", str(process), "cmdline").read_bytes():
                yield process


def held(moment: Moment) -> Moment:
    """The moment, and who works stops in it until told to end: one who writes is done in half a second, which on a busy
    machine is before anybody has told it."""

    def come(pid: int) -> bool:
        if not moment(pid):
            return False
        workers = list(pool(pid))
        for process in workers or [pid]:
            os.kill(process, signal.SIGSTOP)
        # one that has not stopped yet takes the word before it stops, and is then not seen to have it
        deadline = time.monotonic() + PATIENCE
        while not all(states_of(process) <= {"T", "Z"} for process in workers or [pid]):
            assert time.monotonic() < deadline, "they do not stop"
            time.sleep(0.002)
        for process in workers or [pid]:
            word = signal.SIGTERM if workers else signal.SIGINT
            threading.Thread(target=go_on_when_told, args=(process, word)).start()
        assert moment(pid), "it was over before they stopped"
        return True

    return come


def states_of(pid: int) -> set[str]:
    """Of its threads, as proc_pid_stat(5) has them; none where it has ended."""
    states = set()
    for file in Path("/proc", str(pid)).glob("task/*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            states.add(file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0])
    return states


def go_on_when_told(pid: int, word: int) -> None:
    """Lets a stopped process go on once the signal waits for it by which it is ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not pending(pid) >> word - 1 & 1:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def pending(pid: int) -> int:
    """The signals that wait for a process, a bit each; all where it has ended."""
    try:
        status = Path("/proc", str(pid), "status").read_text(encoding="utf-8")
        return int(status.partition("ShdPnd:")[2].split()[0], 16)
    except OSError:
        return -1


def interrupt(
    command: list[object], moment: Moment, folder: Path, whom: str = "group"
) -> subprocess.CompletedProcess[str]:
    """Starts the command in `folder`, interrupts it when the moment has come, and returns how it ended."""
    environment = {
        **library_paths.cpp_environment(),
        "PYTHONPATH": f"{ROOT / 'python'}:{folder}",
        "PYTHONFAULTHANDLER": "1",
    }
    if command[0] == sys.executable:
        environment = {**library_paths.python_environment(environment), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        list(map(str, command)), cwd=folder, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE
            while not moment(process.pid):
                assert process.poll() is None, f"ended before the moment came: {process.communicate()}"
                assert time.monotonic() < deadline, "the moment did not come"
                time.sleep(0.002)
            if whom == "group":
                os.killpg(process.pid, signal.SIGINT)
            else:
                process.send_signal(signal.SIGKILL if whom == "killed" else signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)  # each Python of the group says where it is
            pytest.fail(f"it did not hear:\n{process.communicate()[1]}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while group_lives(process.pid):
        assert time.monotonic() < deadline, "somebody of the group is left"
        time.sleep(0.01)
    return subprocess.CompletedProcess(list(map(str, command)), process.returncode, out, err)


def group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def verb(*arguments: object) -> list[object]:
    return [sys.executable, "-m", "deploybench", *arguments]


def ended_well(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode == 128 + signal.SIGINT, f"{done.returncode}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "interrupted" in done.stderr.splitlines()[-1], done.stderr
    left = [
        str(file)
        for file in folder.rglob("*")
        if ".partial" in file.name or file.name.endswith(".tmp") or ".json." in file.name
    ]
    assert left == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow_module.py").write_text(SLOW)
    return tmp_path


@pytest.mark.parametrize("library", ["libtorch_cpu.so", "_multiarray_umath"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "--models", "squeezenet1_1", "--weights", "random", "--out", "artifacts"),
        ("generate", "--models", "squeezenet1_*", "--weights", "random", "--out", "artifacts", "--jobs", "2"),
        ("preprocess", PHOTOS[0], "--model", "squeezenet1_1", "--out", "x.npy"),
        ("infer", PHOTOS[0], "--model", "squeezenet1_1", "--weights", "random", "--out", "artifacts"),
        (
            "bench",
            "--models",
            "squeezenet1_1",
            "--runtimes",
            "python",
            "--artifacts",
            "artifacts",
            "--results",
            "results",
        ),
    ],
    ids=["generate", "generate by two", "preprocess", "infer", "bench"],
)
def test_while_torch_or_numpy_is_imported(arguments: tuple[object, ...], library: str, folder: Path) -> None:
    ended_well(interrupt(verb(*arguments), mapped(library), folder), folder)
    assert not list(folder.glob("artifacts/*"))
    assert not (folder / "x.npy").exists()


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("whom", ["group", "process"])
def test_while_a_compiler_runs(whom: str, jobs: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has half written is not left where the next compilation would take it for whole, and nothing else is."""
    temporary = folder / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    flags = ("--model", "slow_module:Slow", "--routes", "aoti,direct", "--weights", "random", "--out", "artifacts")
    ended_well(interrupt(verb("generate", *flags, "--jobs", jobs), compiles, folder, whom), folder)
    assert not [file for file in temporary.rglob("*") if file.is_file()]
    assert not list(folder.glob("artifacts/*"))


@pytest.mark.parametrize("moment", ["imports", "compiles"])
def test_a_pool_ends_with_its_owner(moment: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, it can tell its processes nothing."""
    temporary = folder / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    come = {"imports": mapped("libtorch_cpu.so"), "compiles": compiles}[moment]
    flags = ("--model", "slow_module:Slow", "--routes", "aoti,direct", "--weights", "random", "--out", "artifacts")
    with pytest.raises(AssertionError, match="-9"):
        ended_well(interrupt(verb("generate", *flags, "--jobs", 2), come, folder, "killed"), folder)
    assert not [file for file in temporary.rglob("*") if file.is_file()]


def test_a_torch_that_swallows_it(artifact: Artifact, folder: Path) -> None:
    """As torch does that imports numpy, which then is half there: the error would be numpy's, about a second import."""
    file = artifact("squeezenet1_1", "script")
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(SWALLOWING)
    done = interrupt(verb("worker", "--artifact", file), exists(folder, "importing"), folder)
    ended_well(done, folder)


SWALLOWING = """
import time
open("importing", "w").close()
try:
    time.sleep(60)
except KeyboardInterrupt:
    raise ImportError("cannot load module more than once per process")
"""


def test_one_that_is_told_to_ignore_it_does(folder: Path) -> None:
    """`nohup`, and what a script starts in its background: SIGINT is ignored from birth, and must stay so."""
    done = listing(IGNORING)
    first = done.stdout.split()[0]  # behind it stands what artifacts/ has of the model
    assert (done.returncode, first, done.stderr) == (0, "resnet18", "")


def listing(program: str) -> subprocess.CompletedProcess[str]:
    """`list resnet18` by another program around it."""
    command = [sys.executable, "-c", program, "list", "resnet18"]
    environment = {**library_paths.python_environment(), "PYTHONPATH": str(ROOT / "python")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)


IGNORING = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from deploybench import cli
from deploybench.verbs import listing
run = listing.run
listing.run = lambda args: (os.kill(os.getpid(), signal.SIGINT), run(args))[1]
raise SystemExit(cli.main())
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_generate_while_a_model_is_built(jobs: int, folder: Path) -> None:
    flags = ("--model", "slow_module:sleeps", "--routes", "script,trace", "--jobs", jobs)
    command = verb("generate", *flags, "--out", "artifacts")
    ended_well(interrupt(command, exists(folder, "building"), folder), folder)


@pytest.mark.parametrize("jobs", [1, 2])
def test_generate_while_the_artifact_is_written(jobs: int, folder: Path) -> None:
    """What is finished is kept, and what is half-made goes. Then the same command makes the rest."""
    models = "squeezenet1_1,slow_module:heavy"
    command = verb("generate", "--models", models, "--weights", "random", "--out", "artifacts", "--jobs", jobs)
    ended_well(interrupt(command, held(exists(folder, "artifacts/.heavy.*.partial.ts")), folder), folder)
    assert not (folder / "artifacts" / "heavy.script-fp32-cpu.ts").exists()


def test_generate_by_two_in_the_midst(folder: Path) -> None:
    """One of the two is ready and must stay, the other is still being built."""
    command = verb(
        "generate",
        "--models",
        "squeezenet1_1,slow_module:sleeps",
        "--weights",
        "random",
        "--out",
        "artifacts",
        "--jobs",
        2,
    )
    ready = exists(folder, "artifacts/squeezenet1_1.*.ts")
    ended_well(interrupt(command, ready, folder), folder)
    assert [file.name for file in (folder / "artifacts").iterdir()] == ["squeezenet1_1.script-fp32-cpu.ts"]


def test_generate_by_two_while_one_has_nothing_to_do(folder: Path) -> None:
    """It waits at the queue, and on a busy machine hears of its end when its owner's last word is in there, too: it must not
    take half of that, of which the other, who reads next, would make EOFError."""
    models = "squeezenet1_1,slow_module:sleeps"
    command = verb("generate", "--models", models, "--weights", "random", "--out", "artifacts", "--jobs", 2)
    others: list[subprocess.Popen[bytes]] = []

    def starved(pid: int) -> bool:
        if not (exists(folder, "artifacts/squeezenet1_1.*.ts")(pid) and exists(folder, "building")(pid)):
            return False
        time.sleep(0.5)  # it has come back to the queue
        core = min(os.sched_getaffinity(0))
        (idle,) = [process for process in pool(pid) if str(process) != (folder / "building").read_text()]
        for thread in Path("/proc", str(idle), "task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
            os.sched_setaffinity(int(thread.name), {core})
        loop = ["taskset", "-c", str(core), "timeout", "2", "sh", "-c", "while :; do :; done"]
        others.extend(subprocess.Popen(loop) for _ in range(3))
        time.sleep(0.3)  # they have the core
        return True

    ended_well(interrupt(command, starved, folder), folder)
    for other in others:
        other.wait()


@pytest.mark.parametrize("whom", ["group", "bench alone"])
def test_bench_keeps_what_it_measured(whom: str, artifacts: Path, artifact: Artifact, folder: Path) -> None:
    artifact("squeezenet1_1", "eager")
    artifact("squeezenet1_1", "script")
    runtimes = "python,cpp" if (paths.CPP_BIN / "bench").exists() else "python"
    command = verb(
        "bench", "--models", "squeezenet1_1", "--runtimes", runtimes, "--artifacts", artifacts, "--weights", "random",
        "--results", folder, "--rounds", "20", "--runs", "20", "--warmup", "0",
    )  # fmt: skip
    ended_well(interrupt(command, runs_in(folder, 2), folder, whom), folder)
    (file,) = folder.glob("*.json")
    results = json.loads(file.read_text(encoding="utf-8"))
    assert len(results["runs"]) >= 2
    assert not results["complete"]
    done = python("report", file)
    assert done.returncode == 0, done.stderr
    assert "not complete; deploybench bench --resume" in done.stdout


def test_bench_while_it_generates(folder: Path) -> None:
    """The half-made artifact is another process's, which bench must let clean up."""
    command = verb(
        "bench", "--model", "slow_module:heavy", "--runtimes", "python", "--routes", "script", "--weights", "random",
        "--artifacts", "artifacts", "--results", "results",
    )  # fmt: skip
    ended_well(interrupt(command, exists(folder, "artifacts/.heavy.*.partial.ts"), folder, "bench alone"), folder)


def test_worker(artifact: Artifact, folder: Path) -> None:
    command = verb(
        "worker", "--artifact", artifact("squeezenet1_1", "script"), "--min-seconds", "100", "--output", "y.npy"
    )
    ended_well(interrupt(command, lambda pid: busy(pid, 4), folder), folder)
    assert not (folder / "y.npy").exists()


def busy(pid: int, seconds: float) -> bool:
    """The process has used so much CPU time: it is past its imports, and measures."""
    fields = Path("/proc", str(pid), "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > seconds


def test_cpp_bench(artifact: Artifact, folder: Path) -> None:
    """A signal that nobody handles ends a C++ program at once; the shell then says 130."""
    native("bench", "--help")  # or skip
    command = [paths.CPP_BIN / "bench", "--artifact", artifact("squeezenet1_1", "script"), "--min-seconds", "100"]
    for moment in (mapped("libtorch_cpu.so"), lambda pid: busy(pid, 1.5)):
        done = interrupt([*command, "--output", folder / "y.npy"], moment, folder)
        assert done.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
        assert done.stdout == ""
        assert [file.name for file in folder.iterdir()] == ["slow_module.py"]


def test_cpp_infer(artifact: Artifact, tensor: Callable[[str], Path], folder: Path) -> None:
    native("infer", "--help")
    images = folder / "images.npy"  # more than are answered before the moment comes
    numpy.save(images, numpy.repeat(numpy.load(tensor("squeezenet1_1")), 400, axis=0))
    command = [paths.CPP_BIN / "infer", artifact("squeezenet1_1", "script"), images]
    done = interrupt([*command], mapped("libtorch_cpu.so"), folder)
    assert done.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert "Traceback" not in done.stderr


def test_twice(folder: Path) -> None:
    """An impatient user presses Ctrl-C again and again."""
    command = verb("generate", "--model", "slow_module:sleeps", "--out", "artifacts")

    def come(pid: int) -> bool:
        if not (folder / "building").exists():
            return False
        for _ in range(3):
            os.killpg(pid, signal.SIGINT)
            time.sleep(0.001)
        return True

    try:
        done = interrupt(command, come, folder)
    except ProcessLookupError:
        pytest.skip("it was quicker than we")
    ended_well(done, folder)


def test_advise_while_it_evaluates(folder: Path) -> None:
    """In a process of its own, and that in another, which Ctrl-C does not reach where advise alone is told."""
    photo = folder / "photos" / "class 0" / "photo.jpg"
    photo.parent.mkdir(parents=True)
    shutil.copy(PHOTOS[0], photo)
    advises = [sys.executable, "-c", ADVISES, "list"]
    ended_well(interrupt([*advises], exists(folder, "building"), folder, "process"), folder)


ADVISES = """
import argparse, pathlib
from deploybench import cli, models
from deploybench.verbs import advise, listing
args = argparse.Namespace(data=pathlib.Path("photos"), limit=None)
making = ["--model", "slow_module:sleeps", "--weights", "random", "--artifacts", "artifacts", "--results", "results"]
listing.run = lambda _: advise._changes(args, models.find(making[1]), making, ["python/eager/bf16"])
raise SystemExit(cli.main())
"""


def test_twice_while_it_cleans_up() -> None:
    done = listing(CLEANING)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "cleaned\n", "interrupted\n")


CLEANING = """
import os, signal
from deploybench import cli
from deploybench.verbs import listing
def run(args):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        print("cleaned")
listing.run = run
raise SystemExit(cli.main())
"""


@pytest.mark.parametrize("heard", [True, False])
def test_a_child_is_stopped(heard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked, so that it can clean up; killed where it does not hear."""
    monkeypatch.setattr(child, "CLEANING_SECONDS", PATIENCE if heard else 0.2)
    ignore = "" if heard else "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    with child_that(f"{ignore}\ntry:\n {WAITS}\nfinally:\n print('cleaned')") as process:
        child.stop(process)
        assert process.poll() == (-signal.SIGINT if heard else -signal.SIGKILL)
        assert process.stdout is not None
        assert process.stdout.read() == (b"cleaned\n" if heard else b"")
        child.stop(process)  # one that has ended


def test_children_are_stopped_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is asked before the first is waited for, which here ends only then."""
    monkeypatch.setattr(child, "CLEANING_SECONDS", PATIENCE)
    told = folder / "told"
    waits = f"import os\n while not os.path.exists({str(told)!r}): time.sleep(0.01)"
    with (
        child_that(f"try:\n {WAITS}\nfinally:\n {waits}") as first,
        child_that(f"try:\n {WAITS}\nfinally:\n open({str(told)!r}, 'w').close()") as second,
    ):
        child.stop(first, second)
        assert [first.poll(), second.poll()] == [-signal.SIGINT] * 2


WAITS = f"print(1, flush=True); import time; time.sleep({2 * PATIENCE})"


@contextlib.contextmanager
def child_that(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python that runs this, and has come to what WAITS."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()
