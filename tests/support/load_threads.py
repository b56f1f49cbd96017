"""Clients that want something again and again, each in a thread, until the block ends: a load that a test can hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.server import Server, until_eof


class Load:
    """``done``: answers so far. ``failed``: connections that brought none."""

    def __init__(self, server: Server, line: bytes) -> None:
        self._server = server
        self._line = line
        self._is_over = threading.Event()
        self.done = 0
        self.failed: list[OSError] = []

    def run(self) -> None:
        """Be one client: a connection for each wish."""
        while not self._is_over.is_set():
            try:
                with self._server.connect() as client:
                    client.sendall(self._line)
                    client.shutdown(1)
                    until_eof(client)
                self.done += 1
            except OSError as error:
                self.failed.append(error)

    def end(self) -> None:
        """Have each client stop after the answer it waits for."""
        self._is_over.set()


@contextmanager
def load(server: Server, line: bytes, clients: int) -> Iterator[Load]:
    """Keep ``clients`` busy with ``line`` for the length of a block."""
    running = Load(server, line)
    threads = [threading.Thread(target=running.run, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        running.end()
        for thread in threads:
            with suppress(RuntimeError):
                thread.join(30)
