"""The parent's side of ``--accept passing`` with real sockets, and workers that are only their ends of channels."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.parent.dispatch import Stage
from hybrid.parent.passing import HANDFUL, Passing
from hybrid.parent.watch import Watch
from hybrid.shared import messages
from hybrid.shared.listeners import Listener, open_listeners
from hybrid.shared.log_line import LogWriter, Style
from hybrid.shared.procfs import open_descriptors
from hybrid.shared.scoreboard import Cell, Scoreboard


class Lobby:
    """What the porter needs of the house."""

    def __init__(self, addresses: int, *, share_port: bool = False) -> None:
        self._log_fd = os.memfd_create("log")
        self.log = LogWriter(self._log_fd, Style.TEXT, "debug", "parent")
        binds = ["127.0.0.1:0"] * addresses
        self.listeners: list[Listener] = open_listeners(binds, 1024, 0o666, share_port=share_port)
        self.scoreboard = Scoreboard.create(8, 0)

    def said(self) -> list[str]:
        """Return the log's lines."""
        return os.pread(self._log_fd, 1 << 20, 0).decode().splitlines()

    def close_listeners(self) -> None:
        for listener in self.listeners:
            listener.close()

    def close(self) -> None:
        self.close_listeners()
        self.scoreboard.close()
        os.close(self._log_fd)


class FakeWorker:
    """A worker's end of a pass channel, and its row."""

    def __init__(self, scoreboard: Scoreboard, slot: int, end: int) -> None:
        self.slot = slot
        self.row = scoreboard.row(slot)
        self.end = socket.socket(fileno=os.dup(end))
        self.held: list[socket.socket] = []
        self.row[Cell.ACTIVE], self.row[Cell.LIMIT] = 0, 1 << 20

    def says(self, *words: bytes) -> None:
        for word in words:
            self.end.send(word)

    def takes(self, most: int = 1 << 30) -> int:
        """Read up to ``most`` messages; return how many connections came with them."""
        count = 0
        for _ in range(most):
            try:
                data, descriptors = messages.receive_bytes(self.end, 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            assert data == b"c" and descriptors
            self.held += [socket.socket(fileno=fd) for fd in descriptors]
            count += len(descriptors)
        self.row[Cell.RECEIVED] += count
        self.row[Cell.ACTIVE] = len(self.held)
        return count

    def beats(self) -> None:
        self.row[Cell.HEARTBEAT_NS] += 1

    def close(self) -> None:
        self.end.close()
        for sock in self.held:
            sock.close()


class PassWorld:
    """A porter, a clock that is moved by hand, clients, and workers by slot."""

    def __init__(self, addresses: int = 1) -> None:
        self.now = 100.0
        self.lobby = Lobby(addresses)
        self.listener_fds = [listener.fileno() for listener in self.lobby.listeners]
        self.watch = Watch()
        self.porter = Passing(self.lobby, self.watch, lambda: self.now)
        self.workers: dict[int, FakeWorker] = {}
        self.clients: list[socket.socket] = []
        self.gone: list[FakeWorker] = []

    def hires(self, count: int = 1, *words: bytes) -> list[FakeWorker]:
        """Let workers come into the first free slots, and say ``words``."""
        hired = []
        for _ in range(count):
            slot = next(slot for slot in range(8) if slot not in self.workers)
            self.lobby.scoreboard.use_slot(slot)
            (end,) = self.porter.ends_for(slot)
            worker = self.workers[slot] = FakeWorker(self.lobby.scoreboard, slot, end)
            self.porter.adopted(slot)
            worker.says(*(words or (b"+",)))
            hired.append(worker)
        self.turns()
        return hired

    def dies(self, slot: int) -> FakeWorker:
        """Let a worker die: its end goes with it."""
        worker = self.workers.pop(slot)
        worker.end.close()
        self.gone.append(worker)
        self.porter.gone(slot)
        self.lobby.scoreboard.retire(slot)
        return worker

    def comes(self, count: int = 1, address: int = 0, *, seen: bool = True) -> None:
        """Let clients connect, and the parent do what it does about them, if it has ``seen`` them."""
        where = self.lobby.listeners[address].socket.getsockname()
        new = [socket.create_connection(where) for _ in range(count)]
        for client in new:
            client.sendall(client.getsockname()[1].to_bytes(4, "big"))
        self.clients += new
        if seen:
            self.turns()

    def fills(self) -> None:
        """Let clients come until every channel is full and some wait in the kernel's queue."""
        while self.listens():
            self.comes(HANDFUL)
            assert len(self.clients) < 3000
        self.comes(HANDFUL)

    def turns(self, count: int = 200) -> None:
        """Let the parent's loop turn, until it would wait."""
        for _ in range(count):
            if not self.watch._poll.poll(0):
                return
            self.watch.wait(0)
        raise AssertionError("the parent's loop does not come to rest")

    def passes(self, seconds: float) -> None:
        """Let time pass, with every deadline on the way."""
        until = self.now + seconds
        while self.porter.deadline is not None and self.porter.deadline <= until:
            self.now = max(self.now, self.porter.deadline)
            self.porter.time_passed()
            self.turns()
        self.now = until

    def stage(self, slot: int) -> Stage:
        return self.porter._dispatch.takers[slot].stage

    def listens(self) -> bool:
        """Return whether the parent accepts at present."""
        return self.lobby.listeners[0].fileno() in self.watch

    def watch_has_listeners(self) -> bool:
        """Return whether the poll knows a listener, open or not."""
        return any(fd in self.watch for fd in self.listener_fds)

    def waiting(self, slot: int) -> int:
        """Return how many connections are on their way to a worker, by the parent's books."""
        taker = self.porter._dispatch.takers[slot]
        return taker.sent - taker.received

    def served(self) -> list[int]:
        """Return whom the workers, living and dead, hold: the clients' ports."""
        found = []
        for worker in (*self.workers.values(), *self.gone):
            for sock in worker.held:
                assert not os.get_blocking(sock.fileno())
                found.append(int.from_bytes(sock.recv(4, socket.MSG_PEEK), "big"))
        return sorted(found)

    def everybody_is_served(self) -> bool:
        """Return whether each client is with one worker, and with one only."""
        return self.served() == sorted(client.getsockname()[1] for client in self.clients)

    def close(self) -> None:
        self.porter.close()
        for client in self.clients:
            client.close()
        for worker in (*self.workers.values(), *self.gone):
            worker.close()
        self.lobby.close()


def sockets() -> list[str]:
    """Return the sockets that this process has open. A row keeps the scoreboard mapped, hence not all descriptors."""
    return sorted(link for _fd, link in open_descriptors(os.getpid()) if link.startswith("socket:"))


@contextmanager
def passing(addresses: int = 1) -> Iterator[PassWorld]:
    """A world that leaves no socket behind."""
    before = sockets()
    world = PassWorld(addresses)
    try:
        yield world
    finally:
        world.close()
    assert sockets() == before
