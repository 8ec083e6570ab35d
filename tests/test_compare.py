"""Does `compare` say what is so? Verdicts and intervals by hand, and by simulation with this project's real noise: how often
it calls equal programs different, and how often it finds a change of a known size."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bad_input import Run
from conftest import ROOT
from deploybench import changes, comparison, ranks, record, remeasure, results_file, stats
from deploybench.changes import INCONCLUSIVE, PASS, REGRESSION, WIN, Change
from deploybench.record import OLD
from deploybench.rounds import BASELINE
from deploybench.verbs import compare

RESULTS = ROOT / "docs" / "results"


def a_run(runner: str, number: int, seconds: float, model: str = "m", **more: Any) -> dict[str, Any]:
    """Round `number`: two turns of two calls, all alike."""
    return {
        "model": model, "runner": runner, "round": number, "run_seconds": [seconds] * 4, "turn_calls": [2, 2], "batch_size": 1,
        "warmup_seconds": [seconds], "load_seconds": 0.1, "cold_start_seconds": 1.0, "peak_rss_bytes": 1000,
        "artifact_bytes": 1000, "parity": {"ok": True, "reason": ""}, **more,
    }  # fmt: skip


def a_file(times: dict[str, list[float]], **more: Any) -> dict[str, Any]:
    """Results of model m: for each runner the seconds of a call in each round."""
    environment = {**record.environment(), "load_average_1min": 0.0}
    config = {"models": ["m"], "runners": list(times), "device": "cpu", "threads": 1, "batch_size": 1}
    runs = [a_run(runner, number, seconds) for runner, its in times.items() for number, seconds in enumerate(its)]
    return {
        "schema": record.SCHEMA, "complete": True, "environment": environment, "config": config, "runs": runs, **more,
    }  # fmt: skip


def written(folder: Path, **files: dict[str, Any]) -> list[Path]:
    for name, results in files.items():
        (folder / f"{name}.json").write_text(json.dumps(results))
    return [folder / f"{name}.json" for name in files]


def test_the_shift_of_two_samples() -> None:
    """By hand: the 16 differences lie around 10; of 4 and 4 only the outermost order on each side, 2 of 70, may be left out."""
    shift = ranks.between([0.0, 1.0, 2.0, 3.0], [10.0, 11.0, 12.0, 13.0])
    assert (shift.value, shift.low, shift.high) == (10.0, 7.0, 13.0)
    assert math.isinf(ranks.between([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]).high), "of 3 and 3, 2 of 20 would be 10 %"


def test_the_shift_of_pairs() -> None:
    """By hand: 21 means by two of 1 to 6, the median 3.5; one of 64 signs on each side may be left out."""
    shift = ranks.of_pairs([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert (shift.value, shift.low, shift.high) == (3.5, 1.0, 6.0)
    assert math.isinf(ranks.of_pairs([1.0, 2.0, 3.0, 4.0, 5.0]).low)


@pytest.mark.parametrize(("sizes", "critical"), [((6, 6), 5), ((10, 10), 23), ((6, 12), 14), ((20, 20), 127)])
def test_ranks_of_two_samples_as_tables_have_them(sizes: tuple[int, int], critical: int) -> None:
    """Critical values of the Mann-Whitney U, 5 % two-sided."""
    assert ranks._left_out(ranks._rank_sums(*sizes)) == critical + 1


@pytest.mark.parametrize(("count", "critical"), [(6, 0), (10, 8), (16, 29), (25, 89)])
def test_ranks_of_pairs_as_tables_have_them(count: int, critical: int) -> None:
    """Critical values of Wilcoxon's T, 5 % two-sided."""
    assert ranks._left_out(ranks._signed_ranks(count)) == critical + 1


def test_very_many_rounds_take_the_normal_distribution() -> None:
    """By hand: 200 * 200 / 2 - 1.96 * sqrt(200 * 200 * 401 / 12) = 17734, from 1."""
    assert ranks._left_out(ranks._rank_sums(200, 200)) == pytest.approx(17735, abs=2)


