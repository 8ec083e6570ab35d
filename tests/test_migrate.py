"""Does `migrate` say what changes from TorchScript to AOTInductor, and take the weights of the user's own file?"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_input import Place
from conftest import one_line_error, python
from deploybench import artifact, models, paths, weights
from deploybench.verbs import migrate

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def test_a_torchscript_file_goes_over_with_its_weights(place: Place, tmp_path: Path) -> None:
    """The package's answer is that of the file: eager with the file's weights is what both are held to."""
    own = {"PYTHONPATH": f"{paths.ROOT / 'python'}:{place.folder}"}
    places = ("--artifacts", tmp_path / "art", "--results", tmp_path / "results")
    done = python("migrate", place.script, *places, "--threads", "1", "--json", env=own)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["script"], row["aoti"]) == ("yes", "yes")
    package = artifact.read_metadata(Path(row["artifact"]))
    assert (package.route, package.weights["origin"]) == ("aoti", "file")
    assert package.built_for["cpu_flags"] == row["needs"]
    assert row["script_artifact_bytes"] > 0
    assert row["low"] <= row["times_faster"] <= row["high"]
    image = torch.zeros(1, 3, 16, 16)
    made = torch.jit.load(str(next((tmp_path / "art").glob("*.script-*.ts"))))
    torch.testing.assert_close(made(image), torch.jit.load(str(place.script))(image))


def test_files_of_ones_own_are_never_written_over(place: Place, tmp_path: Path) -> None:
    """That of the weights lies where TorchScript's artifact goes, as it may. It is measured as it is; where another one is
    wanted there, that is refused."""
    file = tmp_path / "art" / place.script.name
    file.parent.mkdir()
    file.write_bytes(place.script.read_bytes())
    labels = file.parent / f"{artifact.read_metadata(file).model}.labels.txt"
    labels.write_text("of one's own, which it may be called\n")
    more = {"env": {"PYTHONPATH": f"{paths.ROOT / 'python'}:{place.folder}", "CXX": "false"}}
    places = ("--artifacts", file.parent, "--results", tmp_path / "results")
    row = json.loads(python("migrate", file, *places, "--threads", "1", "--json", **more).stdout)
    assert (row["script"], row["script_artifact_bytes"]) == ("yes", file.stat().st_size)
    assert file.read_bytes() == place.script.read_bytes()
    assert labels.read_text().startswith("of one's own")
    (tmp_path / "link").symlink_to(file)
    make = ("generate", "--model", "sound_module:net", "--artifacts", file.parent, "--weights", tmp_path / "link")
    assert "up to date" in python(*make, *place.make, **more).stdout
    for flags in ((*place.make, "--force"), (*place.make, "--mean", "0.1,0.1,0.1"), ()):
        one_line_error(python(*make, *flags, **more), 1, str(file), "would be written over", "--artifacts")
    assert file.read_bytes() == place.script.read_bytes()


def test_a_mean_below_zero_is_no_flag(place: Place, tmp_path: Path) -> None:
    """As preprocessing to numbers from -1 to 1 has it; to every command that is started, and in the one that is printed."""
    more = {"env": {"PYTHONPATH": f"{paths.ROOT / 'python'}:{place.folder}", "CXX": "false"}}
    mean, places = "--mean=-0.1,0.5,0.5", ("--artifacts", tmp_path / "art", "--results", tmp_path / "results")
    common = (*place.make, mean, "--weights", "random", *places)
    done = python(
        "bench",
        "--model",
        "sound_module:net",
        *common,
        "--runners",
        "python/script",
        "--rounds",
        "1",
        "--runs",
        "1",
        **more,
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(python("migrate", next((tmp_path / "art").glob("*.ts")), *places, "--json", **more).stdout)
    assert row["script"] == "yes"
    assert mean in row["command"].split()


def test_the_weights_of_a_module_that_was_finished(tmp_path: Path) -> None:
    """GoogLeNet is wrapped, to give one tensor, before it is scripted: its file's names are those of the wrapping."""
    model = models.find("googlenet")
    module, _ = weights.build(model, weights.Source("random", "seed 0"), 224)
    file = tmp_path / "googlenet.ts"
    torch.jit.save(torch.jit.script(module), str(file))
    again, _ = weights.build(model, weights.resolve(str(file), model), 224)
    assert again.state_dict().keys() == module.state_dict().keys()
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, module.state_dict()[name])


def test_a_foreign_file_needs_its_model(place: Place, tmp_path: Path) -> None:
    foreign = tmp_path / "theirs.ts"
    module = torch.jit.script(torch.nn.Linear(3, 6))
    torch.jit.save(module, str(foreign))
    one_line_error(python("migrate", foreign), 2, "theirs.ts", "--model package.module:factory")
    done = python("migrate", foreign, "--model", "squeezenet1_1", "--artifacts", tmp_path, "--results", tmp_path)
    assert done.returncode == 1
    assert "does not fit the model" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [("nothing.ts", 1, ("nothing.ts", "no such file")), ("resnet51", 2, ("resnet51",))],
)
def test_bad_input(what: str, code: int, words: tuple[str, ...]) -> None:
    one_line_error(python("migrate", what), code, *words)


def test_an_interval_is_called_one() -> None:
    """In the text and on the page: what stands in brackets is no range of the models or the calls."""
    row: dict[str, Any] = {f"{side}_{figure}": 1.0 for side in ("script", "aoti") for figure in migrate.FIGURES}
    row |= {"model": "m", "script": "yes", "aoti": "yes", "needs": [], "command": "", "results": ""}
    assert "1.31 times as fast, 95 % interval 1.10-1.40" in migrate._text(
        row | {"times_faster": 1.31, "low": 1.1, "high": 1.4}
    )
    assert "times faster (95 % interval)" in migrate.PAGE.read_text(encoding="utf-8")


def test_unlike_machines_are_told_apart() -> None:
    """A mean over both would depend on which models were measured where."""
    (row, *_) = migrate.read().values()
    found = (("a", "avx2 fma", "3.0"), ("b", "avx2 avx512f", "8.0"), ("c", "avx2 avx512f", "2.0"))
    page = migrate.page({name: row | {"needs": needs, "times_faster": times} for name, needs, times in found})
    assert "With AVX-512 a call is 4.00 times as fast (geometric mean of 2)" in page
    assert "With AVX2 a call is 3.00 times as fast (geometric mean of 1)" in page
    assert [line.split("|")[5].strip() for line in page.splitlines()[-3:]] == ["AVX2", "AVX-512", "AVX-512"]


def test_the_page_is_of_its_table() -> None:
    """docs/migration.md is never written by hand."""
    rows = migrate.read()
    assert migrate.PAGE.read_text(encoding="utf-8") == migrate.page(rows)
    with migrate.TABLE.open(encoding="utf-8", newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == sorted(rows)
