"""The door for connections that are served in threads: counts them wherever they come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hybrid.connection.registry import Served
from hybrid.worker.acceptors.intake import Intake


class ThreadDoor:
    """A :class:`~hybrid.connection.registry.Door` that threads may use; the intake's registry is a ThreadRegistry.

    Args: opened: the acceptor's own, where connections are opened in the loop; None: threads open them.
    """

    def __init__(self, intake: Intake, opened: Callable[[Served], object] | None = None) -> None:
        self._intake = intake
        self._registry = intake.registry
        self._loop = asyncio.get_running_loop()
        self._open = opened

    def opened(self, connection: Served) -> None:
        """Count the connection."""
        if self._open is not None:
            self._open(connection)
            return
        self._registry.add(connection)
        if self._intake.is_check_due:
            self._in_loop(self._intake.check)

    def closed(self, connection: Served) -> None:
        """Count a closed connection, and take another if that is what was waited for."""
        self._registry.remove(connection)
        if self._intake.hold:
            self._in_loop(self._intake.gave)

    def failed(self, connection: Served) -> None:
        """Count a connection that its handler lost."""
        self._registry.fail()

    def _in_loop(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            pass  # the loop is closed: the worker leaves without this thread
