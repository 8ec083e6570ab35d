"""Does `doctor` name what is wrong with a machine, its installs, a program and an artifact, and nothing else?

Each fault is provoked for real: a poisoned search path, a second OpenMP runtime, a program built without optimisation, weights
that are denormal. Where the machine that tests cannot have a fault (a clock, a driver, a thief of CPU time), a folder stands in
for /proc and /sys, and the test says so.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from bad_input import Place, Run, field, flipped, patched
from conftest import ROOT, Done, native, one_line_error, python, unavailable
from deploybench import checks, facts, machine, paths, record
from deploybench.artifact import read_metadata
from deploybench.checks import OK, PROBLEM, UNKNOWN, WARNING
from test_cpp_units import tool

NOT_OURS = "load,steal,governor,turbo,huge-pages"  # what depends on the machine, and on the tests beside this one
CPUS = len(os.sched_getaffinity(0))


def doctor(*arguments: object, skip: str = NOT_OURS, **more: object) -> tuple[Done, dict[str, dict[str, str]]]:
    """Runs it; and of its findings those that are wrong, by the check's name."""
    done = python("doctor", *arguments, "--skip", skip, "--json", **more)
    assert done.returncode in (0, 4), done.stderr
    wrong: dict[str, dict[str, str]] = {}
    for one in json.loads(done.stdout)["findings"]:
        if one["level"] in (WARNING, PROBLEM):
            before = wrong.setdefault(one["check"], {**one, "found": ""})
            before["found"] += f"{one['found']}; "
    return done, wrong


@pytest.fixture(scope="module")
def second_openmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second OpenMP runtime as wheels bring one: GNU's, with a name and a soname of its own."""
    own = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    if not own.exists():
        unavailable("this torch brings no libgomp.so.1 to make a second one of")
    copy = tmp_path_factory.mktemp("openmp") / "libgomp-a34b3233.so.1"
    shutil.copy(own, copy)
    subprocess.run([tool("patchelf"), "--set-soname", copy.name, str(copy)], check=True)
    return copy


