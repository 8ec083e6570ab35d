"""The parser of every verb: help of 80 columns with an example, errors of one line, and the flags that all verbs share."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable
from typing import NoReturn

from deploybench import terminal
from deploybench.errors import DeploybenchError


class Help(argparse.HelpFormatter):
    """Usage names what must be given, the rest is `[flags]`: the flags of bench alone would fill a screen. Examples keep
    their lines."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        """The line `usage:`."""
        needed = [action for action in actions if not action.option_strings or action.required]
        super().add_usage(usage or "%(prog)s [flags]" + self._shown(needed), needed, [], prefix)

    def _shown(self, actions: list[argparse.Action]) -> str:
        parts = []
        for action in actions:
            many = {"*": " [{0} ...]", "?": " [{0}]", "+": " {0} ...", "A...": " {0} ..."}
            name = action.metavar if isinstance(action.metavar, str) else action.dest
            flag = f" {action.option_strings[0]}" if action.option_strings else ""
            parts.append(flag + many.get(str(action.nargs), " {0}").format(name))
        return "".join(parts)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("example"):
            return text
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)  # --batch-size is one word

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """`--models, --model MODEL ...`: the value once."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        if action.nargs == "+":
            value = value.partition(" ")[0] + " ..."
        return f"{', '.join(action.option_strings)} {value}"


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line that end in the next command."""

    verbs: dict[str, Parser]  # of the one that has all: the parser of each verb

    def print_help(self, file: object = None) -> None:
        """To stdout; argparse's own says nothing where that cannot be written."""
        print(terminal.with_headings(self.format_help()), end="")

    def error(self, message: str) -> NoReturn:
        """Raises the usage error."""
        raise DeploybenchError("usage", f"{message}; see {self.prog} --help")


def add_general(parser: argparse.ArgumentParser, json: bool) -> None:
    """What every verb has: --help, --quiet and, unless it has its own or its data are no records, --json."""
    group = parser.add_argument_group("general")
    if json and "--json" not in parser._option_string_actions:
        group.add_argument("--json", action="store_true", help="print JSON instead, see docs/record.md")
    group.add_argument("--quiet", action="store_true", help="no progress and no notices; errors and warnings stay")
    group.add_argument("-h", "--help", action="help", help="show this")
