"""Checks of one artifact."""

from __future__ import annotations

from pathlib import Path

from deploybench import options, routes
from deploybench.checks.finding import OK, PROBLEM, UNKNOWN, WARNING, Finding, share
from deploybench.facts import Artifact
from deploybench.libtorch_folder import release

# Of the weights. An instruction works on 16, and waits some 150 cycles where one of them is denormal: at 1e-5 it is 2 % slower.
FEW, MANY = 1e-5, 1e-3


def versions(at: Artifact) -> list[Finding]:
    """Of the torch that made it."""
    if at.metadata is None:
        return [Finding(UNKNOWN, f"{at.path}: deploybench did not make it, so nothing says which torch did")]
    made = at.metadata.torch_version
    if at.torch and release(at.torch) != release(made):
        again = f"{routes.making(Path(at.path), at.metadata)} --force"
        return [Finding(PROBLEM, f"{at.path}: made by torch {made}, here is {at.torch}", again)]
    return [Finding(OK, f"made by torch {made}")]


def cpu_features(at: Artifact) -> list[Finding]:
    """Of the stamp of compiled code."""
    if at.metadata is None:
        return [Finding(UNKNOWN, f"{at.path}: has no stamp that says which CPU it wants")]
    wanted = at.metadata.built_for.get("cpu_flags", [])
    if not wanted:
        return [Finding(OK, "no code that is compiled for a CPU")]
    if not at.cpu_flags:
        return [Finding(UNKNOWN, "/proc/cpuinfo lists no features of this CPU")]
    if missing := sorted(set(wanted) - set(at.cpu_flags)):
        again = f"{routes.making(Path(at.path), at.metadata)} --force, here or with --portable"
        return [
            Finding(PROBLEM, f"{at.path}: compiled for a CPU with {', '.join(missing)}, which this one lacks", again)
        ]
    return [Finding(OK, f"this CPU has the {len(wanted)} features that it was compiled for")]


def threads(at: Artifact) -> list[Finding]:
    """That the weights of compiled code are packed for."""
    packed = at.metadata.built_for.get("threads") if at.metadata else None
    if at.metadata is None or packed is None:
        return [Finding(OK, "no weights that are packed for a number of threads")]
    if packed != (here := options.usable_cpus()):
        what = (
            f"{at.path}: its weights are packed for {packed} thread{'s' * (packed != 1)}, and {here} would run it here"
        )
        return [Finding(WARNING, what, routes.making(Path(at.path), at.metadata, threads=here))]
    return [Finding(OK, f"its weights are packed for {packed} thread{'s' * (packed != 1)}, as would run it here")]


def denormals(at: Artifact) -> list[Finding]:
    """Of its weights."""
    if at.weights is None or at.why:
        return [Finding(UNKNOWN, f"denormal weights: {at.why or 'not counted'}")]
    if at.weights == 0:
        return [Finding(UNKNOWN, "denormal weights: it holds no fp32 or bf16 numbers")]
    part = at.denormal / at.weights
    if part < FEW:
        return [
            Finding(
                OK, f"{at.denormal or 'none'} of {at.weights:,} weights {'is' if at.denormal <= 1 else 'are'} denormal"
            )
        ]
    return [
        Finding(
            PROBLEM if part >= MANY else WARNING,
            f"{at.denormal:,} of {at.weights:,} weights are denormal, {share(part)}",
        )
    ]


def cudnn_flags(at: Artifact) -> list[Finding]:
    """Of the constants of aten::_convolution."""
    if at.convolutions is None:
        return [Finding(UNKNOWN, "cuDNN's flags: it has no graph of TorchScript")]
    if not at.cudnn:
        return [Finding(OK, "no unusual flag of cuDNN in its graph")]
    flags = ", ".join(at.cudnn)
    if at.metadata and at.metadata.device == "cpu":
        return [Finding(OK, f"{flags} is in its graph, which means nothing on the CPU that it is for")]
    level = PROBLEM if "cudnn.enabled = False" in at.cudnn else WARNING
    return [Finding(level, f"{flags} was recorded in {at.convolutions} convolutions and will hold on every GPU")]
