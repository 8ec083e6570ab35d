"""Unpacking a zip file (an official archive, a wheel) that is not trusted to be whole, nor to stay in its folder."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deploybench.errors import DeploybenchError

COPY_BYTES = 1 << 20
DISK_RESERVE_BYTES = 64 << 20
"""Left free on the disk beside what is unpacked: blocks and folders cost too, and a full disk harms others."""

Placement = Callable[[str], str | None]
"""Entry name -> where it goes below the target folder, or None to leave it out."""


@dataclass(frozen=True)
class Archive:
    """A zip file with what its errors need: the name that the user knows it by, and the next command when it is bad."""

    path: Path
    name: str
    mend: str

    def unpack(self, into: Path, place: Placement) -> int:
        """Unpack the entries that `place` keeps below the existing folder `into`; returns the number of files.

        Every entry is checked before the first is written, also the ones that are left out: an archive with one
        that escapes is not one of PyTorch's.
        """
        with self._opened() as opened:
            kept = []
            for entry in opened.infolist():
                self._refuse_escape(entry)
                if not entry.is_dir() and (target := place(entry.filename)) is not None:
                    kept.append((entry, into / target))
            _refuse_full_disk(into, sum(entry.file_size for entry, _ in kept))
            for entry, path in kept:
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, path.open("wb") as sink:
                    shutil.copyfileobj(source, sink, COPY_BYTES)
        return len(kept)

    def read_text(self, ending: str) -> str:
        """The first entry whose name ends in `ending`, as text; empty where there is none."""
        with self._opened() as opened:
            for name in opened.namelist():
                if name.endswith(ending):
                    return opened.read(name).decode("utf-8", "replace")
        return ""

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as opened:
                yield opened
        # What zipfile raises for damage: bad structure or CRC, a broken stream, a cut one, unknown method, encryption.
        except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, RuntimeError) as error:
            raise DeploybenchError(
                "runtime", f"{self.name}: truncated or corrupt archive ({error}); {self.mend}"
            ) from error

    def _refuse_escape(self, entry: zipfile.ZipInfo) -> None:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            wrong = "would land outside of the folder"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            # A link can lead outside, and the next entry be written through it. PyTorch's archives have none.
            wrong = "is a symbolic link or a special file"
        else:
            return
        raise DeploybenchError(
            "runtime", f"{self.name}: the entry {entry.filename!r} {wrong}; do not trust this archive: {self.mend}"
        )


def _refuse_full_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + DISK_RESERVE_BYTES > free:
        raise DeploybenchError(
            "output_unwritable",
            f"{folder.parent}: not enough disk: unpacking needs {(needed + DISK_RESERVE_BYTES) / 1e6:.0f} MB, "
            f"{free / 1e6:.0f} MB are free; free some, or unpack elsewhere: `deploybench libtorch --out FOLDER`",
        )