@pytest.mark.parametrize(
    ("low", "high", "margin", "expected"),
    [
        (1.02, 1.04, 0.05, REGRESSION),
        (1.001, 1.04, 0.05, PASS),  # beyond 1, but perhaps by less than 1 %
        (1.001, 1.06, 0.05, INCONCLUSIVE),
        (0.90, 0.98, 0.05, WIN),
        (0.90, 0.995, 0.05, PASS),
        (0.90, 1.05, 0.05, PASS),
        (0.90, 1.051, 0.05, INCONCLUSIVE),
        (0.90, 1.051, 0.10, PASS),
        (1.006, 1.009, 0.005, REGRESSION),  # a margin below 1 % is the least change, too
    ],
)
def test_verdicts(low: float, high: float, margin: float, expected: str) -> None:
    change = Change("m", "r", 1, 1.0, 1.0, math.sqrt(low * high), low, high, (6, 6))
    assert changes.judge(change, "time", margin).verdict == expected


def test_the_machine_may_have_slowed_a_runner_by_anything_up_to_eagers_slowing(here: Run, tmp_path: Path) -> None:
    """By hand: eager and the runner take 1.44 times as long. The runner is between 1.44 times as slow and not slower at all;
    in the middle, in logarithms, 1.2."""
    old = a_file({BASELINE: [1.0] * 4, "cpp/script": [0.5] * 4})
    new = a_file({BASELINE: [1.44] * 4, "cpp/script": [0.72] * 4})
    done = here("compare", *written(tmp_path, old=old, new=new))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["runner", "old", "ms", "new", "ms", "ratio", "95", "%", "interval"]
    assert lines[4].split() == ["cpp/script", "500.0", "720.0", "1.20", "1.00-1.44", "INCONCLUSIVE"]
    assert "eager took 1.44 times as long in NEW" in done.stdout
    assert "geometric mean 1.20, interval 1.00-1.44" in done.stdout
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line), done.stdout


def test_a_change_that_both_views_show_is_found(here: Run, tmp_path: Path) -> None:
    """By hand: eager as before, one runner 1.21 times as slow, one at a half, one the same."""
    runners = {"cpp/script": 1.21, "cpp/fused": 0.5, "cpp/direct/bf16": 1.0}
    old = a_file({BASELINE: [1.0] * 4, **{runner: [0.1] * 4 for runner in runners}})
    new = a_file({BASELINE: [1.0] * 4, **{runner: [0.1 * factor] * 4 for runner, factor in runners.items()}})
    files = written(tmp_path, old=old, new=new)
    done = here("compare", *files)
    rows = {line.split()[0]: line.split()[3:] for line in done.stdout.splitlines()[3:7]}
    assert rows["cpp/script"] == ["1.21", "1.21-1.21", REGRESSION]
    assert rows["cpp/fused"] == ["0.50", "0.50-0.50", WIN]
    assert rows["cpp/direct/bf16"] == rows[BASELINE] == ["1.00", "1.00-1.00", PASS]
    mean = (1.21 * 0.5) ** (1 / 3)  # eager is no case of its own here
    assert f"1 REGRESSION, 1 WIN, 2 PASS; geometric mean {mean:.2f}" in done.stdout
    assert done.returncode == 0, "without --fail-above a comparison is a report"
    assert here("compare", *files, "--fail-above", "5%").returncode == 4
    assert here("compare", *files, "--fail-above", "20").returncode == 4
    assert here("compare", *files, "--fail-above", "22%").returncode == 0
    said = json.loads(here("compare", *files, "--json").stdout)
    assert said["verdicts"] == {REGRESSION: 1, WIN: 1, PASS: 2, INCONCLUSIVE: 0}
    assert said["geometric_mean"]["ratio"] == pytest.approx(mean)
    assert {case["runner"]: case["verdict"] for case in said["cases"]}["cpp/fused"] == WIN
    table = here("compare", *files, "--format", "markdown").stdout
    assert table.startswith("**deploybench compare: 1 REGRESSION, 1 WIN, 2 PASS;")
    assert table.index("| cpp/script ") < table.index("<details>") < table.index("| cpp/direct/bf16 ")


