"""What the kernel says of this machine: quotas, who has the CPUs, clock, driver. Reads /proc and /sys; standard library only.

`root` is the folder that these two lie in. Twin of cpp/deploybench/host where C++ needs the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
CPUS = "sys/devices/system/cpu"


def _read(path: Path) -> str:
    """The text of `path`; empty where there is none to be had."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Ticks:
    """Clock ticks since boot, of the CPUs that this process may use."""

    stolen: int  # by other guests of the host
    busy: int
    total: int
    own: int  # of `busy`: this process and its children that have ended


def ticks(root: Path = ROOT) -> Ticks:
    """Now."""
    cpus = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = [line.split() for line in _read(root / "proc" / "stat").splitlines()]
    rows = [list(map(int, fields[1:9])) for fields in lines if fields and fields[0] in cpus]
    # user nice system idle iowait irq softirq steal (man 5 proc_stat)
    busy = sum(sum(row[:3]) + sum(row[5:7]) for row in rows)
    own = sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK")
    return Ticks(sum(row[7] for row in rows), busy, sum(map(sum, rows)), round(own))


def shares(before: Ticks, after: Ticks) -> tuple[float, float]:
    """Of the CPU time between the two: the shares that other guests of the host and that other programs here took, 0 to 1."""
    total = max(1, after.total - before.total)
    others = after.busy - before.busy - (after.own - before.own)
    # steal may go backwards, when a guest is moved to another host
    return max(0, after.stolen - before.stolen) / total, min(1.0, max(0, others) / total)


def ticks_of_processes(root: Path = ROOT) -> dict[tuple[int, str], int]:
    """Clock ticks that each process has used, by its number and the name of its program."""
    used = {}
    for file in (root / "proc").glob("[0-9]*/stat"):
        # "7 (name, which may hold anything) S ...": utime and stime are the fields 14 and 15 (man 5 proc_pid_stat)
        head, _, rest = _read(file).rpartition(") ")
        fields = rest.split()
        if len(fields) > 12:
            used[int(file.parent.name), head.partition(" (")[2]] = int(fields[11]) + int(fields[12])
    return used


def busiest(before: dict[tuple[int, str], int], after: dict[tuple[int, str], int]) -> list[str]:
    """`name (process 7)` of the three that used most between the two, none that used less than a tenth of the first."""
    used = {key: ticks - before.get(key, 0) for key, ticks in after.items() if key[0] != os.getpid()}
    first = sorted(used, key=lambda key: -used[key])[:3]
    return [f"{name} (process {pid})" for pid, name in first if used[pid, name] > used[first[0]] / 10]


def cpu_quota(root: Path = ROOT) -> float | None:
    """The CPUs' worth of time that this process's control groups allow it, the tightest of them; None: no limit.

    cpu.max of version 2 ("150000 100000" is 1.5 CPUs), cpu.cfs_quota_us of version 1 (-1 is no limit).
    """
    limits = [limit for group in _groups(root, "cpu") if (limit := _limit(group))]
    return min(limits, default=None)


def memory_left(root: Path = ROOT) -> int | None:
    """Bytes that the limits of this process's control groups leave to new processes, the tightest of them; None: no limit.

    memory.max of version 2, memory.limit_in_bytes of version 1. Pages of files count as free, as they do in MemAvailable:
    the kernel drops them before it ends a process.
    """
    return min((left for group in _groups(root, "memory") if (left := _left(group)) is not None), default=None)


def _left(group: Path) -> int | None:
    try:
        most = int(_read(group / "memory.max") or _read(group / "memory.limit_in_bytes"))
        used = int(_read(group / "memory.current") or _read(group / "memory.usage_in_bytes"))
    except ValueError:  # max, or there is no such file
        return None
    rows = dict(line.split() for line in _read(group / "memory.stat").splitlines())
    total = "" if (group / "memory.max").exists() else "total_"  # version 1 has those of the groups below apart
    files = sum(int(rows.get(f"{total}{name}_file", 0)) for name in ("active", "inactive"))
    return max(0, most - used + files)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups that this controller can limit, each with those above it."""
    top = root / "sys" / "fs" / "cgroup"
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        # in a container the path may be the host's: what is mounted at the top is then the container's own group
        for one in (PurePosixPath(group), *PurePosixPath(group).parents):
            yield top / controllers / str(one).lstrip("/")


def _limit(group: Path) -> float | None:
    words = _read(group / "cpu.max").split() or [_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")]
    try:
        quota, period = map(int, words)
    except ValueError:  # max, or there is no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def governor(root: Path = ROOT) -> str | None:
    """The frequency governor of the usable CPUs, such as `powersave`; several by a slash. None: this machine shows none."""
    files = [
        root / CPUS / f"cpu{number}" / "cpufreq" / "scaling_governor" for number in sorted(os.sched_getaffinity(0))
    ]
    return "/".join(dict.fromkeys(filter(None, map(_read, files)))) or None


def turbo(root: Path = ROOT) -> bool | None:
    """Whether CPUs may clock above their base frequency; None: this machine does not say."""
    if said := _read(root / CPUS / "intel_pstate" / "no_turbo"):
        return said == "0"
    said = _read(root / CPUS / "cpufreq" / "boost")
    return said == "1" if said else None


def huge_pages(root: Path = ROOT) -> bool | None:
    """Whether processes of this shell get pages of 2 MB where they ask for them; None: nothing says so."""
    said = _read(root / "sys/kernel/mm/transparent_hugepage/enabled")
    if not said:
        return None
    return "[never]" not in said and not re.search(
        r"^THP_enabled:\s+0$", _read(root / "proc/self/status"), re.MULTILINE
    )


def nvidia_driver(root: Path = ROOT) -> str | None:
    """The version of the NVIDIA driver's kernel module: `535.104.05`; None: there is none."""
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", _read(root / "proc" / "driver" / "nvidia" / "version"))
    return found[0] if found else None
