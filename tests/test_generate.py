"""Does `generate` write artifacts that say all about themselves, only when needed, and never half of one?"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import threading
import weakref
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import numpy
import pytest
import torch
from conftest import Artifact, native, one_line_error, python
from deploybench import artifact as artifacts_module
from deploybench import models, options, paths, weights
from deploybench.job import Job, fingerprint
from deploybench.verbs.generate import attempt, longest_first
from PIL import Image

# torch's DeprecationWarning on TorchScript, which docs/troubleshooting.md explains
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

MODELS = """
import torch


class Net(torch.nn.Module):
    def __init__(self, classes=3, fixed=False, wrong=False, traced=False):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.linear = torch.nn.Linear(4, classes)
        self.fixed, self.wrong, self.traced = fixed, wrong, traced

    def forward(self, x):
        x = self.norm(self.convolution(x)).mean([2, 3])
        if self.fixed:
            x = x.reshape(1, 4)
        if self.traced:
            x = x.reshape(int(x.shape[0]), 4)
        if self.wrong and torch.jit.is_scripting():
            x = x + 0.01
        return self.linear(x)


def small():
    return Net()


def thousand():
    return Net(1000)


def one_at_a_time():
    return Net(1000, fixed=True)


def unequal():
    return Net(1000, wrong=True)


def moody():
    raise ValueError("not today")
"""


@pytest.fixture
def own(tmp_path: Path) -> dict[str, object]:
    """An importable module `mine` with models of a user."""
    (tmp_path / "mine.py").write_text(MODELS)
    return {"env": {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}"}}


def job(name: str, folder: Path, route: str = "script", **more: object) -> Job:
    fields = {
        "precision": "fp32",
        "device": "cpu",
        "weights": "random",
        "overrides": options.Overrides(),
        "force": False,
    }
    return Job(models.find(name), route, folder=folder, **{**fields, **more})  # type: ignore[arg-type]


def test_the_artifact_describes_itself(artifact: Artifact) -> None:
    """Through plain zipfile and json, as a program without torch and without this package would read it."""
    file = artifact("squeezenet1_1", "script")
    with zipfile.ZipFile(file) as archive:
        entry = next(name for name in archive.namelist() if name.endswith("extra/deploybench.json"))
        about = json.loads(archive.read(entry))
    assert about["labels"][281] == "tabby"
    assert len(about["labels"]) == about["classes"] == 1000
    assert about["input_shape"] == [1, 3, 224, 224]
    assert about["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert (about["model"], about["route"], about["capture"], about["device"]) == (
        "squeezenet1_1",
        "script",
        "script",
        "cpu",
    )
    assert about["weights"]["origin"] == "random"
    assert len(about["weights"]["sha256"]) == 64
    assert about["torch_version"] == torch.__version__
    extra = {"deploybench.json": ""}
    torch.jit.load(file, _extra_files=extra)  # and as TorchScript's own reader does
    assert json.loads(extra["deploybench.json"]) == about


def test_the_summary_says_what_was_made(tmp_path: Path) -> None:
    flags = ("generate", "--models", "squeezenet1_1", "--weights", "random", "--out", tmp_path)
    for words in (["made", "5.0"], ["up", "to", "date", "5.0"]):
        done = python(*flags)
        assert done.returncode == 0, done.stderr
        row = next(line for line in done.stdout.splitlines() if line.startswith("squeezenet1_1")).split()
        assert row[1 : 2 + len(words)] == ["script", *words]
        assert row[-1] == "random"
        assert ("1 made in" in done.stdout) == (words[0] == "made")


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_no_warning_is_compiled_in(name: str, artifact: Artifact) -> None:
    """torchvision's code warns in each scripted call of these two; a deployed program must not."""
    modules = torch.jit.load(artifact(name, "script")).modules()
    assert not [part for part in modules if hasattr(part, "code") and "warn" in part.code]


