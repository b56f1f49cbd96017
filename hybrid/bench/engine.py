"""The load generator's engine: many plain sockets in one process, on one epoll. No event loop, no coroutines.

A connection costs it about as many system calls as it must: socket, bind, connect, send, epoll_ctl, recv until the
end, close. Each client binds to an address of its own in 127.0.0.0/8, so that it has a range of ports of its own:
every closed connection keeps its pair of ports for a while (TIME_WAIT), and 28,000 are soon used up.

Source: connect(2) EINPROGRESS, ip(7) IP_BIND_ADDRESS_NO_PORT, tcp(7).
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable

from hybrid.bench.jobs import ONE_LINE, TO_CLOSE, Job, Outcome

HOST = "127.0.0.1"
_CHUNK = 1 << 16
_READ = select.EPOLLIN
_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)
_REFUSED = {errno.ECONNREFUSED}
_RESET = {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED}
_PORTLESS = {errno.EADDRNOTAVAIL, errno.EADDRINUSE}


class Flight:
    """One connection under way. ``begun_s``: when it began or, on a schedule, should have."""

    __slots__ = ("begun_s", "got_bytes", "is_special", "request", "sock")

    def __init__(self, sock: socket.socket, request: bytes, begun_s: float, is_special: bool) -> None:
        self.sock = sock
        self.request = request
        self.begun_s = begun_s
        self.is_special = is_special
        self.got_bytes = 0


class Engine:
    """Opens connections and sees them through. Closes: every socket that it opened, at the latest on :meth:`close`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.outcome = Outcome(planned=job.planned)
        self.epoll = select.epoll()
        self.flights: dict[int, Flight] = {}
        """By descriptor, the oldest first."""
        self._source = (f"127.0.0.{2 + job.index % 250}", 0)
        self._target = (HOST, job.port)
        self._request = job.request.encode("latin-1")
        self._is_whole = _whole(job)

    # ── connections ──

    def connect(self) -> socket.socket | None:
        """Return a socket that is connected, or on its way; None if that failed at once, which is then counted."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.IPPROTO_IP, _NO_PORT, 1)
            sock.bind(self._source)
            code = sock.connect_ex(self._target)
        except OSError as error:
            code = error.errno or -1
        if code not in (0, errno.EINPROGRESS):
            self.fail(code)
            sock.close()
            return None
        return sock

    def begin(self, begun_s: float, special: bytes = b"") -> None:
        """Connect and ask. ``begun_s``: what the latency counts from. ``special``: the request to make instead."""
        sock = self.connect()
        if sock is None:
            return
        flight = Flight(sock, special or self._request, begun_s, bool(special))
        self.flights[sock.fileno()] = flight
        events = _READ if self._ask(flight) else select.EPOLLOUT
        if sock.fileno() >= 0:
            self.epoll.register(sock.fileno(), events)

    def _ask(self, flight: Flight) -> bool:
        """Send the request; return whether it is out. (On loopback a connection is there when connect returns.)

        An error is the connection's end, and counted here: who is told of it once is not told again by recv.
        """
        try:
            flight.sock.send(flight.request)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self.fail(error.errno or -1)
                self.drop(flight)
            return False
        return True

    def turn(self, wait_s: float) -> None:
        """Wait for news, at most so long, and deal with it.

        select(2) on the epoll, because epoll_wait(2) counts in milliseconds and would start a schedule in lumps.
        """
        if wait_s > 0:
            select.select([self.epoll], [], [], min(wait_s, 1.0))
        for descriptor, mask in self.epoll.poll(0):
            flight = self.flights.get(descriptor)
            if flight is None:
                continue
            if mask & select.EPOLLOUT:
                if self._ask(flight):
                    self.epoll.modify(descriptor, _READ)
            else:
                self._receive(flight)
        self._expire()

    def _receive(self, flight: Flight) -> None:
        recv = flight.sock.recv
        try:
            while data := recv(_CHUNK):
                flight.got_bytes += len(data)
                if self._is_whole(flight.got_bytes, data):
                    self._finish(flight)
                    return
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error.errno or -1)
            self.drop(flight)
            return
        wanted = 1 if flight.is_special else max(1, self.job.reply.size_bytes)
        if self.job.reply.ends == TO_CLOSE and flight.got_bytes >= wanted:
            self._finish(flight)
        else:
            self.outcome.short += 1
            self.drop(flight)

    def _finish(self, flight: Flight) -> None:
        took_s = time.monotonic() - flight.begun_s
        (self.outcome.special_s if flight.is_special else self.outcome.latencies_s).append(took_s)
        self.drop(flight)

    def drop(self, flight: Flight) -> None:
        """Close a connection; the epoll forgets it."""
        self.flights.pop(flight.sock.fileno(), None)
        flight.sock.close()

    def fail(self, code: int) -> None:
        """Count a connection that failed with errno ``code``."""
        outcome = self.outcome
        if code in _REFUSED:
            outcome.refused += 1
        elif code in _RESET:
            outcome.reset += 1
        elif code in _PORTLESS:
            outcome.no_port += 1
        else:
            outcome.other += 1

    def _expire(self) -> None:
        """Give up on connections that began too long ago. Without a schedule the oldest is the first."""
        latest = time.monotonic() - self.job.timeout_s
        while self.flights:
            oldest = next(iter(self.flights.values()))
            if oldest.begun_s > latest:
                return
            self.outcome.timed_out += 1
            self.drop(oldest)

    def drain(self) -> None:
        """See through what is under way; each ends, or times out."""
        while self.flights:
            self.turn(0.1)

    def close(self) -> None:
        """Close every socket and the epoll."""
        for flight in list(self.flights.values()):
            self.drop(flight)
        self.epoll.close()


def _whole(job: Job) -> Callable[[int, bytes], bool]:
    """Return the test of whether a reply is whole before the server closes, from bytes so far and the last chunk."""
    if job.reply.ends == TO_CLOSE:
        return lambda got_bytes, chunk: False
    if job.reply.ends == ONE_LINE:
        return lambda got_bytes, chunk: b"\n" in chunk
    size_bytes = job.reply.size_bytes
    return lambda got_bytes, chunk: got_bytes >= size_bytes
