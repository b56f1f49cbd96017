"""The tables of the page about ``hybrid-ctl``, from its declarations; a part of ``python -m tests.docs.generate``.

A page says where: between ``<!-- hybrid-ctl: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from hybrid.cli.ctl_options import COMMANDS, PROGRAM, WHICH, Command, options_of
from hybrid.cli.subcommands import CommandOption
from hybrid.ground import errors
from hybrid.ground.errors import ControlExit

_SECTION = re.compile(r"(?P<open><!-- hybrid-ctl: (?P<name>[\w-]+) -->\n).*?(?P<close><!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """Return a page's text with every table as the code has it. Raises: KeyError: a name that is none."""
    return _SECTION.sub(lambda match: f"{match['open']}{_TABLES[match['name']]()}{match['close']}", text)


def sections_in(text: str) -> list[str]:
    """Return the names of the tables that a page has."""
    return [match["name"] for match in _SECTION.finditer(text)]


def _commands() -> str:
    rows = [
        (f"`{PROGRAM} {_call(name, command)}`", f"`{command.op}`", command.help) for name, command in COMMANDS.items()
    ]
    return _table(("command", "op", ""), rows)


def _call(name: str, command: Command) -> str:
    arguments = [option.metavar for option in command.options if not option.flag.startswith("-")]
    return " ".join([name, *arguments])


def _own_options() -> str:
    rows = [(f"`{name}`", *_option(option)) for name, command in COMMANDS.items() for option in command.options]
    return _table(("command", "option", "default", ""), rows)


def _common_options() -> str:
    common = [option for option in options_of(COMMANDS["status"]) if option not in COMMANDS["status"].options]
    assert common[: len(WHICH)] == list(WHICH)
    return _table(("option", "default", ""), [_option(option) for option in common])


def _option(option: CommandOption) -> tuple[str, str, str]:
    usage = f"{option.flag} {option.metavar}" if option.flag.startswith("-") and option.metavar else option.flag
    default = f"`{option.default}`" if option.default and not option.is_switch else ""
    return "`" + usage.replace("|", "\\|") + "`", default, option.help


def _exits() -> str:
    words = dict(_described(ControlExit))
    return _table(("code", "name", ""), [(f"`{int(code)}`", code.name, words[code.name]) for code in ControlExit])


def _described(enum: type[ControlExit]) -> Iterator[tuple[str, str]]:
    """Yield each member with the text below it."""
    tree = ast.parse(inspect.getsource(errors))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == enum.__name__)
    for member, text in pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(text, ast.Expr) and isinstance(member.targets[0], ast.Name):
            yield member.targets[0].id, str(ast.literal_eval(text.value))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(line.replace("|  |", "| |") for line in lines) + "\n"


_TABLES: dict[str, Callable[[], str]] = {
    "commands": _commands,
    "own-options": _own_options,
    "common-options": _common_options,
    "exits": _exits,
}
