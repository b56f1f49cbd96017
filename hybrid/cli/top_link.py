"""How ``hybrid-ctl top`` reaches the server: the conversation of :mod:`hybrid.cli.ctl_client`, for an event loop.

Runs in: ``hybrid-ctl top``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hybrid.cli.ctl_client import CONNECT_S, LINE_BYTES, Unreached, answer, question, result_of, unreached
from hybrid.cli.ctl_find import find

OnEvent = Callable[[Mapping[str, Any]], None]


def ignore(_event: Mapping[str, Any]) -> None:
    """Take no notice of what happens on the way."""


class Link(Protocol):
    """What the view needs of a server. Tests bring one that talks to nobody."""

    async def ask(self, op: str, args: Mapping[str, object], on_event: OnEvent = ignore) -> Mapping[str, Any]:
        """Return the result; ``on_event`` is called with each event on the way.

        Raises: Refused: the server said no. Unreached: there is none, or it went away.
        """
        ...


class SocketLink:
    """A server's control socket. Each question has a connection of its own, closed when it is answered or cancelled.

    The server is looked for anew each time, so that one that was started again in the old one's place is found.

    Args: pid, control: as the options; 0 and nothing: not given.
    """

    def __init__(self, pid: int = 0, control: str = "") -> None:
        self._pid = pid
        self._control = control

    async def ask(self, op: str, args: Mapping[str, object], on_event: OnEvent = ignore) -> Mapping[str, Any]:
        """Do as :meth:`Link.ask` says."""
        instance = await asyncio.to_thread(find, self._pid, self._control)
        try:
            opening = asyncio.open_unix_connection(instance.path, limit=LINE_BYTES)
            reader, writer = await asyncio.wait_for(opening, CONNECT_S)
        except (OSError, asyncio.TimeoutError) as error:
            raise unreached(instance.path, error) from error
        try:
            writer.write(question(1, op, args))
            while line := await reader.readline():
                found = answer(line, 1)
                if found is None:
                    continue
                if "ev" not in found:
                    return result_of(found)
                on_event(found)
        except (OSError, ValueError) as error:  # ValueError: a line beyond the limit
            raise Unreached(f"lost the server at {instance.path}: {error}. It may be going down.") from error
        finally:
            writer.close()
        raise Unreached(f"the server at {instance.path} closed the connection. It may be going down.")
