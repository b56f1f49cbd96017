"""Steady load: messages on connections that stay open, as fast as they are answered or at a rate.

As fast as they are answered, each connection waits for its reply before it asks again: the server sets the pace, and
a stall is seen once by each connection, not by everybody who would have come meanwhile. At a rate, a message counts
from when it should have been sent, also when its connection was still waiting for the reply before.

Source: Gil Tene, "How NOT to Measure Latency" (coordinated omission); wrk2.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque

from hybrid.bench.engine import Engine
from hybrid.bench.jobs import ONE_LINE, Job

_CHUNK = 1 << 16


class Talk:
    """One connection. ``due``: when its waiting messages should have been sent, the one under way first."""

    __slots__ = ("due", "got_bytes", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.due: deque[float] = deque()
        self.got_bytes = 0


class Steady:
    """The connections of one client. Closes: them, on :meth:`close`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outcome = engine.outcome
        self._job: Job = engine.job
        self._request = self._job.request.encode("latin-1")
        self._by_line = self._job.reply.ends == ONE_LINE
        self._until_s = 0.0
        """When the load ends; replies are waited for a while longer."""
        self.talks: dict[int, Talk] = {}
        for _ in range(self._job.connections):
            sock = engine.connect()
            if sock is not None and self._is_there(sock):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.talks[sock.fileno()] = Talk(sock)
                engine.epoll.register(sock.fileno(), select.EPOLLIN)

    def _is_there(self, sock: socket.socket) -> bool:
        """Wait for a connection that is on its way; return whether it came, and count it if not."""
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if poll.poll(self._job.timeout_s * 1000) else None
        if code == 0:
            return True
        if code is None:
            self._outcome.timed_out += 1
        else:
            self._engine.fail(code)
        sock.close()
        return False

    def run(self) -> None:
        """Exchange messages for the job's time, then see the last through."""
        if self._job.per_s:
            self._at_rate()
        else:
            self._as_answered()
        until = time.monotonic() + self._job.timeout_s
        while self.waiting() and time.monotonic() < until:
            self._turn(0.05, 0.0)
        self._outcome.timed_out += self.waiting()

    def waiting(self) -> int:
        """Return how many messages have no reply yet."""
        return sum(len(talk.due) for talk in self.talks.values())

    def _as_answered(self) -> None:
        begun_s = time.monotonic()  # connecting may have taken long
        until = self._loads(begun_s)
        for talk in list(self.talks.values()):
            self._send(talk, time.monotonic())
        while self.talks and (now := time.monotonic()) < until:
            self._turn(min(0.05, until - now), until)

    def _loads(self, begun_s: float) -> float:
        """Note when the load begins; return when it ends."""
        self._outcome.window_s = self._job.for_s
        self._until_s = begun_s + self._job.for_s
        return self._until_s

    def _at_rate(self) -> None:
        self._loads(self._job.start_s)
        number, planned = 0, self._job.planned
        talks = list(self.talks.values())
        while number < planned and self.talks:
            due_s = self._job.due_s(number)
            late_s = time.monotonic() - due_s
            if late_s < 0:
                self._turn(-late_s, 0.0)
                continue
            self._outcome.lags_s.append(late_s)
            talk = talks[number % len(talks)]
            number += 1
            if talk.sock.fileno() >= 0:
                self._send(talk, due_s)
            if not number % 16:
                self._turn(0, 0.0)

    def _send(self, talk: Talk, due_s: float) -> None:
        """Ask, or queue behind the message that is under way."""
        talk.due.append(due_s)
        if len(talk.due) == 1:
            self._ask(talk)

    def _ask(self, talk: Talk) -> None:
        talk.got_bytes = 0
        try:
            talk.sock.sendall(self._request)
        except OSError as error:
            self._lose(talk, error.errno or -1)

    def _turn(self, wait_s: float, again_until: float) -> None:
        """Wait for replies, at most so long; before ``again_until`` each is followed by the next message."""
        if wait_s > 0:
            select.select([self._engine.epoll], [], [], wait_s)
        for descriptor, _mask in self._engine.epoll.poll(0):
            talk = self.talks.get(descriptor)
            if talk is not None:
                self._receive(talk, again_until)

    def _receive(self, talk: Talk, again_until: float) -> None:
        try:
            data = talk.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(talk, error.errno or -1)
            return
        if not data:
            self._outcome.short += len(talk.due)
            self._forget(talk)
            return
        talk.got_bytes += len(data)
        is_whole = b"\n" in data if self._by_line else talk.got_bytes >= self._job.reply.size_bytes
        if not is_whole or not talk.due:
            return
        now = time.monotonic()
        took_s = now - talk.due.popleft()
        if took_s > self._job.timeout_s:
            self._outcome.timed_out += 1
        else:
            self._outcome.latencies_s.append(took_s)
            self._outcome.within += now <= self._until_s
        if talk.due:
            self._ask(talk)
        elif now < again_until:
            self._send(talk, now)

    def _lose(self, talk: Talk, code: int) -> None:
        for _ in talk.due:
            self._engine.fail(code)
        self._forget(talk)

    def _forget(self, talk: Talk) -> None:
        self.talks.pop(talk.sock.fileno(), None)
        talk.due.clear()
        talk.sock.close()

    def close(self) -> None:
        """Close every connection."""
        for talk in list(self.talks.values()):
            self._forget(talk)


def steady(engine: Engine) -> None:
    """Do a job of mode STEADY."""
    load = Steady(engine)
    try:
        load.run()
    finally:
        load.close()
