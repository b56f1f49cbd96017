"""Clients of :mod:`tests.apps.http_knobs`: one by hand, and a crowd that counts every request that was lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.clients import PATIENCE_S, People
from tests.support.server import Server


@dataclass(frozen=True)
class Answer:
    """One response. ``is_last``: it said that the connection ends."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def is_last(self) -> bool:
        return self.fields.get("connection") == "close"


class Cut(Exception):
    """The connection ended within a response, or before it. ``args``: what had come of it, and how it ended."""


class ByHand:
    """A connection on which a test says each byte itself. Closes: its socket, on leaving the block."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self._rest = b""

    def __enter__(self) -> ByHand:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def get(self, path: str) -> Answer:
        """Ask, and return the response."""
        self.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return self.answer()

    def answer(self) -> Answer:
        """Return the next response, whole. Raises: Cut."""
        status, fields = self.head()
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while piece := self.chunk():
                body += piece
        else:
            body = self.rest(fields)
        return Answer(status, fields, body)

    def rest(self, fields: dict[str, str]) -> bytes:
        """Return the body of a response of known length. Raises: Cut."""
        return self._take(int(fields["content-length"]))

    def head(self) -> tuple[int, dict[str, str]]:
        """Return status and fields of the next response."""
        line, *lines = self._until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        return int(line.split(" ")[1]), fields

    def chunk(self) -> bytes:
        """Return the next chunk of a body; an empty one is the last."""
        size = int(self._until(b"\r\n"), 16)
        return self._take(size + 2)[:-2]

    def is_closed(self) -> bool:
        """Wait for an orderly end, with nothing before it. Raises: ConnectionResetError."""
        return not self._rest and self.socket.recv(1) == b""

    def _until(self, end: bytes) -> bytes:
        while (found := self._rest.find(end)) < 0:
            self._more()
        return self._take(found + len(end))

    def _take(self, count: int) -> bytes:
        while len(self._rest) < count:
            self._more()
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    def _more(self) -> None:
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            raise Cut(self._rest, "reset") from None
        if not data:
            raise Cut(self._rest, "closed")
        self._rest += data


@dataclass
class Crowd(People):
    """Clients that ask for ``/pid`` again and again, each on one connection for as long as it is kept."""

    is_over_when_refused: bool = True
    lost: list[tuple[int, str]] = field(default_factory=list)
    """Requests without an answer: who had answered the one before on this connection (0: there was none), and why."""
    refused: int = 0
    """Times that no connection came about."""
    unaccepted: int = 0
    """Connections that the kernel made and no worker ever had: reset when the listener closed. Source: listen(2)."""
    last: int = 0
    """Answers that said that the connection ends."""

    def work(self) -> None:
        """Be one client after another. Runs in: a thread."""
        while not self.is_over():
            try:
                client = self.server.connect(timeout_s=PATIENCE_S)
            except OSError:
                with self._lock:
                    self.refused += 1
                if self.is_over_when_refused:
                    return
                continue
            with ByHand(client) as connection:
                self._ask(connection)

    def _ask(self, connection: ByHand) -> None:
        """Ask until the connection ends, by either side."""
        pid = 0
        while not self.is_over():
            try:
                answer = connection.get("/pid")
            except (Cut, OSError) as error:
                with self._lock:
                    if not pid and _is_reset_before_anything(error):
                        self.unaccepted += 1
                    else:
                        self.lost.append((pid, repr(error)))
                return
            pid = int(answer.body)
            with self._lock:
                self.served[pid] = self.served.get(pid, 0) + 1
                self.last += answer.is_last
            if answer.is_last:
                return


def _is_reset_before_anything(error: Exception) -> bool:
    return isinstance(error, ConnectionError) or (isinstance(error, Cut) and error.args == (b"", "reset"))


@contextmanager
def crowd(server: Server, clients: int = 6, *, is_over_when_refused: bool = True) -> Iterator[Crowd]:
    """Keep the server busy for the length of a block, or until it refuses."""
    people = Crowd(server, is_over_when_refused=is_over_when_refused)
    with people.busy(clients):
        yield people
