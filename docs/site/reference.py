"""Writes docs/reference-cli.md and docs/reference-python.md: from the parsers of the verbs, the --help of the C++ programs, and
the docstrings and types of the Python API. Nothing of it is written by hand; a test wants them up to date."""

from __future__ import annotations

import argparse
import inspect
import re
import subprocess
import typing
from collections.abc import Iterator
from pathlib import Path

import deploybench
from deploybench import api, cli, library_paths, paths

DOCS = Path(__file__).resolve().parents[1]
PROGRAMS = ("infer", "bench", "preprocess")
WRITTEN = "<!-- Written by docs/site/reference.py: nox -s docs -->"


def write() -> None:
    """Both pages, where they are not so already: others may be reading them."""
    for name, text in pages().items():
        file = DOCS / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """File name -> content."""
    return {
        "reference-cli.md": "\n".join(command_line()) + "\n",
        "reference-python.md": "\n".join(python_api()) + "\n",
    }


def command_line() -> Iterator[str]:
    """A section for each verb and each C++ program."""
    yield from ("# All flags", "", WRITTEN, "")
    yield "What `--help` says, of every verb and program. What all verbs have (`--json`, `--quiet`, `--help`) is in"
    yield "[the command line](command-line.md)."
    for verb, parser in cli.parser().verbs.items():
        about, example = parser.description or "", (parser.epilog or "").partition("\n")[2].strip()
        yield from ("", f"## deploybench {verb}", "", about, "", "```bash", example, "```")
        for group in parser._action_groups:
            if (group._group_actions or group.description) and group.title != "general":
                yield from ("", f"**{group.title}**", *filter(None, [group.description]))
                if group._group_actions:
                    yield from ("", "| | |", "|---|---|")
                yield from (f"| {typed(parser, action)} | {said(parser, action)} |" for action in group._group_actions)
    for program in PROGRAMS:
        yield from ("", f"## cpp/build/bin/{program}", "", "```text", help_of(program).strip(), "```")


def typed(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """An argument as one types it."""
    return cell(f"`{parser._get_formatter()._format_action_invocation(action)}`")


def said(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Its help as `--help` prints it."""
    return cell(parser._get_formatter()._expand_help(action) if action.help else "")


def cell(text: str) -> str:
    """`text` inside a table."""
    return text.replace("|", "\\|")


def help_of(program: str) -> str:
    """What a C++ program says to --help."""
    command = [str(paths.CPP_BIN / program), "--help"]
    environment = library_paths.cpp_environment()
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def python_api() -> Iterator[str]:
    """A section for each function and class, with a table of the flags."""
    yield from ("# Python API", "", WRITTEN, "")
    yield from ("```python", "import deploybench as db", "", 'db.generate("resnet50", routes=["script", "frozen"])')
    yield from ('print(db.bench(["resnet50"], routes=["script", "frozen"]).table())', "```", "")
    yield from ((api.__doc__ or "").partition("\n\n")[2].partition("\n\nA new verb")[0], "")
    yield "`import deploybench` imports nothing heavy; [the notebook](tutorial.ipynb) shows it at work. The other verbs are on the"
    yield "[command line](command-line.md) only, where `--json` is for programs."
    for name in api.FLAGS:
        yield from function(name)
    for name in sorted(set(deploybench.__all__) - set(api.FLAGS)):
        yield from described(getattr(deploybench, name))


def function(name: str) -> Iterator[str]:
    """Its signature, what its docstring says, and its flags with their types and the words of --help."""
    made = getattr(deploybench, name)
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(made)))
    signature = re.sub(r"Unpack\[(\w+)\]", r"\1", signature)
    yield from (
        "",
        f"## {name}",
        "",
        "```python",
        f"deploybench.{name}{signature}",
        "```",
        "",
        inspect.getdoc(made) or "",
    )
    hints = typing.get_type_hints(api.FLAGS[name]) if api.FLAGS[name] is not dict else {}
    if not hints:
        return
    parser = cli.parser({name}).verbs[name]
    actions = {action.dest: action for action in parser._actions}
    yield from ("", "| Flag | Type | |", "|---|---|---|")
    for flag in sorted(hints):
        yield f"| `{flag}` | {cell(shown(hints[flag]))} | {said(parser, actions[flag])} |"


def shown(hint: object) -> str:
    """A type as one reads it."""
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(hint))
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    for long, short in (
        ("typing.", ""), ("collections.abc.", ""), ("str | os.PathLike[str]", "path"), ("Literal['auto']", "'auto'"),
    ):  # fmt: skip
        text = text.replace(long, short)
    return f"`{text}`"


def described(made: type) -> Iterator[str]:
    """A class: its docstring, and those of its public methods and properties."""
    yield from ("", f"## {made.__name__}", "", inspect.getdoc(made) or "")
    for name, member in vars(made).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            call = "" if isinstance(member, property) else "()"
            yield from ("", f"**`{name}{call}`**: {inspect.getdoc(member)}")


if __name__ == "__main__":
    write()
