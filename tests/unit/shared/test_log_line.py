"""How a line looks, and that nobody can forge one. Writing it: test_log_writer.py."""

from __future__ import annotations

import json
import os
import pty
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.shared import log_line
from hybrid.shared.log_line import LogEvent, Style, format_line

NOON = 1795417760.1234
"""2026-11-23 07:09:20.123 UTC."""

BEGINS_AN_EVENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[[^\]]+\] [a-z]+ ")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def line(message: str, style: Style = Style.TEXT, level: str = "error", detail: str = "") -> str:
    return format_line(LogEvent(NOON, "worker 3", level, message, detail), style).decode()


# ── form ──


def test_text_line_has_time_process_level_and_message() -> None:
    """One line that is read from left to right."""
    assert line("it failed") == "2026-11-23 07:09:20.123 [worker 3] error   it failed\n"


def test_detail_is_indented_below_its_event() -> None:
    """A traceback stays one event, and none of its lines begins where an event begins."""
    text = line("it failed", detail='Traceback:\n  File "x"\n\tboom\n')
    assert text.split("\n")[1:] == ["    Traceback:", '      File "x"', "    \tboom", ""]


def test_colour_wraps_the_parts_and_says_the_same() -> None:
    """Without its escapes a coloured line is the plain one; each level has its own colour."""
    assert re.sub(r"\x1b\[[0-9;]*m", "", line("it failed", Style.COLOUR)) == line("it failed")
    assert len({line("x", Style.COLOUR, level) for level in log_line.LEVELS}) == len(log_line.LEVELS)


def test_json_is_one_object_on_one_line() -> None:
    """Every field is there, the time in UTC, and the detail keeps its lines."""
    text = line("it failed", Style.JSON, detail="a\nb")
    assert text.count("\n") == 1 and text.endswith("\n")
    assert json.loads(text) == {
        "time": "2026-11-23T07:09:20.123Z",
        "level": "error",
        "who": "worker 3",
        "message": "it failed",
        "detail": "a\nb",
    }
    assert "detail" not in json.loads(line("it failed", Style.JSON))


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x7f\x85\u2028\u202e", "\\x7f\\x85\\u2028\\u202e"),
        ("\udcff", "\\udcff"),
        ("Grüße, 世界 🙂", "Grüße, 世界 🙂"),
    ],
)
def test_what_is_not_printable_is_escaped(message: str, shown: str) -> None:
    """Newlines, terminal sequences, direction overrides and bytes that are no text; words stay words."""
    assert line(message) == line("").rstrip("\n") + shown + "\n"


@given(message=st.text(), detail=st.text())
def test_nobody_forges_a_line(message: str, detail: str) -> None:
    """Whatever a client sends: one event begins, in text by any reader's idea of a line, in JSON one object."""
    forged = f"{message}\n2026-11-23 07:09:20.123 [parent] info    all is well"
    for style in (Style.TEXT, Style.COLOUR):
        first, *more = re.sub(r"\x1b\[[0-9;]*m", "", line(forged, style, detail=f"{detail}\n{forged}")).splitlines()
        assert BEGINS_AN_EVENT.match(first)
        assert more and all(each.startswith("    ") for each in more)
    text = line(forged, Style.JSON, detail=detail)
    assert len(text.splitlines()) == 1 and text.isascii()
    assert json.loads(text)["message"] == forged


@pytest.mark.parametrize(
    ("form", "colour", "environment", "style"),
    [
        ("json", "always", {}, Style.JSON),
        ("text", "always", {"NO_COLOR": "1"}, Style.COLOUR),
        ("text", "never", {}, Style.TEXT),
        ("text", "auto", {}, Style.COLOUR),
        ("text", "auto", {"NO_COLOR": "1"}, Style.TEXT),
        ("text", "auto", {"TERM": "dumb"}, Style.TEXT),
    ],
)
def test_style_follows_options_and_terminal(
    form: str, colour: str, environment: dict[str, str], style: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    """auto colours a terminal unless the user's environment asks not to."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    assert Style.make(form, colour, theirs) is style
    os.close(ours)
    os.close(theirs)
    read, write = os.pipe()
    assert Style.make("text", "auto", write) is Style.TEXT
    os.close(read)
    os.close(write)
