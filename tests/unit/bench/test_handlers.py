"""The built-in service answers what it is asked, and nonsense with nothing."""

from __future__ import annotations

import pytest

from hybrid.bench.handlers import MOST_BYTES, answer
from hybrid.bench.jobs import Reply
from hybrid.bench.probe import parse_reply


@pytest.mark.parametrize(
    ("line", "size_bytes"),
    [(b"4000\n", 4000), (b"0\n", 0), (b"1\r\n", 1), (b"99999999\n", MOST_BYTES), (b"block 0\n", 1)],
)
def test_number_gets_so_many_bytes(line: bytes, size_bytes: int) -> None:
    """Up to a bound."""
    assert len(answer(line)) == size_bytes


@pytest.mark.parametrize("line", [b"", b"\n", b"many\n", b"-1\n", b"sleep 5\n", b"\xff\n", b"block\n"])
def test_nonsense_gets_nothing(line: bytes) -> None:
    """The connection is just closed."""
    assert answer(line) == b""


def test_reply_option_is_understood() -> None:
    """auto is found out later; anything else is refused."""
    assert parse_reply("auto") is None
    assert parse_reply("close") == Reply("close") and parse_reply("line") == Reply("line")
    assert parse_reply("6") == Reply("bytes", 6)
    for wrong in ("", "0", "-1", "many", "٣"):
        with pytest.raises(ValueError):
            parse_reply(wrong)