def test_up_to_date_is_left_alone_and_what_changed_is_made_again(tmp_path: Path) -> None:
    first = attempt(job("squeezenet1_1", tmp_path))
    assert first.made
    stamp = first.job.path.stat().st_mtime_ns
    assert not attempt(job("squeezenet1_1", tmp_path)).made
    assert first.job.path.stat().st_mtime_ns == stamp
    for changed in (
        job("squeezenet1_1", tmp_path, force=True),
        job("squeezenet1_1", tmp_path, overrides=options.Overrides(resize=300)),
        job("squeezenet1_1", tmp_path),  # back to the default
    ):
        assert attempt(changed).made
    first.job.path.write_bytes(first.job.path.read_bytes()[:1000])  # broken: made again
    assert attempt(job("squeezenet1_1", tmp_path)).made


def test_whatever_changes_an_artifact_changes_its_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights_file, labels, source = (tmp_path / name for name in ("w.pth", "labels.txt", "changing.py"))
    monkeypatch.syspath_prepend(tmp_path)
    named = job("squeezenet1_1", tmp_path)
    found = [fingerprint(named)]
    for second, content in enumerate(("one", "two")):
        for file in (weights_file, labels, source):
            file.write_text(content)
            os.utime(file, (second, second))
        found += [
            fingerprint(changed)
            for changed in (
                dataclasses.replace(named, weights=str(weights_file)),
                dataclasses.replace(named, overrides=options.Overrides(labels_file=labels)),
                dataclasses.replace(named, model=models.find("changing:net")),
            )
        ]
    found += [
        fingerprint(changed)
        for changed in (
            dataclasses.replace(named, model=models.find("squeezenet1_0")),
            dataclasses.replace(named, kind="trace"),
            dataclasses.replace(named, precision="bf16"),
            dataclasses.replace(named, device="cuda"),
            dataclasses.replace(named, memory_format="channels_last"),
            dataclasses.replace(named, portable=True),
            dataclasses.replace(named, batches=(1, 8)),
            dataclasses.replace(named, overrides=options.Overrides(mean=(0, 0, 0))),
            dataclasses.replace(named, overrides=options.Overrides(std=(1, 1, 1))),
        )
    ]
    assert len(set(found)) == len(found)
    assert fingerprint(dataclasses.replace(named, force=True)) == found[0], "how it was asked for is no part of it"


def test_precision_and_memory_format_are_in_the_file(tmp_path: Path) -> None:
    """That it answers as eager does says nothing of this: the file could hold fp32 all the same."""
    for more, dtype, channels_last in (
        ({}, torch.float32, False),
        ({"precision": "bf16"}, torch.bfloat16, False),
        ({"memory_format": "channels_last"}, torch.float32, True),
    ):
        made = attempt(job("squeezenet1_1", tmp_path, "trace", **more))
        assert made.error == ""
        weights_in = torch.jit.load(made.job.path).state_dict().values()
        assert {tensor.dtype for tensor in weights_in} == {dtype}
        kernels = [tensor for tensor in weights_in if tensor.ndim == 4 and tensor.shape[-1] == 3]
        assert {tensor.is_contiguous(memory_format=torch.channels_last) for tensor in kernels} == {channels_last}
        about = artifacts_module.read_metadata(made.job.path)
        assert about.memory_format == ("channels_last" if channels_last else "contiguous")
    frozen = [attempt(job("squeezenet1_1", tmp_path, "frozen", precision=name)) for name in ("fp32", "bf16")]
    assert [made.error for made in frozen] == ["", ""]
    assert 0.45 < frozen[1].bytes / frozen[0].bytes < 0.6, "two bytes a weight instead of four"


def test_one_model_that_fails_does_not_stop_the_others(tmp_path: Path, own: dict[str, object]) -> None:
    out = tmp_path / "out"
    done = python(
        "generate",
        "--models",
        "mine:moody",
        "mine:unequal",
        "squeezenet1_1",
        "--weights",
        "random",
        "--out",
        out,
        **own,
    )
    assert done.returncode == 1
    assert "not today" in done.stderr
    assert "unequal: script is not equal to eager" in done.stderr
    assert [file.name for file in out.iterdir()] == ["squeezenet1_1.script-fp32-cpu.ts"], "and nothing half-written"


