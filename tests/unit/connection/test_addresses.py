"""Addresses come in one shape, whatever the loop and the family."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from hybrid.connection.addresses import UNKNOWN, Address, address, common_address, show


class Told(asyncio.BaseTransport):
    """A transport that answers with what the test tells it."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Answer, or raise the answer."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (("127.0.0.1", 80), ("127.0.0.1", 80)),
        (("::1", 80, 0, 0), ("::1", 80)),
        (("fe80::1", 80, 0, 1), ("fe80::1%lo", 80)),
        (("fe80::1%lo", 80, 0, 1), ("fe80::1%lo", 80)),
        (("fe80::1", 80, 0, 999_999), ("fe80::1%999999", 80)),
        ("/run/app.sock", "/run/app.sock"),
        ("", ""),
        (b"\0abstract", "\0abstract"),
        (None, UNKNOWN),
        (OSError(107, "not connected"), UNKNOWN),
        (AttributeError("socket is None"), UNKNOWN),
    ],
)
def test_address_has_one_shape(told: object, expected: Address) -> None:
    """(host, port) or a path, with the scope of a link-local host; what cannot be learned is UNKNOWN."""
    assert address(Told(told), "peername") == expected


@pytest.mark.parametrize(
    ("where", "shown"),
    [(("127.0.0.1", 80), "127.0.0.1:80"), (("::1", 80), "[::1]:80"), ("/run/app.sock", "unix:/run/app.sock")],
)
def test_show_writes_it_as_bind_reads_it(where: Address, shown: str) -> None:
    """A log line's address looks like --bind's."""
    assert show(where) == shown


@pytest.mark.parametrize(
    ("hosts", "known"),
    [(["127.0.0.1"], True), (["0.0.0.0"], False), (["127.0.0.1", "127.0.0.1"], False), (["::1"], False), ([], False)],
)
def test_address_of_all_connections_is_known_of_one_listener_only(hosts: list[str], known: bool) -> None:
    """Every other connection has to be asked: it was accepted on one of several addresses."""
    with ExitStack() as stack:
        listeners = []
        for host in hosts:
            listener = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            listener.bind((host, 0))
            listeners.append(listener)
        assert common_address(listeners) == (listeners[0].getsockname() if known else None)


def test_address_of_one_port_that_is_shared_is_known() -> None:
    """With --accept reuseport a worker is given the listeners of all slots: they are one address."""
    with socket.socket() as first, socket.socket() as second:
        for listener in (first, second):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
        assert common_address([first, second]) == first.getsockname()
