"""The verb `libtorch`: LibTorch in vendor/libtorch, from the torch wheel, from the official archive, or from a folder.

By default it comes from the torch wheel of the pinned version: the very build that Python runs, so the two sides cannot drift.
Everything is made beside the target, under a lock, and then renamed: whoever reads the target sees a whole LibTorch or none.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from deploybench import libtorch_folder, paths, wheel
from deploybench.archive import Archive
from deploybench.errors import DeploybenchError
from deploybench.libtorch_folder import Marker
from deploybench.variants import Choice, choose_variant, resolve_variant

SOURCES = ("wheel", "zip", "path")
OFFICIAL = "https://download.pytorch.org/libtorch/{variant}/libtorch-shared-with-deps-{version}.zip"
ZIP_MEND = "it was thrown away: run it again, or type `deploybench libtorch --source wheel`"
HASH_BYTES = 1 << 20


@dataclass(frozen=True)
class Wish:
    """What was asked for, flags resolved."""

    source: str
    version: str  # as typed: 2.13.0 or 2.13.0+cpu
    variant: str  # resolved; empty for a path
    requested: str  # as typed: auto, cpu, ...
    origin: str  # url or folder; empty for a wheel, whose file name only pip knows
    sha256: str | None

    def is_met_by(self, marker: Marker | None) -> bool:
        """Whether what `marker` describes is what was asked for."""
        if marker is None or marker.source != self.source or self.sha256 not in (None, marker.sha256):
            return False
        if self.origin and marker.origin != self.origin:
            return False
        return self.source == "path" or (marker.version, marker.asked) == (
            libtorch_folder.release(self.version),
            self.variant,
        )


class Places:
    """The target and its hidden neighbours, on the same disk so that a rename does."""

    def __init__(self, out: Path) -> None:
        self.out = out.absolute()
        self.new, self.wheels, self.old, self.lock, self.part = (
            self.out.with_name(f".{self.out.name}.{ending}") for ending in ("new", "wheels", "old", "lock", "part")
        )

    def leftovers(self) -> bool:
        """Whether a killed run has left something to clean or to put back."""
        return any(os.path.lexists(place) for place in (self.new, self.wheels, self.old))

    def recover(self) -> None:
        """Put back the LibTorch that a run killed between its two renames had set aside, and remove its half-made one."""
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `deploybench libtorch`."""
    parser.add_argument("--source", choices=SOURCES, help="where it comes from (default: wheel, or path with --path)")
    parser.add_argument(
        "--variant",
        default="auto",
        metavar="auto|cpu|cu130|...",
        help="the build (default: auto, by the NVIDIA driver)",
    )
    parser.add_argument(
        "--path", metavar="FOLDER", help="use the LibTorch in FOLDER, also the torch folder of a Python package"
    )
    parser.add_argument("--version", help="torch version (default: the pinned one)")
    parser.add_argument("--url", help="for zip: the archive, in place of the official one")
    parser.add_argument("--sha256", help="for wheel and zip: refuse a file with another checksum")
    parser.add_argument("--out", type=Path, default=paths.LIBTORCH, metavar="FOLDER", help="default: vendor/libtorch")
    parser.add_argument("--force", action="store_true", help="make it again even when it is up to date")


def run(args: argparse.Namespace) -> int:
    """Make what the flags ask for; nothing where it is there already."""
    wish, places = _wish(args), Places(args.out)
    started = time.monotonic()
    try:
        if _is_met(wish, places, args.force) and not places.leftovers():
            return _say_up_to_date(places)
        places.out.parent.mkdir(parents=True, exist_ok=True)
        with _locked(places.lock):
            places.recover()
            if _is_met(wish, places, args.force):
                return _say_up_to_date(places)
            _refuse_foreign(places.out)
            marker = _make(wish, places)
    except OSError as error:
        raise DeploybenchError(
            "output_unwritable",
            f"{error.filename or paths.shown(args.out)}: {error.strerror or error}; free the disk or choose a folder that can be "
            "written: `deploybench libtorch --out FOLDER`",
        ) from error
    seconds = time.monotonic() - started
    print(
        f"LibTorch {marker.version} {marker.variant} is in {paths.shown(places.out)}, from {marker.origin} ({seconds:.1f} s)"
    )
    return 0


def python_choice() -> Choice:
    """The torch build for the virtual environments: that of the LibTorch in vendor/libtorch, else what auto chooses."""
    marker = libtorch_folder.installed()
    follows = marker is not None and marker.source != "path" and re.fullmatch(r"cpu|cu\d{3}", marker.variant)
    return choose_variant(marker.variant if marker and follows else "auto")


def _wish(args: argparse.Namespace) -> Wish:
    source = args.source or ("path" if args.path else "wheel")
    for flag, belongs_to in (("path", ("path",)), ("url", ("zip",)), ("sha256", ("wheel", "zip"))):
        if getattr(args, flag) and source not in belongs_to:
            raise DeploybenchError(
                "usage", f"--{flag}: goes with --source {' or '.join(belongs_to)}, not with {source}; leave one out"
            )
    if source == "path" and not args.path:
        raise DeploybenchError("usage", "--source path: no folder given; type `deploybench libtorch --path FOLDER`")
    version = args.version or paths.pinned("torch")
    if not re.fullmatch(r"\d+\.\d+\.\d+[\w.+]*", version):
        raise DeploybenchError("usage", f"--version {version}: is no torch version; type one like 2.13.0")
    if args.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", args.sha256):
        raise DeploybenchError("usage", f"--sha256 {args.sha256}: is no SHA-256; it has 64 hexadecimal digits")
    if args.url and not re.match(r"https?://", args.url):
        raise DeploybenchError(
            "usage", f"--url {args.url}: only http:// and https:// can be fetched; for a folder type --path FOLDER"
        )
    variant = "" if source == "path" else resolve_variant(args.variant)[0]
    origin = {"wheel": "", "zip": args.url or _official(version, variant), "path": os.path.realpath(args.path or ".")}[
        source
    ]
    return Wish(source, version, variant, args.variant, origin, args.sha256.lower() if args.sha256 else None)


