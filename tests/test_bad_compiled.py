"""Are compiled packages and ONNX files that are damaged, foreign, or made for another machine refused in one line, before a
wrong instruction ends the process?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bad_input import BENCH, WORKER, Place, Run, cut, field, patched, refused
from conftest import ROOT, one_line_error, python
from deploybench.errors import DeploybenchError
from deploybench.routes import onnx
from torch import nn

ONE = ("--batch-size", "1")


@pytest.fixture(scope="module")
def made(place: Place) -> Callable[[str], Path]:
    """made(route): the sound model's file for that route, made once."""
    files: dict[str, Path] = {}

    def make(route: str) -> Path:
        if route not in files:
            out = place.folder / route
            environment = {"PYTHONPATH": f"{ROOT / 'python'}:{place.folder}"}
            flags = ("--model", "sound_module:net", "--routes", route, *place.make, "--out", out)
            done = python("generate", *flags, env=environment)
            assert done.returncode == 0, done.stderr
            (files[route],) = out.iterdir()
        return files[route]

    return make


PACKAGES: list[tuple[str, Callable[[Path], bytes], tuple[str, ...]]] = [
    ("cut in half", lambda good: good.read_bytes()[: good.stat().st_size // 2], ("generate --models",)),
    ("random bytes", lambda good: os.urandom(20_000), ("generate --models",)),
    ("empty", cut(0), ("generate --models",)),
    ("no metadata", lambda good: patched(good, drop="deploybench.json"), ("not made by deploybench",)),
    ("no kernels", lambda good: patched(good, drop=".so"), ("generate --models",)),
    ("kernels that are noise", lambda good: patched(good, replace={".so": b"\0noise" * 99}), ("generate --models",)),
    ("for another CPU", field(built_for={"cpu_flags": ["avx1024"], "compiler": "g++"}), ("avx1024", "--portable")),
    ("of another torch", field(torch_version="2.1.0"), ("compiled for torch 2.1.0", "--routes aoti")),
    ("built_for is a text", field(built_for="this"), ("built_for", "generate --models")),
    ("flags are a number", field(built_for={"cpu_flags": 5}), ("built_for", "generate --models")),
]  # fmt: skip


@pytest.mark.parametrize("program", [WORKER, BENCH])
def test_the_sound_package_runs(
    program: str, made: Callable[[str], Path], programs: dict[str, Run], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.pt2"
    copy.write_bytes(patched(made("aoti")))
    done = programs[program]("--artifact", copy, *ONE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", [WORKER, BENCH])
@pytest.mark.parametrize(("name", "make", "words"), PACKAGES, ids=[row[0] for row in PACKAGES])
def test_bad_packages(
    name: str,
    make: Callable[[Path], bytes],
    words: tuple[str, ...],
    program: str,
    made: Callable[[str], Path],
    programs: dict[str, Run],
    tmp_path: Path,
) -> None:
    bad = tmp_path / "bad.pt2"
    bad.write_bytes(make(made("aoti")))
    refused(programs[program], (tmp_path,), 1, (str(bad), *words), "--artifact", bad, *ONE)


@pytest.mark.parametrize("program", [WORKER, BENCH])
def test_a_package_without_a_folder_to_be_unpacked_into(
    program: str, made: Callable[[str], Path], programs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is sound, so nobody is told to make it again."""
    file = made("aoti")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    refused(
        programs[program], (tmp_path,), 1, (str(file), "unpacked", "set TMPDIR to a folder"), "--artifact", file, *ONE
    )


ONNX: list[tuple[str, Callable[[Path], bytes], tuple[str, ...]]] = [
    ("cut in half", lambda good: good.read_bytes()[: good.stat().st_size // 2], ("truncated", "generate --models")),
    ("random bytes", lambda good: b"\xff" * 20_000, ("generate --models",)),
    ("empty", cut(0), ("generate --models",)),
    ("a zip file", lambda good: patched(good.parent.parent / "artifacts" / "net.script-fp32-cpu.ts"), ("generate --models",)),
    ("without metadata", lambda good: good.read_bytes().replace(b"deploybench.json", b"dep1oybench.json"), ("not made by",)),
    ("its graph is noise", lambda good: good.read_bytes().replace(b"head.weight", b"hand.weight", 1), ("generate --models",)),
]  # fmt: skip


@pytest.mark.parametrize("route", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("name", "make", "words"), ONNX, ids=[row[0] for row in ONNX])
def test_bad_onnx_files(
    name: str,
    make: Callable[[Path], bytes],
    words: tuple[str, ...],
    route: str,
    made: Callable[[str], Path],
    programs: dict[str, Run],
    tmp_path: Path,
) -> None:
    for package in ("onnxruntime", "openvino", "onnxscript"):
        pytest.importorskip(package)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(make(made("onnxruntime")))
    refused(programs[WORKER], (tmp_path,), 1, (str(bad), *words), "--artifact", bad, "--route", route, *ONE)


def test_weights_beyond_one_onnx_file_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torch writes them into a second file, beside the name that the artifact does not keep."""
    pytest.importorskip("onnxscript")
    about: Any = SimpleNamespace(to_json=lambda: "{}")
    net, images = nn.Conv2d(3, 8, 3).eval(), torch.zeros(1, 3, 16, 16)
    onnx.export(net, images, tmp_path / "net.onnx", about)
    monkeypatch.setattr(onnx, "MOST_WEIGHTS", 4 * (8 * 27 + 8) - 1)
    with pytest.raises(DeploybenchError, match=r"weights of 0.0 GB, .*; use --routes aoti"):
        onnx.export(net, images, tmp_path / "more.onnx", about)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_torch_writes_onnx_weights_into_a_second_file_where_we_think_so() -> None:
    pytest.importorskip("onnxscript")
    from torch.onnx._internal.exporter import _onnx_program

    assert onnx.MOST_WEIGHTS == _onnx_program._LARGE_MODEL_THRESHOLD


def test_onnx_is_for_python_only(made: Callable[[str], Path], programs: dict[str, Run], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    file = made("onnxruntime")
    refused(programs[BENCH], (tmp_path,), 1, (str(file), "generate --models"), "--artifact", file)


@pytest.mark.parametrize(("routes", "environment", "words"), [
    ("aoti", {"CXX": "no-such-compiler"}, ("no-such-compiler", "no C++ compiler", "install g++")),
    ("aoti", {"CXX": "false"}, ("cannot be compiled by Inductor",)),
    ("aoti", {"CXX": "broken"}, ("C++ compile error: ", "broken: fatal error: Killed signal")),
])  # fmt: skip
def test_no_compiler(
    routes: str, environment: dict[str, Any], words: tuple[str, ...], place: Place, tmp_path: Path
) -> None:
    more = {"PYTHONPATH": f"{ROOT / 'python'}:{place.folder}", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    broken = tmp_path / "broken"
    broken.write_text(
        '#!/bin/sh\ncase "$*" in *.cpp*) ;; *) exec g++ "$@";; esac\n'
        "echo note: a remark >&2; echo broken: fatal error: Killed signal >&2; exit 1\n"
    )
    broken.chmod(0o755)
    more["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    flags = ("--model", "sound_module:net", "--routes", routes, *place.make, "--out", tmp_path / "out")
    done = python("generate", *flags, env={**environment, **more})
    one_line_error(done, 1, "net", *words)
    assert not list((tmp_path / "out").iterdir())


def test_a_model_that_cannot_be_exported(place: Place, tmp_path: Path) -> None:
    (tmp_path / "branching.py").write_text(
        "from sound_module import Net\n\n\nclass Branching(Net):\n    def forward(self, x):\n"
        "        return self.head(x.mean((2, 3))) * (2 if x.sum() > 0 else 1)\n\n\n"
        "def branching():\n    return Branching()\n"
    )
    more = {"PYTHONPATH": f"{ROOT / 'python'}:{place.folder}:{tmp_path}"}
    flags = ("--model", "branching:branching", "--routes", "frozen", *place.make, "--out", tmp_path / "out")
    done = python("generate", *flags, env=more)
    one_line_error(done, 1, "branching: cannot be exported", "--routes trace")
    assert not list((tmp_path / "out").iterdir())
