"""Every command of ``hybrid-ctl`` is an op of the control socket, and what it does not take it refuses."""

from __future__ import annotations

import pytest

from hybrid.cli.command_line import Asked
from hybrid.cli.ctl_options import COMMANDS, options_of, parse, read_size, size_args
from hybrid.control.commands import OPS
from hybrid.ground.errors import UsageError
from hybrid.shared.option_values import Rejected


def test_every_op_is_a_command_and_every_command_an_op() -> None:
    """By the same name; only ``watch`` has another, because people look for top."""
    assert {command.op for command in COMMANDS.values()} == set(OPS)
    assert {name for name, command in COMMANDS.items() if name != command.op} == {"top"}


@pytest.mark.parametrize(
    ("line", "op", "args"),
    [
        ("status", "status", {}),
        ("workers --json", "workers", {}),
        ("events", "events", {"follow": False, "last": 20}),
        ("events --follow --last 0", "events", {"follow": True, "last": 0}),
        ("reload", "reload", {}),
        ("scale 4", "scale", {"workers": 4}),
        ("scale 2..8", "scale", {"least": 2, "most": 8}),
        ("scale 2..", "scale", {"least": 2}),
        ("scale ..8", "scale", {"most": 8}),
        ("scale 3..3", "scale", {"workers": 3}),
        ("park 0", "park", {"slot": 0}),
        ("unpark 12", "unpark", {"slot": 12}),
        ("drain 1", "drain", {"slot": 1}),
        ("kill 1", "kill", {"slot": 1}),
        ("dump 1", "dump", {"slot": 1}),
        ("set log-level debug", "set", {"key": "log-level", "value": "debug"}),
        ("set graceful-timeout 5", "set", {"key": "graceful-timeout", "value": "5"}),
        ("config", "config", {}),
        ("shutdown", "shutdown", {"now": False}),
        ("shutdown --now", "shutdown", {"now": True}),
        ("reopen-logs", "reopen-logs", {}),
        ("upgrade", "upgrade", {}),
        ("top --every 0.5", "watch", {"every_s": 0.5}),
    ],
)
def test_command_asks_for_its_op(line: str, op: str, args: dict[str, object]) -> None:
    """With the arguments that the op takes."""
    name, values = parse(line.split())
    assert (COMMANDS[name].op, COMMANDS[name].args(values)) == (op, args)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ["no command", "status, workers"]),
        ("stats", ["'stats' is no command", "Did you mean status?"]),
        ("status --jsn", ["'--jsn'", "Did you mean --json?"]),
        ("status now", ["unexpected argument 'now'"]),
        ("scale", ["no SIZE", "scale 2..8"]),
        ("scale many", ["'many'", "SIZE", "A..B"]),
        ("scale ..", ["'..'", "SIZE"]),
        ("scale 0", ["'0'", "out of range"]),
        ("scale 8..2", ["'8..2'", "least first"]),
        ("park", ["no SLOT", "park 0"]),
        ("park first", ["'first'", "SLOT", "whole number"]),
        ("set", ["no KEY"]),
        ("set log-level", ["no VALUE"]),
        ("events --last -1", ["--last"]),
        ("status --timeout 0", ["'0'", "--timeout"]),
        ("status --timeout", ["--timeout", "without a value"]),
        ("status --pid x", ["'x'", "--pid"]),
        ("status --pid 1 --control /run/x.sock", ["--pid and --control"]),
        ("top --theme blue", ["'blue'", "dark, light"]),
        ("top --json", ["'--json'"]),
    ],
)
def test_wrong_line_is_refused(line: str, words: list[str]) -> None:
    """With what failed, the value and the remedy."""
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "line",
    ["--pid 12 status --json", "--pid=12 --json status", "status --pid 12 --json", "--json status --pid 12"],
)
def test_common_options_may_stand_before_the_command(line: str) -> None:
    """And behind it."""
    name, values = parse(line.split())
    assert (name, values["pid"], values["json"]) == ("status", 12, True)


@pytest.mark.parametrize("line", ["--help", "status --help", "--version"])
def test_help_is_asked_for(line: str) -> None:
    """Nobody is connected to."""
    with pytest.raises(Asked):
        parse(line.split())


def test_sizes_are_read_as_they_are_said() -> None:
    """0 is "as it is"."""
    assert [read_size(text) for text in ("4", "2..8", "2..", "..8")] == [(4, 4), (2, 8), (2, 0), (0, 8)]
    assert size_args((0, 8)) == {"most": 8}
    with pytest.raises(Rejected):
        read_size("²")


def test_help_texts_are_sentences_that_fit() -> None:
    """80 characters at most, with a full stop."""
    texts = [command.help for command in COMMANDS.values()]
    texts += [option.help for command in COMMANDS.values() for option in options_of(command)]
    assert not [text for text in texts if len(text) > 80 or not text.endswith(".")]
