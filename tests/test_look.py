"""Does every verb look and behave alike: help that fits and whose example works, colour on terminals alone, --json, --quiet?

A new verb in cli.VERBS is tested here by itself; one that lacks something is red.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import shlex
import subprocess
import sys

import pytest
from checkout import Checkout
from conftest import ROOT, native, one_line_error, python
from deploybench import cli, terminal

WIDTH = 80
UNGROUPED = 3  # flags a verb may have outside a titled group
ESCAPE = "\033["
PROGRAMS = ("infer", "bench", "preprocess")
# examples that are only parsed
NOT_RUN = {
    "download": "needs the network",
    "evaluate": "needs labelled photos, which test_evaluate.py has",
    "advise": "takes minutes; test_advise.py is given less",
    "migrate": "compiles for a minute; test_migrate.py has a model of 16 numbers",
    "compare": "has placeholders; test_compare.py compares",
    "doctor": "says what is wrong with this machine, and its exit code is of that",
}
# what an example needs that the one before it has not made
FIRST = {
    "bundle": "deploybench generate --models resnet50 --weights random --quiet",
    "worker": "deploybench generate --models resnet50 --weights random --quiet",
}


def example(verb: str) -> str:
    epilog = cli.parser({verb}).verbs[verb].epilog
    assert epilog, f"{verb}: no EXAMPLE in its module"
    return epilog.removeprefix("example:\n  ")


@pytest.mark.parametrize("verb", ["", *cli.VERBS])
def test_help_fits_into_80_columns(verb: str) -> None:
    text = python(*[verb] * bool(verb), "--help", env={"COLUMNS": str(WIDTH)}).stdout
    assert text.startswith(f"usage: deploybench {verb}".rstrip())
    assert max(map(len, text.splitlines())) <= WIDTH, [line for line in text.splitlines() if len(line) > WIDTH]
    assert text.splitlines()[-2].startswith("example:")
    assert ESCAPE not in text


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_in_cpp(program: str) -> None:
    text = native(program, "--help").stdout
    assert max(map(len, text.splitlines())) <= WIDTH
    *_, heading, line = text.splitlines()
    assert heading == "example"
    assert line.split()[0] == program
    named = set(re.findall(r"--[a-z][a-z0-9-]*", line))
    assert named <= set(re.findall(r"^  (--[a-z][a-z0-9-]*)", text, re.MULTILINE)), line


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_is_grouped_and_says_what_each_flag_does(verb: str) -> None:
    parser = cli.parser({verb}).verbs[verb]
    titled = {id(action) for group in parser._action_groups[2:] for action in group._group_actions}
    loose = [action.dest for action in parser._actions if action.option_strings and id(action) not in titled]
    assert len(loose) <= UNGROUPED, loose
    assert all(action.help for action in parser._actions)
    assert {"--quiet", "--help"} <= parser._option_string_actions.keys()
    assert ("--json" in parser._option_string_actions) == (verb not in cli.TEXT_ONLY)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_example_works(verb: str, checkout: Checkout) -> None:
    """With --json --quiet: stdout holds JSON and nothing else, stderr nothing at all."""
    line = example(verb)
    words = shlex.split(line)
    assert words[:2] == ["deploybench", verb]
    assert isinstance(cli.parser({verb}).parse_args(words[1:]), argparse.Namespace)
    if verb in NOT_RUN:
        return
    if verb in FIRST:
        assert checkout.type(FIRST[verb]).returncode == 0
    json_too = "" if verb in cli.TEXT_ONLY else " --json"
    done = checkout.type(f"{line} --quiet{json_too}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout
    if json_too:
        for one in done.stdout.splitlines():
            assert isinstance(json.loads(one, parse_constant=pytest.fail), dict)


@pytest.mark.parametrize("verb", [verb for verb in cli.VERBS if verb not in cli.TEXT_ONLY])
def test_an_error_is_json_too(verb: str) -> None:
    done = python(verb, "--no-such-flag", "--json")
    one_line_error(done, 2, "--help")
    record = json.loads(done.stdout)
    assert record["error"]["code"] == "usage"
    assert done.stderr == f"error: {record['error']['message']}\n"


def on_a_terminal(command: list[str], stream: int, **variables: str) -> str:
    """What `command` writes to `stream` (1 or 2) when that is a terminal."""
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    environment |= {"TERM": "xterm", "PYTHONPATH": str(ROOT / "python"), **variables}
    ours, theirs = pty.openpty()
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, {1: "stdout", 2: "stderr"}[stream]: theirs}
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, **streams) as process:  # type: ignore[call-overload]
        os.close(theirs)
        said = b""
        try:
            while block := os.read(ours, 65536):
                said += block
        except OSError:  # EIO: the other side has closed
            pass
        process.wait()
    os.close(ours)
    return said.decode()


BAD = ["report", "no-such-file.json"]


def command(program: str) -> list[str]:
    """One that fails with an error line."""
    if program == "python":
        return [sys.executable, "-m", "deploybench", *BAD]
    native(program, "--help")
    return [str(ROOT / "cpp/build/bin" / program), "--no-such-flag"]


@pytest.mark.parametrize("program", ["python", "infer"])
def test_colour_on_a_terminal_alone(program: str) -> None:
    line = command(program)
    assert on_a_terminal(line, 2).startswith(f"{ESCAPE}{terminal.RED}merror:{ESCAPE}0m ")
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}):
        assert on_a_terminal(line, 2, **variables).startswith("error: ")
    assert ESCAPE in on_a_terminal(line, 2, NO_COLOR="")  # no-color.org: only when it is not empty
    help_of = [*line[:-2], "--help"] if program == "python" else [line[0], "--help"]
    assert f"{ESCAPE}1musage:{ESCAPE}0m" in on_a_terminal(help_of, 1)
    assert ESCAPE not in on_a_terminal(help_of, 1, NO_COLOR="1")


def test_no_colour_in_a_pipe_unless_forced() -> None:
    assert ESCAPE not in python(*BAD).stderr
    assert ESCAPE in python(*BAD, env={"FORCE_COLOR": "1"}).stderr


def test_verdicts_are_coloured_as_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert (
        terminal.with_verdicts("PASS FAILED no-PASS PASS", None)
        == "\033[1;32mPASS\033[0m FAILED no-PASS \033[1;32mPASS\033[0m"
    )
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.with_verdicts("PASS FAIL", None) == "PASS FAIL"


def test_quiet_silences_notices_and_keeps_errors(checkout: Checkout) -> None:
    make = "deploybench generate --models resnet50 --weights random --quiet"
    assert checkout.type(make).stderr == ""
    for program in ("deploybench infer --artifact", "cpp/build/bin/infer"):
        ask = f"{program} artifacts/resnet50.script-fp32-cpu.ts data/images/chelsea.jpg"
        loud, quiet = checkout.type(ask), checkout.type(f"{ask} --quiet")
        assert loud.stderr.startswith("notice: random weights")
        assert (quiet.stderr, quiet.stdout, quiet.returncode) == ("", loud.stdout, 0)
        assert "error: " in checkout.type(f"{ask}.none --quiet").stderr


def test_the_twins_of_preprocess_print_the_same_json(checkout: Checkout) -> None:
    assert checkout.type("deploybench generate --models resnet50 --weights random --quiet").returncode == 0
    file, photo = "artifacts/resnet50.script-fp32-cpu.ts", "data/images/chelsea.jpg"
    ours = checkout.type(f"deploybench preprocess --artifact {file} {photo} --out artifacts/a.npy --json")
    theirs = checkout.type(f"cpp/build/bin/preprocess {file} {photo} --output artifacts/a.npy --json")
    assert json.loads(ours.stdout) == json.loads(theirs.stdout)
    assert json.loads(ours.stdout)["shape"] == [1, 3, 224, 224]
