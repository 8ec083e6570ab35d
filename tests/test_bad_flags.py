"""Is every flag that is wrong refused in one line, by both languages in the same words?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bad_input import (
    BENCH,
    CLASSES,
    CPP_INFER,
    INFER,
    WORKER,
    Place,
    Run,
    refused,
)
from conftest import native, one_line_error, python
from deploybench import paths, record

ALL, WORKERS, INFERS = (WORKER, BENCH, INFER, CPP_INFER), (WORKER, BENCH), (INFER, CPP_INFER)
# what is typed behind --artifact and --input, the programs that know the flag, words
FLAGS: list[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = [
    (("--threads", "0"), ALL, ("--threads",)),
    (("--threads", "-2"), WORKERS, ("--threads",)),
    (("--threads", "2.5"), WORKERS, ("--threads",)),
    (("--threads", "two"), WORKERS, ("--threads",)),
    (("--threads", "1_0"), WORKERS, ("--threads",)),
    (("--threads", ""), WORKERS, ("--threads",)),
    (("--threads", "100000000"), ALL, ("--threads",)),
    (("--threads", str(10**30)), WORKERS, ("--threads",)),
    (("--interop-threads", "0"), WORKERS, ("--interop-threads",)),
    (("--interop-threads", "100000000"), WORKERS, ("--interop-threads",)),
    (("--warmup", "-1"), WORKERS, ("--warmup",)),
    (("--runs", "0"), WORKERS, ("--runs",)),
    (("--runs", "-5"), WORKERS, ("--runs",)),
    (("--runs", "0x10"), WORKERS, ("--runs",)),
    (("--runs", str(10**30)), WORKERS, ("--runs",)),
    (("--batch-size", "0"), WORKERS, ("--batch-size",)),
    (("--batch-size", "-3"), WORKERS, ("--batch-size",)),
    (("--batch-size", "99999999999"), WORKERS, ("--batch-size",)),
    (("--seed", "-1"), WORKERS, ("--seed",)),
    (("--seed", str(2**64)), WORKERS, ("--seed",)),
    (("--max-seconds", "0"), WORKERS, ("--max-seconds",)),
    (("--max-seconds", "-1"), WORKERS, ("--max-seconds",)),
    (("--max-seconds", "nan"), WORKERS, ("--max-seconds",)),
    (("--max-seconds", "inf"), WORKERS, ("--max-seconds",)),
    (("--min-seconds", "1e999"), WORKERS, ("--min-seconds",)),
    (("--min-seconds", "-0.5"), WORKERS, ("--min-seconds",)),
    (("--min-seconds", "soon"), WORKERS, ("--min-seconds",)),
    (("--rate", "0"), WORKERS, ("--rate", "not a number of images a second above 0, 100000 at most")),
    (("--rate", "1e300"), WORKERS, ("--rate", "not a number of images a second above 0, 100000 at most")),
    (("--load-seconds", "1e300"), WORKERS, ("--load-seconds", "not a number of seconds above 0, 600 at most")),
    (("--batch-delay", "10000001"), WORKERS, ("--batch-delay", "not a whole number from 0 to 10000000")),
    (("--device", "tpu"), ALL, ("--device", "cpu")),
    (("--nonsense",), ALL, ("--nonsense",)),
    (("--thread", "1"), ALL, ("--thread",)),  # no abbreviations: a later flag could change what they mean
    (("--runs",), WORKERS, ("--runs",)),
    (("--artifact",), WORKERS, ("--artifact",)),
    (("--json=yes",), ALL, ("--json",)),
    (("--top-k", "0"), INFERS, ("--top-k",)),
    (("--top-k", "-1"), INFERS, ("--top-k",)),
    (("--top-k", str(CLASSES + 1)), INFERS, ("--top-k", str(CLASSES))),
    (("--top-k", str(10**30)), INFERS, ("--top-k",)),
    (("--top-k", "all"), INFERS, ("--top-k",)),
    (("--route", "rocket"), WORKERS, ("rocket", "script")),
    (("--bind",), WORKERS, ("--bind",)),
    (("--cuda-graph", "on"), WORKERS, ("--cuda-graph on", "is for the CPU", "--device cuda")),
    (("--cuda-graph", "on", "--rate", "5"), WORKERS, ("--cuda-graph on", "images that arrive")),
    (("--cuda-graph", "on", "--latency-bound", "1"), WORKERS, ("--cuda-graph on", "images that arrive")),
    (("--cuda-graph", "on", "--instances", "2"), WORKERS, ("--cuda-graph on", "one instance", "--instances 1")),
    (("--bind", "on", "--instances", "2"), WORKERS, ("--bind on", "the same cores", "--instances 1")),
    (("--bind", "on", "--instances", "2", "--rate", "5"), WORKERS, ("--bind on", "the same cores")),
    *(((f"--{name.replace('_', '-')}", "yes"), WORKERS, (name.replace("_", "-"), "yes", *values)) for name, values in record.KNOBS.items()),
]  # fmt: skip


@pytest.mark.parametrize("language", ["python", "cpp"])
@pytest.mark.parametrize(("flags", "known", "words"), FLAGS, ids=[" ".join(row[0])[:40] for row in FLAGS])
def test_bad_flags(
    flags: tuple[str, ...],
    known: tuple[str, ...],
    words: tuple[str, ...],
    language: str,
    place: Place,
    programs: dict[str, Run],
    tmp_path: Path,
) -> None:
    for program in {"python": (WORKER, INFER), "cpp": (BENCH, CPP_INFER)}[language]:
        if program in known:
            sound = ("--artifact", place.script, "--input", place.tensor)
            refused(programs[program], (tmp_path, place.folder), 2, words, *sound, *flags)


def test_what_is_required(here: Run, place: Place, tmp_path: Path) -> None:
    for run, words in (
        (here, ("VERB", "--help")),
        (lambda: here("nonsense"), ("nonsense", "generate", "--help")),
        (lambda: here("worker"), ("--artifact", "--help")),
        (lambda: native("bench"), ("--artifact", "--help")),
        (lambda: native("infer"), ("ARTIFACT", "--help")),
        (lambda: native("infer", place.script), ("INPUT", "--help")),
        (lambda: native("infer", place.script, place.tensor, place.photo), ("goes alone", "not both")),
        (lambda: here("infer", "--artifact", place.script, place.tensor, place.photo), ("one tensor file", "not both")),
        (lambda: here("infer", "--model", "resnet18,resnet34", place.photo), ("--model", "name one")),
        (
            lambda: here("infer", "--artifact", place.script, "--precision", "bf16"),
            ("--precision: is for a model that is made",),
        ),
        (
            lambda: here("infer", "--artifact", place.script, "--mean", "0.1,0.1,0.1"),
            ("--mean: is for", "net.script-fp32-cpu.ts"),
        ),
        (
            lambda: here("infer", "--artifact", place.script, "--model", "resnet18"),
            ("--model: is for", "or --artifact"),
        ),
        (lambda: here("preprocess", "--artifact", place.script, place.photo, "--crop", "99"), ("--crop: is for",)),
        (lambda: here("infer", "--model", "resnet5O", place.photo), ("resnet5O", "did you mean", "resnet50")),
        (lambda: here("infer", "--route", "rocket", place.photo), ("rocket", "script")),
        (lambda: here("preprocess", "--model", "resnet*", place.photo), ("--model", "name one")),
        (lambda: here("preprocess", "--format", "png", place.photo), ("--format", "npy")),
    ):
        refused(run, (tmp_path,), 2, words)


@pytest.mark.parametrize("program", [WORKER, BENCH])
def test_a_failure_with_json_is_a_record_too(program: str, place: Place, programs: dict[str, Run]) -> None:
    from jsonschema import validate

    schema = json.loads((paths.DATA / "record.schema.json").read_text(encoding="utf-8"))
    for flags, code, status in (
        (("--artifact", "missing.ts"), "artifact_missing", 1),
        (("--artifact", place.script, "--input", "missing.npy"), "input_missing", 1),
        (("--artifact", place.script, "--runs", "0"), "usage", 2),
        (("--nonsense",), "usage", 2),
    ):
        done = programs[program](*flags, "--json")
        one_line_error(done, status)
        line = json.loads(done.stdout)
        validate(line, schema)
        assert line["error"]["code"] == code
        assert done.stderr.strip() == f"error: {line['error']['message']}"


def test_in_a_process_of_its_own(place: Place, tmp_path: Path) -> None:
    (tmp_path / "bad.ts").write_bytes(place.script.read_bytes()[:2000])
    for arguments, code, words in (
        (("worker", "--artifact", tmp_path / "bad.ts"), 1, ("bad.ts", "truncated", "generate --models")),
        (("infer", "--model", "resnet5O"), 2, ("resnet5O", "resnet50")),
        (("worker", "--artifact", place.script, "--threads", "0"), 2, ("--threads", "--help")),
        (("preprocess", tmp_path / "absent.jpg", "--artifact", place.script), 1, ("absent.jpg", "no such file")),
    ):
        refused(python, (tmp_path, place.folder), code, words, *arguments)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = python("--debug", "report", tmp_path / "absent.json")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
