"""The options of ``hybrid-bench``, each declared once, and the grammar made from them.

They are the command's alone: the server that is measured takes its own options from ``HYBRID_…`` and its file.
"""

from __future__ import annotations

import math
import platform
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter as SignatureParameter
from inspect import Signature, signature
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from hybrid import __version__
from hybrid.bench.designs import NAMES
from hybrid.bench.handlers import BUILT_IN
from hybrid.bench.probe import parse_reply
from hybrid.bench.scenarios import SCENARIOS
from hybrid.cli.command_line import Asked
from hybrid.ground.errors import UsageError
from hybrid.shared.models import AUTO, MODELS
from hybrid.shared.option_values import Rejected
from hybrid.shared.options import nearest
from hybrid.shared.settings import MOST_WORKERS

PROGRAM = "hybrid-bench"
_HAS_METAVAR = "metavar" in signature(Parameter).parameters
_SPARE_DESCRIPTORS = 100


@dataclass(frozen=True, slots=True)
class BenchOption:
    """One option. ``default``: as text, the way a user would write it. ``read``: from text to a checked value."""

    flag: str
    metavar: str
    default: str
    help: str
    read: Callable[[str], Any]
    is_list: bool = False
    is_switch: bool = False

    @property
    def keyword(self) -> str:
        return self.flag.lstrip("-").lower().replace("-", "_")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        remedy = f"Give a whole number from {least} to {most}."
        if not (text.isascii() and text.removeprefix("-").isdigit()) or len(text) > 18:
            raise Rejected(f"not a whole number. {remedy}")
        if not least <= int(text) <= most:
            raise Rejected(f"out of range. {remedy}")
        return int(text)

    return read


