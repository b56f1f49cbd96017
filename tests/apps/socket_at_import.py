"""Opens a socket when it is imported: all forked workers would share it."""

from __future__ import annotations

import socket

from tests.apps.knobs import knobs

__all__ = ["connection", "knobs"]

connection = socket.socket()
connection.bind(("127.0.0.1", 0))
connection.listen()
