"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, PROBLEM, UNKNOWN = "ok", "warning", "problem", "cannot tell"


@dataclass(frozen=True)
class Finding:
    """One sentence about one thing."""

    level: str  # OK, WARNING, PROBLEM, UNKNOWN
    found: str
    mend: str = ""  # the command, where the check's own does not fit


def share(part: float) -> str:
    """`part` of 1 in percent: 0.4 %, 32 %."""
    return f"{part:.0%}".replace("%", " %") if part >= 0.0995 or part == 0 else f"{part:.1%}".replace("%", " %")


def counted(number: int, what: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{number:,} {what}{'s' * (number != 1)}"
