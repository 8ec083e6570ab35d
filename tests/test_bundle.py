"""Does a bundle classify a photo where there is nothing but itself and the C library it names, and is it what it says it is?

The bundles are made by the real verb, moved into an empty root below a path with spaces, and started there as a user without
rights and without network.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Artifact, Done, native, python
from deploybench import bundle_folder, elf, paths
from deploybench.verbs import bundle

PLACE = "a place/the bundle, moved"
PROGRAM = f"/{PLACE}/bin/infer"
PHOTO = f"/photos/{paths.PHOTO.name}"
MOST_OF_TORCH = 0.5  # of site-packages/torch, unpacked, without the artifact
MOST_PACKED = 90_000_000  # bytes
GLIBC = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6"}
GLIBC_OF_OLD = {"libdl.so.2", "libpthread.so.0", "librt.so.1"}  # empty since glibc 2.34
SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"  # chroot is in sbin, which is not on everybody's PATH


@dataclass
class Root:
    """An empty root with one bundle."""

    folder: Path
    artifact: Path  # what was bundled
    said: str  # by the verb

    @property
    def bundle(self) -> Path:
        return self.folder / PLACE

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.bundle / "manifest.json").read_text()))

    @property
    def code(self) -> list[Path]:
        return [self.bundle / "bin" / "infer", *sorted((self.bundle / "lib").iterdir())]


def make_root(folder: Path, file: Path, *flags: str) -> Root:
    """Bundles, moves, and adds what the manifest says that the bundle does not hold, and a photo."""
    program = paths.CPP_BIN / "infer"  # which takes all of glibc that a program linked with the library does
    native("infer", "--help")  # or skip
    done = python("bundle", "--artifact", file, "--out", folder / "first", *flags)
    assert done.returncode == 0, done.stderr
    root = Root(folder / "root", file, done.stdout)
    root.bundle.parent.mkdir(parents=True)
    (folder / "first").rename(root.bundle)
    listed = subprocess.run([elf.loader(program), "--list", program], capture_output=True, text=True).stdout
    system = dict(re.findall(r"\t(\S+) => (\S+) ", listed))
    for source in [elf.loader(program), *(system[name] for name in root.manifest["glibc_libraries"] if name in system)]:
        copy = root.folder / source.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    (root.folder / "photos").mkdir()
    shutil.copy(paths.PHOTO, root.folder / "photos")
    return root


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory, artifact: Artifact) -> Iterator[Root]:
    folder = tmp_path_factory.mktemp("script")
    yield make_root(folder, artifact("squeezenet1_1", "script"), "--tar", "--route", "script")
    shutil.rmtree(folder)  # 0.8 GB, which pytest would keep for three runs


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, artifact: Artifact) -> Iterator[Root]:
    folder = tmp_path_factory.mktemp("package")
    yield make_root(folder, artifact("squeezenet1_1", "direct"))
    shutil.rmtree(folder)


def ways(root: str, proc: bool) -> list[list[str]]:
    """Commands that run another one in `root`, without network and as nobody: as the superuser, and by a user namespace.
    `proc`: with /proc mounted in it."""
    mount = ["--mount", "--pid", "--fork"] if proc else []
    own_proc = [f"--mount-proc={root}/proc"] if proc else []
    chroot = ["unshare", "--net", *mount, *own_proc, "chroot", "--userspec=65534:65534", root]
    # Only the superuser of a namespace may mount in it, who is nobody outside.
    user = ["--map-root-user", "--mount-proc=/proc"] if proc else ["--map-user=65534", "--map-group=65534"]
    sudo = [["sudo", "--non-interactive", *chroot]] if os.environ.get("CI") else []
    return [chroot, ["unshare", "--user", "--net", *mount, f"--root={root}", *user], *sudo]


def run_inside(root: Root, *command: str, proc: bool = False, user: bool = False, **environment: str) -> Done:
    """Runs it in `root`, with `user` by a user namespace only, or skips where this machine lets nobody change the root."""
    for way, here in zip(ways(str(root.folder), proc), ways("/", proc), strict=True):
        if user and "--user" not in way:
            continue
        try:
            allowed = subprocess.run([*here, "/bin/true"], capture_output=True, env={"PATH": SEARCH}).returncode == 0
        except FileNotFoundError:
            allowed = False
        if allowed:
            environment = {"PATH": SEARCH, **environment}
            return subprocess.run([*way, *command], capture_output=True, text=True, env=environment, timeout=60)
    pytest.skip(f"neither chroot nor user namespaces are allowed here{', or no mount of /proc' if proc else ''}")


def infer_inside(root: Root, *more: str, proc: bool = False, user: bool = False, **environment: str) -> Done:
    """Classifies the photo by the bundle, started directly where there is /proc, else by the loader, as README.txt says."""
    start = [PROGRAM] if proc else [elf.loader(paths.CPP_BIN / "infer"), PROGRAM]
    command = [*start, f"/{PLACE}/{root.artifact.name}", PHOTO, "--threads", "1", *more]
    return run_inside(root, *command, proc=proc, user=user, **environment)


def expected(root: Root) -> str:
    done = native("infer", root.artifact, paths.PHOTO, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5
    return done.stdout


def readelf(what: str, file: str | Path) -> str:
    return subprocess.run(["readelf", what, str(file)], capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("photo_libraries")
def test_it_runs_in_an_empty_root(script: Root) -> None:
    done = infer_inside(script)
    assert (done.stdout, done.returncode) == (expected(script), 0), done.stderr
    others = {path.name for path in script.folder.rglob("*") if path.is_file() and script.bundle not in path.parents}
    assert others == {*script.manifest["glibc_libraries"], paths.PHOTO.name}
    assert set(script.manifest["glibc_libraries"]) <= GLIBC | GLIBC_OF_OLD


@pytest.mark.usefixtures("photo_libraries")
def test_it_runs_in_a_user_namespace(script: Root) -> None:
    """The way of those who are not root, which root would not take by itself."""
    done = infer_inside(script, user=True)
    assert (done.stdout, done.returncode) == (expected(script), 0), done.stderr


@pytest.mark.usefixtures("photo_libraries")
@pytest.mark.parametrize("user", [False, True], ids=["root", "user namespace"])
def test_it_runs_directly_where_proc_is(user: bool, script: Root) -> None:
    (script.folder / "proc").mkdir(exist_ok=True)
    try:
        done = infer_inside(script, proc=True, user=user)
    finally:
        (script.folder / "proc").rmdir()
    assert (done.stdout, done.returncode) == (expected(script), 0), done.stderr
    assert done.stderr.startswith("notice: random weights")


@pytest.mark.usefixtures("photo_libraries")
def test_generated_code_needs_a_folder_to_write_to_where_there_is_no_proc(package: Root) -> None:
    (package.folder / "proc").mkdir(exist_ok=True)
    try:
        done = infer_inside(package, proc=True)
    finally:
        (package.folder / "proc").rmdir()
    assert (done.stdout, done.returncode) == (expected(package), 0), done.stderr
    assert "TMPDIR" not in (package.bundle / "README.txt").read_text()
    done = infer_inside(package)
    assert done.returncode == 1
    assert "temporary directory" in done.stderr
    assert "set TMPDIR to a folder" in done.stderr
    (package.folder / "scratch").mkdir(exist_ok=True)
    (package.folder / "scratch").chmod(0o1777)
    done = infer_inside(package, TMPDIR="/scratch")
    assert (done.stdout, done.returncode) == (expected(package), 0), done.stderr


@pytest.mark.usefixtures("photo_libraries")
def test_a_package_that_is_unpacked_says_that_it_needs_a_folder(artifact: Artifact, tmp_path: Path) -> None:
    root = make_root(tmp_path, artifact("squeezenet1_1", "aoti"))
    text = (root.bundle / "README.txt").read_text()
    shutil.rmtree(tmp_path)  # 0.4 GB
    assert "a folder to write to, TMPDIR or /tmp" in " ".join(text.split())


def test_it_holds_what_it_maps_and_no_more(script: Root) -> None:
    """ld.so itself says what it maps, also what is opened only once the program runs."""
    done = infer_inside(script, LD_DEBUG="files")
    ours = re.findall(rf"calling init: .*/{re.escape(PLACE)}/.*/(.+)", done.stderr)
    assert sorted(ours) == sorted(path.name for path in (script.bundle / "lib").iterdir())
    anything = {Path(name).name for name in re.findall(r"calling init: (.+)", done.stderr.partition(PLACE)[2])}
    assert {name for name in anything - set(ours) if not elf.OF_GLIBC.fullmatch(name)} == set()


@pytest.mark.usefixtures("photo_libraries")
def test_no_library_path_counts(script: Root, tmp_path: Path) -> None:
    (tmp_path / "libc10.so").write_text("broken")
    command = [str(one) for one in (script.code[0], script.artifact, paths.PHOTO, "--threads", 1)]
    done = subprocess.run(command, capture_output=True, text=True, env={"LD_LIBRARY_PATH": str(tmp_path)})
    assert (done.stdout, done.returncode) == (expected(script), 0), done.stderr


def test_run_paths(script: Root) -> None:
    for file in script.code:
        path = "$ORIGIN/../lib" if file.parent.name == "bin" else "$ORIGIN"
        assert re.findall(r"\((R\w*PATH)\).*\[(.*)\]", readelf("-d", file)) == [("RPATH", path)], file
        assert str(paths.ROOT).encode() not in file.read_bytes(), f"{file} tells where it was built"
        assert ".symtab" not in readelf("-SW", file), f"{file} is not stripped"


@pytest.mark.parametrize("kind", ["script", "package"])
def test_the_manifest(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root: Root = request.getfixturevalue(kind)
    listed = {file["path"]: file for file in root.manifest["files"]}
    found = {str(path.relative_to(root.bundle)): path for path in root.bundle.rglob("*") if path.is_file()}
    assert listed.keys() == found.keys() - {"manifest.json"}
    for name, file in listed.items():
        content = found[name].read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest()), name
    assert found[root.artifact.name].read_bytes() == root.artifact.read_bytes()
    assert bool(root.manifest["cpu_flags"]) == (kind == "package")
    with zipfile.ZipFile(root.artifact) as archive:
        inner = [Path(archive.extract(name, tmp_path)) for name in archive.namelist() if name.endswith(".so")]
    said = "".join(readelf("-VW", file) for file in [*root.code, *inner])
    versions = [tuple(map(int, text.split("."))) for text in re.findall(r"Name: GLIBC_([\d.]+)", said)]
    newest = ".".join(map(str, max(versions)))
    assert root.manifest["glibc"] == f"GLIBC_{newest}"
    readme = (root.bundle / "README.txt").read_text()
    assert f"glibc {newest} or newer" in readme
    named = " --route script" if kind == "script" else ""
    assert f"    bin/infer {root.artifact.name} PHOTO.jpg{named}\n" in readme


def test_every_library_has_its_licence(script: Root) -> None:
    texts = script.bundle / "licenses"
    assert (texts / "libtorch" / "LICENSE").is_file()
    assert (texts / "deploybench").read_text() == (paths.ROOT / "LICENSE").read_text()
    if not Path("/var/lib/dpkg").exists():
        pytest.skip("not Debian: no package manager tells whose the system's libraries are")
    others = {Path(file["path"]).name for file in script.manifest["files"] if file["part"] == "other libraries"}
    assert script.manifest["packages"].keys() == others
    for package in script.manifest["packages"].values():
        assert (texts / package.split()[0]).stat().st_size > 500
    assert (texts / "common" / "GPL-3").is_file()  # of GCC's libraries


def test_sizes(script: Root) -> None:
    unpacked = sum(path.stat().st_size for path in script.bundle.rglob("*") if path.is_file())
    own = script.manifest["artifact"]
    without = unpacked - (script.bundle / own).stat().st_size
    assert without <= MOST_OF_TORCH * bundle._torch_bytes()
    tar = script.folder.parent / "first.tar.xz"
    assert tar.stat().st_size <= MOST_PACKED  # with the artifact, of 5 MB
    printed = re.search(r"all but the artifact +([\d.]+) MB  \(([\d.]+)% of", script.said)
    assert printed
    assert abs(float(printed[1]) * 1e6 - without) < 200_000  # the manifest's own size is not in it


def test_the_tar(script: Root) -> None:
    tar = script.folder.parent / "first.tar.xz"
    assert bundle_folder.is_packed_bundle(tar)
    with tarfile.open(tar) as packed:
        entries = list(packed)
        digests = {one.name: hashlib.file_digest(packed.extractfile(one), "sha256").hexdigest() for one in entries}  # type: ignore[arg-type]
    assert entries[0].name == "first/manifest.json"
    assert [one.name for one in entries[1:]] == sorted(one.name for one in entries[1:])
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in entries} == {(0, 0, 0, "", "")}
    assert {one.name for one in entries if one.mode & 0o111} == {"first/bin/infer"}
    for file in script.manifest["files"]:
        assert digests[f"first/{file['path']}"] == file["sha256"]


def test_equal_folders_give_equal_tars(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number)
        (folder / "bin").mkdir(parents=True)
        for name in ("manifest.json", *(("bin/infer", "z") if number == 1 else ("z", "bin/infer"))):
            (folder / name).write_text(name)
            os.utime(folder / name, (number, number))
        (folder / "z").chmod(0o600 if number == 1 else 0o644)
        bundle_folder.pack(folder, "name", tmp_path / f"{number}.tar.xz")
    assert (tmp_path / "1.tar.xz").read_bytes() == (tmp_path / "2.tar.xz").read_bytes()
