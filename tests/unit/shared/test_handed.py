"""Names of inherited sockets, and what the app does not see."""

from __future__ import annotations

import os

import pytest

from hybrid.shared.handed import (
    NOT_FOR_APPS,
    Handed,
    app_environment,
    clear_environment,
    paired,
    stored_file,
    stored_name,
)
from hybrid.shared.socket_file import SocketFile

ADDRESSES = ["127.0.0.1:8000", "[::1]:8000", "[fe80::1%eth0]:80", "unix:@abstract", "unix:@ü:\n", "unix:@" + "x" * 107]


@pytest.mark.parametrize("address", ADDRESSES)
def test_names_are_such_as_the_store_takes(address: str) -> None:
    """ASCII without control characters and colons, at most 255. Source: sd_notify(3) FDNAME."""
    for file in (None, SocketFile(f"/{'ü:' * 52}", 2**40, 2**63)):
        name = stored_name(address, file)
        assert name.isascii() and name.isprintable() and ":" not in name and len(name) <= 255
        assert Handed(3, name).is_stored


def test_names_differ_where_sockets_do() -> None:
    """Or forgetting one would forget the other."""
    files = [SocketFile("/run/a", 1, 2), SocketFile("/run/a", 1, 3)]
    names = {stored_name(address, None) for address in ADDRESSES} | {stored_name("unix:/run/a", each) for each in files}
    assert len(names) == len(ADDRESSES) + 2


def test_file_is_known_again_by_the_name() -> None:
    """Device and inode are in it; the path is the socket's own."""
    file = SocketFile("/run/a_b.c", 2049, 12345)
    assert stored_file(stored_name("unix:/run/a_b.c", file), "/run/a_b.c") == file


@pytest.mark.parametrize(
    "name", ["", "web", "hybrid/", "hybrid/unix_", "hybrid/unix_1_", "hybrid/unix_.2_x", "hybrid/unix_x.y_"]
)
def test_name_without_a_file_has_none(name: str) -> None:
    """A stranger's name, or one of an address without a file."""
    assert stored_file(name, "/run/a") is None


@pytest.mark.parametrize("name", ["", "unknown", "hybrid.socket", "hybrid-web.socket", "hybrid@1.socket"])
def test_names_of_units_are_not_ours(name: str) -> None:
    """A unit's name has no slash. Source: systemd.unit(5)."""
    assert not Handed(3, name).is_stored


def test_descriptors_are_paired_with_their_names() -> None:
    """One that has none is served as any that a manager opened."""
    assert paired((3, 4), ("a",)) == (Handed(3, "a"), Handed(4))


def test_app_gets_the_rest_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what passes between the manager and its main process is missing."""
    environ = dict.fromkeys(NOT_FOR_APPS, "1")
    assert app_environment({**environ, "INVOCATION_ID": "x"}) == {"INVOCATION_ID": "x"}
    for name in environ:
        monkeypatch.setenv(name, "1")
    clear_environment()
    assert not NOT_FOR_APPS & os.environ.keys()
