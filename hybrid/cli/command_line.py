"""The command line, made from the declarations. The one file that knows the library (docs/decisions/0001).

cyclopts gives the grammar, the help page and the order of the sources: the command line's own tokens first, then
what each source in ``config`` adds to options that have none yet. A token says where it came from; our converter
turns tokens into a checked value that keeps its origin.

Works with cyclopts 4 (CPython 3.10) and 5 (newer): ``metavar`` is all that 4 lacks.
"""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol

from cyclopts import App, ArgumentCollection, Group, Parameter, Token
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from hybrid import __version__
from hybrid.cli.foreign import instead
from hybrid.ground.errors import UsageError
from hybrid.shared.option_values import read, refuse, show
from hybrid.shared.options import Level, Option, Origin, Value, nearest, options_for

PROGRAM = "hybrid-serve"
_HELP = (
    "Serve TARGET from a pool of worker processes.\n\nAn option comes from the command line, else HYBRID_OPTION in the "
    "environment, else the configuration file, else its default."
)
_HAS_METAVAR = "metavar" in inspect.signature(Parameter).parameters


class Source(Protocol):
    """A place below the command line that options come from."""

    def find(self, given: Mapping[str, Value]) -> Mapping[str, tuple[list[str], Origin]]:
        """Return what the source says, by flag.

        Args: given: by flag, the (last) text that each option got from the sources above, not yet checked.
        Raises: UsageError: the source cannot be read.
        """
        ...


class Asked(Exception):
    """``--help`` or ``--version``: there is nothing to resolve. ``answer`` prints what was asked for."""

    def __init__(self, answer: Callable[[], object]) -> None:
        super().__init__()
        self.answer = answer


def parse(argv: Sequence[str], sources: Sequence[Source]) -> dict[str, Value]:
    """Return what was given, by flag, from the command line and then the sources, the first winning.

    Raises: UsageError: a token or a value is wrong. Asked: for ``--help`` and ``--version``.
    """
    origins: dict[str, Origin] = {}
    app, command = _build(sources, origins)
    try:
        found, bound, _ = app.parse_args(_with_hyphens(argv), exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        raise _in_our_words(error) from None
    if found is not command:
        raise Asked(lambda: found(*bound.args, **bound.kwargs))
    given = {option.flag: bound.arguments.get(option.keyword) for option in _options()}
    return {flag: _value(flag, value) for flag, value in given.items() if value is not None}


def _with_hyphens(argv: Sequence[str]) -> list[str]:
    """Return the tokens with ``--option -`` as ``--option=-``: the library takes a lone hyphen for an option."""
    tokens: list[str] = []
    for token in argv:
        if token == "-" and tokens and len(tokens[-1]) > 2 and tokens[-1].startswith("--") and "=" not in tokens[-1]:
            tokens[-1] += "=-"
        else:
            tokens.append(token)
    return tokens


def _options() -> tuple[Option, ...]:
    return options_for("c")


def _build(sources: Sequence[Source], origins: dict[str, Origin]) -> tuple[App, Callable[..., None]]:
    """Return the app and the function that it parses for; the function's signature *is* the set of options."""
    titles = list(dict.fromkeys(option.title for option in _options()))
    groups = {title: Group(title, sort_key=number) for number, title in enumerate(titles)}
    parameters = [_parameter(option, groups[option.title], origins) for option in _options()]

    def command(**_values: Value) -> None:
        """Never called: it is there to be parsed for."""

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # functions may have one
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = App(
        name=PROGRAM,
        usage=f"Usage: {PROGRAM} TARGET [OPTIONS]",
        help=_HELP,
        help_format="plaintext",
        help_flags=("--help", "-h"),
        version=f"hybrid {__version__} (CPython {platform.python_version()} on {platform.system()})",
        group_commands=groups["Command"],
        config=[_applier(source, origins) for source in sources],
    )
    app["--help"].help = "Show this and exit."
    app["--version"].help = "Show the version and exit."
    app.default(command)
    return app, command


def _parameter(option: Option, group: Group, origins: Mapping[str, Origin]) -> inspect.Parameter:
    positional = not option.flag.startswith("-")
    details: dict[str, Any] = {}
    if not positional:
        details["name"] = (option.flag, *option.aliases)
        metavar = option.metavar or _choices_as_metavar(option)
        if _HAS_METAVAR and metavar:
            details["metavar"] = metavar
    if option.is_switch and "f" not in option.doors:
        details["negative"] = ()  # nothing below the command line could have said yes
    parameter = Parameter(
        group=group,
        help=_help(option),
        converter=_converter(option, origins),
        allow_repeating=True,  # the last one wins, as everywhere: it is how a wrapper's options are overridden
        show_default=False,
        negative_iterable=(),
        **details,
    )
    kind: Any = bool if option.is_switch else list[str] if option.repeatable else str
    return inspect.Parameter(
        option.keyword,
        inspect.Parameter.POSITIONAL_ONLY if positional else inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, parameter],
    )


