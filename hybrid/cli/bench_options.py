"""The options of ``hybrid-bench``, each declared once, and the grammar made from them.

They are the command's alone: the server that is measured takes its own options from ``HYBRID_…`` and its file.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Sequence
from typing import Any

from hybrid.bench.designs import NAMES
from hybrid.bench.handlers import BUILT_IN
from hybrid.bench.probe import parse_reply
from hybrid.bench.scenarios import SCENARIOS
from hybrid.cli import subcommands
from hybrid.cli.subcommands import CommandOption, Grammar, yes
from hybrid.shared.models import AUTO, MODELS
from hybrid.shared.option_values import Rejected
from hybrid.shared.options import nearest
from hybrid.shared.settings import MOST_WORKERS

PROGRAM = "hybrid-bench"
_SPARE_DESCRIPTORS = 100


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


_CLIENTS = CommandOption(
    "--clients", "N|auto", "auto", "Client processes; auto: half of the CPUs, two at least.",
    lambda text: 0 if text == "auto" else _whole(1, 250)(text),
)  # fmt: skip
_REPLY = CommandOption(
    "--reply", "auto|close|line|N", "auto",
    "How a reply ends: the server closes, a line, N bytes; auto asks once and looks.", _reply,
)  # fmt: skip
_TIMEOUT = CommandOption(
    "--timeout", "SECONDS", "5", "A connection without a reply for this long is lost.", _number(0.1, 600)
)
_JSON = CommandOption("--json", "", "false", "Print all figures as JSON instead of tables.", yes, is_switch=True)

ACCEPT: tuple[CommandOption, ...] = (
    CommandOption(
        "--handler", "NAME|TARGET", "", "protocol, stream, blocking (the textbook's service, built in), or a target of "
        "yours. Without it: the textbook's, as a blocking handler and as a protocol.", _handler,
    ),
    CommandOption("--workers", "N,…", "4", "Workers; a table for each number.", _list_of(_whole(1, 64)), is_list=True),
    CommandOption("--threads", "T", "8", "Threads per worker of threads, threads=mutex, threads=main.", _whole(1, 256)),
    CommandOption(
        "--models", "NAME,…", "", "Ways of accepting; without it all that serve the handler. The names of --accept, "
        "and iterative and one-loop, the baselines.", _list_of(_one_of(NAMES)), is_list=True,
    ),
    CommandOption(
        "--scenario", "NAME,…", "load,light,burst,held", f"What to do: {', '.join(SCENARIOS)}.",
        _list_of(_one_of(SCENARIOS)), is_list=True,
    ),
    CommandOption("--rounds", "N", "6", "Rounds of load and light; the designs take turns.", _whole(1, 1000)),
    CommandOption("--for-s", "SECONDS", "0.4", "Length of one round.", _number(0.05, 600)),
    CommandOption("--concurrency", "N", "64", "Connections at a time under full load.", _connections),
    CommandOption("--connections", "N", "400", "Connections of a burst, and connections that are held.", _connections),
    CommandOption("--rate", "N", "500", "Connections a second at which held ones are opened.", _number(1, 100_000)),
    _CLIENTS,
    CommandOption("--request", "TEXT", r"4000\n", r"What a client says; \n and \xNN are understood.", _request),
    _REPLY,
    _TIMEOUT,
    _JSON,
    CommandOption("--plot", "FILE", "", "Write a picture: .svg or .png; needs the extra hybrid[plot].", _plot),
)  # fmt: skip

HANDLER: tuple[CommandOption, ...] = (
    CommandOption(
        "TARGET",
        "TARGET",
        "",
        "What to serve: package.module:attr or path/to/file.py:attr.",
        _handler,
        missing=f"no TARGET: nothing says what to load. Name it, for example {PROGRAM} handler app.py:handle.",
    ),
    CommandOption("--workers", "N|auto", "auto", "Worker processes.", _workers),
    CommandOption("--accept", "NAME", AUTO, "How workers share the accepting.", _one_of((AUTO, *MODELS))),
    CommandOption("--threads", "T|auto", "auto", "Threads per worker that serve blocking handlers.", _threads),
    CommandOption(
        "--connections",
        "N|auto",
        "auto",
        "Connections that exchange messages; auto: 64, or one for each thread of a blocking handler if they are fewer.",
        lambda text: 0 if text == "auto" else _connections(text),
    ),
    CommandOption("--idle", "N", "1000", "Idle connections to weigh one with; 0: do not.", _idle),
    CommandOption("--rate", "N", "0", "Messages a second; 0: as fast as they are answered.", _number(0, 10_000_000)),
    CommandOption("--rounds", "N", "5", "Rounds.", _whole(1, 1000)),
    CommandOption("--for-s", "SECONDS", "1", "Length of one round.", _number(0.05, 600)),
    _CLIENTS,
    CommandOption("--request", "TEXT", r"hello\n", r"A message; \n and \xNN are understood.", _request),
    _REPLY,
    _TIMEOUT,
    _JSON,
)

COMMANDS: dict[str, tuple[str, tuple[CommandOption, ...]]] = {
    "accept": ("Compare the ways of sharing accepts: the textbook's table, on this machine.", ACCEPT),
    "handler": ("Put steady load on a handler: messages/s, latencies, CPU and memory.", HANDLER),
}


GRAMMAR = Grammar(
    PROGRAM,
    "Measure real servers: each is started for the purpose, on 127.0.0.1, and ended.",
    COMMANDS,
    unused=": separate several values by commas",
)


def parse(argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the command's name and its options' values, as :func:`hybrid.cli.subcommands.parse` does."""
    return subcommands.parse(GRAMMAR, argv)
