"""Connections that are taken off a door's listener, with and without descriptors."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hybrid.control import accepting
from hybrid.control.accepting import Accepting
from tests.support.eventually import eventually_async


class Listener(socket.socket):
    """A listener that can be short of something."""

    failure: int | None = None
    tries = 0

    def accept(self) -> tuple[socket.socket, object]:
        """Take one, or fail."""
        self.tries += 1
        if self.failure is not None:
            raise OSError(self.failure, os.strerror(self.failure))
        return super().accept()


class Greeter(asyncio.Protocol):
    """Says hello, and the end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"hello")
        transport.close()


@asynccontextmanager
async def door() -> AsyncIterator[Listener]:
    """Be open for the length of a block."""
    listener = Listener(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    opened = Accepting(listener, Greeter)
    try:
        yield listener
    finally:
        opened.close()
        opened.close()
        assert listener.fileno() < 0


async def ask(listener: Listener) -> bytes:
    """Return what somebody hears who comes."""
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_everybody_is_taken() -> None:
    """Also a crowd larger than what is taken at once."""
    async with door() as listener:
        assert await asyncio.gather(*(ask(listener) for _ in range(100))) == [b"hello"] * 100


@pytest.mark.parametrize("failure", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINVAL])
async def test_without_descriptors_who_comes_waits(
    failure: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And is taken when there are some again. The log has one line about it, however often it is tried."""
    monkeypatch.setattr(accepting, "AGAIN_S", 0.001)
    with caplog.at_level(logging.WARNING, "hybrid.error"):
        async with door() as listener:
            listener.failure = failure
            asking = asyncio.create_task(ask(listener))
            await eventually_async(lambda: listener.tries > 10)
            assert not asking.done()
            listener.failure = None
            assert await asking == b"hello"
    assert [record.message for record in caplog.records] == [
        f"control takes no connection: {os.strerror(failure)}; who comes waits"
    ]


async def test_between_two_tries_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """One try, though many wait; and nobody tries once the door is closed."""
    monkeypatch.setattr(accepting, "AGAIN_S", 3600.0)
    async with door() as listener:
        listener.failure = errno.EMFILE
        asking = [asyncio.create_task(ask(listener)) for _ in range(5)]
        await eventually_async(lambda: listener.tries == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert listener.tries == 1
    await asyncio.gather(*asking, return_exceptions=True)


async def test_one_that_is_over_costs_nobody_else_a_turn() -> None:
    """It was reset in the queue, say; the listener is well."""

    class Once(Listener):
        def accept(self) -> tuple[socket.socket, object]:
            """Fail the first time."""
            self.failure = errno.ECONNABORTED if self.tries == 0 else None
            return super().accept()

    listener = Once(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    opened = Accepting(listener, Greeter)
    assert await ask(listener) == b"hello"
    opened.close()
