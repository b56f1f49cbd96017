"""Keeps an exception in a protocol factory away from the loop.

A factory that raises inside libuv's accept callback leaves the connection half accepted: uvloop's listener
then stays registered, is woken, and never accepts again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn, cast

from hybrid.connection.registry import Registry
from hybrid.worker.acceptors.acceptor import Factory

_logger = logging.getLogger("hybrid.error")


class Refused(asyncio.Protocol):
    """Stands in for a protocol that could not be made: cuts its connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Abort the connection."""
        cast(asyncio.Transport, transport).abort()


def guarded(factory: Factory, registry: Registry) -> Factory:
    """Return a factory that never raises: a failure is logged, counted, and costs its connection."""

    def make_protocol() -> asyncio.BaseProtocol:
        try:
            return factory()
        except Exception:
            _logger.exception("cannot make a protocol for a new connection: the factory raised; the connection is cut")
        except BaseException as error:  # noqa: BLE001  # handed on, out of libuv's callback
            # SystemExit and KeyboardInterrupt are for the loop, but only once the accept is over.
            asyncio.get_running_loop().call_soon(_raise, error)
        registry.fail()
        return Refused()

    return make_protocol


def _raise(error: BaseException) -> NoReturn:
    raise error