def test_two_jobs_at_a_time_give_the_same_files(tmp_path: Path) -> None:
    for jobs in (1, 2):
        flags = ("--models", "squeezenet*", "--weights", "random", "--jobs", jobs, "--out", tmp_path / str(jobs))
        assert python("generate", *flags).returncode == 0
    for file in (tmp_path / "1").iterdir():
        one, two = (torch.jit.load(tmp_path / folder / file.name).state_dict() for folder in ("1", "2"))
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_of_each_model_what_takes_longest_is_begun_first(tmp_path: Path) -> None:
    """The others fill the time of the second process; a model stays together, as its graph is in memory."""
    jobs = [
        job(name, tmp_path, kind) for name in ("resnet18", "alexnet") for kind in ("eager", "onnx", "direct", "aoti")
    ]
    order = ["aoti", "direct", "onnx", "eager"]
    assert [(one.model.name, one.kind) for one in longest_first(jobs)] == [
        (name, kind) for name in ("resnet18", "alexnet") for kind in order
    ]


def test_the_graph_that_kinds_share_stays_as_it_is(tmp_path: Path) -> None:
    """bf16 first: at fp32 the file is held to eager within what fp32 rounds."""
    flags = ("--models", "squeezenet1_1", "--weights", "random", "--routes", "frozen", "--precisions", "bf16,fp32")
    done = python("generate", *flags, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["precision"] for line in done.stdout.splitlines()] == ["bf16", "fp32"]


def test_labels_of_an_own_model(tmp_path: Path, own: dict[str, object]) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nbird\n")
    for model, labels, expected in (
        ("small", [], ["class 0", "class 1", "class 2"]),
        ("small", ["--labels", names], ["cat", "dog", "bird"]),
        ("thousand", [], models.imagenet_labels()),
    ):
        flags = ("--model", f"mine:{model}", "--weights", "random", "--out", tmp_path, *labels)
        done = python("generate", *flags, **own)
        assert done.returncode == 0, done.stderr
        assert artifacts_module.read_metadata(tmp_path / f"{model}.script-fp32-cpu.ts").labels == expected
    photo = tmp_path / "photo.png"
    Image.fromarray(numpy.zeros((40, 50, 3), numpy.uint8)).save(photo)
    file, others = tmp_path / "small.script-fp32-cpu.ts", tmp_path / "others.txt"
    others.write_text("Katze\nHund\nVogel\n")
    for labels, expected in (([], ["bird", "cat", "dog"]), (["--labels", others], ["Hund", "Katze", "Vogel"])):
        shown = python("infer", "--artifact", file, photo, "--top-k", 3, *labels)
        assert sorted(line.split()[1] for line in shown.stdout.splitlines()) == expected


def test_leftovers_of_killed_runs_are_swept(tmp_path: Path) -> None:
    here = artifacts_module._processes()
    dead = tmp_path / f".x.{here}-999999999.partial.ts"
    alive = tmp_path / f".y.{here}-{os.getpid()}.partial.ts"
    elsewhere = tmp_path / ".z.0badcafe-999999999.partial.ts"  # of a container or host that shares the folder
    unsaid = tmp_path / ".v.999999999.partial.ts"  # by an earlier version, which does not say where
    forgotten = tmp_path / ".w.0badcafe-999999999.partial.ts"
    for file in (dead, alive, elsewhere, unsaid, forgotten):
        file.touch()
    os.utime(forgotten, (0, 0))
    stays = tmp_path / f".u.{here}-999999999.partial.ts"  # as in a folder of others, where it may not be removed
    stays.mkdir()
    assert python("generate", "--models", "squeezenet1_1", "--weights", "random", "--out", tmp_path).returncode == 0
    assert [file.exists() for file in (alive, elsewhere, unsaid, stays)] == [True] * 4
    assert [file.exists() for file in (dead, forgotten)] == [False] * 2


def test_a_process_of_another_user_lives() -> None:
    """It may not be sent a signal, and some systems hide it in /proc."""
    user = os.geteuid()
    if user == 0:  # who may send to all
        os.seteuid(65534)
    try:
        assert artifacts_module._lives("1")
        assert not artifacts_module._lives("999999999")
    finally:
        os.seteuid(user)


