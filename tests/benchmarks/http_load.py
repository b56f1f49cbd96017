"""HTTP load from one process: connections that each keep so many requests under way, every answer checked.

Sockets block, and are read only when ``epoll`` says so: a request costs the client two system calls. The first answer
is read as RFC 9112 has it, status, framing and body; all later ones must begin and end as it did and be as long. What
differs is an error: a wrong answer is no figure.

Runs in: the process that measures, on other CPUs than the server.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["HOST", "Load", "Workload", "WrongAnswer", "read_answer", "read_frame", "sample"]

HOST = "127.0.0.1"
PATIENCE_S = 10
"""A server that says nothing for so long is not measured."""
_OK = b"HTTP/1.1 200 "
_TAIL_BYTES = 64
_RECEIVE_BYTES = 65536  # above 128 KiB malloc asks the kernel for memory each time
_TIMEOUT = struct.pack("ll", PATIENCE_S, 0)


class WrongAnswer(Exception):
    """A server did not answer as the workload wants it."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked, of which application, and what must come back."""

    name: str
    what: str
    app: str
    """``module:attribute``, in tests/benchmarks."""
    request: Callable[[int], bytes]
    """Is given the request's number."""
    body: bytes
    """Of the answer, whatever its framing."""
    connections: int = 64
    depth: int = 1
    """Requests that are sent together."""
    keeps_alive: bool = True
    """Whether a connection is used again. If not, the request must say so, and the server closes."""
    opening: bytes = b""
    """Of a connection on which something else is asked then: its answer is a head without a body."""
    begins: bytes = _OK
    """What each answer begins with."""
    read: Callable[[bytes], bytes | None] | None = None
    """As :func:`read_answer`, which is taken if there is none."""
    interface: str = "asgi"
    """What the application is; not every server serves every kind."""


def read_frame(data: bytes) -> bytes | None:
    """Return the payload if ``data`` is one short whole frame of a WebSocket, as :func:`read_answer` for HTTP."""
    if len(data) < 2:
        return None
    if data[1] > 125 or len(data) > data[1] + 2:
        raise WrongAnswer(f"no short frame: {data[:60]!r}")
    return data[2:] if len(data) == data[1] + 2 else None


def read_answer(data: bytes) -> bytes | None:
    """Return the body if ``data`` is one whole answer, None if it is the beginning of one.

    Raises: WrongAnswer: the status is not 200, there is no framing, or something comes behind the answer.
    """
    head, blank, rest = data.partition(b"\r\n\r\n")
    if not (head + b"\r\n").startswith(_OK[: len(head)]):
        raise WrongAnswer(f"the answer is not 200 but begins with {data[:60]!r}")
    if not blank:
        return None
    fields = dict(_field(line) for line in head.split(b"\r\n")[1:])
    if fields.get(b"transfer-encoding") == b"chunked":
        return _read_chunks(rest)
    if b"content-length" not in fields:
        raise WrongAnswer(f"the answer has no length: {head!r}")
    length = int(fields[b"content-length"])
    if len(rest) > length:
        raise WrongAnswer(f"{len(rest) - length} bytes come behind the answer")
    return rest if len(rest) == length else None


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip()


def _read_chunks(rest: bytes) -> bytes | None:
    body: list[bytes] = []
    at = 0
    while (end := rest.find(b"\r\n", at)) >= 0:
        size = int(rest[at:end], 16)
        at = end + 2 + size + 2
        if at > len(rest):
            return None
        if rest[at - 2 : at] != b"\r\n":
            raise WrongAnswer(f"a chunk of {size} bytes ends with {rest[at - 2 : at]!r}")
        if not size:
            if at < len(rest):
                raise WrongAnswer(f"{len(rest) - at} bytes come behind the last chunk")
            return b"".join(body)
        body.append(rest[end + 2 : at - 2])
    return None


def sample(port: int, workload: Workload) -> bytes:
    """Ask once on a connection of its own; return the whole answer as it came over the wire.

    Raises: WrongAnswer: it is not what the workload wants. OSError: there is no answer. Closes: the connection.
    """
    data, body = b"", None
    read = workload.read or read_answer
    with connect(port, workload.opening) as sock:
        sock.sendall(workload.request(0))
        while body is None or not workload.keeps_alive:
            more = sock.recv(_RECEIVE_BYTES)
            if not more:
                break
            data += more
            body = read(data)
    if body is None:
        raise WrongAnswer(f"the server closed after {data[:60]!r}")
    if body != workload.body:
        raise WrongAnswer(f"the body has {len(body)} bytes, {body[:60]!r}; wanted are {len(workload.body)}")
    return data


def connect(port: int, opening: bytes) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.connect((HOST, port))
        if opening:
            sock.sendall(opening)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = sock.recv(1)
                if not byte:
                    raise WrongAnswer(f"the server closed after {head[:60]!r}")
                head += byte
    except (OSError, WrongAnswer):
        sock.close()
        raise
    return sock


