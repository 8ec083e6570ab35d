"""`deploybench bundle`: a folder that classifies photos on a machine with a C library and nothing else. Imports no torch.

It is made beside its place and then renamed. docs/bundle.md says what it needs where it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from deploybench import artifact, bundle_folder, paths, routes, terminal
from deploybench.artifact import Metadata
from deploybench.errors import DeploybenchError
from deploybench.target import Target

EXAMPLE = "bundle --artifact artifacts/resnet50.script-fp32-cpu.ts --force"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    what = parser.add_argument_group("what is bundled")
    what.add_argument(
        "--artifact", type=Path, required=True, metavar="FILE", help="what `generate` made, for C++ (required)"
    )
    what.add_argument(
        "--program", type=Path, metavar="FILE",
        help="your own, linked with the C++ library (default: infer, which takes photos and folders)",
    )  # fmt: skip
    what.add_argument(
        "--route", metavar="NAME", help="how README.txt says to run it: fused, ... (default: the first for its kind)"
    )
    where = parser.add_argument_group("where to")
    where.add_argument("--out", type=Path, metavar="FOLDER", help="default: dist/MODEL")
    where.add_argument("--tar", action="store_true", help="also FOLDER.tar.xz, which takes half a minute")
    where.add_argument("--force", action="store_true", help="replace an earlier bundle")


def run(args: argparse.Namespace) -> int:
    """Makes the folder, and the tar, and prints their size by part."""
    metadata = _read_artifact(args.artifact)
    if args.route and (args.program or routes.route(args.route).kind.name != metadata.route):
        why = "your own program chooses it" if args.program else f"does not run {metadata.route} files"
        raise DeploybenchError("usage", f"--route {args.route}: {why}; leave it out")
    program = args.program or paths.CPP_BIN / "infer"
    if not program.is_file():
        what = "no such program; build it, as docs/library.md shows" if args.program else "not built; make build"
        raise DeploybenchError("runtime", f"{paths.shown(program)}: {what}")
    tools = bundle_folder.find_tools()
    target = Target(args.out or paths.DIST / metadata.model)
    tar = target.out.with_name(f"{target.out.name}.tar.xz") if args.tar else None
    target.refuse_foreign("bundle", bundle_folder.is_bundle(target.out))  # before a lock is left beside it
    try:
        with target.locked():
            target.recover()
            artifact.sweep(target.out.parent)
            _refuse_existing(target, tar, args.force)
            try:
                target.new.mkdir()
                manifest = bundle_folder.fill(
                    target.new, program, args.program is not None, args.artifact, metadata, tools, args.route
                )
                if tar:
                    terminal.notice(f"packing {paths.shown(tar)}")
                    with artifact.written_atomically(tar) as partial:
                        bundle_folder.pack(target.new, target.out.name, partial)
                target.swap()
            finally:
                target.recover()
    except OSError as error:
        what = f"{error.filename or paths.shown(target.out)}: {error.strerror or error}"
        raise DeploybenchError("output_unwritable", f"{what}; free space or choose another --out") from error
    sizes = _sizes(manifest)
    if args.json:
        about = {name: manifest[name] for name in ("model", "route", "precision", "machine", "glibc")}
        terminal.emit({**about, "folder": str(target.out), "tar": str(tar) if tar else None, "part_bytes": sizes})
    else:
        _print(target.out, tar, manifest, sizes)
    return 0


def _read_artifact(path: Path) -> Metadata:
    """Its metadata, if C++ runs it on a CPU and every byte is as it was written."""
    metadata = artifact.read_metadata(path)
    if not any(row.kind.name == metadata.route and "cpp" in row.runtimes for row in routes.ROUTES.values()):
        what = f"route {metadata.route} runs in Python only; for C++ {routes.making(path, metadata, 'script')}"
        raise DeploybenchError("artifact_invalid", f"{paths.shown(path)}: {what}")
    if metadata.device != "cpu":
        what = "is for CUDA, whose libraries take gigabytes and come under NVIDIA's licence; for a CPU "
        again = routes.making(path, metadata, device="cpu")
        raise DeploybenchError("artifact_device", f"{paths.shown(path)}: {what}{again}")
    if bad := artifact.damaged(path):
        raise DeploybenchError(
            "artifact_invalid", f"{paths.shown(path)}: is damaged ({bad}); {routes.making(path, metadata)} --force"
        )
    return metadata


def _refuse_existing(target: Target, tar: Path | None, force: bool) -> None:
    """Nothing that is not an earlier bundle is replaced, and such a one with --force only."""
    target.refuse_foreign("bundle", bundle_folder.is_bundle(target.out))
    if tar and tar.exists() and not bundle_folder.is_packed_bundle(tar):
        what = "exists and was not made by `deploybench bundle`; move it away, or choose another --out"
        raise DeploybenchError("output_unwritable", f"{paths.shown(tar)}: {what}")
    for place in (target.out, tar):
        if place and not force and (place.is_file() or bundle_folder.is_bundle(place)):
            raise DeploybenchError("output_unwritable", f"{paths.shown(place)}: exists; add --force to replace it")


def _sizes(manifest: dict[str, Any]) -> dict[str, int]:
    """Bytes by part."""
    parts = dict.fromkeys(bundle_folder.PARTS, 0)
    for file in manifest["files"]:
        parts[file["part"]] += file["bytes"]
    return parts


def _print(folder: Path, tar: Path | None, manifest: dict[str, Any], parts: dict[str, int]) -> None:
    """The table: what was made, and how large its parts are."""
    without_artifact = sum(parts.values()) - parts["artifact"]
    share = f"  ({without_artifact / torch:.1%} of site-packages/torch)" if (torch := _torch_bytes()) else ""
    print(f"{paths.shown(folder)}: {manifest['model']} ({manifest['route']}, {manifest['precision']})")
    for part, size in parts.items():
        print(f"  {part:<26}{size / 1e6:8.1f} MB")
    print(f"  {'all but the artifact':<26}{without_artifact / 1e6:8.1f} MB{share}")
    if tar:
        print(f"  {tar.name:<26}{tar.stat().st_size / 1e6:8.1f} MB")
    print(f"  needs {manifest['machine']} with {manifest['glibc'].replace('_', ' ')} or newer")


def _torch_bytes() -> int:
    """The size of Python's torch, as `du --apparent-size` says it, which finds it without importing it; 0: there is none."""
    spec = importlib.util.find_spec("torch")
    folders = spec.submodule_search_locations if spec else None
    return sum(file.lstat().st_size for file in Path(folders[0]).rglob("*") if file.is_file()) if folders else 0
