"""Checks of this machine, as it is now."""

from __future__ import annotations

from deploybench.checks.finding import OK, PROBLEM, UNKNOWN, WARNING, Finding, counted, share
from deploybench.facts import Machine

BUSY = 0.05  # of the CPU time; daemons of an idle machine take 1 %
STOLEN = 0.02


def load(at: Machine) -> list[Finding]:
    """Of programs that run beside us."""
    said = f"other programs take {share(at.others)} of the time of {counted(at.cpus, 'CPU')}"
    if at.others <= BUSY:
        return [Finding(OK, said)]
    return [Finding(WARNING, f"{said}{', most of it ' if at.busiest else ''}{', '.join(at.busiest)}")]


def steal(at: Machine) -> list[Finding]:
    """Of other guests of the host."""
    return [
        Finding(WARNING if at.stolen > STOLEN else OK, f"other guests of the host take {share(at.stolen)} of the time")
    ]


def governor(at: Machine) -> list[Finding]:
    """Of the kernel's choice of clock."""
    if at.governor is None:
        return [Finding(UNKNOWN, "no frequency governor is shown here, as in most virtual machines")]
    return [Finding(OK if at.governor == "performance" else WARNING, f"the frequency governor is {at.governor}")]


def turbo(at: Machine) -> list[Finding]:
    """Of clocks that depend on heat."""
    if at.turbo is None:
        return [Finding(UNKNOWN, "nothing says whether turbo is on, as in most virtual machines")]
    return [Finding(WARNING, "turbo is on")] if at.turbo else [Finding(OK, "turbo is off")]


def huge_pages(at: Machine) -> list[Finding]:
    """Of the kernel's way to give memory."""
    if at.huge_pages is None:
        return [Finding(UNKNOWN, "nothing says whether there are pages of 2 MB")]
    if at.huge_pages:
        return [Finding(OK, "pages of 2 MB for what asks for them")]
    return [Finding(WARNING, "all memory is in pages of 4 kB, also where pages of 2 MB are asked for")]


def library_path(at: Machine) -> list[Finding]:
    """Of this shell's search path."""
    if not at.torch_on_path:
        return [Finding(OK, "no LibTorch on LD_LIBRARY_PATH or LD_PRELOAD")]
    variables = dict.fromkeys(variable for variable, _ in at.torch_on_path)
    where = ", ".join(f"{variable} leads to {entry}" for variable, entry in at.torch_on_path)
    said = f"torch libraries on the search path: {where}. deploybench takes it out for its own processes, others get it"
    return [Finding(PROBLEM, said, f"unset {' '.join(variables)}")]