class Load:
    """The connections of one workload to one server.

    Opens: in ``with``, all connections that are kept alive, and asks once on each: what :meth:`run` measures is
    requests. Raises: WrongAnswer: also when the server is silent or gone. Closes: the connections, with the block.
    """

    def __init__(self, port: int, workload: Workload) -> None:
        self._port = port
        self._workload = workload
        self._number = 0
        self._flights: dict[int, tuple[socket.socket, list[bytes]]] = {}
        """By descriptor: the connection, and what has come of an answer that is not whole yet."""
        self._ready = select.epoll()
        self._size = 0
        self._tail = b""

    def __enter__(self) -> Load:
        """Open the connections."""
        try:
            answer = sample(self._port, self._workload)
            self._size = len(answer)
            self._tail = answer[-min(_TAIL_BYTES, len(self._workload.body)) :]  # no header: dates change
            if self._workload.keeps_alive:
                for _ in range(self._workload.connections):
                    self._open()
                self.run(0.0)
        except OSError as error:
            self.close()
            raise WrongAnswer(f"no answer: {error}") from error
        except WrongAnswer:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close all connections."""
        for sock, _ in self._flights.values():
            sock.close()
        self._flights.clear()
        self._ready.close()

    def run(self, for_s: float) -> int:
        """Ask for so long, wait for all answers; return how many came. With 0 s: ask once on each connection."""
        deadline_s = time.monotonic() + for_s
        try:
            return self._keep_asking(deadline_s) if self._workload.keeps_alive else self._reconnect(deadline_s)
        except OSError as error:
            raise WrongAnswer(f"a connection broke: {error}") from error

    def run_calmly(self, for_s: float) -> None:
        """Ask for so long, once on each connection at a time: a server that is not saturated has CPU to spare."""
        deadline_s = time.monotonic() + for_s
        while time.monotonic() < deadline_s:
            self.run(0.0)

    def _keep_asking(self, deadline_s: float) -> int:
        depth, size = self._workload.depth, self._size * self._workload.depth
        flights, count, waiting = self._flights, 0, len(self._flights)
        for sock, _ in flights.values():
            sock.sendall(self._requests())
        while waiting:
            ready = self._next()
            more = time.monotonic() < deadline_s
            for descriptor in ready:
                sock, parts = flights[descriptor]
                data = sock.recv(_RECEIVE_BYTES)
                if parts or len(data) < size:
                    data = self._whole(parts, data, size)
                    if not data:
                        continue
                self._check(data, size)
                count += depth
                if more:
                    sock.sendall(self._requests())
                else:
                    waiting -= 1
        return count

    def _reconnect(self, deadline_s: float) -> int:
        flights, count = self._flights, 0
        for _ in range(self._workload.connections):
            self._open().sendall(self._requests())
        while flights:
            ready = self._next()
            more = time.monotonic() < deadline_s
            for descriptor in ready:
                sock, parts = flights[descriptor]
                data = sock.recv(_RECEIVE_BYTES)
                if data:
                    parts.append(data)
                    continue
                self._check(b"".join(parts), self._size)
                count += 1
                del flights[descriptor]
                sock.close()  # which takes it out of the epoll, too
                if more:
                    self._open().sendall(self._requests())
        return count

    def _next(self) -> list[int]:
        ready = [descriptor for descriptor, _ in self._ready.poll(PATIENCE_S)]
        if not ready:
            begun = [b"".join(parts)[-_TAIL_BYTES:] for _, parts in self._flights.values() if parts]
            raise WrongAnswer(f"nothing came for {PATIENCE_S} s; answers that are not whole end with {begun[:2]}")
        return ready

    def _open(self) -> socket.socket:
        sock = connect(self._port, self._workload.opening)
        self._flights[sock.fileno()] = (sock, [])
        self._ready.register(sock.fileno(), select.EPOLLIN)
        return sock

    def _requests(self) -> bytes:
        request = self._workload.request
        first = self._number
        self._number += self._workload.depth
        if self._workload.depth == 1:
            return request(first)
        return b"".join([request(number) for number in range(first, self._number)])

    def _whole(self, parts: list[bytes], data: bytes, size: int) -> bytes:
        """Return what came, if all came, else nothing."""
        if not data:
            raise WrongAnswer(f"the server closed a connection after {sum(map(len, parts))} bytes of {size}")
        parts.append(data)
        if not parts[0].startswith(self._workload.begins[: len(parts[0])]):
            raise WrongAnswer(f"the answer is another one, it begins with {parts[0][:60]!r}")
        if sum(map(len, parts)) < size:
            return b""
        whole = b"".join(parts)
        parts.clear()
        return whole

    def _check(self, data: bytes, size: int) -> None:
        if len(data) != size:
            raise WrongAnswer(f"{len(data)} bytes came instead of {size}, beginning with {data[:60]!r}")
        for start in range(0, size, self._size):
            if not (
                data.startswith(self._workload.begins, start) and data.endswith(self._tail, start, start + self._size)
            ):
                raise WrongAnswer(f"an answer is not as the first one; it begins with {data[start : start + 60]!r}")