def test_what_was_measured_once_does_not_take_the_mean_its_interval(here: Run, tmp_path: Path) -> None:
    """As `compile` in a file of many runners: 2 of 4 cases, and the mean of 1.21, 1.21."""
    factors = {"cpp/script": 1.21, "cpp/fused": 1.21, "python/compile": 4.0}
    rounds = {BASELINE: 4, "cpp/script": 4, "cpp/fused": 4, "python/compile": 1}
    old = a_file({runner: [1.0] * count for runner, count in rounds.items()})
    new = a_file({runner: [factors.get(runner, 1.0)] * count for runner, count in rounds.items()})
    done = here("compare", *written(tmp_path, old=old, new=new))
    assert done.returncode == 0, done.stderr
    assert "geometric mean 1.21, interval 1.21-1.21" in done.stdout
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("python/compile"))
    assert row[-1] == INCONCLUSIVE


def test_what_is_open_or_failed_has_an_exit_code(here: Run, tmp_path: Path) -> None:
    times = {BASELINE: [1.0] * 3, "cpp/script": [0.5] * 3}
    old, new = a_file(times), a_file({**times, BASELINE: [1.0, 1.0, 1.001]})
    files = written(tmp_path, old=old, new=new)
    done = here("compare", *files, "--fail-above", "5%")
    assert done.returncode == 5
    assert "none: too few rounds" in done.stdout
    assert '"low": null' in here("compare", *files, "--json").stdout
    wrong = {"parity": {"ok": False, "reason": "another top 5 than eager's"}}
    new["runs"] = [{**run, **wrong} if run["runner"] == "cpp/script" else run for run in new["runs"]]
    done = here("compare", *written(tmp_path, old=old, new=new), "--fail-above", "5%")
    assert done.returncode == 4
    assert "FAILED in NEW: m cpp/script: not equal to eager: another top 5 than eager's" in done.stdout
    done = here("compare", *written(tmp_path, old=new, new=old), "--fail-above", "5%")
    assert done.returncode == 5, "what failed before is no regression"
    assert "not compared: m cpp/script: in OLD not equal to eager" in done.stdout


def test_old_beside_new(here: Run, tmp_path: Path) -> None:
    """By hand: in every round the new one takes 1.06 times as long as the old one, whatever the machine does meanwhile."""
    machine = [1.0, 1.5, 0.9, 1.1, 2.0, 1.3]
    times = {BASELINE: machine, "cpp/script": [1.06 * one for one in machine], f"cpp/script{OLD}": machine}
    (file,) = written(tmp_path, again=a_file(times))
    done = here("compare", file, "--fail-above", "5%")
    assert done.returncode == 4, done.stderr
    assert done.stdout.splitlines()[3].split()[3:] == ["1.06", "1.06-1.06", REGRESSION, "*"]
    assert "geometric mean 1.06, interval 1.06-1.06" in done.stdout
    assert here("compare", file, "--fail-above", "7%").returncode == 0
    assert here("report", file).returncode == 0


def test_without_eager_the_machines_drift_is_not_known(here: Run, tmp_path: Path) -> None:
    files = written(tmp_path, old=a_file({"cpp/script": [0.5] * 6}), new=a_file({"cpp/script": [0.6] * 6}))
    done = here("compare", *files)
    assert done.stdout.splitlines()[3].split()[3:] == ["1.20", "none", INCONCLUSIVE]
    assert "no python/eager in both files" in done.stdout
    lost = a_file({BASELINE: [1.0] * 6, "cpp/script": [0.6] * 6})
    del lost["runs"][2]["run_seconds"]
    lost["runs"][2]["error"] = {"code": "runtime", "message": "ended by signal 9"}
    done = here("compare", *written(tmp_path, old=a_file({BASELINE: [1.0] * 6, "cpp/script": [0.5] * 6}), new=lost))
    said = " ".join(done.stdout.split())
    assert "none: no interval, as python/eager" in said
    assert "too few rounds" not in said, "six are enough"


