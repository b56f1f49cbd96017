"""Clients of :mod:`tests.apps.knobs`, and a crowd of them that keeps a server busy and counts what it lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tests.support.eventually import eventually
from tests.support.server import Server

PATIENCE_S = 15.0
PAUSE_S = 0.003
"""Between two requests of one of a crowd: a thousand a second of all, and the server has the cores as well."""


def say(client: socket.socket, line: str) -> None:
    """Send one line."""
    client.sendall(line.encode() + b"\n")


def hear(client: socket.socket) -> str:
    """Receive one line; what came before the end if there is no newline."""
    data = b""
    while not data.endswith(b"\n"):
        byte = client.recv(1)
        if not byte:
            break
        data += byte
    return data.decode().rstrip("\n")


def ask(client: socket.socket, line: str) -> str:
    """Send one line, receive one."""
    say(client, line)
    return hear(client)


def is_cut(client: socket.socket) -> bool:
    """Wait for the end of a connection; whether it was one, orderly or not."""
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


class Connects(Protocol):
    """A server, run by whatever means, that a test can connect to."""

    def connect(self) -> socket.socket:
        """Return a connected, blocking socket."""


def refuses(server: Connects) -> bool:
    """Whether a newcomer is refused; wait for it: a scoreboard says "draining" shortly before the listeners close."""
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # it came in the moment in which a listener closes
    return False


def connect_to(server: Server, pid: int) -> socket.socket:
    """Return a connection that the worker ``pid`` serves; those that others took are closed."""

    def attempt() -> list[socket.socket]:
        client = server.connect()
        if int(ask(client, "pid")) == pid:
            return [client]
        others.append(client)  # kept until we have ours: the worker with the fewest takes the next one
        return []

    others: list[socket.socket] = []
    try:
        return eventually(attempt)[0]
    finally:
        for other in others:
            other.close()


P = TypeVar("P", bound="People")


@dataclass
class People:
    """Clients that keep a server busy, each in a thread, and count: what crowds of all protocols share."""

    server: Server
    served: dict[int, int] = field(default_factory=dict)
    """What was served to its end, by pid."""
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        """Be one client after another. Runs in: a thread."""
        raise NotImplementedError

    @property
    def total(self) -> int:
        """How much was served so far."""
        with self._lock:
            return sum(self.served.values())

    def wait_more(self, count: int, within_s: float = 20.0) -> None:
        """Wait until ``count`` more were served."""
        wanted = self.total + count
        eventually(lambda: self.total >= wanted, within_s)

    def is_over(self) -> bool:
        """Wait a moment; return whether there is nothing more to do."""
        return self._over.wait(PAUSE_S)

    def end(self) -> None:
        """Let everybody finish."""
        self._over.set()

    @contextmanager
    def busy(self: P, clients: int) -> Iterator[P]:
        """Be so many for the length of a block."""
        threads = [threading.Thread(target=self.work, name=f"client {number}") for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.end()
            for thread in threads:
                with suppress(RuntimeError):
                    thread.join(PATIENCE_S + 5)


@dataclass
class Crowd(People):
    """Clients that come, ask who serves them, echo a few times, and leave; again and again."""

    lost: list[int] = field(default_factory=list)
    """The pid that served each connection that was cut; 0: cut before it said who it was."""
    refused: list[str] = field(default_factory=list)
    """Why no connection came about."""

    def work(self) -> None:
        """Be one client after another. Runs in: a thread."""
        while not self.is_over():
            try:
                client = self.server.connect(timeout_s=PATIENCE_S)
            except OSError as error:
                self.refused.append(repr(error))
                continue
            with client:
                self._visit(client)

    def _visit(self, client: socket.socket) -> None:
        pid = 0
        try:
            pid = int(ask(client, "pid") or "0")
            done = pid and all(ask(client, f"echo {turn}") == str(turn) for turn in range(3))
        except TimeoutError:
            self.refused.append("nobody answered")
            return
        except OSError:
            done = False
        with self._lock:
            if done:
                self.served[pid] = self.served.get(pid, 0) + 1
            else:
                self.lost.append(pid)


@contextmanager
def crowd(server: Server, clients: int = 4) -> Iterator[Crowd]:
    """Keep the server busy for the length of a block."""
    people = Crowd(server)
    with people.busy(clients):
        yield people
