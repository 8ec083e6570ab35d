"""What the Python API gives back: plain data, and the text that the verb of the same name prints. No torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploybench import artifact


@dataclass(frozen=True, repr=False)
class Result:
    """The answer of one call.

    `records`: what `--json` prints, an object a line ([the fields](record.md#json-of-the-verbs)). `text`: what `table()` gives.
    """

    records: list[dict[str, Any]]
    text: str

    def table(self) -> str:
        """What the verb prints for a person."""
        return self.text

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the records to `path`, one JSON object a line, and gives it back.

        Raises DeploybenchError (output_unwritable) where that cannot be done.
        """
        return write_text(path, "".join(json.dumps(record) + "\n" for record in self.records))

    def __repr__(self) -> str:
        return self.table()


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Writes a whole file or nothing, in a folder that is made where it is missing. Raises output_unwritable."""
    file = Path(path)
    with artifact.written_atomically(file) as partial:
        partial.write_text(text, encoding="utf-8")
    return file