def package(folder: Path, name: str, version: str, requires: str = "") -> str:
    """A folder for PYTHONPATH in which `name` says that it has this version."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    wants = f"Requires-Dist: {requires}\n" if requires else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wants}")
    return f"{ROOT / 'python'}:{folder}"


def other_libtorch(folder: Path) -> Path:
    """A LibTorch of version 2.1.0 by its headers."""
    for name in ("lib", "share"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to((paths.LIBTORCH / name).resolve())
    header = folder / "include" / "torch" / "headeronly" / "version.h"
    header.parent.mkdir(parents=True)
    numbers = {"MAJOR": 2, "MINOR": 1, "PATCH": 0}
    header.write_text("".join(f"#define TORCH_VERSION_{part} {number}\n" for part, number in numbers.items()))
    return folder


def no_path(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


Fault = Callable[
    [Path, Path], tuple[list[object], dict[str, str]]
]  # of a folder and the second OpenMP: flags, environment
FAULTS: dict[str, tuple[str, Fault, tuple[str, ...]]] = {
    "LibTorch on LD_LIBRARY_PATH": (
        "library-path",
        lambda folder, _: ([], {"LD_LIBRARY_PATH": f"/nowhere:{paths.LIBTORCH / 'lib'}"}),
        (str(paths.LIBTORCH / "lib"), "unset LD_LIBRARY_PATH"),
    ),
    "LibTorch preloaded": (
        "library-path",
        lambda folder, _: ([], {"LD_PRELOAD": str(paths.LIBTORCH / "lib" / "libc10.so")}),
        ("libc10.so", "unset LD_PRELOAD"),
    ),
    "two OpenMP runtimes": (
        "openmp", lambda folder, second: ([], {"LD_PRELOAD": str(second)}), ("libgomp-a34b3233", "libgomp.so.1", "LD_PRELOAD"),
    ),
    "a torch by half": (
        "versions",
        lambda folder, _: ([], {"PYTHONPATH": package(folder, "torch", "2.1.0")}),
        ("2.1.0", torch.__version__),
    ),
    "another LibTorch": (
        "versions", lambda folder, _: (["--libtorch", other_libtorch(folder / "libtorch")], {}), ("LibTorch 2.1.0", "make libtorch"),
    ),
    "another torchvision": (
        "torchvision",
        lambda folder, _: ([], {"PYTHONPATH": package(folder, "torchvision", "0.16.0", "torch (==2.1.0)")}),
        ("0.16.0", "built for torch 2.1.0", torch.__version__),
    ),
    "no compiler": (
        "compiler", lambda folder, _: ([], {"PATH": no_path(folder / "empty")}), ("g++", "is not on PATH", "install g++"),
    ),
    "a compiler that is none": ("compiler", lambda folder, _: ([], {"CXX": "false"}), ("false", "no C++ compiler", "CXX")),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone_is_named(fault: str, tmp_path: Path, second_openmp: Path) -> None:
    name, make, words = FAULTS[fault]
    flags, environment = make(tmp_path, second_openmp)
    done, wrong = doctor(*flags, env=environment)
    assert set(wrong) == {name}
    assert done.returncode == 4
    for word in words:
        assert word in f"{wrong[name]['found']}; {wrong[name]['mend']}"
    assert set(wrong[name]["threads"]) == set(checks.CHECKS[name].threads)


def test_a_healthy_machine_is_well() -> None:
    done = python("doctor", "docs/results/resnet50-languages-cpu.json", "--skip", NOT_OURS)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("all is well")
    assert "✓ abi" in done.stdout
    assert re.search(r"✓ slower +cpp/direct/bf16 takes 1\.00", done.stdout)
    assert not re.search(r"^ +(! |✗ |why:)", done.stdout, re.MULTILINE), done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_one_cpu_of_the_affinity() -> None:
    first = min(os.sched_getaffinity(0))
    _, wrong = doctor(env={"OMP_NUM_THREADS": "2"}, preexec_fn=lambda: os.sched_setaffinity(0, {first}))
    assert "starts 2 threads, 1 usable CPU" in wrong["threads"]["found"]


@pytest.fixture
def half_a_cpu() -> Iterator[Path]:
    """The file that moves a process into a cgroup with half a CPU."""
    top = Path("/sys/fs/cgroup")
    v1 = (top / "cpu").is_dir()
    group = (top / "cpu" if v1 else top) / f"deploybench-{os.getpid()}"
    try:
        group.mkdir()
        try:
            if v1:
                (group / "cpu.cfs_quota_us").write_text("50000")
            else:
                (group / "cpu.max").write_text("50000 100000")
            yield group / "cgroup.procs"
        finally:
            group.rmdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")


def test_a_quota_of_the_cgroup(half_a_cpu: Path, place: Place) -> None:
    def join() -> None:
        half_a_cpu.write_text(str(os.getpid()))

    _, wrong = doctor(env={"OMP_NUM_THREADS": "2"}, preexec_fn=join)
    assert "starts 2 threads, 1 usable CPU" in wrong["threads"]["found"]
    flags = ("--artifact", place.script, "--warmup", "0", "--runs", "1", "--json")
    for done in (python("worker", *flags, preexec_fn=join), native("bench", *flags, preexec_fn=join)):
        assert json.loads(done.stdout)["threads"] == 1, "both languages heed it"


GROUPS = [
    ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),  # the one above counts
    ("0::/\n", {"cpu.max": "50000 100000"}, 0.5),  # of a container
    ("0::/\n", {"cpu.max": "max 100000"}, None),
    ("4:memory:/x\n1:cpu,cpuacct:/docker/7\n", {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 3.0),
    ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ("", {}, None),
]  # fmt: skip


@pytest.mark.parametrize(("said", "files", "quota"), GROUPS)
def test_quotas_of_both_versions(said: str, files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    """Folders in place of /proc and /sys: no machine has all of them."""
    write(tmp_path, {"proc/self/cgroup": said, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}})
    assert machine.cpu_quota(tmp_path) == quota


GIB = 1 << 30
MEMORY = [
    ("0::/a/b\n", {"a/memory.max": f"{8 * GIB}", "a/memory.current": f"{5 * GIB}", "a/b/memory.max": "max",
                   "a/b/memory.current": "7", "a/memory.stat": f"anon 1\nactive_file {GIB}\ninactive_file {GIB}"}, 5 * GIB),
    ("0::/\n", {"memory.max": "4096", "memory.current": "8192"}, 0),  # lowered below what is used
    ("0::/\n", {"memory.max": "max", "memory.current": "8192"}, None),
    ("4:memory:/docker/7\n1:cpu:/\n", {"memory/memory.limit_in_bytes": f"{2 * GIB}", "memory/memory.usage_in_bytes": f"{GIB}",
                                       "memory/memory.stat": "active_file 1\ntotal_active_file 4096\ntotal_inactive_file 0"},
     GIB + 4096),
    ("", {}, None),
]  # fmt: skip


@pytest.mark.parametrize(("said", "files", "left"), MEMORY)
def test_memory_of_both_versions(said: str, files: dict[str, str], left: int | None, tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/cgroup": said, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}})
    assert machine.memory_left(tmp_path) == left


def test_the_memory_of_a_cgroup_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_left", lambda: None)
    assert record.available_memory() > 4096
    monkeypatch.setattr(machine, "memory_left", lambda: 4096)
    assert record.available_memory() == 4096, "less than the host has"


@pytest.mark.parametrize(("said", "name"), [
    ("processor\t: 0\nmodel name\t: AMD EPYC\n", "AMD EPYC"),
    ("processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n", "aarch64 0x41 0xd0c"),
    ("processor\t: 0\n", "aarch64"),
])  # fmt: skip
def test_every_cpu_has_a_name(said: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Arm's have none in /proc/cpuinfo, and unlike ones must not count as equal."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    write(tmp_path, {"proc/cpuinfo": said})
    assert record.cpu_name(tmp_path) == name


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def stat(user: int, idle: int, steal: int) -> str:
    numbers = sorted(os.sched_getaffinity(0))
    return "cpu 0 0 0 0 0 0 0 0\n" + "".join(f"cpu{n} {user} 0 0 {idle} 0 0 0 {steal} 0 0\n" for n in numbers)


CPU = machine.CPUS
HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"
STATES = {  # wrong or well by hand: 30 of 100 ticks stolen, 40 of 100 taken
    "steal": ({"proc/stat": stat(10, 60, 30)}, WARNING, "30 %"),
    "load": ({"proc/stat": stat(40, 60, 0)}, WARNING, "40 %"),
    "governor": ({f"{CPU}/cpu{n}/cpufreq/scaling_governor": "powersave\n" for n in range(CPUS)}, WARNING, "powersave"),
    "turbo": ({f"{CPU}/intel_pstate/no_turbo": "0\n"}, WARNING, "turbo is on"),
    "huge-pages": ({HUGE_PAGES: "always madvise [never]\n"}, WARNING, "pages of 4 kB"),
}


@pytest.mark.parametrize("name", STATES)
def test_states_that_cannot_be_provoked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders in place of /proc and /sys: the clock and the host are not the test's to change."""
    files, level, words = STATES[name]
    write(tmp_path, {"proc/stat": stat(0, 0, 0)})
    monkeypatch.setattr("time.sleep", lambda _: write(tmp_path, files))
    monkeypatch.setattr(os, "times", lambda: (0.0,) * 5)  # our own time, which is not that of others
    found = dict(checks.examine(facts.of_machine(tmp_path, {})))
    assert found[name].level == level
    assert words in found[name].found
    assert {other: one.level for other, one in found.items() if other != name and one.level not in (OK, UNKNOWN)} in (
        {},
        {"load": WARNING},  # the ticks that are not idle
    )


