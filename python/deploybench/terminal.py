"""How the verbs speak: data on stdout, all else on stderr; colour on terminals alone. The one place that knows.

`show` and `emit` are for data, `notice`, `warn` and `error` for people. Twin of cpp/deploybench/console.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

BOLD, RED, GREEN, YELLOW = "1", "1;31", "1;32", "1;33"
VERDICTS = {
    "PASS": GREEN, "WIN": GREEN, "FAIL": RED, "REGRESSION": RED, "REFUSED": YELLOW, "INCONCLUSIVE": YELLOW,
    "error:": RED, "warning:": YELLOW,
}  # fmt: skip
VERDICT = re.compile(rf"(?<![\w-])({'|'.join(VERDICTS)})(?![\w-])")

_quiet = False
_stdout: TextIO | None = None  # the real one, while whoever else writes to it gets stderr


def set_quiet(quiet: bool) -> None:
    """--quiet: from now on no progress and no notices. Errors and warnings stay."""
    global _quiet
    _quiet = quiet


@contextlib.contextmanager
def own_stdout() -> Iterator[None]:
    """Here stdout is for data alone: what a model prints while it is built or called goes to stderr."""
    global _stdout
    if sys.stdout is None:  # the caller closed it
        yield
        return
    _stdout = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _stdout = None


def stdout() -> TextIO:
    """Where data go."""
    return _stdout or sys.stdout


def no_bar() -> bool | None:
    """What tqdm takes as `disable`: never a bar when quiet, else one on a terminal only."""
    return True if _quiet else None


def quiet() -> bool:
    """Whether progress and notices are unwanted."""
    return _quiet


def coloured(stream: TextIO | None) -> bool:
    """Whether `stream` takes colours: a terminal does. NO_COLOR (no-color.org) forbids them, FORCE_COLOR (force-color.org)
    wants them in pipes too; of both the first wins, as in Python 3.13."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def painted(text: str, style: str, stream: TextIO | None) -> str:
    """`text` in `style` where `stream` takes colours."""
    return f"\033[{style}m{text}\033[0m" if text and coloured(stream) else text


def with_verdicts(text: str, stream: TextIO | None) -> str:
    """`text` with its verdicts in their colours: PASS, FAIL, ..."""
    return VERDICT.sub(lambda found: painted(found[0], VERDICTS[found[0]], stream), text)


def with_headings(text: str) -> str:
    """The text of --help with its headings, for stdout, in bold."""
    return re.sub(
        r"^[a-z][^\n]*:$|^usage:", lambda found: painted(found[0], BOLD, sys.stdout), text, flags=re.MULTILINE
    )


def show(text: str, heading: bool = False) -> None:
    """Data for a person, on stdout; with `heading` its first line is one."""
    first, newline, rest = text.partition("\n") if heading else ("", "", text)
    write(painted(first, BOLD, stdout()) + newline + with_verdicts(rest, stdout()) + "\n")


def emit(record: dict[str, Any]) -> None:
    """Data for a program, on stdout: one line of JSON. NaN and infinity are no JSON and raise ValueError."""
    write(json.dumps(record, allow_nan=False) + "\n")


def write(text: str) -> None:
    """Data as they are, on stdout, at once."""
    print(text, end="", file=stdout(), flush=True)


def notice(text: str) -> None:
    """On stderr, unless it is to be quiet."""
    if not _quiet:
        print(text, file=sys.stderr)


def warn(text: str) -> None:
    """`warning: <text>` on stderr."""
    print(f"{painted('warning:', YELLOW, sys.stderr)} {text}", file=sys.stderr)


def error(text: object) -> None:
    """`error: <text>` on stderr."""
    print(f"{painted('error:', RED, sys.stderr)} {text}", file=sys.stderr)
