"""The programs of a checkout of this repository: this one's, or those of an older one that are measured beside them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from deploybench import library_paths, paths
from deploybench.errors import DeploybenchError
from deploybench.paths import shown


@dataclass(frozen=True)
class Checkout:
    """Its root; every process of an older one starts there, so that its package is found before this one's."""

    root: Path

    @property
    def own(self) -> bool:
        """Whether it is this one."""
        return self.root == paths.ROOT

    @property
    def folder(self) -> Path | None:
        """Where its processes start; None: where this one runs."""
        return None if self.own else self.root

    def verb(self, *arguments: str) -> list[str]:
        """The command of a verb, with the Python that this checkout set up for itself, else with the one that runs this."""
        its = self.root / ".nox" / "python" / "bin" / "python"
        python = sys.executable if self.own or not its.exists() else str(its)
        return [python, "-m", "deploybench", *arguments]

    def worker(self, runtime: str) -> list[str]:
        """The command of a worker, without its flags."""
        return [str(self.root / "cpp" / "build" / "bin" / "bench")] if runtime == "cpp" else self.verb("worker")

    def environment(self, runtime: str) -> dict[str, str]:
        """That of its processes."""
        if runtime == "cpp":
            return library_paths.cpp_environment(self.root / "vendor" / "libtorch")
        environment = library_paths.python_environment()
        if not self.own:
            there = [str(self.root / "python"), *filter(None, [environment.get("PYTHONPATH")])]
            environment["PYTHONPATH"] = os.pathsep.join(there)
        return environment


HERE = Checkout(paths.ROOT)


def at(folder: Path, runtimes: set[str]) -> Checkout:
    """The checkout in `folder`, which can run these. Raises input_missing."""
    checkout = Checkout(folder.resolve())
    needed = {"python": checkout.root / "python" / "deploybench" / "cli.py", "cpp": Path(checkout.worker("cpp")[0])}
    mend = {"python": "git worktree add FOLDER COMMIT", "cpp": "in that folder: make build"}
    for runtime in sorted(runtimes | {"python"}, reverse=True):
        if not needed[runtime].is_file():
            raise DeploybenchError(
                "input_missing", f"{shown(folder)}: has no {needed[runtime].name} to run; {mend[runtime]}"
            )
    return checkout