def test_random_weights_are_announced_where_they_were_not_asked_for(tmp_path: Path) -> None:
    """`auto` without a network: a proxy nobody listens at stands for it."""
    nobody = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path / "cache")}
    flags = ("generate", "--models", "squeezenet1_1", "--out", tmp_path)
    done = python(*flags, env=nobody)
    assert done.returncode == 0, done.stderr
    assert "RANDOM WEIGHTS in squeezenet1_1" in done.stderr
    assert "RANDOM" not in python(*flags, "--weights", "random").stderr


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_pretrained_weights_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real download against a local server that holds a file named as torchvision names its own, by its hash."""
    source = models.import_torchvision().models.squeezenet1_1(weights=None)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    name = f"squeezenet1_1-{weights.sha256(tmp_path / 'weights.pth')[:8]}.pth"
    (tmp_path / "weights.pth").rename(tmp_path / name)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    choice = models.default_weights(models.find("squeezenet1_1"))
    monkeypatch.setattr("urllib.request._opener", None)  # it remembers the proxies of its first use
    monkeypatch.setattr(weights, "_unreachable", {})
    monkeypatch.setattr(choice.value, "url", f"http://127.0.0.1:{server.server_address[1]}/{name}")
    hub = torch.hub.get_dir()
    try:
        torch.hub.set_dir(str(tmp_path / "hub"))
        first = attempt(job("squeezenet1_1", tmp_path, weights="auto"))
        assert (first.error, first.made, first.origin) == ("", True, "pretrained")
    finally:
        server.shutdown()
        server.server_close()
    try:  # the server is gone: the cache serves
        again = attempt(job("squeezenet1_1", tmp_path, weights="pretrained", force=True))
        assert (again.error, again.origin) == ("", "pretrained")
    finally:
        torch.hub.set_dir(hub)
    about = artifacts_module.read_metadata(first.job.path)
    assert (about.weights["origin"], about.weights["name"]) == ("pretrained", "IMAGENET1K_V1")
    found = torch.jit.load(first.job.path).state_dict()
    torch.testing.assert_close(dict(found), dict(source.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("how", ["fixed", "traced"])  # the model itself takes one image only, or its recorded run does
def test_a_traced_model_of_one_batch_says_so(how: str, tmp_path: Path, own: dict[str, object]) -> None:
    (tmp_path / "one.py").write_text(f"from mine import Net\n\n\ndef one():\n    return Net(1000, {how}=True)\n")
    done = python(
        "generate", "--model", "one:one", "--routes", "trace", "--weights", "random", "--out", tmp_path, **own
    )
    assert done.returncode == 0, done.stderr
    file = tmp_path / "one.trace-fp32-cpu.ts"
    assert artifacts_module.read_metadata(file).batches == [1, 1]
    done = python("worker", "--artifact", file, "--batch-size", 2)
    assert done.returncode == 1
    assert "takes batches of 1 only" in done.stderr


def test_a_host_that_does_not_answer_keeps_no_model_in_memory() -> None:
    class Thing:
        pass

    def ask() -> weakref.ref[Thing]:
        thing = Thing()  # as the model, in a frame that the exception passes
        with pytest.raises(OSError, match="refused"):
            weights.download("http://127.0.0.1:9/nothing-00000000.pth")
        return weakref.ref(thing)

    assert [reference() for reference in (ask(), ask(), ask())] == [None] * 3


def test_a_host_that_lacks_a_file_is_asked_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file that is not there nor a full disk says that the host does not answer: the next model gets its weights."""
    (tmp_path / "there.pth").write_bytes(b"weights")
    name = f"there-{weights.sha256(tmp_path / 'there.pth')[:8]}.pth"
    (tmp_path / "there.pth").rename(tmp_path / name)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr("urllib.request._opener", None)  # it remembers the proxies of its first use
    monkeypatch.setattr(weights, "_unreachable", {})
    hub = torch.hub.get_dir()
    try:
        torch.hub.set_dir(str(tmp_path / "hub"))
        with pytest.raises(OSError, match="404"):
            weights.download(f"{url}/absent-00000000.pth")
        with monkeypatch.context() as patch:
            full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
            patch.setattr(torch.hub, "download_url_to_file", full)
            with pytest.raises(OSError, match="No space"):
                weights.download(f"{url}/{name}")
        assert weights.download(f"{url}/{name}").read_bytes() == b"weights"
    finally:
        torch.hub.set_dir(hub)
        server.shutdown()
        server.server_close()