def _choices_as_metavar(option: Option) -> str:
    return "|".join(option.choices) if _HAS_METAVAR else ""


def _help(option: Option) -> str:
    """Return the help text, with the choices where they do not stand beside the flag, and the default."""
    notes = []
    if option.choices and (option.metavar or not _HAS_METAVAR):
        notes.append(", ".join(option.choices))
    default = show(option, option.default)
    if default and not option.is_switch:
        notes.append(f"default: {default}")
    return f"{option.help} [{'; '.join(notes)}]" if notes else option.help


def _converter(option: Option, origins: Mapping[str, Origin]) -> Callable[[Any, Sequence[Token]], Value]:
    def convert(_type: Any, tokens: Sequence[Token]) -> Value:
        origin = _origin(option.flag, tokens[-1], origins)
        return Value(read(option, [token.value for token in tokens], origin), origin)

    return convert


def _applier(source: Source, origins: dict[str, Origin]) -> Callable[[App, Any, ArgumentCollection], None]:
    """Return what cyclopts calls to let ``source`` fill the options that nothing above it has given."""

    def apply(_app: App, _commands: Any, arguments: ArgumentCollection) -> None:
        tokens = {argument.name: argument.tokens[-1] for argument in arguments if argument.tokens}
        given = {flag: Value(token.value, _origin(flag, token, origins)) for flag, token in tokens.items()}
        found = source.find(given)
        for argument in arguments:
            if argument.tokens or argument.name not in found:
                continue
            texts, origin = found[argument.name]
            origins[argument.name] = origin
            for index, text in enumerate(texts):
                argument.append(Token(keyword=origin.name, value=text, source=str(origin), index=index))

    return apply


def _origin(flag: str, token: Token, origins: Mapping[str, Origin]) -> Origin:
    """Return where a token came from: from the command line unless a source has noted that it was there."""
    return origins.get(flag) or Origin(Level.COMMAND_LINE, token.keyword or flag)


def _value(flag: str, value: Any) -> Value:
    """Return the value with its origin; a bare switch on the command line comes without our converter."""
    if isinstance(value, Value):
        return value
    name = flag if value else flag.replace("--", "--no-", 1)
    return Value(value, Origin(Level.COMMAND_LINE, name))


def _in_our_words(error: CycloptsError) -> UsageError:
    """Return the library's complaint about the tokens, worded like every other error of ours."""
    see = f"See {PROGRAM} --help."
    if isinstance(error, UnknownOptionError):
        name = (error.token.keyword or error.token.value).partition("=")[0]
        flags = [flag for option in _options() for flag in (option.flag, *option.aliases)]
        remedy = instead(name) or nearest(name, flags)
        return UsageError(f"unknown option {name!r}, from the command line.{remedy} {see}")
    if isinstance(error, UnusedCliTokensError):
        unused = (error.unused_tokens or ["?"])[0]
        return UsageError(f"unexpected argument {unused!r}: there is one TARGET, and an option takes one value. {see}")
    if isinstance(error, CoercionError) and error.token is not None:  # the value of a switch; others have our converter
        origin = Origin(Level.COMMAND_LINE, error.token.keyword or "")
        for option in _options():
            if option.flag == origin.name.replace("--no-", "--"):
                return refuse(option, error.token.value, origin, "neither true nor false. Give true, false or nothing.")
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.keyword or error.argument.name
        choices = next((option.choices for option in _options() if name in (option.flag, *option.aliases)), ())
        give = f"Give one of {', '.join(choices)}." if choices else "Give it one."
        return UsageError(f"cannot use {name} without a value, from the command line. {give} {see}")
    return UsageError(f"cannot read the command line: {' '.join(str(error).split())} {see}")
