"""The lines that every response has."""

from __future__ import annotations

from hybrid.http.date import StandingLines


def test_lines_are_made_once_a_second() -> None:
    """The date in its only form, then the server; the same bytes until the second is over."""
    now = 784111777.2
    lines = StandingLines(clock=lambda: now)
    first = lines()
    assert first == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: hybrid\r\n"
    now = 784111777.9
    assert lines() is first
    now = 784111778.0
    assert lines() == b"date: Sun, 06 Nov 1994 08:49:38 GMT\r\nserver: hybrid\r\n"


def test_each_line_can_be_left_out() -> None:
    """No server, no date, neither."""
    assert StandingLines("", clock=lambda: 0.0)() == b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    assert StandingLines(date=False)() == b"server: hybrid\r\n"
    assert StandingLines("", date=False)() == b""