def test_our_own_time_is_not_that_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = machine.Ticks(5, 100, 1000, 70), machine.Ticks(15, 160, 1100, 110)
    assert machine.shares(before, after) == (0.1, 0.2)  # of 100: 10 stolen, 60 busy, of which 40 are ours
    assert machine.shares(before, before) == (0, 0)
    monkeypatch.setattr(os, "times", lambda: (0.29, 0.0, 0.0, 0.0, 0.0))  # whose hundredfold is below 29
    assert machine.ticks(tmp_path).own == 29
    assert machine.shares(before, machine.Ticks(3, 160, 1100, 110))[0] == 0, "steal goes backwards on another host"


def test_a_quiet_machine_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"proc/stat": stat(0, 0, 0), f"{CPU}/cpufreq/boost": "0\n", HUGE_PAGES: "always [madvise] never\n"})
    for number in range(CPUS):
        write(tmp_path, {f"{CPU}/cpu{number}/cpufreq/scaling_governor": "performance\n"})
    monkeypatch.setattr("time.sleep", lambda _: write(tmp_path, {"proc/stat": stat(1, 99, 0)}))
    assert {one.level for _, one in checks.examine(facts.of_machine(tmp_path, {}))} == {OK}


@pytest.mark.skipif(not machine.huge_pages(), reason="no huge pages here that could be forbidden")
def test_a_shell_that_forbids_huge_pages() -> None:
    forbid = functools.partial(ctypes.CDLL(None).prctl, 41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE, which children inherit
    done, wrong = doctor(skip="load,steal,governor,turbo", preexec_fn=forbid)
    assert done.returncode == 4
    assert set(wrong) == {"huge-pages"}
    assert "PR_SET_THP_DISABLE" in wrong["huge-pages"]["mend"]
    done, wrong = doctor(skip="load,steal,governor,turbo")
    assert not wrong


def test_another_program_is_seen_at_once() -> None:
    """The real thing: this test starts what is busy."""
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(CPUS)]
    try:
        done = python("doctor", "--skip", "steal")
    finally:
        for process in spin:
            process.kill()
            process.wait()
    assert done.returncode == 4
    found = re.search(r"! load +other programs take (\d+) % of the time", done.stdout)
    assert found, done.stdout
    assert int(found[1]) >= 30, "as many busy programs as CPUs take most of their time"
    assert "close them" in done.stdout
    assert re.search(r"most of it [^(]+\(process \d+\)", re.sub(r"\s+", " ", done.stdout)), (
        "which ones, others may be busier yet"
    )


