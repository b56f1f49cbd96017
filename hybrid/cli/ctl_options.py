"""The commands of ``hybrid-ctl``: one for each op of the control socket, and ``top``, which is made of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid.cli import subcommands
from hybrid.cli.subcommands import CommandOption, Grammar, yes
from hybrid.ground.errors import UsageError
from hybrid.shared.option_values import Rejected
from hybrid.shared.settings import MOST_WORKERS

PROGRAM = "hybrid-ctl"
ANSWER_S = 30.0
"""How long what takes a moment may take, unless --timeout says otherwise."""
THEMES = ("dark", "light")
MOST_EVENTS = 1000
"""What the control process keeps."""

Args = dict[str, object]


@dataclass(frozen=True, slots=True)
class Command:
    """One command. ``op``: what it asks for. ``args``: makes the op's arguments from the options' values.

    ``is_long``: it takes as long as it takes; there is no time limit unless one is given.
    """

    op: str
    help: str
    options: tuple[CommandOption, ...] = ()
    args: Callable[[dict[str, Any]], Args] = lambda _values: {}
    is_long: bool = False
    has_json: bool = True


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text[:18]) <= most:
            raise Rejected(f"not in range. Give a whole number from {least} to {most}.")
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        number = float(text) if text.isascii() and "_" not in text else -1.0
    except ValueError:
        number = -1.0
    if not 0.01 <= number <= 1e6:
        raise Rejected("not a time. Give seconds, from 0.01 to 1000000.")
    return number


def read_size(text: str) -> tuple[int, int]:
    """Read ``N``, ``A..B``, ``A..`` or ``..B`` as (least, most); 0: as it is. Raises: Rejected."""
    least, dots, most = text.partition("..")
    remedy = f"Give N, A..B, A.. or ..B, with numbers from 1 to {MOST_WORKERS}."
    if not dots:
        most = least
    if not (least or most) or not all((part.isascii() and part.isdigit()) or not part for part in (least, most)):
        raise Rejected(f"not a number of workers. {remedy}")
    read = [int(part[:18]) if part else None for part in (least, most)]
    if not all(number is None or 1 <= number <= MOST_WORKERS for number in read):
        raise Rejected(f"out of range. {remedy}")
    low, high = (number or 0 for number in read)
    if low and high and low > high:
        raise Rejected("the first number is the greater one. Give the least first.")
    return low, high


def size_args(size: tuple[int, int]) -> Args:
    """Return the arguments of the op ``scale`` for what :func:`read_size` has read."""
    least, most = size
    if least == most:
        return {"workers": least}
    return {name: number for name, number in (("least", least), ("most", most)) if number}


def _theme(text: str) -> str:
    if text not in THEMES:
        raise Rejected(f"not one of its values. Give one of {', '.join(THEMES)}.")
    return text


_CONTROL = CommandOption("--control", "PATH", "", "The server's control socket.", str)
_PID = CommandOption("--pid", "PID", "", "The server's parent, if several run here.", _whole(1, 1 << 22))
_TIMEOUT = CommandOption(
    "--timeout", "SECONDS", "", "Wait so long for an answer; else 30 s, and for long work for ever.", _seconds
)
_JSON = CommandOption("--json", "", "false", "Print JSON: one value, or a line for each event.", yes, is_switch=True)
WHICH = (_PID, _CONTROL)
"""Options that say which server is meant."""


def _slot(verb: str) -> CommandOption:
    return CommandOption(
        "SLOT", "SLOT", "", "The worker's slot, as `workers` shows it.", _whole(0, 4095),
        missing=f"no SLOT: nothing says which worker. Name it, for example {PROGRAM} {verb} 0.",
    )  # fmt: skip


def _on_slot(op: str, help: str) -> Command:
    return Command(op, help, (_slot(op),), lambda values: {"slot": values["slot"]})


COMMANDS: dict[str, Command] = {
    "status": Command("status", "Show how the server and its workers are."),
    "workers": Command("workers", "Show the workers, a row for each."),
    "events": Command(
        "events", "Show what has happened, and what happens.",
        (
            CommandOption("--follow", "", "false", "Go on with what happens from now on.", yes, is_switch=True),
            CommandOption("--last", "N", "20", "So many of the past.", _whole(0, MOST_EVENTS)),
        ),
        lambda values: {"follow": values["follow"], "last": values["last"]},
        is_long=True,
    ),
    "reload": Command("reload", "Replace all workers by ones with new code and settings.", is_long=True),
    "scale": Command(
        "scale", "Set the number of workers, or the bounds between which load decides.",
        (
            CommandOption(
                "SIZE", "SIZE", "", "N workers; or A..B, A.. or ..B: bounds.", read_size,
                missing=f"no SIZE: nothing says how many. Give a number or bounds, for example {PROGRAM} scale 2..8.",
            ),
        ),
        lambda values: size_args(values["size"]),
    ),
    "park": _on_slot("park", "Let a worker accept no more; it serves what it holds."),
    "unpark": _on_slot("unpark", "Let a parked worker accept again."),
    "drain": _on_slot("drain", "Let a worker finish what it holds, and leave; another takes its slot."),
    "kill": _on_slot("kill", "Kill a worker; its connections are lost, another takes its slot."),
    "dump": _on_slot("dump", "Show what a worker does now: the stacks of its threads and tasks."),
    "set": Command(
        "set", "Change a setting of the running server, until it is reloaded or restarted.",
        (
            CommandOption(
                "KEY", "KEY", "", "The option's name, without hyphens in front.", str,
                missing=f"no KEY: nothing says what to set. For example {PROGRAM} set log-level debug.",
            ),
            CommandOption(
                "VALUE", "VALUE", "", "Its new value.", str,
                missing=f"no VALUE: nothing says what to set it to. For example {PROGRAM} set log-level debug.",
            ),
        ),
        lambda values: {"key": values["key"].removeprefix("--"), "value": values["value"]},
    ),
    "config": Command("config", "Show the settings of the running server; secrets are masked."),
    "shutdown": Command(
        "shutdown", "Stop the server: open connections may finish first.",
        (CommandOption("--now", "", "false", "Let nothing finish.", yes, is_switch=True),),
        lambda values: {"now": values["now"]},
    ),
    "reopen-logs": Command("reopen-logs", "Open the log files anew, after they were moved away."),
    "upgrade": Command("upgrade", "Replace the parent by a new version of itself.", is_long=True),
    "top": Command(
        "watch", "Watch the server live, and reload, scale and look into it from there.",
        (
            CommandOption("--every", "SECONDS", "1", "Time between two looks.", _seconds),
            CommandOption(
                "--theme", "|".join(THEMES), "", "Colours; else what the terminal says of itself, else dark.", _theme
            ),
        ),
        lambda values: {"every_s": values["every"]},
        has_json=False,
    ),
}  # fmt: skip


def options_of(command: Command) -> tuple[CommandOption, ...]:
    """Return a command's options, those that all have included."""
    common = (*WHICH, _TIMEOUT, _JSON) if command.has_json else WHICH
    return (*command.options, *common)


GRAMMAR = Grammar(
    PROGRAM,
    "Ask and steer a running server: the one of --pid or --control, else the only one that this user runs. Most "
    "commands take --timeout and --json, too; COMMAND --help shows all that one takes.",
    {name: (command.help, options_of(command)) for name, command in COMMANDS.items()},
)


def parse(argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the command's name and the checked value of each of its options, by keyword.

    ``--pid``, ``--control``, ``--timeout`` and ``--json`` may also stand before the command.

    Raises: UsageError: names the option, the value and the remedy. Asked: for ``--help`` and ``--version``.
    """
    name, values = subcommands.parse(GRAMMAR, _command_first(argv))
    if values["pid"] and values["control"]:
        raise UsageError("--pid and --control say which server is meant, each alone. Leave out one of the two.")
    return name, values


def _command_first(argv: Sequence[str]) -> list[str]:
    """Return the words with the common options that stand before the command after it."""
    words, front = list(argv), []
    while words and words[0].partition("=")[0] in ("--pid", "--control", "--timeout", "--json"):
        takes_next = "=" not in words[0] and words[0] != "--json"
        for _ in range(min(len(words), 1 + takes_next)):
            front.append(words.pop(0))
    return [*words[:1], *front, *words[1:]]
