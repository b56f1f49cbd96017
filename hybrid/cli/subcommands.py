"""The grammar of a program with several commands, made from tables of their options.

``hybrid-bench`` and ``hybrid-ctl`` declare each option once, as a :class:`CommandOption`; the help pages, the parsing
and the words of every refusal come from here. (``hybrid-serve`` has :mod:`hybrid.cli.command_line`: its options have
sources besides the command line.)
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter as SignatureParameter
from inspect import Signature, signature
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from hybrid import __version__
from hybrid.cli.command_line import Asked
from hybrid.ground.errors import UsageError
from hybrid.shared.option_values import Rejected
from hybrid.shared.options import nearest

_HAS_METAVAR = "metavar" in signature(Parameter).parameters


@dataclass(frozen=True, slots=True)
class CommandOption:
    """One option, or one argument if its ``flag`` has no hyphen.

    ``default``: as text, the way a user would write it. ``read``: from text to a checked value. ``missing``: the error
    when an argument is not there; without one it may be left out.
    """

    flag: str
    metavar: str
    default: str
    help: str
    read: Callable[[str], Any]
    is_list: bool = False
    is_switch: bool = False
    missing: str = ""

    @property
    def keyword(self) -> str:
        return self.flag.lstrip("-").lower().replace("-", "_")


@dataclass(frozen=True, slots=True)
class Grammar:
    """A program's commands: by name, what each is for and its options. ``unused``: what to do about a word too many."""

    program: str
    help: str
    commands: Mapping[str, tuple[str, tuple[CommandOption, ...]]]
    unused: str = ""


def yes(text: str) -> bool:
    """Read a switch."""
    return text == "true"


def parse(grammar: Grammar, argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the command's name and the checked value of each of its options, by keyword.

    Raises: UsageError: names the option, the value and the remedy. Asked: for ``--help`` and ``--version``.
    """
    app = App(
        name=grammar.program,
        help=grammar.help,
        help_format="plaintext",
        version=f"hybrid {__version__} (CPython {platform.python_version()} on {platform.system()})",
    )
    if not argv:
        known = ", ".join(grammar.commands)
        raise UsageError(f"no command. Give one of {known}. See {grammar.program} --help.")
    functions = {}
    for name, (help, options) in grammar.commands.items():
        functions[name] = _function(options)
        app.command(functions[name], name=name, help=help)
    try:
        found, bound, _ = app.parse_args(list(argv), exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        raise _in_our_words(grammar, error, argv) from None
    for name, (_help, options) in grammar.commands.items():
        if found is functions[name]:
            return name, _values(options, bound.arguments)
    raise Asked(lambda: found(*bound.args, **bound.kwargs))


def _function(options: Sequence[CommandOption]) -> Callable[..., None]:
    """Return a function whose signature is the set of options; it is never called."""

    def command(**_values: object) -> None:
        """Be parsed for."""

    command.__signature__ = Signature([_parameter(option) for option in options])  # type: ignore[attr-defined]  # functions may have one
    command.__annotations__ = {each.keyword: _annotation(each) for each in options}
    return command


def _parameter(option: CommandOption) -> SignatureParameter:
    is_positional = not option.flag.startswith("-")
    kind = SignatureParameter.POSITIONAL_ONLY if is_positional else SignatureParameter.KEYWORD_ONLY
    return SignatureParameter(option.keyword, kind, default=None, annotation=_annotation(option))


def _annotation(option: CommandOption) -> Any:
    details: dict[str, Any] = {"name": option.flag} if option.flag.startswith("-") else {}
    if _HAS_METAVAR and option.metavar and details:
        details["metavar"] = option.metavar
    shown = f"{option.help} [default: {option.default}]" if option.default and not option.is_switch else option.help
    kind: Any = bool if option.is_switch else list[str] if option.is_list else str
    return Annotated[
        kind | None,
        Parameter(help=shown, show_default=False, negative=(), allow_repeating=True, **details),
    ]


def _values(options: Sequence[CommandOption], given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option in options:
        value = given.get(option.keyword)
        if option.missing and not value:
            raise UsageError(option.missing)
        text = option.default if value is None else ",".join(value) if isinstance(value, list) else str(value)
        if option.is_switch:
            values[option.keyword] = bool(value)
        elif not text and value is None:
            values[option.keyword] = () if option.is_list else ""
        else:
            values[option.keyword] = _read(option, text)
    return values


def _read(option: CommandOption, text: str) -> Any:
    try:
        return option.read(text)
    except Rejected as error:
        raise UsageError(f"cannot use {text!r} for {option.flag}, from the command line: {error}") from None


def _in_our_words(grammar: Grammar, error: CycloptsError, argv: Sequence[str]) -> UsageError:
    command = argv[0] if argv and argv[0] in grammar.commands else ""
    see = f"See {' '.join(filter(None, (grammar.program, command, '--help')))}."
    if isinstance(error, UnknownOptionError):
        name = (error.token.keyword or error.token.value).partition("=")[0]
        flags = [option.flag for option in (grammar.commands[command][1] if command else ())]
        return UsageError(f"unknown option {name!r}, from the command line.{nearest(name, flags)} {see}")
    if isinstance(error, UnusedCliTokensError) and command:
        unused = (error.unused_tokens or ["?"])[0]
        return UsageError(f"unexpected argument {unused!r}{grammar.unused}. {see}")
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return UsageError(f"cannot use {error.keyword or error.argument.name} without a value. Give it one. {see}")
    if not command:
        given = f"{argv[0]!r} is no command" if argv else "no command"
        known = ", ".join(grammar.commands)
        likely = nearest(argv[0], grammar.commands) if argv else ""
        return UsageError(f"{given}.{likely} Give one of {known}. See {grammar.program} --help.")
    return UsageError(f"cannot read the command line: {' '.join(str(error).split())} {see}")
