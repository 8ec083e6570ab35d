"""`deploybench matrix`: every model by every runner, loaded, run and compared with eager, against docs/matrix.csv.

Not a benchmark: three calls each, nothing timed. The table is what is expected; a run that differs from it fails.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
from pathlib import Path
from typing import Any

from deploybench import (
    artifact,
    cases,
    configuration,
    models,
    options,
    paths,
    record,
    rounds,
    routes,
    summary,
    terminal,
)
from deploybench.errors import DeploybenchError
from deploybench.models import Model

EXAMPLE = "matrix --models squeezenet1_1 --runners python/script,cpp/script"
EXPECTED = paths.ROOT / "docs" / "matrix.csv"
RUNNERS = [runner.name for runner in routes.runners("cpu", ("fp32", "bf16"))]
CALLS = 3  # with the untimed one before them: TorchScript profiles, optimises, then runs what it made


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    what = parser.add_argument_group("what is tried")
    options.add_models(what, default="all")
    what.add_argument("--runners", metavar="LIST", help=f"these alone (default all {len(RUNNERS)})")
    what.add_argument("--update", action="store_true", help="write what was found into docs/matrix.csv")
    what.add_argument(
        "--threads", type=options.threads, default=options.usable_cpus(), metavar="N", help="default: usable CPUs"
    )
    what.add_argument("--strict", action="store_true", help="refuse unlike torch versions instead of warning")


def run(args: argparse.Namespace) -> int:
    """Prints a line per model; 1 where a verdict is not the expected one."""
    expected = read_expected()
    chosen = models.select(args.models)
    runners = configuration.named_runners(args.runners, "cpu") if args.runners else _usual()
    surprises = 0
    with tempfile.TemporaryDirectory(prefix="deploybench-matrix-") as scratch:
        for number, model in enumerate(chosen, 1):
            found = try_model(model, runners, Path(scratch), args.threads, args.strict)
            known = expected.get(model.name, {})
            # where the table says nothing yet, a pass is no surprise
            differs = [runner for runner, verdict in found.items() if known.get(runner, "PASS") != verdict]
            surprises += bool(differs)
            failed = [f"{runner} {verdict}" for runner, verdict in found.items() if verdict != "PASS"]
            note = "" if args.update or not differs else f"  NOT AS EXPECTED: {', '.join(differs)}"
            if args.json:
                terminal.emit({"model": model.name, "verdicts": found, "not_as_expected": differs})
            else:
                terminal.show(f"[{number}/{len(chosen)}] {model.name}: {'; '.join(failed) or 'PASS by all'}{note}")
            if args.update:
                # after each model, so that an interrupted run keeps what it has; read anew, as another may write, too
                expected = read_expected()
                expected[model.name] = expected.get(model.name, {}) | found
                write_expected(expected)
    passed = "as expected" if not surprises else f"{surprises} not as docs/matrix.csv says; if that is right: --update"
    if not args.json:
        print(f"{len(chosen)} models, {len(runners)} runners each: {'written' if args.update else passed}")
    return 1 if surprises and not args.update else 0


def _usual() -> list[str]:
    """All, but for those whose instructions this CPU lacks: that says nothing about a model."""
    lacking = [name for name in RUNNERS if name.endswith("/direct/bf16") and "avx512_bf16" not in record.cpu_flags()]
    if lacking:
        terminal.notice(f"left out, as this CPU lacks avx512_bf16: {', '.join(lacking)}")
    return [name for name in RUNNERS if name not in lacking]


def try_model(model: Model, runners: list[str], scratch: Path, threads: int, strict: bool) -> dict[str, str]:
    """The verdict of each runner: PASS, or FAIL with the reason, or REFUSED, by a route that is not made for the model. What
    was made for it is removed again."""
    artifacts = scratch / "artifacts"
    config: dict[str, Any] = {
        "device": "cpu", "runners": runners, "generate": ["--weights", "random"],
        "artifacts": str(artifacts), "input": str(paths.PHOTO),
        "rounds": 1, "runs": CALLS, "turn": CALLS, "warmup": 0, "min_seconds": 0.0, "max_seconds": 60.0, "batch_size": 1, "instances": 1,
        "threads": threads, "interop_threads": 1, **{name: values[0] for name, values in record.KNOBS.items()}, "strict": strict,
    }  # fmt: skip
    (scratch / rounds.REFERENCE).unlink(missing_ok=True)
    try:
        case = cases.prepare(model, config)
        verdicts = {runner: _verdict(case, runner, config, scratch) for runner in runners}
    except DeploybenchError as error:
        verdicts = dict.fromkeys(runners, f"FAIL {error}")
    # the table says the same wherever it is made
    verdicts = {runner: verdict.replace(f"{artifacts}/", "") for runner, verdict in verdicts.items()}
    for made in artifacts.glob(f"{model.name}.*"):
        made.unlink()
    return verdicts


def _verdict(case: cases.Case, runner: str, config: dict[str, Any], scratch: Path) -> str:
    ((_, output, line),) = rounds.run_round(case, [runner], config, scratch)
    if "error" in line:
        return f"{'REFUSED' if summary.unsupported([line]) else 'FAIL'} {line['error']['message']}"
    rounds.compare_with(line, output, scratch / rounds.REFERENCE, runner)
    verdict = line["parity"]
    if verdict is None:
        return "FAIL eager gave no output"
    return "PASS" if verdict["ok"] else f"FAIL {verdict['reason']}"


def read_expected() -> dict[str, dict[str, str]]:
    """docs/matrix.csv: model -> runner -> verdict. Empty when there is none."""
    if not EXPECTED.exists():
        return {}
    with EXPECTED.open(encoding="utf-8", newline="") as file:
        return {row.pop("model"): {name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)}


def write_expected(verdicts: dict[str, dict[str, str]]) -> None:
    """Writes docs/matrix.csv, a row a model, sorted."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["model", *RUNNERS], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"model": model, **verdicts[model]} for model in sorted(verdicts))
    with artifact.written_atomically(EXPECTED) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")
