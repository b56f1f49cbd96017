"""What --bind may say, and what it is told when it says something else."""

from __future__ import annotations

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.bind_grammar import Address, AddressKind, parse

TCP, UNIX, FD = AddressKind.TCP, AddressKind.UNIX, AddressKind.FD


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", Address(TCP, "127.0.0.1", 8000)),
        ("localhost:0", Address(TCP, "localhost", 0)),
        ("[::1]:65535", Address(TCP, "::1", 65535)),
        ("[fe80::1%lo]:80", Address(TCP, "fe80::1%lo", 80)),
        (":8000", Address(TCP, "", 8000)),
        ("*:8000", Address(TCP, "", 8000)),
        ("unix:/run/app.sock", Address(UNIX, path="/run/app.sock")),
        ("unix:///run/app.sock", Address(UNIX, path="/run/app.sock")),
        ("unix:app.sock", Address(UNIX, path="app.sock")),
        ("unix:a:b", Address(UNIX, path="a:b")),
        ("unix:@name", Address(UNIX, path="@name")),
        ("fd://3", Address(FD, fd=3)),
    ],
)
def test_every_form_is_understood(text: str, address: Address) -> None:
    """Each form of --bind names what the documentation says."""
    assert parse(text) == address


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "Write HOST:PORT"),
        ("8000", "Write 127.0.0.1:8000 for this machine only, :8000 for all interfaces."),
        ("localhost", "Write localhost:8000."),
        ("localhost:", "Use 0 to 65535"),
        ("localhost:http", "Use 0 to 65535"),
        ("localhost:65536", "Use 0 to 65535"),
        ("localhost:-1", "Use 0 to 65535"),
        ("localhost:٣", "Use 0 to 65535"),
        (" localhost:80", "white space"),
        ("::1:8000", "Write [::1]:8000"),
        ("[::1]", "Write [::1]:8000."),
        ("[localhost]:80", "no IPv6 address"),
        ("[::1:80", "no IPv6 address"),
        ("/run/app.sock", "write unix:/run/app.sock"),
        ("./app.sock:1", "write unix:./app.sock:1"),
        ("tcp://localhost:80", "tcp:// is not a kind of address"),
        ("unix:", "no path"),
        ("unix:@", "no path"),
        ("unix:/", "no path"),
        ("unix:/a\0b", "no path"),
        ("unix:@" + "x" * 108, "longer than 107 bytes"),
        ("fd://", "Write fd://N"),
        ("fd://-1", "Write fd://N"),
        ("fd://three", "Write fd://N"),
    ],
)
def test_bad_text_is_refused_with_the_remedy(text: str, remedy: str) -> None:
    """What is not understood is quoted, and the message says what to write instead."""
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert remedy in str(caught.value)
    assert f"--bind {text!r}" in str(caught.value)


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", ":80", "unix:/a", "unix:@a", "fd://7"])
def test_text_of_an_address_is_read_back_as_the_same_address(text: str) -> None:
    """Addresses are reported in the grammar in which they are given."""
    assert parse(text).text == text
