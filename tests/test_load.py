"""Do several instances, and images that arrive by themselves, measure what they say, in both languages?"""

from __future__ import annotations

import itertools
import json
import resource
import statistics
import subprocess
import time
import warnings
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from bad_input import Place
from conftest import Artifact, native, one_line_error, python
from deploybench import load, options, results_file, stats, summary
from deploybench.crew import Crew
from deploybench.measurement import Measured

QUICK = ("--warmup", 3, "--threads", 1, "--json")


def worker(runtime: str, *arguments: object) -> dict[str, Any]:
    done = native("bench", *arguments) if runtime == "cpp" else python("worker", *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("runtime", ["python", "cpp"])
@pytest.mark.parametrize("route", ["script", "frozen", "aoti", "direct", "openvino"])
def test_instances_measure_together(route: str, runtime: str, artifact: Artifact) -> None:
    """Every instance makes its calls, the output stays eager's, and the wall time of a turn is that of all of them."""
    if (route, runtime) == ("openvino", "cpp"):
        pytest.skip("runs in Python only")
    if route == "openvino":
        pytest.importorskip("openvino")
    file = artifact("squeezenet1_1", route)
    line = worker(runtime, "--artifact", file, "--route", route, "--instances", 3, "--runs", 12, *QUICK)
    assert line["instances"] == 3
    assert line["turn_rates"] is None
    (calls,), (seconds,), times = line["turn_calls"], line["turn_seconds"], line["run_seconds"]
    assert calls == len(times) >= 36
    assert line["output_finite"]
    assert line["output_drift"] < 1e-4
    # Three that are inside of a call nearly all the time: their times add up to nearly three times the turn's. Python's loader
    # of packages keeps the interpreter's lock, so that one call waits for the other outside of it.
    least = 0.5 if (runtime, Path(file).suffix) == ("python", ".pt2") else 1.5
    assert least * seconds < sum(times) < 3.05 * seconds


RUNNER = "_ZN5torch8inductor27AOTIModelContainerRunnerCpu{}ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEmb"
OVERHEARD = """
#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>
#include <string>
#define ARGUMENTS void* self, const std::string& library, unsigned long instances, bool alone
void overhear(const char* real, ARGUMENTS) {
  std::FILE* file = std::fopen(std::getenv("OVERHEARD"), "a");
  std::fprintf(file, "%lu\\n", instances);
  std::fclose(file);
  void* torch = dlopen("libtorch_cpu.so", RTLD_NOLOAD | RTLD_LAZY);
  reinterpret_cast<void (*)(ARGUMENTS)>(dlsym(torch, real))(self, library, instances, alone);
}
""" + "".join(
    f'extern "C" void {name}(ARGUMENTS) {{ overhear("{name}", self, library, instances, alone); }}\n'
    for name in (
        RUNNER.format("C1"),
        RUNNER.format("C2"),
    )  # of an object of its own, and of one that is a part of another
)


@pytest.mark.parametrize("route", ["aoti", "direct"])
@pytest.mark.parametrize("runtime", ["python", "cpp"])
def test_a_package_gets_a_runner_for_each_instance(
    runtime: str, route: str, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer the instances wait for each other inside of a call, which only throughput would show: so what LibTorch is asked
    for is overheard."""
    source, library, said = tmp_path / "overhear.cpp", tmp_path / "overhear.so", tmp_path / "said"
    source.write_text(OVERHEARD)
    subprocess.run(["g++", "-std=c++20", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("OVERHEARD", str(said))
    file = artifact("squeezenet1_1", route)
    said.unlink(missing_ok=True)  # of the check when it was made
    for instances in (1, 3):
        worker(runtime, "--artifact", file, "--instances", instances, "--runs", 3, *QUICK)
    assert said.read_text().split() == ["1", "3"]
    infer = partial(native, "infer", file) if runtime == "cpp" else partial(python, "infer", "--artifact", file)
    done = infer(tmp_path / "none.jpg", "--instances", 2, "--threads", 1)
    assert "none.jpg" in done.stderr
    assert said.read_text().split() == ["1", "3", "2"]
    images = tmp_path / "many.npy"  # from two for each CPU on, an instance for each
    numpy.save(images, numpy.zeros((2 * options.usable_cpus(), 3, 224, 224), numpy.float32))
    assert infer(images).returncode == 0
    many = options.usable_cpus() if route == "direct" else 1  # weights of aoti are packed for as many threads
    assert said.read_text().split() == ["1", "3", "2", str(many)]


@pytest.mark.parametrize("runtime", ["python", "cpp"])
def test_instances_give_the_output_of_one(runtime: str, artifact: Artifact, tmp_path: Path) -> None:
    file, outputs = artifact("squeezenet1_1", "script"), []
    for number, flags in enumerate([(), ("--instances", 2), ("--rate", 50, "--load-seconds", 0.3)]):
        output = tmp_path / f"{number}.npy"
        worker(runtime, "--artifact", file, "--runs", 3, "--output", output, *QUICK, *flags)
        outputs.append(numpy.load(output))
    for output in outputs[1:]:
        assert output.shape == outputs[0].shape
        assert abs(output - outputs[0]).max() < 1e-4


def short_of_threads(stack: int) -> dict[str, Any]:
    """For subprocess: so many GiB of addresses for the stack of a thread, of 20 in all; to root its number has no limit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (stack << 30, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_AS, (20 << 30, 20 << 30))

    return {"preexec_fn": limit}


def test_where_no_thread_is_left(place: Place, artifact: Artifact) -> None:
    """A line for each: of instances that are many, and of a package, which a thread of its own loads."""
    flags = ("--instances", 64, "--threads", 1)
    done = native("bench", "--artifact", place.script, *flags, **short_of_threads(1))
    one_line_error(done, 1, "threads: Resource temporarily unavailable; use fewer --instances")
    package = artifact("squeezenet1_1", "direct")
    done = native("infer", package, place.photo, "--json", **short_of_threads(30))
    one_line_error(done, 1, f"{package}: Resource temporarily unavailable; use fewer instances or threads")
    assert json.loads(done.stdout)["error"]["code"] == "runtime"


class Tired(torch.nn.Module):
    """Fails from the given call on."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.calls, self.last = 0, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls > self.last:
            raise RuntimeError("tired")
        return torch.cat([x, x], 1).mean((2, 3))


def test_a_last_answer_that_fails_is_no_success(place: Place, tmp_path: Path) -> None:
    """Three calls warm up, 20 are timed, and the one whose output is written fails."""
    with zipfile.ZipFile(place.script) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/extra/deploybench.json"))
        about = archive.read(name)
    file, output = tmp_path / "tired.ts", tmp_path / "output.npy"
    load = ("--rate", 1000, "--load-seconds", 0.001, "--warmup", 1)
    for last, code in ((24, 0), (23, 1)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated since torch 2.11
            torch.jit.script(Tired(last)).save(str(file), _extra_files={"deploybench.json": about})
        done = native("bench", "--artifact", file, "--output", output, "--threads", 1, *load)
        assert done.returncode == code, done.stderr
        assert output.exists() == (code == 0)
        output.unlink(missing_ok=True)
    one_line_error(done, 1, "tired.ts", "tired")


@pytest.mark.parametrize("runtime", ["python", "cpp"])
def test_images_arrive_at_the_rate(runtime: str, artifact: Artifact) -> None:
    """As many as the Poisson process has, the same in both languages; and no answer before its image."""
    file = artifact("squeezenet1_1", "script")
    line = worker(runtime, "--artifact", file, "--rate", 40, "--load-seconds", 1, "--seed", 5, *QUICK)
    arrivals = load.poisson_arrivals(40, 1, 5)
    assert line["turn_rates"] == [40]
    assert line["turn_calls"] == [len(arrivals)]
    assert all(second > 0 for second in line["run_seconds"])
    (seconds,) = line["turn_seconds"]
    assert seconds >= arrivals[-1]


@pytest.mark.parametrize("runtime", ["python", "cpp"])
def test_the_search_keeps_the_bound(runtime: str, artifact: Artifact) -> None:
    file, bound = artifact("squeezenet1_1", "script"), 0.2
    # ten times the bound, or a halt in the burst that says how many come makes them few enough to be kept all at once
    flags = ("--latency-bound", bound, "--load-seconds", 10 * bound, "--instances", 2, "--batch-size", 2)
    line = worker(runtime, "--artifact", file, *flags, *QUICK)
    rates = line["turn_rates"]
    assert isinstance(rates, list)
    assert max(rates) == rates[0]
    best = stats.highest_rate(line, bound)
    if best:  # a machine that is busy with other things may keep none
        assert len(rates) == 8
        assert stats.quantile(best[1], 0.99) <= bound
        failed = [rate for rate in rates if rate > best[0]]
        assert failed, "what it can do at most is never kept"


def test_poisson_arrivals() -> None:
    """The first four by an implementation of their own (see cpp/tests/test_load.cpp); gaps have mean and deviation 1 / rate."""
    expected = [0.004940172597583, 0.005109480750755, 0.028211690534487, 0.036956709616]
    assert load.poisson_arrivals(100, 1, 7)[:4] == pytest.approx(expected, abs=1e-12)
    arrivals = load.poisson_arrivals(1000, 10, 1)
    gaps = [b - a for a, b in itertools.pairwise(arrivals)]
    assert statistics.mean(gaps) == pytest.approx(1e-3, abs=3e-5)
    assert statistics.stdev(gaps) == pytest.approx(1e-3, abs=6e-5)
    assert len(load.poisson_arrivals(1, 0.001, 0)) == load.FEWEST


def test_the_highest_rate_that_keeps_the_bound() -> None:
    """Three turns of two, two and one latencies: 99 % quantiles 0.0199, 0.5 and 0.03 (by hand)."""
    run = {"turn_rates": [10.0, 30.0, 20.0], "turn_calls": [2, 2, 1], "run_seconds": [0.01, 0.02, 0.5, 0.5, 0.03]}
    assert stats.highest_rate(run, 0.1) == (20.0, [0.03])
    assert stats.highest_rate(run, 0.025) == (10.0, [0.01, 0.02])
    assert stats.highest_rate(run, 0.001) is None
    assert stats.highest_rate({**run, "turn_rates": [5.0, 1.0, 1.0]}, None) == (5.0, [0.01, 0.02])


def test_rounds_in_which_no_rate_kept_the_bound_count() -> None:
    def rate(*rounds: dict[str, Any]) -> float | None:
        found = summary.under_load(list(rounds), 0.1)
        return float(found["rate"]) if found else None

    good, better = ({"turn_rates": [one], "turn_calls": [1], "run_seconds": [0.05]} for one in (10.0, 30.0))
    bad = {**good, "run_seconds": [0.2]}
    assert rate(good, better) == 20.0
    assert rate(good, better, bad) == 10.0
    assert rate(good, better, better, bad) == 10.0, "of 0, 10, 30 and 30 the lower middle one"
    assert rate(good, bad) is None


@pytest.mark.parametrize(("bound", "least", "most"), [(60.0, 8, 8), (0.05, 2, 7), (0.0005, 1, 1)])
def test_the_search_ends(bound: float, least: int, most: int) -> None:
    """Every tenth call takes 100 ms: all keep a minute, an image alone 50 ms but never all of 20, and none half a millisecond,
    whatever the rate; turns at a 128th of it would take a minute."""
    calls = itertools.count(1)
    pool = load.Pool(1, lambda _: lambda _: time.sleep(0.001 if next(calls) % 10 else 0.1), 1, 0.0)
    measured = Measured()
    load.measure_load(pool, load.LoadLimits(0.0, bound, 0.1, 0), measured)
    assert measured.rates is not None
    assert least <= len(measured.rates) <= most
    if most == 7:
        slowest = 20 / (8 * max(0.1, measured.turn_seconds[0]))
        assert measured.rates[-1] / 2 < slowest <= measured.rates[-1]


def test_what_a_call_takes() -> None:
    """Two turns of two calls by hand: of one instance each call counts, of two the turn's time by its calls."""
    run = {"run_seconds": [1.0, 3.0, 5.0, 9.0], "turn_calls": [2, 2], "turn_seconds": [3.0, 8.0], "turn_rates": None}
    assert stats.times_of_calls({**run, "instances": 1}) == [1.0, 3.0, 5.0, 9.0]
    assert stats.times_of_turns({**run, "instances": 1}) == [2.0, 7.0]
    assert stats.times_of_calls({**run, "instances": 2}) == stats.times_of_turns({**run, "instances": 2}) == [1.5, 4.0]


def test_a_crew_passes_problems_on() -> None:
    def broken(number: int) -> int:
        raise ValueError("broke")

    with pytest.raises(ValueError, match="broke"):
        Crew(2, lambda number: lambda: number).turn(1) and Crew(2, broken)  # type: ignore[arg-type]
    calls = itertools.count()

    def third() -> int:
        if next(calls) == 3:
            raise ValueError("broke")
        return 1

    with pytest.raises(ValueError, match="broke"):
        Crew(2, lambda number: third).turn(10)


@pytest.fixture(scope="module")
def driven(artifact: Artifact, artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The results and the output of a `bench` at two batch sizes with two instances."""
    artifact("squeezenet1_1", "script")
    folder = tmp_path_factory.mktemp("results")
    flags = (
        "--target",
        "throughput",
        "--instances",
        2,
        "--batch-size",
        "1,3",
        "--rounds",
        2,
        "--runs",
        20,
        "--warmup",
        3,
    )
    common = ("--models", "squeezenet1_1", "--weights", "random", "--artifacts", artifacts, "--results", folder)
    done = python("bench", *common, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("*.json")
    return file, done.stdout


def test_bench_with_instances_and_batch_sizes(driven: tuple[Path, str]) -> None:
    file, text = driven
    results = results_file.load(file)
    assert {run["batch_size"] for run in results["runs"]} == {1, 3}
    assert all(run["instances"] == 2 and run["threads"] == 1 for run in results["runs"])
    for size in (1, 3):
        assert f"squeezenet1_1, batch {size}, cpu, fp32, 2 instances x 1 thread, RANDOM weights" in text
    assert python("report", file).stdout.count("2 instances x 1 thread") == 2
    assert python("report", file, "--format", "markdown").stdout.count("2 instances x 1 thread") == 2


def test_bench_where_images_arrive(artifacts: Path, artifact: Artifact, tmp_path: Path) -> None:
    artifact("squeezenet1_1", "script")
    common = ("--models", "squeezenet1_1", "--weights", "random", "--artifacts", artifacts, "--results", tmp_path)
    # a bound that is kept: a search that keeps nothing goes down to rates at which few images arrive, and takes minutes
    flags = ("--latency-bound", 5, "--load-seconds", 0.3, "--warmup", 3, "--threads", 1)
    done = python("bench", *common, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "images arrive by themselves: p99 within 5000 ms" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("cpp/script")]
    assert len(row.split()) == 7
    assert max(map(len, done.stdout.splitlines())) <= 80 + 40  # the file's path may be long
    one_line_error(python("bench", *common, "--rate", 3, "--latency-bound", 1), 2, "--latency-bound", "--rate")
    one_line_error(python("bench", *common, "--rate", 0), 2, "--rate")
