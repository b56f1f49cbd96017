"""Errors of the user's code that only the event loop sees, and how they are shown."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Protocol

from hybrid.connection.addresses import address, show
from hybrid.connection.failures import log

_NOT_USER_CODE = {"asyncio", "uvloop", "ssl", "_ssl"}


__all__ = ["Failing", "Finder", "finders", "install_exception_handler", "log", "peer_name", "raised_by_user_code"]


class Failing(Protocol):
    """A connection that can be told that the user's code failed it."""

    def fail(self, what: str, error: BaseException, logged: bool = False) -> None: ...


class Finder(Protocol):
    """Knows which connection has a transport."""

    def find(self, transport: object) -> Failing | None: ...


finders: weakref.WeakSet[Any] = weakref.WeakSet()
"""Those of this process (each a :class:`Finder`); they enter themselves."""


def install_exception_handler(loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop report to ``hybrid.error``, and charge what a protocol raises to its connection.

    Runs in: worker. Not for a loop that somebody else owns: it replaces the loop's handler.
    """
    loop.set_exception_handler(_report)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what ``loop.call_exception_handler`` was given. The loop has closed the transport already, if it means to."""
    error = context.get("exception")
    connection = _connection_of(context.get("transport"))
    if connection is not None and error is not None:
        connection.fail("an event of its protocol", error)
        return
    peer = f", peer {peer_name(context['transport'])}" if "transport" in context else ""
    where = "".join(f", {key} {context[key]!r}" for key in ("future", "task", "handle") if key in context)
    log.error("%s%s%s", context.get("message", "unhandled error in the event loop"), where, peer, exc_info=error)


def _connection_of(transport: object) -> Failing | None:
    for finder in finders:
        connection: Failing | None = finder.find(transport)
        if connection is not None:
            return connection
    return None


def raised_by_user_code(error: BaseException) -> bool:
    """Tell whether the error of a lost connection comes from the protocol, rather than from the network.

    Both loops treat every OSError as the network's and drop it silently; one that was not raised by themselves was the
    protocol's: a file that it did not find, a database that it could not reach. Where it was raised decides, not what
    it passed through: a failed handshake is raised in ssl.py and passes through whoever awaited it.
    """
    frames = error.__traceback__
    if frames is None:  # made by the loop, from an errno
        return False
    while frames.tb_next is not None:
        frames = frames.tb_next
    return str(frames.tb_frame.f_globals.get("__name__", "")).partition(".")[0] not in _NOT_USER_CODE


def peer_name(transport: asyncio.BaseTransport) -> str:
    """Return the peer's address as log lines write it."""
    return show(address(transport, "peername"))