def test_counted_instructions(here: Run, tmp_path: Path) -> None:
    """By hand: (500 - 300) / 1 = 200 million a call before, (502 - 301) after: 1.0050, within 0.1 %."""

    def counted(few: int, many: int, **more: Any) -> dict[str, Any]:
        line = {
            "model": "m", "runner": "cpp/script", "batch_size": 1, "counter": "callgrind", "calls": [3, 4],
            "counts": [few * 1_000_000, many * 1_000_000], "cpu_capability": "AVX2",
        }  # fmt: skip
        return a_file({BASELINE: [1.0] * 2}, instructions=[{**line, **more}])

    flags = ("--metric", "instructions", "--fail-above")
    files = written(tmp_path, old=counted(300, 500), new=counted(301, 502))
    done = here("compare", *files, *flags, "1%")
    assert done.returncode == 0, done.stderr
    row = done.stdout.splitlines()[3].split()
    assert row == ["cpp/script", "200.0", "201.0", "1.0050", "1.0040-1.0060", REGRESSION]
    assert here("compare", *files, *flags, "0.4%").returncode == 4
    files = written(tmp_path, old=counted(300, 500), new=counted(301, 502, cpu_capability="AVX512"))
    assert "cpu_capability was AVX2, is AVX512" in here("compare", *files, *flags, "1%").stderr


def test_what_could_not_be_counted_any_more_is_no_success(here: Run, tmp_path: Path) -> None:
    """Its counting crashed, or its answer is another one now: that costs fewer instructions, too."""
    counts = {"counter": "callgrind", "calls": [3, 4], "counts": [300_000_000, 500_000_000]}
    lines = [{"model": "m", "runner": runner, "batch_size": 1, **counts} for runner in (BASELINE, "cpp/script")]
    times = {BASELINE: [1.0] * 2, "cpp/script": [0.5] * 2}
    old = a_file(times, instructions=lines)
    failed = {name: lines[1][name] for name in ("model", "runner", "batch_size")}
    failed["error"] = {"code": "runtime", "message": "ended by signal 11"}
    crashed = a_file(times, instructions=[lines[0], failed])
    wrong = a_file(times, instructions=lines)
    for run in wrong["runs"]:
        if run["runner"] == "cpp/script":
            run["parity"] = {"ok": False, "reason": "another top 5 than eager's"}
    flags = ("--metric", "instructions", "--fail-above", "1%")
    for new, why in ((crashed, "ended by signal 11"), (wrong, "not equal to eager: another top 5 than eager's")):
        done = here("compare", *written(tmp_path, old=old, new=new), *flags)
        assert done.returncode == 4, done.stdout
        assert f"FAILED in NEW: m cpp/script: {why}" in done.stdout
        done = here("compare", *written(tmp_path, old=new, new=old), *flags)
        assert done.returncode == 0, "what failed before is no regression"
        assert f"not compared: m cpp/script: in OLD {why}" in " ".join(done.stdout.split())
    only = a_file({"cpp/script": [0.5] * 2}, instructions=lines[1:])
    only["runs"] = [run for run in wrong["runs"] if run["runner"] == "cpp/script"]
    done = here("compare", *written(tmp_path, old=old, new=only), *flags)
    assert done.returncode == 4, done.stderr


def test_a_count_errs_by_what_python_does_in_starting() -> None:
    """By hand: 2 of 10,000 of 5 billion are a million, 0.5 % of a call of 200 million; twice that and 0.1 % are 1.1 %."""
    line = {"runner": "python/script", "calls": [3, 4], "counts": [5_000_000_000, 5_200_000_000]}
    (change,) = changes.counted({("m", "python/script", 1): line}, {("m", "python/script", 1): line})
    assert (change.low, change.ratio, change.high) == pytest.approx((1 / 1.011, 1.0, 1.011))
    assert changes.judge(change, "instructions", 0.01).verdict == INCONCLUSIVE
    assert changes.judge(change, "instructions", 0.02).verdict == PASS


# The simulation. A sitting is a list of rounds, each the runs of a runner and of eager in that round, of a real results file.
Round = tuple[dict[str, Any], dict[str, Any]]
EFFECTS = (0.0, 0.01, 0.02, 0.05, 0.10)
TRIES = 400
TURNS = [5, 5, 5, 2]  # bench: 100 calls over 6 rounds, 5 a turn
FILES = {"self-check": "resnet50-cpu-self-check.json", "languages": "resnet50-languages-cpu.json"}


def sittings(file: str) -> list[list[Round]]:
    """One for each runner of the file but eager."""
    runs = results_file.load(RESULTS / FILES[file])["runs"]
    by = {(run["runner"], run["round"]): run for run in runs}
    names = dict.fromkeys(run["runner"] for run in runs if run["runner"] != BASELINE)
    count = 1 + max(run["round"] for run in runs)
    return [[(by[name, at], by[BASELINE, at]) for at in range(count)] for name in names]


