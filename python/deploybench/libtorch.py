"""The verb `libtorch`: LibTorch in vendor/libtorch, from the torch wheel, from the official archive, or from a folder.

By default it comes from the torch wheel of the pinned version: the very build that Python runs, so that the two sides
cannot drift. Everything is made beside the target, under a lock, and then renamed: what is in the target is whole.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from deploybench import libtorch_folder, paths, terminal, wheel
from deploybench.archive import Archive
from deploybench.errors import DeploybenchError
from deploybench.libtorch_folder import Marker
from deploybench.target import Target
from deploybench.variants import Choice, choose_variant, resolve_variant

EXAMPLE = "libtorch --variant cpu"
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `deploybench libtorch`."""
    what = parser.add_argument_group("which LibTorch")
    what.add_argument("--source", choices=SOURCES, help="where it comes from (default: wheel, or path with --path)")
    what.add_argument(
        "--variant",
        default="auto",
        metavar="auto|cpu|cu130|...",
        help="the build (default: auto, by the NVIDIA driver)",
    )
    what.add_argument(
        "--path", metavar="FOLDER", help="use the LibTorch in FOLDER, also the torch folder of a Python package"
    )
    what.add_argument("--version", help="torch version (default: the pinned one)")
    what.add_argument("--url", help="for zip: the archive, in place of the official one")
    what.add_argument("--sha256", help="for wheel and zip: refuse a file with another checksum")
    where = parser.add_argument_group("where to")
    where.add_argument("--out", type=Path, default=paths.LIBTORCH, metavar="FOLDER", help="default: vendor/libtorch")
    where.add_argument("--force", action="store_true", help="make it again even when it is up to date")


def run(args: argparse.Namespace) -> int:
    """Make what the flags ask for; nothing where it is there already."""
    wish, target = _wish(args), Target(args.out)
    started = time.monotonic()
    try:
        if _is_met(wish, target, args.force) and not target.leftovers():
            return _say_up_to_date(target, args.json)
        with target.locked():
            target.recover()
            if _is_met(wish, target, args.force):
                return _say_up_to_date(target, args.json)
            target.refuse_foreign("libtorch", libtorch_folder.read_marker(target.out) is not None)
            marker = _make(wish, target)
    except OSError as error:
        raise DeploybenchError(
            "output_unwritable",
            f"{error.filename or paths.shown(args.out)}: {error.strerror or error}; free the disk, or choose a folder "
            "that can be written: `deploybench libtorch --out FOLDER`",
        ) from error
    if args.json:
        return _emit(target, marker, made=True)
    what, seconds = f"LibTorch {marker.version} {marker.variant}", time.monotonic() - started
    terminal.show(f"{what} is in {paths.shown(target.out)}, from {marker.origin} ({seconds:.1f} s)")
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
    origin = ""
    if source != "wheel":
        origin = os.path.realpath(args.path) if args.path else args.url or _official(version, variant)
    return Wish(source, version, variant, args.variant, origin, args.sha256.lower() if args.sha256 else None)


def _official(version: str, variant: str) -> str:
    return OFFICIAL.format(variant=variant, version=quote(f"{version.partition('+')[0]}+{variant}"))


def _is_met(wish: Wish, target: Target, force: bool) -> bool:
    return not force and wish.is_met_by(libtorch_folder.installed(target.out))


def _emit(target: Target, marker: Marker, made: bool) -> int:
    terminal.emit({"folder": str(target.out), "made": made, **dataclasses.asdict(marker)})
    return 0


def _say_up_to_date(target: Target, json: bool) -> int:
    marker = libtorch_folder.read_marker(target.out)
    assert marker is not None
    if json:
        return _emit(target, marker, made=False)
    terminal.show(f"LibTorch {marker.version} {marker.variant} in {paths.shown(target.out)} is up to date")
    return 0


def _make(wish: Wish, target: Target) -> Marker:
    try:
        target.new.mkdir()
        marker = {"wheel": _from_wheel, "zip": _from_zip, "path": _from_path}[wish.source](wish, target)
        libtorch_folder.write_marker(target.new, marker)
        target.swap()
        return marker
    finally:
        target.recover()


def _from_wheel(wish: Wish, target: Target) -> Marker:
    choice = choose_variant(wish.requested)
    terminal.notice(f"variant {choice.variant}: {choice.reason}")
    target.wheels.mkdir()
    wheels = wheel.download(wish.version, choice, target.wheels)
    torch, variant = wheels[0], wheel.variant(wheels[0])
    if variant != choice.variant:
        if wish.requested != "auto":
            raise DeploybenchError(
                "runtime",
                f"--variant {wish.requested}: pip has only the {variant} build ({torch.name}); "
                f"type `deploybench libtorch --variant auto` to take it, or `--source zip --variant {wish.requested}`",
            )
        terminal.notice(f"variant {variant}: pip has this build only ({torch.name})")
    digest = _checked_sha256(torch, wish)
    wheel.lay_out(wheels, target.new)
    return Marker(_checked_version(wish, target.new, torch), variant, "wheel", digest, torch.name, wish.variant)


def _from_zip(wish: Wish, target: Target) -> Marker:
    # Imported here: http.client and ssl take 60 ms, which the verbs that only print must not pay.
    from deploybench import download

    terminal.notice(f"variant {wish.variant}: {resolve_variant(wish.requested)[1]}; from {wish.origin}")
    download.fetch(wish.origin, target.part)
    archive = Archive(target.part, wish.origin.rpartition("/")[2], ZIP_MEND)
    try:
        digest = _checked_sha256(archive, wish)
        archive.unpack(target.new, _place_zip)
        version = _checked_version(wish, target.new, archive)
    except DeploybenchError as error:
        if error.code != "output_unwritable":  # a full disk is no reason to download again
            download.forget(target.part)
        raise
    download.forget(target.part)
    return Marker(version, libtorch_folder.read_variant(target.new), "zip", digest, wish.origin, wish.variant)


def _from_path(wish: Wish, target: Target) -> Marker:
    folder = Path(wish.origin)
    if folder.is_relative_to(os.path.realpath(target.out)):
        raise DeploybenchError(
            "usage",
            f"--path {folder}: is the target itself; type `deploybench libtorch` without --path to make it anew",
        )
    version = libtorch_folder.check(
        folder, str(folder), "give the folder that holds include, lib and share: `--path FOLDER`"
    )
    if version != libtorch_folder.release(wish.version):
        terminal.warn(f"{folder} is LibTorch {version}, and torch {wish.version} is pinned for Python")
    for part in libtorch_folder.PARTS:
        (target.new / part).symlink_to(folder / part)
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
            f"{archive.name}: checksum mismatch, it is {digest.hexdigest()} and not {wish.sha256}; {archive.mend}",
        )
    return digest.hexdigest()


def _checked_version(wish: Wish, folder: Path, archive: Archive) -> str:
    version = libtorch_folder.check(folder, archive.name, archive.mend)
    if version != libtorch_folder.release(wish.version):
        raise DeploybenchError(
            "runtime",
            f"{archive.name}: is LibTorch {version}, not {wish.version}; type `deploybench libtorch --version ...`",
        )
    return version