def _official(version: str, variant: str) -> str:
    return OFFICIAL.format(variant=variant, version=quote(f"{version.partition('+')[0]}+{variant}"))


def _is_met(wish: Wish, places: Places, force: bool) -> bool:
    return not force and wish.is_met_by(libtorch_folder.installed(places.out))


def _say_up_to_date(places: Places) -> int:
    marker = libtorch_folder.read_marker(places.out)
    assert marker is not None
    print(f"LibTorch {marker.version} {marker.variant} in {paths.shown(places.out)} is up to date")
    return 0


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """One run at a time a target. The kernel lets go of the lock however the process ends, so a killed run never blocks the next."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another `deploybench libtorch` to end", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _refuse_foreign(out: Path) -> None:
    """A folder that this verb did not make is never replaced, also not with --force: `--out ~` is one slip away."""
    if not os.path.lexists(out) or libtorch_folder.read_marker(out) or (out.is_dir() and not any(out.iterdir())):
        return
    raise DeploybenchError(
        "output_unwritable",
        f"{paths.shown(out)}: is there and was not made by `deploybench libtorch`; move it away or choose another --out",
    )


def _make(wish: Wish, places: Places) -> Marker:
    try:
        places.new.mkdir()
        marker = {"wheel": _from_wheel, "zip": _from_zip, "path": _from_path}[wish.source](wish, places)
        libtorch_folder.write_marker(places.new, marker)
        places.swap()
        return marker
    finally:
        places.recover()


def _from_wheel(wish: Wish, places: Places) -> Marker:
    choice = choose_variant(wish.requested)
    print(f"variant {choice.variant}: {choice.reason}", flush=True)
    places.wheels.mkdir()
    wheels = wheel.download(wish.version, choice, places.wheels)
    torch, variant = wheels[0], wheel.variant(wheels[0])
    if variant != choice.variant:
        if wish.requested != "auto":
            raise DeploybenchError(
                "runtime",
                f"--variant {wish.requested}: pip has only the {variant} build ({torch.name}); type `deploybench libtorch --variant auto` "
                f"to take it, or `--source zip --variant {wish.requested}`",
            )
        print(f"variant {variant}: pip has this build only ({torch.name})", flush=True)
    digest = _checked_sha256(torch, wish)
    wheel.lay_out(wheels, places.new)
    return Marker(_checked_version(wish, places.new, torch), variant, "wheel", digest, torch.name, wish.variant)


def _from_zip(wish: Wish, places: Places) -> Marker:
    # Imported here: http.client and ssl take 60 ms, which the verbs that only print must not pay.
    from deploybench import download

    print(f"variant {wish.variant}: {resolve_variant(wish.requested)[1]}; from {wish.origin}", flush=True)
    download.fetch(wish.origin, places.part)
    archive = Archive(places.part, wish.origin.rpartition("/")[2], ZIP_MEND)
    try:
        digest = _checked_sha256(archive, wish)
        archive.unpack(places.new, _place_zip)
        version = _checked_version(wish, places.new, archive)
    except DeploybenchError as error:
        if error.code != "output_unwritable":  # a full disk is no reason to download again
            download.forget(places.part)
        raise
    download.forget(places.part)
    return Marker(version, libtorch_folder.read_variant(places.new), "zip", digest, wish.origin, wish.variant)


def _from_path(wish: Wish, places: Places) -> Marker:
    folder = Path(wish.origin)
    if folder.is_relative_to(os.path.realpath(places.out)):
        raise DeploybenchError(
            "usage",
            f"--path {folder}: is the target itself; type `deploybench libtorch` without --path to make it anew",
        )
    version = libtorch_folder.check(
        folder, str(folder), "give the folder that holds include, lib and share: `--path FOLDER`"
    )
    if version != libtorch_folder.release(wish.version):
        print(
            f"warning: {folder} is LibTorch {version}, and torch {wish.version} is pinned for Python", file=sys.stderr
        )
    for part in libtorch_folder.PARTS:
        (places.new / part).symlink_to(folder / part)
    return Marker(version, libtorch_folder.read_variant(folder), "path", None, str(folder), "")


def _place_zip(entry: str) -> str | None:
    """The official archive has everything below libtorch/; its bin holds only test programs."""
    top, _, rest = entry.partition("/")
    return rest if top == "libtorch" and rest and not rest.startswith("bin/") else None


def _checked_sha256(archive: Archive, wish: Wish) -> str:
    digest = hashlib.sha256()
    with archive.path.open("rb") as file:
        while block := file.read(HASH_BYTES):
            digest.update(block)
    if wish.sha256 not in (None, digest.hexdigest()):
        raise DeploybenchError(
            "runtime",
            f"{archive.name}: checksum mismatch: it has {digest.hexdigest()}, --sha256 says {wish.sha256}; {archive.mend}",
        )
    return digest.hexdigest()


def _checked_version(wish: Wish, folder: Path, archive: Archive) -> str:
    version = libtorch_folder.check(folder, archive.name, archive.mend)
    if version != libtorch_folder.release(wish.version):
        raise DeploybenchError(
            "runtime",
            f"{archive.name}: is LibTorch {version}, not {wish.version}; type `deploybench libtorch --version {version}`",
        )
    return version


def _remove(place: Path) -> None:
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