def twins(file: str) -> list[list[Round]]:
    """Pairs of one program in the same rounds, how far they lie apart taken out: a runner and its `#2`, or, on the same
    artifact, C++ and Python."""
    runs = results_file.load(RESULTS / FILES[file])["runs"]
    by = {(run["runner"], run["round"]): run for run in runs}
    names = dict.fromkeys(run["runner"] for run in runs)
    other = {name: name.removesuffix("#2") if "#2" in name else name.replace("cpp/", "python/", 1) for name in names}
    count = 1 + max(run["round"] for run in runs)
    found = []
    for name, its in other.items():
        if name != its and its in names and ("#2" in name) == (file == "self-check"):
            ratios = changes._relative([by[name, at] for at in range(count)], [by[its, at] for at in range(count)])
            apart = ranks.of_pairs(list(ratios.values())).value
            found.append([(scaled(by[name, at], math.exp(-apart)), by[its, at]) for at in range(count)])
    return found


def scaled(run: dict[str, Any], factor: float) -> dict[str, Any]:
    return {**run, "run_seconds": [second * factor for second in run["run_seconds"]]}


def drawn(run: dict[str, Any], runner: str, number: int, factor: float, generator: random.Random) -> dict[str, Any]:
    """The process with as many calls as bench makes by default, each turn's drawn from one of its real turns: the same for
    all of a round. What the real calls had in common, and their own noise too, counts as the process's."""
    turns, begin = [], 0
    for calls in run["turn_calls"]:
        turns.append(run["run_seconds"][begin : begin + calls])
        begin += calls
    seconds = [
        second * factor
        for at, calls in enumerate(TURNS)
        for second in generator.choices(turns[at % len(turns)], k=calls)
    ]
    return {**run, "runner": runner, "round": number, "run_seconds": seconds, "turn_calls": TURNS}


def neighbours(rounds: list[Round], count: int, generator: random.Random) -> tuple[list[Round], list[Round]]:
    """Two stretches of `count` rounds as they followed each other, with the machine's drift between them, in either order."""
    first = generator.randrange(len(rounds) - 2 * count + 1)
    second = generator.randrange(first + count, len(rounds) - count + 1)
    both = [rounds[first : first + count], rounds[second : second + count]]
    generator.shuffle(both)
    return both[0], both[1]


def shuffled(rounds: list[Round], count: int, generator: random.Random) -> tuple[list[Round], list[Round]]:
    """Rounds drawn with replacement: processes differ, but the machine does not drift from file to file."""
    return generator.choices(rounds, k=count), generator.choices(rounds, k=count)


def two_files(old: list[Round], new: list[Round], effect: float, generator: random.Random) -> Change:
    sides = []
    for rounds, factor in ((old, 1.0), (new, 1 + effect)):
        runs: dict[changes.Key, list[record.Record]] = {("m", "r", 1): [], ("m", BASELINE, 1): []}
        for number, (run, eager) in enumerate(rounds):
            runs["m", "r", 1].append(drawn(run, "r", number, factor, generator))
            runs["m", BASELINE, 1].append(drawn(eager, BASELINE, number, 1.0, generator))
        sides.append(runs)
    (case,) = (case for case in changes.cases(*sides) if case.key[1] == "r")
    return changes.judge(changes.change(case), "time", changes.MARGIN)


def beside(rounds: list[Round], effect: float, generator: random.Random) -> Change:
    new = [drawn(run, "r", number, 1 + effect, generator) for number, (run, _) in enumerate(rounds)]
    old = [drawn(run, f"r{OLD}", number, 1.0, generator) for number, (_, run) in enumerate(rounds)]
    (case,) = changes.pairs({("m", "r", 1): new, ("m", f"r{OLD}", 1): old})
    return changes.judge(changes.change(case), "time", changes.MARGIN)


