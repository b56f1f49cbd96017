"""Finds out how a handler answers, by asking it once: what to send is the user's to say, what comes back shows."""

from __future__ import annotations

import socket

from hybrid.bench.engine import HOST
from hybrid.bench.jobs import ONE_LINE, TO_CLOSE, Reply
from hybrid.bench.server import BenchServer
from hybrid.ground.errors import HybridError

QUIET_S = 0.4
"""A reply after which nothing comes for this long is whole."""
PATIENCE_S = 5.0
AUTO = "auto"


def parse_reply(text: str) -> Reply | None:
    """Return what ``--reply`` means; None for auto: ask. Raises: ValueError: it is none of its values."""
    if text == AUTO:
        return None
    if text in (TO_CLOSE, ONE_LINE):
        return Reply(text)
    if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 40:
        return Reply("bytes", int(text))
    raise ValueError(text)


def learn(server: BenchServer, request: str) -> Reply:
    """Ask a server's handler once. Raises: HybridError: as :func:`probe`, with the last error in the server's log."""
    try:
        return probe(server.port, request.encode("latin-1"))
    except HybridError as error:
        said = server.last_error()
        raise HybridError(f"{error} The server's log: {said}" if said else str(error)) from error


def probe(port: int, request: bytes) -> Reply:
    """Ask once and return how the answer ended. Raises: HybridError: there was none."""
    got_bytes = 0
    with socket.create_connection((HOST, port), timeout=PATIENCE_S) as sock:
        try:
            sock.sendall(request)
            while data := sock.recv(1 << 16):
                got_bytes += len(data)
                sock.settimeout(QUIET_S)
        except TimeoutError:
            if got_bytes:
                return Reply("bytes", got_bytes)
            raise _silent(request, f"nothing within {PATIENCE_S:.0f} s") from None
        except OSError as error:
            raise _silent(request, error.strerror or str(error)) from error
    if not got_bytes:
        raise _silent(request, "the end of the connection, and no byte")
    return Reply(TO_CLOSE)  # not so many bytes: another answer may be longer


def _silent(request: bytes, what: str) -> HybridError:
    return HybridError(
        f"cannot measure: the handler answered {request!r} with {what}. "
        "Say what to ask with --request, and how its answer ends with --reply."
    )