def _number(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        remedy = f"Give a number from {least:g} to {most:g}."
        try:
            number = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise Rejected(f"not a number. {remedy}")
        if not least <= number <= most:
            raise Rejected(f"out of range. {remedy}")
        return number

    return read


def _one_of(known: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise Rejected(f"not one of its values.{nearest(text, known)} Give one of {', '.join(known)}.")
        return text

    return read


def _list_of(read_one: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    def read(text: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(read_one(part.strip()) for part in text.split(",")))

    return read


def _handler(text: str) -> str:
    if text and text not in BUILT_IN and ":" not in text:
        raise Rejected(
            f"neither a built-in handler nor a target. Give one of {', '.join(BUILT_IN)}, or package.module:attr, or "
            "path/to/file.py:attr."
        )
    return text


def _connections(text: str) -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = 1 << 30 if hard == resource.RLIM_INFINITY else max(1, hard - _SPARE_DESCRIPTORS)
    try:
        return _whole(1, most)(text)
    except Rejected as error:
        raise Rejected(f"{error} Each takes a descriptor of a client's: ulimit -Hn is {hard}.") from None


def _idle(text: str) -> int:
    return 0 if text == "0" else _connections(text)


def _workers(text: str) -> str:
    return text if text == "auto" else str(_whole(1, MOST_WORKERS)(text))


def _threads(text: str) -> int:
    return 0 if text == "auto" else _whole(1, 4096)(text)


def _request(text: str) -> str:
    """Return bytes as Latin-1; ``\\n``, ``\\r``, ``\\t``, ``\\0``, ``\\\\`` and ``\\xNN`` are understood."""
    try:
        raw = text.encode()
        made = raw.decode("unicode_escape").encode("latin-1") if "\\" in text else raw
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise Rejected("a backslash sequence is wrong. Give \\n, \\r, \\t, \\\\ or \\xNN after a backslash.") from None
    if not made:
        raise Rejected("it is empty. Give what a client says first.")
    return made.decode("latin-1")


def _reply(text: str) -> Any:
    try:
        return parse_reply(text)
    except ValueError:
        raise Rejected("neither a number of bytes nor one of its words. Give auto, close, line or a number.") from None


def _plot(text: str) -> str:
    from hybrid.bench import plot

    plot.check(text)
    return text


def _yes(text: str) -> bool:
    return text == "true"


_CLIENTS = BenchOption(
    "--clients", "N|auto", "auto", "Client processes; auto: half of the CPUs, two at least.",
    lambda text: 0 if text == "auto" else _whole(1, 250)(text),
)  # fmt: skip
_REPLY = BenchOption(
    "--reply", "auto|close|line|N", "auto",
    "How a reply ends: the server closes, a line, N bytes; auto asks once and looks.", _reply,
)  # fmt: skip
_TIMEOUT = BenchOption(
    "--timeout", "SECONDS", "5", "A connection without a reply for this long is lost.", _number(0.1, 600)
)
_JSON = BenchOption("--json", "", "false", "Print all figures as JSON instead of tables.", _yes, is_switch=True)

ACCEPT: tuple[BenchOption, ...] = (
    BenchOption(
        "--handler", "NAME|TARGET", "", "protocol, stream, blocking (the textbook's service, built in), or a target of "
        "yours. Without it: the textbook's, as a blocking handler and as a protocol.", _handler,
    ),
    BenchOption("--workers", "N,…", "4", "Workers; a table for each number.", _list_of(_whole(1, 64)), is_list=True),
    BenchOption("--threads", "T", "8", "Threads per worker of threads, threads=mutex, threads=main.", _whole(1, 256)),
    BenchOption(
        "--models", "NAME,…", "", "Ways of accepting; without it all that serve the handler. The names of --accept, "
        "and iterative and one-loop, the baselines.", _list_of(_one_of(NAMES)), is_list=True,
    ),
    BenchOption(
        "--scenario", "NAME,…", "load,light,burst,held", f"What to do: {', '.join(SCENARIOS)}.",
        _list_of(_one_of(SCENARIOS)), is_list=True,
    ),
    BenchOption("--rounds", "N", "6", "Rounds of load and light; the designs take turns.", _whole(1, 1000)),
    BenchOption("--for-s", "SECONDS", "0.4", "Length of one round.", _number(0.05, 600)),
    BenchOption("--concurrency", "N", "64", "Connections at a time under full load.", _connections),
    BenchOption("--connections", "N", "400", "Connections of a burst, and connections that are held.", _connections),
    BenchOption("--rate", "N", "500", "Connections a second at which held ones are opened.", _number(1, 100_000)),
    _CLIENTS,
    BenchOption("--request", "TEXT", r"4000\n", r"What a client says; \n and \xNN are understood.", _request),
    _REPLY,
    _TIMEOUT,
    _JSON,
    BenchOption("--plot", "FILE", "", "Write a picture: .svg or .png; needs the extra hybrid[plot].", _plot),
)  # fmt: skip

HANDLER: tuple[BenchOption, ...] = (
    BenchOption("TARGET", "TARGET", "", "What to serve: package.module:attr or path/to/file.py:attr.", _handler),
    BenchOption("--workers", "N|auto", "auto", "Worker processes.", _workers),
    BenchOption("--accept", "NAME", AUTO, "How workers share the accepting.", _one_of((AUTO, *MODELS))),
    BenchOption("--threads", "T|auto", "auto", "Threads per worker that serve blocking handlers.", _threads),
    BenchOption(
        "--connections",
        "N|auto",
        "auto",
        "Connections that exchange messages; auto: 64, or one for each thread of a blocking handler if they are fewer.",
        lambda text: 0 if text == "auto" else _connections(text),
    ),
    BenchOption("--idle", "N", "1000", "Idle connections to weigh one with; 0: do not.", _idle),
    BenchOption("--rate", "N", "0", "Messages a second; 0: as fast as they are answered.", _number(0, 10_000_000)),
    BenchOption("--rounds", "N", "5", "Rounds.", _whole(1, 1000)),
    BenchOption("--for-s", "SECONDS", "1", "Length of one round.", _number(0.05, 600)),
    _CLIENTS,
    BenchOption("--request", "TEXT", r"hello\n", r"A message; \n and \xNN are understood.", _request),
    _REPLY,
    _TIMEOUT,
    _JSON,
)

COMMANDS: dict[str, tuple[str, tuple[BenchOption, ...]]] = {
    "accept": ("Compare the ways of sharing accepts: the textbook's table, on this machine.", ACCEPT),
    "handler": ("Put steady load on a handler: messages/s, latencies, CPU and memory.", HANDLER),
}


def parse(argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the command's name and the checked value of each of its options, by keyword.

    Raises: UsageError: names the option, the value and the remedy. Asked: for ``--help`` and ``--version``.
    """
    app = App(
        name=PROGRAM,
        help="Measure real servers: each is started for the purpose, on 127.0.0.1, and ended.",
        help_format="plaintext",
        version=f"hybrid {__version__} (CPython {platform.python_version()} on {platform.system()})",
    )
    if not argv:
        raise UsageError(f"no command. Give one of {', '.join(COMMANDS)}. See {PROGRAM} --help.")
    functions = {}
    for name, (help, options) in COMMANDS.items():
        functions[name] = _function(options)
        app.command(functions[name], name=name, help=help)
    try:
        found, bound, _ = app.parse_args(list(argv), exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        raise _in_our_words(error, argv) from None
    for name, (_help, options) in COMMANDS.items():
        if found is functions[name]:
            return name, _values(options, bound.arguments)
    raise Asked(lambda: found(*bound.args, **bound.kwargs))


def _function(options: Sequence[BenchOption]) -> Callable[..., None]:
    """Return a function whose signature is the set of options; it is never called."""

    def command(**_values: object) -> None:
        """Be parsed for."""

    command.__signature__ = Signature([_parameter(option) for option in options])  # type: ignore[attr-defined]  # functions may have one
    command.__annotations__ = {each.keyword: _annotation(each) for each in options}
    return command


def _parameter(option: BenchOption) -> SignatureParameter:
    is_positional = not option.flag.startswith("-")
    kind = SignatureParameter.POSITIONAL_ONLY if is_positional else SignatureParameter.KEYWORD_ONLY
    return SignatureParameter(option.keyword, kind, default=None, annotation=_annotation(option))


def _annotation(option: BenchOption) -> Any:
    details: dict[str, Any] = {"name": option.flag} if option.flag.startswith("-") else {}
    if _HAS_METAVAR and option.metavar and details:
        details["metavar"] = option.metavar
    shown = f"{option.help} [default: {option.default}]" if option.default and not option.is_switch else option.help
    kind: Any = bool if option.is_switch else list[str] if option.is_list else str
    return Annotated[
        kind | None,
        Parameter(help=shown, show_default=False, negative=(), allow_repeating=True, **details),
    ]


def _values(options: Sequence[BenchOption], given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option in options:
        value = given.get(option.keyword)
        if option.flag == "TARGET" and not value:
            example = f"{PROGRAM} handler app.py:handle"
            raise UsageError(f"no TARGET: nothing says what to load. Name it, for example {example}.")
        text = option.default if value is None else ",".join(value) if isinstance(value, list) else str(value)
        if option.is_switch:
            values[option.keyword] = bool(value)
        elif not text and value is None:
            values[option.keyword] = () if option.is_list else ""
        else:
            values[option.keyword] = _read(option, text)
    return values


def _read(option: BenchOption, text: str) -> Any:
    try:
        return option.read(text)
    except Rejected as error:
        raise UsageError(f"cannot use {text!r} for {option.flag}, from the command line: {error}") from None


def _in_our_words(error: CycloptsError, argv: Sequence[str]) -> UsageError:
    command = argv[0] if argv and argv[0] in COMMANDS else ""
    see = f"See {' '.join(filter(None, (PROGRAM, command, '--help')))}."
    if isinstance(error, UnknownOptionError):
        name = (error.token.keyword or error.token.value).partition("=")[0]
        flags = [option.flag for option in (COMMANDS[command][1] if command else ())]
        return UsageError(f"unknown option {name!r}, from the command line.{nearest(name, flags)} {see}")
    if isinstance(error, UnusedCliTokensError):
        unused = (error.unused_tokens or ["?"])[0]
        return UsageError(f"unexpected argument {unused!r}: separate several values by commas. {see}")
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return UsageError(f"cannot use {error.keyword or error.argument.name} without a value. Give it one. {see}")
    if not command:
        given = f"{argv[0]!r} is no command" if argv else "no command"
        return UsageError(f"{given}. Give one of {', '.join(COMMANDS)}. See {PROGRAM} --help.")
    return UsageError(f"cannot read the command line: {' '.join(str(error).split())} {see}")
