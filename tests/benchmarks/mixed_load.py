"""A steady load of every kind of client, each request counted: what :mod:`tests.benchmarks.reloads` looks at.

Clients look before they use a connection again: what the server closed while nothing was asked is no failure. Nor is an
answer that says that it is the last. Everything else that is not the whole right answer is a failure, but for
:attr:`Outcome.RETRIED`.

Runs in: one loop, in the process that measures.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Protocol

from tests.benchmarks.apps_reloaded import LAST, answer_to
from tests.benchmarks.http_load import HOST, WrongAnswer, read_answer

__all__ = ["KINDS", "TALKS", "Kind", "Load", "Outcome", "Talk", "Tally"]

PATIENCE_S = 10.0
CROSSED_S = 0.25
"""A kept connection whose end comes so soon behind a request was being closed already when that was sent."""
NOTES = 20
"""So many failures are told of one by one."""


class Outcome(Enum):
    """What became of a request."""

    OK = "ok"
    RETRIED = "retried by rule"
    """The server was closing the kept connection when the request was sent, and no byte of an answer came: a client
    sends it again, on a new connection. What becomes of that is counted as well. Source: RFC 9112 §9.3.1."""
    REFUSED = "refused"
    """Nobody listened."""
    RESET = "reset"
    """The connection was reset before a byte of the answer came."""
    UNANSWERED = "closed unanswered"
    """The connection ended before a byte of the answer came."""
    CUT = "cut in an answer"
    """It was reset or ended behind the first byte."""
    WRONG = "wrong answer"
    LATE = "timeout"


FAILURES = tuple(outcome for outcome in Outcome if outcome not in (Outcome.OK, Outcome.RETRIED))


@dataclass(frozen=True, slots=True)
class Kind:
    """Clients that do the same: ``word`` is what they ask for."""

    name: str
    word: str
    clients: int
    every_s: tuple[float, float]
    """From the beginning of a request to that of the next one, at random between the two; never before its answer."""
    keeps: bool
    """Whether a connection is used again."""


KINDS = (
    Kind("new connections", "fast", 9, (0.08, 0.12), keeps=False),
    Kind("kept connections", "fast", 9, (0.08, 0.12), keeps=True),
    Kind("kept, seldom used", "fast", 25, (1.0, 3.0), keeps=True),
    Kind("1 s in flight, new", "slow", 5, (1.0, 1.0), keeps=False),
    Kind("1 s in flight, kept", "slow", 5, (1.0, 1.0), keeps=True),
    Kind("1 s of pieces, kept", "drip", 10, (1.0, 1.0), keeps=True),
)
"""About 200 requests a second."""


class Talk(Protocol):
    """What is said on a connection."""

    repeats: bool
    """Whether its clients may send a request again (:attr:`Outcome.RETRIED`)."""

    def request(self, kind: Kind, number: int) -> bytes:
        """Return what is sent."""

    def answer(self, data: bytes) -> tuple[bytes, bool] | None:
        """Return the answer, and whether it is the last one; None if it is not whole. Raises: WrongAnswer."""


class HttpTalk:
    """GET requests, HTTP/1.1."""

    repeats = True

    def request(self, kind: Kind, number: int) -> bytes:
        """Return a request; who does not keep its connection says so."""
        end = b"" if kind.keeps else b"Connection: close\r\n"
        return b"GET /%b/%d HTTP/1.1\r\nHost: a\r\n%b\r\n" % (kind.word.encode(), number, end)

    def answer(self, data: bytes) -> tuple[bytes, bool] | None:
        """Read a response as RFC 9112 has it."""
        body = read_answer(data)
        return None if body is None else (body, b"\r\nconnection: close\r\n" in data.lower())


class StreamTalk:
    """Lines, of a protocol of our own: a server that closes without having said so has lost what was asked."""

    repeats = False

    def request(self, kind: Kind, number: int) -> bytes:
        """Return a line."""
        return b"%b %d\n" % (kind.word.encode(), number)

    def answer(self, data: bytes) -> tuple[bytes, bool] | None:
        """Read a line."""
        line, newline, rest = data.partition(b"\n")
        if rest:
            raise WrongAnswer(f"{len(rest)} bytes come behind the answer")
        return (line.removesuffix(LAST), line.endswith(LAST)) if newline else None


TALKS: dict[str, Talk] = {"http": HttpTalk(), "stream": StreamTalk()}


@dataclass(slots=True)
class Tally:
    """What all clients met."""

    begun_s: float = field(default_factory=time.monotonic)
    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    """By name of the kind."""
    slowest_s: dict[str, float] = field(default_factory=dict)
    """Of the answers that were right."""
    notes: list[str] = field(default_factory=list)

    def add(self, kind: Kind, outcome: Outcome, took_s: float, why: str = "") -> None:
        """Count a request."""
        self.outcomes[kind.name, outcome] += 1
        if outcome is Outcome.OK:
            self.slowest_s[kind.name] = max(took_s, self.slowest_s.get(kind.name, 0.0))
        elif len(self.notes) < NOTES:
            at_s = time.monotonic() - self.begun_s
            self.notes.append(f"at {at_s:.3f} s, {kind.name}: {outcome.value} after {took_s * 1000:.1f} ms; {why}")

    def count(self, *outcomes: Outcome) -> int:
        """Return how many requests ended in one of these ways."""
        return sum(number for (_, outcome), number in self.outcomes.items() if outcome in outcomes)

    @property
    def failed(self) -> int:
        """Requests that were lost."""
        return self.count(*FAILURES)


class Client:
    """One client, which asks again and again. Closes: its connection, when :meth:`run` ends."""

    def __init__(self, port: int, talk: Talk, kind: Kind, tally: Tally) -> None:
        self._port = port
        self._talk = talk
        self._kind = kind
        self._tally = tally
        self._sock: socket.socket | None = None
        self._came = b""
        """Of the answer that is under way."""

    async def run(self, over: asyncio.Event, numbers: count[int]) -> None:
        """Ask until it is over; a request that was sent is still waited for."""
        await self._pause(over, random.uniform(0.0, self._kind.every_s[1]))
        try:
            while not over.is_set():
                begun_s = time.monotonic()
                await self.ask(next(numbers))
                await self._pause(over, random.uniform(*self._kind.every_s) + begun_s - time.monotonic())
        finally:
            self.close()

    @staticmethod
    async def _pause(over: asyncio.Event, for_s: float) -> None:
        """Let time pass, but not when it is over."""
        if for_s > 0.0:
            try:
                await asyncio.wait_for(over.wait(), for_s)
            except asyncio.TimeoutError:
                pass

    async def ask(self, number: int) -> Outcome:
        """Ask once, and count what came of it; once more, if that is the rule. Raises: nothing that a server does."""
        self._leave_what_is_closed()
        begun_s, self._came = time.monotonic(), b""
        is_kept, why = self._sock is not None, ""
        try:
            outcome = await asyncio.wait_for(self._ask(number), PATIENCE_S)
        except (ConnectionError, EOFError, WrongAnswer, asyncio.TimeoutError) as error:
            took_s = time.monotonic() - begun_s
            outcome = self._failure(error, is_kept and took_s < CROSSED_S)
            why = f"{len(self._came)} bytes had come on a {'kept' if is_kept else 'new'} connection; {error!r}"
        self._tally.add(self._kind, outcome, time.monotonic() - begun_s, why)
        if outcome is not Outcome.OK or not self._kind.keeps:
            self.close()
        return await self.ask(number) if outcome is Outcome.RETRIED else outcome

    def _failure(self, error: Exception, may_have_crossed: bool) -> Outcome:
        if isinstance(error, asyncio.TimeoutError):
            return Outcome.LATE
        if isinstance(error, ConnectionRefusedError):
            return Outcome.REFUSED
        if isinstance(error, WrongAnswer):
            return Outcome.WRONG
        if self._came:
            return Outcome.CUT
        if may_have_crossed and self._talk.repeats:
            return Outcome.RETRIED
        return Outcome.UNANSWERED if isinstance(error, EOFError) else Outcome.RESET

    def _leave_what_is_closed(self) -> None:
        """Close our side of what the server has closed while nothing was asked: that is its right."""
        if self._sock is None:
            return
        try:
            came = self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return  # open
        except ConnectionError:
            came = b""
        if came:
            self._tally.add(self._kind, Outcome.WRONG, 0.0, "something came that nobody had asked for")
        self.close()

    async def _ask(self, number: int) -> Outcome:
        """Return OK. Raises: OSError, EOFError, WrongAnswer: the answer did not come, or was another one."""
        loop = asyncio.get_running_loop()
        if self._sock is None:
            self._sock = socket.socket()
            self._sock.setblocking(False)
            await loop.sock_connect(self._sock, (HOST, self._port))
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_sendall(self._sock, self._talk.request(self._kind, number))
        while True:
            more = await loop.sock_recv(self._sock, 65536)
            if not more:
                raise EOFError("the server closed")
            self._came += more
            found = self._talk.answer(self._came)
            if found is not None:
                break
        body, is_last = found
        if body != answer_to(self._kind.word, number):
            raise WrongAnswer(f"the answer to {self._kind.word} {number} is {body[:60]!r}")
        if is_last:
            self.close()
        return Outcome.OK

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class Load:
    """All clients. Runs in: a loop. Closes: their connections, when the block is left, behind their last answers.

    Raises: whatever went wrong with a client itself.
    """

    def __init__(self, port: int, talk: Talk, kinds: Sequence[Kind]) -> None:
        self.tally = Tally()
        self.kinds = kinds
        self._clients = [Client(port, talk, kind, self.tally) for kind in kinds for _ in range(kind.clients)]
        self._tasks: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()

    async def __aenter__(self) -> Load:
        """Begin."""
        numbers = count(1)
        self._tasks = [asyncio.ensure_future(client.run(self._over, numbers)) for client in self._clients]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ask nothing more; wait for what was asked."""
        self._over.set()
        await asyncio.gather(*self._tasks)

    @property
    def has_come(self) -> bool:
        """Whether a client of each kind was answered."""
        return all(self.tally.outcomes[kind.name, Outcome.OK] for kind in self.kinds)

    def table(self) -> str:
        """Return what came of it, a line for each kind."""
        tally, for_s = self.tally, time.monotonic() - self.tally.begun_s
        per_s = tally.count(Outcome.OK) / for_s
        lines = [f"  {'':22} {'ok':>8} {'failed':>7} {'retried':>8} {'slowest':>11}"]
        for kind in self.kinds:
            by = {outcome: tally.outcomes[kind.name, outcome] for outcome in Outcome}
            failures = ", ".join(f"{by[outcome]} {outcome.value}" for outcome in FAILURES if by[outcome])
            failed = sum(by[outcome] for outcome in FAILURES)
            slowest_ms = tally.slowest_s.get(kind.name, 0.0) * 1000
            told = f"{by[Outcome.OK]:8} {failed:7} {by[Outcome.RETRIED]:8} {slowest_ms:8.0f} ms   {failures}"
            lines.append(f"  {kind.name:22} {told}".rstrip())
        sums = f"{tally.count(Outcome.OK):8} {tally.failed:7} {tally.count(Outcome.RETRIED):8}"
        lines.append(f"  {'all':22} {sums}   in {for_s:.0f} s: {per_s:.0f} a second")
        return "\n".join([*lines, *(f"  {note}" for note in tally.notes)])
