"""The one exception for everything a user can mend. Its message is the whole answer: which file, what is wrong, what to type next."""

from __future__ import annotations

import re
import sys

USAGE_EXIT = 2
FAILURE_EXIT = 1
UNSUPPORTED_EXIT = 3
EXITS = {"usage": USAGE_EXIT, "unsupported": UNSUPPORTED_EXIT}


class DeploybenchError(Exception):
    """A failure with a code for machines and one line for people.

    `code` is one of the words in data/record.schema.json; `usage` exits with 2, `unsupported` (a route says that it is not
    made for this model or CPU) with 3, every other with 1.
    """

    artifact: str | None = None  # what --artifact named, for the failure record

    def __init__(self, code: str, message: str) -> None:
        # One line that no terminal obeys: file names and artifacts may hold line breaks and escape codes.
        line = re.sub(r"\s+", " ", message).strip()
        super().__init__("".join(character if character.isprintable() else "?" for character in line))
        self.code = code

    @property
    def exit_code(self) -> int:
        """What the program ends with."""
        return EXITS.get(self.code, FAILURE_EXIT)


def debugging() -> bool:
    """Whether the user asked for tracebacks: `deploybench --debug VERB`."""
    return "--debug" in sys.argv[1:2]


def first_line(error: BaseException) -> str:
    """The first line of a library's message that says something, for a one-line error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else repr(error))[:200]
