"""What can be wrong, why it matters, what mends it, and where people met it: one table. `doctor` shows it for facts, `report`
for results. The functions are pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploybench import facts
from deploybench.checks import artifact, install, machine, pair, results
from deploybench.checks.finding import OK, PROBLEM, UNKNOWN, WARNING, Finding

__all__ = ["CHECKS", "OK", "PROBLEM", "UNKNOWN", "WARNING", "Check", "Finding", "examine"]

TORCH = "https://github.com/pytorch/pytorch/issues/"
GITHUB = "https://github.com/"
Looks = dict[type, Callable[[Any], list[Finding]]]


@dataclass(frozen=True)
class Check:
    """A row of the table."""

    what: str
    why: str
    mend: str  # the command, where a finding does not bring a better one
    threads: tuple[str, ...]  # where people met it
    looks: Looks  # by the facts that it judges


# By its name, in the order in which they are shown. docs/troubleshooting.md has a section for each.
CHECKS: dict[str, Check] = {
    "slower": Check(
        "one side is slower",
        "most often not the same was timed; what else is said here is where to look first",
        "mend what is said below; then: make bench ARGS=--self-check, which shows what this machine can resolve",
        (f"{TORCH}14033", f"{TORCH}19106", f"{TORCH}47737", f"{TORCH}52900", f"{TORCH}94974"),
        {facts.Pair: pair.slower},
    ),
    "load": Check(
        "other programs are busy",
        "they take turns with the workers, and OpenMP's threads wait for each other: medians up to 6 times worse were seen",
        "close them (see: top), wait, and measure again",
        (f"{GITHUB}NVIDIA/TensorRT/issues/3857", f"{GITHUB}pytorch/benchmark/issues/895"),
        {facts.Machine: machine.load, facts.Results: results.load},
    ),
    "steal": Check(
        "other guests of the host take CPU time",
        "a stolen moment is in the time of whatever call was running; no statistics repair it",
        "measure again when it is quiet, or on a machine of your own",
        (f"{GITHUB}NVIDIA/TensorRT/issues/3857", f"{GITHUB}pytorch/benchmark/issues/895"),
        {facts.Machine: machine.steal, facts.Results: results.steal},
    ),
    "governor": Check(
        "the CPUs' clock follows the load",
        "a short run is over before the clock has risen, so two equal runs differ",
        "sudo cpupower frequency-set -g performance",
        (f"{GITHUB}pytorch/benchmark/issues/895", f"{GITHUB}pytorch/benchmark/pull/198"),
        {facts.Machine: machine.governor, facts.Results: results.governor},
    ),
    "turbo": Check(
        "the CPUs clock above their base frequency",
        "how far depends on heat and on how many cores work: the first runs are faster than the later ones",
        "for the measurement alone, as root: echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo (AMD: echo 0 > ../cpufreq/boost)",
        (f"{GITHUB}NVIDIA/TensorRT/issues/3857", f"{GITHUB}pytorch/benchmark/issues/895"),
        {facts.Machine: machine.turbo},
    ),
    "huge-pages": Check(
        "no memory in pages of 2 MB",
        "a CPU finds some 2,000 pages quickly, and the weights of ViT-B/32 are 88,000 small ones: 49 ms a call instead of 35 were seen",
        "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; if that says so already, start it without PR_SET_THP_DISABLE",
        (f"{GITHUB}pytorch/pytorch/pull/107697", f"{GITHUB}huggingface/candle/issues/2149"),
        {facts.Machine: machine.huge_pages},
    ),
    "threads": Check(
        "more threads than CPUs, or other threads on either side",
        "threads above the CPUs wait for each other; and with other threads two programs do not do the same work",
        "give both the same: --threads N, N at most the usable CPUs",
        (f"{TORCH}26948", f"{TORCH}20156", f"{TORCH}117930"),
        {
            facts.Process: install.threads,
            facts.Results: results.threads,
            facts.Pair: pair.threads,
            facts.Artifact: artifact.threads,
        },
    ),
    "library-path": Check(
        "a LibTorch on the search path of every process",
        "it takes the place of the libraries that Python's torch, or another program, was built with: undefined symbols, crashes",
        "unset LD_LIBRARY_PATH",
        (f"{TORCH}102272", f"{TORCH}137247", f"{TORCH}62650"),
        {facts.Machine: machine.library_path},
    ),
    "versions": Check(
        "PyTorch, LibTorch, the program and the artifact are of unlike versions",
        "an artifact may run differently, or not at all, in another torch than the one that made it",
        "make libtorch && make build && make generate",
        (f"{TORCH}143962", f"{TORCH}102272"),
        {
            facts.Install: install.versions,
            facts.Program: install.program_versions,
            facts.Artifact: artifact.versions,
            facts.Results: results.versions,
            facts.Pair: pair.versions,
        },
    ),
    "abi": Check(
        "a program wants symbols that its libraries do not have",
        "it was built with another LibTorch or the other ABI of std::string, and ends when it first needs one of them",
        "build it anew with the LibTorch it runs with: make libtorch && make build",
        (f"{TORCH}17492", f"{TORCH}13541", f"{TORCH}51039"),
        {facts.Program: install.abi},
    ),
    "openmp": Check(
        "two OpenMP runtimes in one process",
        "each starts its own threads, as many as there are CPUs, and they wait for each other",
        "load one only: unset LD_PRELOAD, or remove the package that brings the other",
        (f"{TORCH}20156", f"{TORCH}13806", f"{TORCH}117930"),
        {facts.Process: install.openmp},
    ),
    "torchvision": Check(
        "a torchvision that was built for another torch",
        "its import stops (operator torchvision::nms does not exist), or its operators crash",
        "make python's environment anew, or: python -m pip install torchvision -c python/constraints.txt",
        (f"{GITHUB}pytorch/vision/issues/8985", f"{TORCH}122494", f"{GITHUB}pytorch/vision/issues/5697"),
        {facts.Install: install.torchvision},
    ),
    "compiler": Check(
        "no C++ compiler",
        "the routes compile, aoti and direct cannot be made, and no C++ program can be built",
        "install g++ (Debian: apt-get install g++), or set CXX to another compiler",
        (f"{TORCH}92745",),
        {facts.Install: install.compiler},
    ),
    "driver": Check(
        "an NVIDIA driver older than the CUDA that torch was built for",
        "torch then finds no GPU, or stops at its first call of CUDA",
        "a newer driver, or an older build: make libtorch VARIANT=cu126",
        (f"{TORCH}920", "https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html"),
        {facts.Install: install.driver},
    ),
    "debug-build": Check(
        "the C++ program was built without optimisation",
        "LibTorch's own kernels stay fast, but all that is compiled into the program crawls",
        "cmake -DCMAKE_BUILD_TYPE=Release, or: make build",
        (f"{TORCH}19106", f"{TORCH}14033"),
        {facts.Program: install.debug_build, facts.Results: results.debug_build},
    ),
    "inference-mode": Check(
        "the C++ program records gradients",
        "each call then keeps what a backward pass would need: slower, and memory grows",
        "one line before the model is loaded and called, on each thread: c10::InferenceMode guard;",
        (f"{TORCH}40133", f"{TORCH}82550", f"{TORCH}60333"),
        {facts.Program: install.inference_mode},
    ),
    "cpu-features": Check(
        "compiled code for another CPU",
        "its first unknown instruction ends the process (SIGILL); and where torch itself uses other instructions, times differ",
        "deploybench generate on the machine that runs it, or with --portable",
        (f"{TORCH}121516", f"{TORCH}191713", f"{TORCH}153697"),
        {facts.Artifact: artifact.cpu_features, facts.Pair: pair.cpu_features},
    ),
    "denormals": Check(
        "weights that are denormal, below 1e-38",
        "some CPUs are 100 times slower with them",
        "--flush-denormal on (torch.set_flush_denormal(True), at::globalContext().setFlushDenormal(true), on each thread)",
        (f"{TORCH}10140", f"{TORCH}4737", f"{GITHUB}LaurentMazare/tch-rs/issues/971"),
        {facts.Artifact: artifact.denormals},
    ),
    "cudnn-flags": Check(
        "cuDNN's flags of the moment of tracing are in the graph",
        "they hold wherever the file runs, whatever is set there: cuDNN may try its algorithms anew for each shape, or not be used",
        "trace again with torch's defaults, or script it: deploybench generate --routes script",
        (f"{TORCH}18776",),
        {facts.Artifact: artifact.cudnn_flags},
    ),
    "cold": Check(
        "the clock ran while the executor still optimised",
        "TorchScript profiles in its first call and optimises in the second; libraries prepare their kernels",
        "warm up first: --warmup 10, the default",
        (f"{TORCH}30902", f"{TORCH}56245", f"{TORCH}33354", f"{TORCH}35290", f"{TORCH}52286"),
        {facts.Results: results.cold},
    ),
    "settings": Check(
        "the two sides were not set up alike",
        "a difference in time may be that of the settings",
        "measure both with the same flags; bench does",
        (f"{TORCH}52286", f"{TORCH}19106"),
        {facts.Pair: pair.settings},
    ),
    "input": Check(
        "the two sides were not given the same work",
        "another input, batch, precision or file takes another time",
        "the same --input, --batch-size and artifact for both; bench does",
        (f"{TORCH}19106", f"{TORCH}47737"),
        {facts.Pair: pair.work},
    ),
    "machines": Check(
        "the two sides were measured on unlike machines",
        "times of another CPU, clock or number of CPUs cannot be compared",
        "measure both on one machine, in one run of bench",
        (f"{GITHUB}NVIDIA/TensorRT/issues/3857", f"{GITHUB}pytorch/benchmark/issues/895"),
        {facts.Pair: pair.machines},
    ),
}


def examine(found: object, skip: frozenset[str] = frozenset()) -> list[tuple[str, Finding]]:
    """The name and finding of each check that judges such facts, but for those to skip."""
    return [
        (name, finding)
        for name, check in CHECKS.items()
        if name not in skip and type(found) in check.looks
        for finding in check.looks[type(found)](found)
    ]


def remedy(name: str, finding: Finding) -> str:
    """The finding's own, or its check's."""
    return finding.mend or CHECKS[name].mend
