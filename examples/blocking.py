"""A blocking handler: a guestbook that speaks lines. Each client has a thread to itself.

    hybrid-serve examples/blocking.py:guestbook --bind 127.0.0.1:7003

Try it: ``nc 127.0.0.1 7003``
"""

from __future__ import annotations

import socket


def guestbook(sock: socket.socket) -> None:
    """Greet by name, until the client leaves. The connection is closed when the handler returns."""
    sock.sendall(b"Who are you?\n")
    with sock.makefile("rb") as lines:
        for line in lines:
            sock.sendall(b"Hello, " + line.strip() + b"!\n")
