"""The folder that a run replaces as a whole: made beside it, renamed into its place, one run at a time.

A run may be killed at any moment. Until the first rename the target is untouched; between the two, what was there is
in `old`, and the next run puts it back; after them the new one is in place. Nothing is ever half there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploybench import paths, terminal
from deploybench.errors import DeploybenchError


class Target:
    """The target and its hidden neighbours, which are on the same disk, so that a rename is enough."""

    def __init__(self, out: Path) -> None:
        self.out = Path(os.path.abspath(out))  # `..` has a name, too
        if Path.cwd().is_relative_to(self.out):  # replaced, it would be gone from below one's feet; so would `/`
            what = f"{self.out}: holds the folder that you are in"
            raise DeploybenchError("output_unwritable", f"{what}; choose another one with --out FOLDER")
        self.new, self.wheels, self.old, self.lock, self.part = (
            self.out.with_name(f".{self.out.name}.{ending}") for ending in ("new", "wheels", "old", "lock", "part")
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time. The kernel frees the lock however a process ends: no killed run blocks the next."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                terminal.notice(f"waiting for another run to end that makes {paths.shown(self.out)}")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def leftovers(self) -> bool:
        """Whether a killed run has left something to clean or to put back."""
        return any(os.path.lexists(place) for place in (self.new, self.wheels, self.old))

    def recover(self) -> None:
        """Put back what a run that was killed between its two renames had set aside, and remove its half-made one."""
        if os.path.lexists(self.old) and not os.path.lexists(self.out):
            os.rename(self.old, self.out)
        for place in (self.new, self.wheels, self.old):
            _remove(place)

    def swap(self) -> None:
        """Make `new` the target. What was there is removed only after that."""
        if os.path.lexists(self.out):
            os.rename(self.out, self.old)
        os.rename(self.new, self.out)
        _remove(self.old)

    def refuse_foreign(self, verb: str, ours: bool) -> None:
        """A folder that `verb` did not make is never replaced, also not with --force: `--out ~` is one slip away."""
        empty = self.out.is_dir() and not any(self.out.iterdir())
        if os.path.lexists(self.out) and not empty and not ours:
            raise DeploybenchError(
                "output_unwritable",
                f"{paths.shown(self.out)}: exists and was not made by `deploybench {verb}`; "
                f"move it away, or choose another place with `--out FOLDER`",
            )


def _remove(place: Path) -> None:
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
