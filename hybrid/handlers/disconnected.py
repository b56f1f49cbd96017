"""What an application is told when its client is gone, and how to find out that this is why it failed."""

from __future__ import annotations

from collections.abc import Iterator

_CAUSES = 16
"""Of an exception, looked at."""


class Disconnected(ConnectionError):
    """The client is gone, or was answered by us: what sending raises then, as the ASGI specification asks since 2.4.

    So does reading, in a WSGI application.
    """


def is_from_disconnect(error: BaseException | None) -> bool:
    """Whether an application failed because it could not read or send: frameworks raise something of their own."""
    return any(isinstance(each, Disconnected) for each in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it came from, as far as that is worth looking at."""
    for _ in range(_CAUSES):
        if error is None:
            return
        yield error
        inner = getattr(error, "exceptions", None)  # of a group
        error = error.__cause__ or error.__context__ or (inner[0] if inner else None)
