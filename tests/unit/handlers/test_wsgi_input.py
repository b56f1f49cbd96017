"""The body as a file, and the errors as log records."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from hybrid.handlers.wsgi_input import Errors, input_of


def taker(*pieces: bytes) -> Callable[[], bytes]:
    """Return what gives one piece after another, then nothing."""
    left = [*pieces]
    return lambda: left.pop(0) if left else b""


def test_input_is_a_file() -> None:
    """Whatever the pieces are: bytes, lines, and an end that stays."""
    source = input_of(taker(b"li", b"ne\nnext\nre", b"s", b"t"))
    assert source.read(1) == b"l" and source.readline() == b"ine\n" and source.readlines(1) == [b"next\n"]
    assert source.read() == b"rest" and source.read(5) == b"" == source.read() == source.readline()


def test_large_input_is_not_copied_into_small_pieces() -> None:
    """read() takes all that comes."""
    assert input_of(taker(*[b"x" * 100_000] * 5)).read() == b"x" * 500_000


def test_error_while_reading_is_raised() -> None:
    """And not taken for the end."""

    def fail() -> bytes:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        input_of(fail).read()


def test_errors_become_records(caplog: pytest.LogCaptureFixture) -> None:
    """A record for each line, whole lines at once, the rest when it is flushed; blank ones are nothing."""
    errors = Errors("app")
    errors.write("one\ntwo\nthr")
    assert caplog.messages == ["app app: one", "app app: two"]
    errors.writelines(["ee\n", "\n", "four"])
    errors.flush()
    errors.flush()
    assert caplog.messages[2:] == ["app app: three", "app app: four"]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