def test_a_factory_may_import_torchvision(tmp_path: Path) -> None:
    """Also where torchvision's wheel does not fit a CPU torch; the artifact of the eager route imports it again."""
    (tmp_path / "theirs.py").write_text(
        "import torchvision\n\n\ndef small():\n    return torchvision.models.shufflenet_v2_x0_5(num_classes=3)\n"
    )
    more = {"PYTHONPATH": f"{paths.ROOT / 'python'}:{tmp_path}"}
    flags = ("--model", "theirs:small", "--weights", "random", "--routes", "eager,script", "--out", tmp_path)
    done = python("generate", *flags, env=more)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "small.eager-fp32-cpu.pth"
    done = python("worker", "--artifact", file, "--warmup", 0, "--runs", 1, env=more)
    assert done.returncode == 0, done.stderr


def test_batches_of_one_size(tmp_path: Path, own: dict[str, object]) -> None:
    """A package for three images at a time, made from the graph that is rewritten for three; a model that takes one at a time
    cannot have one."""
    flags = ("--weights", "random", "--routes", "aoti", "--dynamic-batch", "3:3", "--out", tmp_path)
    done = python("generate", "--model", "mine:thousand", *flags, **own)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.pt2")
    for run, verb in ((python, "worker"), (native, "bench")):
        call = (verb, "--artifact", file, "--warmup", 0, "--runs", 1, "--batch-size")
        assert run(*call, 3).returncode == 0
        one_line_error(run(*call, 2), 1, "takes batches of 3", "not", "2")
        one_line_error(
            run(*call, 2, "--rate", 5), 1, "takes batches of 3 only, not 2; use --batch-size 3, --routes script"
        )
        too_many = run(*call, 1 << 20, "--json")  # 1.8 TB of images, which nobody need ask memory for
        assert json.loads(too_many.stdout)["error"]["code"] == "input_invalid", too_many.stderr
        for load in ((), ("--rate", 50, "--load-seconds", 0.1)):
            done = run(*call[:-1], *load, "--json")
            assert json.loads(done.stdout)["batch_size"] == 3, "what it takes, where nothing else is said"
    done = python("generate", "--model", "mine:one_at_a_time", *flags, **own)
    one_line_error(done, 1, "one image at a time", "--dynamic-batch")


def test_a_range_of_batches(tmp_path: Path, own: dict[str, object]) -> None:
    """Compiled once for 2 to 8 images: both languages run 2 and 8, and refuse 1 and 9."""
    flags = ("--model", "mine:thousand", "--weights", "random", "--out", tmp_path, "--dynamic-batch", "2:8")
    done = python("generate", *flags, "--routes", "aoti", **own)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.pt2")
    assert artifacts_module.read_metadata(file).batches == [2, 8]
    for run, verb in ((python, "worker"), (native, "bench")):
        call = (verb, "--artifact", file, "--warmup", 0, "--runs", 1, "--batch-size")
        assert [run(*call, size).returncode for size in (2, 8)] == [0, 0]
        for size in (1, 9):
            one_line_error(run(*call, size), 1, "takes batches of 2 to 8", f"{size}")
    one_line_error(python("generate", *flags, "--routes", "script", **own), 2, "--dynamic-batch", "--routes aoti")
    both = (
        "--runners",
        "cpp/aoti",
        "--artifacts",
        tmp_path,
        "--results",
        tmp_path / "results",
        "--rounds",
        2,
        "--runs",
        6,
    )
    bench = ("bench", *flags[:4], "--batch-size", 2, *both)
    assert python(*bench, "--dynamic-batch", "2:8", **own).returncode == 0, "bench asks for the same file"
    assert artifacts_module.read_metadata(file).batches == [2, 8]
    for bad in ("8:2", "4", "0:4", "x:y"):
        done = python("generate", "--model", "mine:thousand", "--routes", "aoti", "--dynamic-batch", bad, **own)
        assert done.returncode == 2
        assert "--dynamic-batch" in done.stderr
