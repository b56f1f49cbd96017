"""The one error of the HTTP room: a request that is refused, and the status that says so."""

from __future__ import annotations

from hybrid.ground.errors import HybridError


class HttpError(HybridError):
    """A request must be refused: the connection answers with ``status`` and closes.

    ``status``: the code to answer with (400, 413, 414, 417, 431, 501, 505 …).
    ``str(error)`` is for the log, never for the wire: it may quote what the peer sent.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
