"""Every option of ``hybrid-bench`` is checked, and refused with what failed, the value and the remedy."""

from __future__ import annotations

import pytest

from hybrid.bench import accept_run, handler_run
from hybrid.bench.jobs import Reply
from hybrid.cli.bench_options import COMMANDS, parse
from hybrid.cli.command_line import Asked
from hybrid.ground.errors import UsageError


def accept(*arguments: str) -> dict[str, object]:
    return parse(["accept", *arguments])[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no command", "accept, handler"]),
        (["acept"], ["'acept'", "accept, handler"]),
        (["accept", "--wokers", "3"], ["'--wokers'", "Did you mean --workers?"]),
        (["accept", "--workers", "0"], ["'0'", "--workers", "from 1 to 64"]),
        (["accept", "--workers", "2,x"], ["'2,x'", "--workers", "whole number"]),
        (["accept", "--threads", "1.5"], ["'1.5'", "--threads"]),
        (["accept", "--models", "shred"], ["'shred'", "--models", "Did you mean shared?"]),
        (["accept", "--models", "shared", "passing"], ["'passing'", "commas"]),
        (["accept", "--scenario", "flood"], ["'flood'", "load, light, burst"]),
        (["accept", "--rounds", "0"], ["'0'", "--rounds"]),
        (["accept", "--rounds"], ["--rounds", "without a value"]),
        (["accept", "--for-s", "nan"], ["'nan'", "--for-s", "not a number"]),
        (["accept", "--for-s", "1e9"], ["'1e9'", "from 0.05 to 600"]),
        (["accept", "--connections", "100000000"], ["--connections", "ulimit -Hn"]),
        (["accept", "--rate", "0"], ["'0'", "--rate"]),
        (["accept", "--handler", "app"], ["'app'", "--handler", "package.module:attr"]),
        (["accept", "--request", ""], ["--request", "empty"]),
        (["accept", "--request", r"\xZZ"], ["--request", "backslash"]),
        (["accept", "--reply", "some"], ["'some'", "auto, close, line or a number"]),
        (["accept", "--plot", "picture.jpg"], ["'picture.jpg'", "--plot", ".svg nor .png"]),
        (["accept", "--plot", "/nowhere/picture.svg"], ["--plot", "/nowhere"]),
        (["handler"], ["no TARGET", "hybrid-bench handler app.py:handle"]),
        (["handler", "app:x", "--accept", "any"], ["'any'", "--accept"]),
        (["handler", "app:x", "y"], ["'y'"]),
        (["handler", "app:x", "--idle", "-1"], ["'-1'", "--idle"]),
    ],
)
def test_wrong_option_is_refused_in_our_words(arguments: list[str], words: list[str]) -> None:
    """Never the library's; always with a remedy."""
    with pytest.raises(UsageError) as refused:
        parse(arguments)
    assert not [word for word in words if word not in str(refused.value)], str(refused.value)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["accept", "--help"], ["handler", "--help"]])
def test_help_and_version_are_asked_for(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And answered; the help of a command names every option."""
    with pytest.raises(Asked) as asked:
        parse(arguments)
    asked.value.answer()
    said = capsys.readouterr().out
    for option in COMMANDS.get(arguments[0], ("", ()))[1]:
        assert option.flag in said


def test_defaults_are_those_of_the_plans() -> None:
    """What the help says is what a plan made without the command line has."""
    plan, given = accept_run.Plan(), accept()
    names = {"scenario": "scenarios", "rate": "per_s", "timeout": "timeout_s"}
    for keyword in set(given) - {"json", "plot", "clients"}:
        assert given[keyword] == getattr(plan, names.get(keyword, keyword)), keyword
    load, wanted = handler_run.Plan("app:x"), parse(["handler", "app:x"])[1]
    for keyword in set(wanted) - {"json", "clients"}:
        assert wanted[keyword] == getattr(load, names.get(keyword, keyword)), keyword


def test_values_are_read() -> None:
    """Lists by commas or by repeating; escapes; a switch."""
    given = accept("--workers", "2,4", "--workers", "8", "--models", "shared,locked=fcntl", "--json")
    assert given["workers"] == (2, 4, 8) and given["models"] == ("shared", "locked=fcntl") and given["json"] is True
    assert accept("--request", r"GET / HTTP/1.1\r\n\r\n")["request"] == "GET / HTTP/1.1\r\n\r\n"
    assert accept("--request", "héllo")["request"].encode("latin-1").decode() == "héllo"  # type: ignore[attr-defined]
    assert accept("--reply", "6")["reply"] == Reply("bytes", 6)
    assert parse(["handler", "app:x", "--rate", "100"])[1]["rate"] == 100.0
