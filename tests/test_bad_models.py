"""Does a model or a weights file that is wrong end in one line, and leave the other models be?"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_input import (
    SIDE,
    Place,
    Run,
    photo,
    tree,
)
from conftest import one_line_error

# flags, exit code, words
GENERATE: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
    (("--model", "resnet5O"), 2, ("resnet5O", "did you mean", "resnet50", "deploybench list")),
    (("--model", "Siberian husky"), 2, ("Siberian husky", "deploybench list")),
    (("--model", "nothing*"), 2, ("nothing*", "deploybench list")),
    (("--model", ","), 2, ("--models", "deploybench list")),
    (("--model", "sound_module:net,raises_on_import:net"), 2, ("sound_module:net", "raises_on_import:net", "name one")),
    (("--model", "../../etc/passwd"), 2, ("etc/passwd", "deploybench list")),
    (("--model", "sound_module:"), 2, ("sound_module:", "package.module:factory")),
    (("--model", ":net"), 2, (":net", "package.module:factory")),
    (("--model", "a/b:../../c"), 2, ("a/b:../../c", "package.module:factory")),
    (("--model", "absent_module:net"), 1, ("absent_module", "package.module:factory")),
    (("--model", "absent.module.deeper:net"), 1, ("absent", "package.module:factory")),
    (("--model", "sound_module:absent"), 1, ("sound_module:absent", "package.module:factory")),
    (("--model", "broken_syntax:net"), 1, ("broken_syntax:net",)),
    (("--model", "raises_on_import:net"), 1, ("raises_on_import:net", "old", "licence")),
    (("--model", "leaves_on_import:net"), 1, ("leaves_on_import:net",)),
    (("--model", "sound_module:not_callable"), 1, ("sound_module:not_callable",)),
    (("--model", "sound_module:raises"), 1, ("sound_module:raises", "weights of last year")),
    (("--model", "sound_module:needs_an_argument"), 1, ("sound_module:needs_an_argument", "size")),
    (("--model", "sound_module:leaves"), 1, ("sound_module:leaves",)),
    (("--model", "sound_module:nothing"), 1, ("sound_module:nothing", "torch.nn.Module")),
    (("--model", "sound_module:a_class"), 1, ("sound_module:a_class", "torch.nn.Module")),
    (("--model", "sound_module:pair"), 1, ("pair", "tuple", "one tensor [N, classes]")),
    (("--model", "sound_module:image"), 1, ("image", "one tensor [N, classes]")),
    (("--model", "sound_module:failing"), 1, ("failing", "ValueError: no")),
    (("--model", "sound_module:unscriptable"), 1, ("unscriptable", "--capture trace")),
    (("--model", "sound_module:net", "--weights", "absent.pth"), 1, ("absent.pth", "--weights")),
    (("--model", "sound_module:net", "--weights", "~nobody-of-this-name/x.pth"), 1, ("~nobody-of-this-name",)),
    (("--model", "sound_module:net", "--weights", "."), 1, ("--weights",)),
    (("--model", "sound_module:net", "--weights", "pretrained"), 1, ("sound_module:net", "--weights FILE")),
    (("--model", "resnet18,resnet34", "--weights", "x.pth"), 2, ("--weights", "one model")),
    (("--model", "sound_module:net", "--routes", "onnx"), 2, ("onnx", "eager, script, trace")),
    (("--model", "sound_module:net", "--routes", ","), 2, ("--routes",)),
    (("--model", "sound_module:net", "--jobs", "0"), 2, ("--jobs",)),
    (("--model", "sound_module:net", "--jobs", "-1"), 2, ("--jobs",)),
    (("--model", "sound_module:net", "--crop", "0"), 2, ("--crop",)),
    (("--model", "sound_module:net", "--crop", "100000000"), 2, ("--crop",)),
    (("--model", "sound_module:net", "--std", "0,0,0"), 2, ("--std",)),
    (("--model", "sound_module:net", "--std", "1,1"), 2, ("--std",)),
    (("--model", "sound_module:net", "--mean", "nan,0,0"), 2, ("--mean",)),
    (("--model", "sound_module:net", "--mean", "1/0,0,0"), 2, ("--mean",)),
    (("--model", "sound_module:net", "--labels", "absent.txt"), 1, ("absent.txt",)),
    (("--model", "sound_module:net", "--labels", "README.md"), 1, ("labels", "6")),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "code", "words"), GENERATE, ids=[" ".join(row[0][1:])[:60] for row in GENERATE])
def test_generate(
    flags: tuple[str, ...], code: int, words: tuple[str, ...], place: Place, here: Run, tmp_path: Path
) -> None:
    out = tmp_path / "artifacts"
    out.mkdir()
    labels = () if "--labels" in flags else ("--labels", place.folder / "labels.txt")
    size = () if "--crop" in flags else ("--crop", SIDE)
    done = here("generate", "--resize", SIDE, *size, *labels, *flags, "--out", out)
    one_line_error(done, code, *words)
    assert tree(out) == []


def test_the_second_time_is_refused_too(place: Place, here: Run, tmp_path: Path) -> None:
    """Where an artifact of that name lies, other code looks at the factory first: whether it is up to date."""
    (tmp_path / "net.script-fp32-cpu.ts").write_bytes(place.script.read_bytes())
    package = place.folder / "raising_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('old licence')\n")
    for factory in (
        "absent_module:net", "absent.module.deeper:net", "raises_on_import:net", "broken_syntax:net",
        "raising_package.module:net",
    ):  # fmt: skip
        before = tree(tmp_path)
        one_line_error(here("generate", "--model", factory, *place.make, "--out", tmp_path), 1, factory)
        assert tree(tmp_path) == before


def test_one_bad_model_does_not_stop_the_others(place: Place, here: Run, tmp_path: Path) -> None:
    several = "sound_module:raises,sound_module:failing,sound_module:net,sound_module:pair"
    done = here("generate", "--model", several, *place.make, "--out", tmp_path)
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["net.script-fp32-cpu.ts"]


def state(**tensors: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(tensors, stream)
    return stream.getvalue()


HEAD, BIAS = torch.zeros(6, 3), torch.zeros(6)
WEIGHTS: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("empty", b"", ("not a state_dict",)),
    ("random bytes", np.random.default_rng(3).bytes(1000), ("not a state_dict",)),
    ("a photo", photo("PNG"), ("not a state_dict",)),
    ("a pickle that would run code", pickle.dumps({"head.weight": os.getcwd}), ("not a state_dict",)),
    ("cut", state(**{"head.weight": HEAD, "head.bias": BIAS})[:-30], ("not a state_dict",)),
    ("a tensor alone", b"", ("state_dict",)),
    ("other keys", state(**{"fc.weight": HEAD}), ("missing head.weight", "unexpected fc.weight")),
    ("another shape", state(**{"head.weight": HEAD.T, "head.bias": BIAS}), ("head.weight is [3, 6]", "[6, 3]")),
    ("numbers instead of tensors", state(**{"head.weight": 1, "head.bias": 2}), ("state_dict",)),
    ("NaN", state(**{"head.weight": HEAD * float("nan"), "head.bias": BIAS}), ("NaN",)),
]


@pytest.mark.parametrize(("name", "content", "words"), WEIGHTS, ids=[row[0] for row in WEIGHTS])
def test_bad_weights(
    name: str, content: bytes, words: tuple[str, ...], place: Place, here: Run, tmp_path: Path
) -> None:
    if name == "a tensor alone":
        stream = io.BytesIO()
        torch.save(HEAD, stream)
        content = stream.getvalue()
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    before = tree(tmp_path)
    one_line_error(
        here("generate", "--model", "sound_module:net", *place.make, "--weights", file, "--out", tmp_path), 1, *words
    )
    assert tree(tmp_path) == before


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_of_another_model_is_no_weights_file(place: Place, here: Run, tmp_path: Path) -> None:
    """Of the same model it is one: tests/test_migrate.py."""
    foreign = tmp_path / "theirs.ts"
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 6)), str(foreign))
    out = tmp_path / "out"
    flags = ("--model", "sound_module:net", *place.make, "--weights", foreign, "--out", out)
    one_line_error(here("generate", *flags), 1, "theirs.ts", "does not fit the model")
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(foreign.read_bytes()[:-200])
    one_line_error(here("generate", *flags, "--weights", damaged), 1, "damaged.ts", "state_dict")
    assert tree(out) == []


def test_pretrained_weights(here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Offline, then with a damaged file in torch.hub's cache: the error names the file, and the URL where one is needed."""
    from deploybench import weights

    monkeypatch.setattr(weights, "_unreachable", {})
    monkeypatch.setattr("urllib.request._opener", None)  # else the proxies of its first use are kept
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    file = tmp_path / "home" / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    url = "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    flags = ("--model", "squeezenet1_1", "--weights", "pretrained", "--out", tmp_path / "out")
    one_line_error(here("generate", *flags), 1, str(file), url, "--weights random")
    one_line_error(here("download", "--model", "squeezenet1_1"), 1, str(file), url)
    assert tree(tmp_path) == []
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a file")
    one_line_error(here("generate", *flags), 1, str(file), "squeezenet1_1-b8a52dc0.pth", "delete")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
