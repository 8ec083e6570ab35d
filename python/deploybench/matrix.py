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

from deploybench import artifact, bench, models, options, paths, routes
from deploybench.errors import DeploybenchError
from deploybench.models import Model

EXPECTED = paths.ROOT / "docs" / "matrix.csv"
CALLS = 3  # TorchScript profiles in the first, optimises in the second, and runs what it made in the third


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    options.add_models(parser, default="all")
    parser.add_argument("--update", action="store_true", help="write what was found into docs/matrix.csv")
    parser.add_argument(
        "--threads", type=options.positive, default=options.usable_cpus(), metavar="N", help="default: usable CPUs"
    )
    parser.add_argument("--strict", action="store_true", help="refuse unlike torch versions instead of warning")


def run(args: argparse.Namespace) -> int:
    """Prints a line per model; 1 where a verdict is not the expected one."""
    expected = read_expected()
    chosen = models.select(args.models)
    surprises = 0
    with tempfile.TemporaryDirectory(prefix="deploybench-matrix-") as scratch:
        for number, model in enumerate(chosen, 1):
            found = try_model(model, Path(scratch), args.threads, args.strict)
            differs = [
                runner for runner, verdict in found.items() if expected.get(model.name, {}).get(runner) != verdict
            ]
            surprises += bool(differs)
            failed = [f"{runner} {verdict}" for runner, verdict in found.items() if verdict != "PASS"]
            note = "" if args.update or not differs else f"  NOT AS EXPECTED: {', '.join(differs)}"
            print(f"[{number}/{len(chosen)}] {model.name}: {'; '.join(failed) or 'PASS by all'}{note}", flush=True)
            if args.update:  # after each model, so that an interrupted run keeps what it has
                expected[model.name] = found
                write_expected(expected)
    passed = "as expected" if not surprises else f"{surprises} not as docs/matrix.csv says; if that is right: --update"
    print(f"{len(chosen)} models, {len(routes.runners())} runners each: {'written' if args.update else passed}")
    return 1 if surprises and not args.update else 0


def try_model(model: Model, scratch: Path, threads: int, strict: bool) -> dict[str, str]:
    """The verdict of each runner: PASS, or FAIL with the reason. What was made for the model is removed again."""
    config: dict[str, Any] = {
        "device": "cpu", "runners": list(routes.runners()), "generate": ["--weights", "random"],
        "artifacts": str(scratch / "artifacts"), "input": str(paths.PHOTO),
        "rounds": 1, "runs": CALLS, "warmup": 0, "min_seconds": 0.0, "max_seconds": 60.0, "batch_size": 1,
        "threads": threads, "interop_threads": 1, "strict": strict,
    }  # fmt: skip
    reference = scratch / "reference.npy"
    reference.unlink(missing_ok=True)
    try:
        case = bench.prepare(model, config)
        verdicts = {runner: _verdict(case, runner, config, reference) for runner in routes.runners()}
    except DeploybenchError as error:
        verdicts = dict.fromkeys(routes.runners(), f"FAIL {error}")
    for row in routes.ROUTES.values():
        artifact.path_for(scratch / "artifacts", model.name, row.name, "fp32", "cpu", row.suffix).unlink(
            missing_ok=True
        )
    return verdicts


def _verdict(case: bench.Case, runner: str, config: dict[str, Any], reference: Path) -> str:
    output = reference.with_name("output.npy")
    line = bench.run_worker(case, runner, config, output)
    if "error" in line:
        return f"FAIL {line['error']['message']}"
    bench.compare_with(line, output, reference, runner)
    verdict = line["parity"]
    if verdict is None:
        return "FAIL eager gave no output"
    return "PASS" if verdict["ok"] else f"FAIL {verdict['reason']}"


def read_expected() -> dict[str, dict[str, str]]:
    """docs/matrix.csv: model -> runner -> verdict. Empty when there is none."""
    if not EXPECTED.exists():
        return {}
    with EXPECTED.open(encoding="utf-8", newline="") as file:
        return {row.pop("model"): row for row in csv.DictReader(file)}


def write_expected(verdicts: dict[str, dict[str, str]]) -> None:
    """Writes docs/matrix.csv, a row a model, sorted."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["model", *routes.runners()], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"model": model, **verdicts[model]} for model in sorted(verdicts))
    with artifact.written_atomically(EXPECTED) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")