def simulated(file: str, way: str, count: int, again: int) -> list[Counter[str]]:
    """Verdicts for each effect. `way`: how the rounds of two files are drawn, or `beside`; `again`: rounds of --remeasure,
    for what is open after two files."""
    generator = random.Random(f"{file} {way} {count}")
    draw = {"neighbours": neighbours, "shuffled": shuffled}
    sources, pairs = sittings(file), twins(file)
    found = []
    for effect in EFFECTS:
        verdicts: Counter[str] = Counter()
        for _ in range(TRIES):
            verdict = INCONCLUSIVE
            if way != "beside":
                verdict = two_files(*draw[way](generator.choice(sources), count, generator), effect, generator).verdict
            if verdict == INCONCLUSIVE and again:
                rounds = generator.choices(generator.choice(pairs), k=again)
                verdict = beside(rounds, effect, generator).verdict
            verdicts[verdict] += 1
        found.append(verdicts)
    return found


ROWS = [
    ("two files", "self-check", "shuffled", 6, 0),
    ("two files", "self-check", "neighbours", 6, 0),
    ("two files", "self-check", "neighbours", 16, 0),
    ("two files", "languages", "neighbours", 6, 0),
    ("old beside new", "self-check", "beside", 0, 6),
    ("old beside new", "self-check", "beside", 0, remeasure.ROUNDS),
    ("old beside new", "languages", "beside", 0, remeasure.ROUNDS),
    ("both, the defaults", "self-check", "neighbours", 6, remeasure.ROUNDS),
    ("both, the defaults", "languages", "neighbours", 6, remeasure.ROUNDS),
]  # fmt: skip


def test_false_alarms_and_changes_found(capsys: pytest.CaptureFixture[str]) -> None:
    """At most 5 % false alarms in every way; a change of 5 % is found at least 90 times in 100 where old runs beside new."""
    lines = []
    for what, file, way, count, again in ROWS:
        found = simulated(file, way, count, again)
        alarms = (found[0][REGRESSION] + found[0][WIN]) / TRIES
        shares = [verdicts[REGRESSION] / TRIES for verdicts in found]
        wrong = max(verdicts[WIN] for verdicts in found[1:]) / TRIES
        rounds = " + ".join(str(number) for number in (count, again) if number)
        drift = {"shuffled": "no", "neighbours": "yes", "beside": "-"}[way]
        cells = [f"{alarms:6.1%}", *(f"{share:6.1%}" for share in shares[1:]), f"{found[0][PASS] / TRIES:6.1%}"]
        lines.append(" | ".join([f"| {what:18}", f"{file:10}", f"{drift:5}", f"{rounds:6}", *cells]) + " |")
        assert alarms <= 0.05, lines[-1]
        assert wrong <= 0.01, f"slower and called faster: {lines[-1]}"
        if again == remeasure.ROUNDS:
            assert shares[EFFECTS.index(0.05)] >= 0.90, lines[-1]
            assert shares[EFFECTS.index(0.10)] >= 0.95, lines[-1]
    with capsys.disabled():
        head = "| how | noise of | drift | rounds | false alarms | +1 % | +2 % | +5 % | +10 % | PASS at 0 % |"
        print("\n" + "\n".join([head, "|---" * 10 + "|", *lines]))


def test_two_real_measurements_of_equal_programs_are_not_called_different(here: Run) -> None:
    done = here("compare", RESULTS / "resnet50-cpu.json", RESULTS / "resnet50-cpu-self-check.json")
    assert done.returncode == 0, done.stderr
    assert REGRESSION not in done.stdout.split("geometric")[0]
    assert WIN not in done.stdout.split("geometric")[0]


def test_no_runner_suffers_more_from_the_machine_than_eager() -> None:
    """What the interval of two files stands on: while the machine slowed down by 13 % in 12 rounds, every runner lost between
    nothing and all of what eager lost."""
    runs = results_file.load(RESULTS / FILES["languages"])["runs"]
    slowing = {}
    for name in dict.fromkeys(run["runner"] for run in runs):
        logs = [statistics.fmean(map(math.log, stats.times_of_turns(run))) for run in runs if run["runner"] == name]
        slowing[name] = statistics.fmean(logs[6:]) - statistics.fmean(logs[:6])
    assert slowing[BASELINE] == pytest.approx(0.133, abs=0.001)
    assert all(0 <= lost <= slowing[BASELINE] for lost in slowing.values()), slowing


def test_words_are_the_programs_own() -> None:
    assert comparison.VERDICTS == (REGRESSION, WIN, PASS, INCONCLUSIVE)
    assert compare.EXITS.count(str(comparison.REGRESSED)) == compare.EXITS.count(str(comparison.OPEN)) == 1