def test_the_busiest_are_named() -> None:
    before = {(7, "make"): 10, (8, "my (odd) name"): 500, (9, "idle"): 3}
    after = {
        (7, "make"): 60,
        (8, "my (odd) name"): 540,
        (9, "idle"): 4,
        (10, "new"): 30,
        (11, "less"): 20,
        (os.getpid(), "me"): 99,
    }
    assert machine.busiest(before, after) == ["make (process 7)", "my (odd) name (process 8)", "new (process 10)"]
    assert machine.busiest(before, before) == []


def test_ticks_of_a_process_with_a_strange_name(tmp_path: Path) -> None:
    """A folder in place of /proc: utime 5 and stime 6 are the fields 14 and 15 (man 5 proc_pid_stat)."""
    write(tmp_path, {"proc/8/stat": "8 (my (odd) name) S 1 8 8 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0"})
    assert machine.ticks_of_processes(tmp_path) == {(8, "my (odd) name"): 11}


def test_a_running_process(second_openmp: Path) -> None:
    own = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    load = f"import ctypes; ctypes.CDLL({str(own)!r}); ctypes.CDLL({str(second_openmp)!r}); print('ready', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", load], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "ready\n"
        _, wrong = doctor("--pid", process.pid)
        process.stdin.close()
    assert set(wrong) == {"openmp"}
    assert str(second_openmp) in wrong["openmp"]["found"]
    assert str(process.pid) in wrong["openmp"]["about"]


