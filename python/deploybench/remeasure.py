"""Old programs beside new ones: cases that two files leave open, measured again in rounds of fresh processes that take turns.
What slows the machine then slows both. Imports no torch."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from deploybench import cases, models, record, results_file, rounds, terminal
from deploybench.changes import Key
from deploybench.checkout import Checkout
from deploybench.errors import DeploybenchError
from deploybench.paths import typed
from deploybench.record import OLD
from deploybench.rounds import BASELINE, WORKER_FLAGS

# By the simulation of tests/test_compare.py a change of 5 % is then found 95 times in 100 under the worst noise there; with 16
# rounds 91 times, with 12 80 times.
ROUNDS = 20
NEEDED = {"models", "runners", "rounds", "runs", "generate", "input", "artifacts", "device", "strict", "turn", "warmup"}


def remeasure(
    keys: list[Key], old: dict[str, Any], new: dict[str, Any], checkout: Checkout, count: int, folder: Path
) -> tuple[Path, dict[str, Any]]:
    """Measures `keys`, by the programs of `checkout` with the settings of `old` and by these with those of `new`, `count`
    rounds each, into a results file of their own in `folder`. Ctrl-C keeps what is there."""
    configs = [_config(results["config"], count) for results in (old, new)]
    configs[0]["artifacts"] = str(_artifacts(configs[0], configs[1], checkout))
    _check_apart(configs[0], configs[1], checkout)
    known = {model.name: model for model in models.select(new["config"]["models"])}
    path = results_file.new_path(folder)
    groups: dict[tuple[str, int], list[str]] = {}
    for model, runner, size in keys:
        groups.setdefault((model, size), []).append(runner)
    runners = list(dict.fromkeys(name for members in groups.values() for name in _beside(members)))
    config = {
        **configs[1], "models": list(dict.fromkeys(model for model, _ in groups)), "runners": runners,
        "batch_size": keys[0][2], "batch_sizes": list(dict.fromkeys(size for _, size in groups)),
    }  # fmt: skip
    results = {
        "schema": record.SCHEMA, "complete": False, "environment": record.environment(), "config": config, "runs": [],
    }  # fmt: skip
    results_file.save(path, results)
    try:
        for (model, size), members in groups.items():
            about = {"runners": _beside(members), "batch_size": size}
            _measure(known[model], configs[0] | about, configs[1] | about, checkout, path, results)
    except KeyboardInterrupt:
        terminal.notice(f"\ninterrupted; what there is: deploybench compare {typed(path)}")
        raise
    results["complete"] = True
    results_file.save(path, results)
    return path, results


def _beside(runners: list[str]) -> list[str]:
    """Eager, to which every output is compared, and each runner with its old one next to it."""
    return list(dict.fromkeys([BASELINE, *(name for runner in runners for name in (runner, runner + OLD))]))


def _config(config: dict[str, Any], count: int) -> dict[str, Any]:
    """With so many rounds, in each of which every runner makes as many calls as before."""
    return {**config, "rounds": count, "once": [], "runs": count * -(-config["runs"] // config["rounds"])}


def _artifacts(old: dict[str, Any], new: dict[str, Any], checkout: Checkout) -> Path:
    """The folder of the old artifacts: the old checkout's own, so that neither version rewrites the files of the other."""
    its = Path(old["artifacts"])
    if checkout.own or (its.is_absolute() and its.resolve() != Path(new["artifacts"]).resolve()):
        return its
    return checkout.root / ("artifacts" if its.is_absolute() else its)


def _check_apart(old: dict[str, Any], new: dict[str, Any], checkout: Checkout) -> None:
    """Refuses to run the same thing twice, and two settings that want the same file."""
    if not checkout.own:
        return
    mend = "--old-checkout FOLDER names a checkout with the old programs (git worktree add FOLDER COMMIT, then make build there)"
    same_place = Path(old["artifacts"]).resolve() == Path(new["artifacts"]).resolve()
    if same_place and old["generate"] != new["generate"]:
        raise DeploybenchError("usage", f"--remeasure: OLD and NEW made unlike artifacts in one folder; {mend}")
    if same_place and all(old.get(name) == new.get(name) for name in (*WORKER_FLAGS, "input", "device")):
        raise DeploybenchError(
            "usage", f"--remeasure: OLD and NEW have the same settings, so the programs differ; {mend}"
        )


def _measure(
    model: models.Model,
    old: dict[str, Any],
    new: dict[str, Any],
    checkout: Checkout,
    path: Path,
    results: dict[str, Any],
) -> None:
    """All rounds of one model at one batch size, saved one by one."""
    from tqdm import tqdm

    case = cases.prepare(model, new)
    before = cases.prepare(model, old | {"input": str(case.input.resolve())}, checkout=checkout)  # the very same bytes
    with tempfile.TemporaryDirectory(prefix="deploybench-") as folder:
        numbers = range(new["rounds"])
        with tqdm(
            numbers, unit="round", desc=f"{model.name} again", disable=terminal.no_bar(), leave=False, file=sys.stderr
        ) as bar:
            for lines in rounds.run_rounds(case, new, bar, Path(folder), (before, old)):
                results["runs"] += lines
                results_file.save(path, results)