DRIVERS = [
    ("13.0", "cpu", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19", PROBLEM, "580"),
    (
        "13.0",
        "cu130",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build",
        OK,
        "580.65.06",
    ),
    (None, "cu126", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82.01  Wed Oct 27", PROBLEM, "525"),
    ("12.6", "cpu", "", UNKNOWN, "no NVIDIA driver"),
    (None, "cpu", "", UNKNOWN, "no CUDA"),
]


@pytest.mark.parametrize(("cuda", "variant", "said", "level", "words"), DRIVERS)
def test_drivers(cuda: str | None, variant: str, said: str, level: str, words: str, tmp_path: Path) -> None:
    """A file in place of /proc/driver/nvidia/version: a driver cannot be made older by a test. The oldest ones by
    docs.nvidia.com/deploy/cuda-compatibility: 525 for CUDA 12, 580 for 13."""
    write(tmp_path, {"proc/driver/nvidia/version": said})
    driver = machine.nvidia_driver(tmp_path)
    install = facts.Install("2", "2", "", cuda, None, None, "2", variant, "", "g++", "", driver)
    found = dict(checks.examine(install))["driver"]
    assert found.level == level
    assert words in found.found


# A user's own program, as in many a question: no guard, and built as it comes.
USERS = """
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
int main(int, char** argv) {
  torch::jit::Module module = torch::jit::load(argv[1]);
  module.forward({at::ones({1, 3, 16, 16})});
}
"""
USERS_CMAKE = """
cmake_minimum_required(VERSION 3.25)
project(users CXX)
add_executable(users users.cpp)
target_compile_features(users PRIVATE cxx_std_20)
target_include_directories(users SYSTEM PRIVATE {libtorch}/include)
target_link_libraries(users {libtorch}/lib/libtorch_cpu.so {libtorch}/lib/libc10.so)
"""


def test_a_debug_build_without_a_guard(tmp_path: Path) -> None:
    write(tmp_path, {"users.cpp": USERS, "CMakeLists.txt": USERS_CMAKE.format(libtorch=paths.LIBTORCH)})
    build = tmp_path / "build"
    flags = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", "-DCMAKE_BUILD_TYPE=Debug")
    commands: tuple[list[str | Path], ...] = (
        [tool("cmake"), "-S", tmp_path, "-B", build, *flags],
        [tool("cmake"), "--build", build],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    _, wrong = doctor("--program", build / "users")
    assert set(wrong) == {"debug-build", "inference-mode"}
    assert "is a Debug build" in wrong["debug-build"]["found"]
    assert "runs TorchScript" in wrong["inference-mode"]["found"]
    assert "c10::InferenceMode" in wrong["inference-mode"]["mend"]


def test_a_program_of_another_abi_without_optimisation(tmp_path: Path) -> None:
    """Linked with a LibTorch of the old ABI (a stub of one function), run with ours; and no CMake that tells its type."""
    compiler = shutil.which("g++") or tool("c++")
    include, run_path = f"-I{paths.LIBTORCH / 'include'}", f"-Wl,-rpath,{paths.LIBTORCH / 'lib'}"
    old = ("-std=c++17", "-w", "-g", "-D_GLIBCXX_USE_CXX11_ABI=0", include)
    define = '#include <c10/util/Type.h>\nnamespace c10 { std::string demangle(const char*) { return ""; } }\n'
    use = '#include <c10/util/Type.h>\n#include <cstdio>\nint main() { std::puts(c10::demangle("i").c_str()); }\n'
    write(tmp_path, {"libc10.cpp": define, "users.cpp": use})
    stub, program = tmp_path / "libc10.so", tmp_path / "users"
    commands: tuple[list[str | Path], ...] = (
        [compiler, *old, "-shared", "-fPIC", "-Wl,-soname,libc10.so", "-o", stub, tmp_path / "libc10.cpp"],
        [compiler, *old, "-o", program, tmp_path / "users.cpp", stub, run_path],
    )
    for command in commands:
        subprocess.run(command, check=True)
    _, wrong = doctor("--program", program)
    assert set(wrong) == {"abi", "debug-build"}
    assert "demangle" in wrong["abi"]["found"]
    assert "_GLIBCXX_USE_CXX11_ABI=0" in wrong["abi"]["found"]
    assert "without -O2" in wrong["debug-build"]["found"]
    assert subprocess.run([program], capture_output=True).returncode != 0, "the fault is no real one"


TRACING = """
import sys, torch
torch.backends.cudnn.benchmark = True  # as a script that trains would have it
net = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3))
with torch.no_grad():
    net[0].weight.fill_(0.5)
    net[0].weight.view(-1)[:11] = 1e-40  # the smallest normal fp32 is 1.2e-38
    net[0].bias.zero_()  # and zero is not denormal
torch.jit.trace(net, torch.zeros(1, 3, 8, 8)).save(sys.argv[1])
"""


def test_denormal_weights_and_flags_of_a_trace(tmp_path: Path) -> None:
    """In a file that deploybench did not make: 11 of 3 x 6 x 3 x 3 + 6 numbers."""
    file = tmp_path / "traced.ts"
    subprocess.run([sys.executable, "-W", "ignore", "-c", TRACING, file], check=True)
    _, wrong = doctor("--artifact", file)
    assert set(wrong) == {"denormals", "cudnn-flags"}
    assert "11 of 168 weights are denormal, 6.5 %" in wrong["denormals"]["found"]
    assert "cudnn.benchmark = True was recorded in 1 convolution" in wrong["cudnn-flags"]["found"]


def test_an_artifact_for_another_cpu_and_torch(place: Place, tmp_path: Path) -> None:
    for name, change, words in (
        ("cpu-features", field(built_for={"cpu_flags": ["avx1024"], "compiler": "g++"}), ("avx1024", "--portable")),
        ("versions", field(torch_version="2.1.0"), ("made by torch 2.1.0", "--force")),
    ):
        bad = tmp_path / f"{name}.ts"
        bad.write_bytes(change(place.script))
        _, wrong = doctor("--artifact", bad)
        assert set(wrong) == {name}
        for word in words:
            assert word in f"{wrong[name]['found']} {wrong[name]['mend']}"


def test_a_real_package_for_another_cpu(place: Place, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": f"{ROOT / 'python'}:{place.folder}"}
    flags = ("--model", "sound_module:net", "--routes", "aoti", *place.make, "--out", tmp_path / "out")
    done = python("generate", *flags, env=environment)
    assert done.returncode == 0, done.stderr
    (good,) = (tmp_path / "out").iterdir()
    stamp = read_metadata(good).built_for
    bad = tmp_path / "bad.pt2"
    bad.write_bytes(patched(good, built_for={**stamp, "cpu_flags": [*stamp["cpu_flags"], "avx1024"]}))
    done, wrong = doctor("--artifact", bad)
    assert set(wrong) == {"cpu-features"}
    assert "a CPU with avx1024, which this one lacks" in wrong["cpu-features"]["found"]
    assert "machine code; look at the eager file" in done.stdout
    bad.write_bytes(patched(good, built_for={**stamp, "threads": stamp["threads"] + 1}))
    _, wrong = doctor("--artifact", bad)
    assert set(wrong) == {"threads"}
    assert (
        f"packed for {stamp['threads'] + 1} threads, and {stamp['threads']} would run it" in wrong["threads"]["found"]
    )
    assert (
        f"--models sound_module:net --routes aoti --weights random --threads {stamp['threads']}"
        in wrong["threads"]["mend"]
    )


def test_every_check_has_its_section_in_troubleshooting() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)}
    for name, check in checks.CHECKS.items():
        heading = f"{name}: {check.what}"
        assert heading in sections, f"docs/troubleshooting.md has no section `## {heading}`"
        for thread in check.threads:
            assert thread in sections[heading], f"{heading}: lacks {thread}"


BAD = [
    (("a", "b", "c"), 2, ("3 records",)),
    (("no-such.json",), 1, ("no-such.json", "make bench")),
    (("--skip", "governer"), 2, ("governer", "governor")),
    (("--pid", 999_999_999), 1, ("999999999",)),
    (("--program", "README.md"), 1, ("README.md", "no program")),
    (("--program", "no-such"), 1, ("no-such", "--program")),
    (("--libtorch", "no-such"), 1, ("no-such", "--libtorch")),
    (("--artifact", "README.md"), 1, ("README.md", "generate")),
]


@pytest.mark.parametrize(("arguments", "code", "words"), BAD)
def test_what_cannot_be_looked_at(arguments: tuple[object, ...], code: int, words: tuple[str, ...], here: Run) -> None:
    one_line_error(here("doctor", *arguments), code, *words)


def test_a_damaged_artifact(here: Run, place: Place, tmp_path: Path) -> None:
    """In its weights, which no check reads."""
    bad = tmp_path / "bad.ts"
    bad.write_bytes(flipped("/data.pkl", 9)(place.script))
    one_line_error(here("doctor", "--artifact", bad), 1, "bad.ts: is damaged (", "deploybench generate", "--force")


def test_an_archive_that_is_no_artifact(here: Run, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("other/readme", "hello")
    one_line_error(here("doctor", "--artifact", tmp_path / "other.zip"), 1, "other.zip", "not made by deploybench")
