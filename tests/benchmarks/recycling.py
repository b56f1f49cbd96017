"""What clients notice of workers that are replaced: ``python -m tests.benchmarks.recycling``, in peers' environment.

Two workers, each replaced after 50 requests, under a steady load of GET requests: half of the clients keep their
connection, half make a new one for each request. Servers take turns; each answer says which process gave it. There
should be no failure: a server knows for itself that it is going to replace a worker. What counts as one is in
:class:`Outcome`. A client library may repeat a GET that was *dropped*; nobody may repeat a POST, and a proxy says 502.

``make .venv-peers/.installed-peers VENV=.venv-peers`` sets up the environment. Source: gunicorn issue 3038.
"""

from __future__ import annotations

import argparse
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.benchmarks.apps_recycled import READY
from tests.benchmarks.http_load import HOST, Workload, WrongAnswer, read_answer
from tests.benchmarks.measure import CLIENT_CPU, as_command, pin
from tests.benchmarks.peer_servers import HERE, ROOT, Candidate, Running, installed, module

WORKERS = 2
PATIENCE_S = 5.0
ASGI, WSGI = "apps_recycled:answer", "apps_recycled:answer_wsgi"
_GET = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n"


class Outcome(Enum):
    """What became of a request."""

    OK = "ok"
    REFUSED = "refused"
    """Nobody listened."""
    NEW_DROPPED = "dropped, new"
    """A new connection was reset, or closed before a byte of the answer came."""
    KEPT_DROPPED = "dropped, kept"
    """A kept connection was: no answer had said ``connection: close``, and it was open when the request was sent."""
    CUT = "cut"
    """The answer ended too early."""
    WRONG = "not 200"
    LATE = f"none in {PATIENCE_S:.0f} s"


@dataclass(slots=True)
class Tally:
    """What all clients of one server met. Written by their threads, under the lock."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    pids: set[bytes] = field(default_factory=set)
    slowest_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: Outcome, took_s: float, pid: bytes) -> None:
        """Count one request."""
        with self.lock:
            self.outcomes[outcome] += 1
            self.slowest_s = max(self.slowest_s, took_s)
            if pid:
                self.pids.add(pid)

    @property
    def failed(self) -> int:
        """Requests that were not answered as they should be."""
        return sum(self.outcomes.values()) - self.outcomes[Outcome.OK]


class Client:
    """Asks at a pace. Runs in: a thread of its own. Closes: its connection."""

    def __init__(self, port: int, tally: Tally, *, keeps: bool) -> None:
        self._port = port
        self._tally = tally
        self._keeps = keeps
        self._request = _GET % (b"" if keeps else b"Connection: close\r\n")
        self._sock: socket.socket | None = None

    def run(self, until: float, every_s: float) -> None:
        """Ask until the time is up; between two requests ``every_s`` seconds pass, on average."""
        while time.monotonic() < until:
            took_s = self.ask()
            time.sleep(max(0.0, random.uniform(0.5, 1.5) * every_s - took_s))
        self.close()

    def ask(self) -> float:
        """Ask once, and count what came of it; return how long it took, seconds. Raises: nothing."""
        if self._sock is not None and select.select([self._sock], [], [], 0)[0]:
            self.close()  # closed while nothing was asked: that is a server's right, and every client looks first
        begun = time.monotonic()
        is_new, pid = self._sock is None, b""
        try:
            outcome, pid = self._ask()
        except ConnectionRefusedError:
            outcome = Outcome.REFUSED
        except TimeoutError:
            outcome = Outcome.LATE
        except OSError:
            outcome = Outcome.NEW_DROPPED if is_new else Outcome.KEPT_DROPPED
        except WrongAnswer:
            outcome = Outcome.WRONG
        took_s = time.monotonic() - begun
        self._tally.add(outcome, took_s, pid)
        if outcome is not Outcome.OK or not self._keeps:
            self.close()
        return took_s

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _ask(self) -> tuple[Outcome, bytes]:
        """Return what came of one request, and which process answered. Raises: OSError, WrongAnswer."""
        if self._sock is None:
            self._sock = socket.create_connection((HOST, self._port), PATIENCE_S)
        self._sock.sendall(self._request)
        data, body = b"", None
        while body is None:
            more = self._sock.recv(65536)
            if not more:
                if not data:
                    raise ConnectionResetError
                return Outcome.CUT, b""
            data += more
            body = read_answer(data)
        if b"\r\nconnection: close\r\n" in data.lower():
            self.close()
        return Outcome.OK, body


@dataclass(frozen=True, slots=True)
class Plan:
    """How much load there is, and for how long."""

    for_s: float
    clients: int
    """Half of them keep their connection."""
    per_s: float
    """Requests of all of them together."""


def measure(candidate: Candidate, app: str, plan: Plan) -> Tally:
    """Load one server, and return what came of it. Raises: WrongAnswer: it does not come up. Closes: the server."""
    running = Running(candidate, app)
    try:
        running.wait_ready(
            Workload("ready", "a worker answers", app, lambda _: _GET.replace(b"/ ", b"/ready ") % b"", READY)
        )
        tally, until = Tally(), time.monotonic() + plan.for_s
        clients = [Client(running.port, tally, keeps=bool(number % 2)) for number in range(plan.clients)]
        every_s = plan.clients / plan.per_s
        threads = [threading.Thread(target=client.run, args=(until, every_s), daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return tally
    finally:
        running.end()


# ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────


def _hybrid(max_requests: int) -> Candidate:
    def command(app: str, port: int, _: Path) -> Sequence[str]:
        options = ("--bind", f"{HOST}:{port}", "--workers", str(WORKERS), "--max-requests", str(max_requests))
        return module("hybrid", app, "--app-dir", str(HERE), *options, "--log-level", "warning")

    return Candidate("hybrid", "", command, cwd=ROOT)


def _gunicorn(max_requests: int, *worker: str) -> Callable[[str, int, Path], Sequence[str]]:
    def command(app: str, port: int, _: Path) -> Sequence[str]:
        options = ("--bind", f"{HOST}:{port}", "--workers", str(WORKERS), "--max-requests", str(max_requests))
        jitter = ("--max-requests-jitter", str(max_requests // 10))  # as hybrid's by default
        return module("gunicorn", app, *options, *jitter, *worker, "--log-level", "warning")

    return command


def candidates(max_requests: int) -> dict[str, tuple[Candidate, str]]:
    """Return the servers with the application of each, by name."""
    uvicorn = _gunicorn(max_requests, "--worker-class", "uvicorn.workers.UvicornWorker")
    gthread = _gunicorn(max_requests, "--worker-class", "gthread", "--threads", "16")
    return {
        "gunicorn-uvicorn": (installed("gunicorn", uvicorn), ASGI),
        "gunicorn-gthread": (installed("gunicorn", gthread), WSGI),
        "hybrid": (_hybrid(max_requests), ASGI),
    }


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────


def line(name: str, tally: Tally) -> str:
    """Return a row of the table."""
    failures = ", ".join(f"{tally.outcomes[each]} {each.value}" for each in list(Outcome)[1:] if tally.outcomes[each])
    recycled = max(0, len(tally.pids) - WORKERS)
    counts = f"{tally.outcomes[Outcome.OK]:7} {tally.failed:7} {recycled:9} {tally.slowest_s * 1000:8.0f} ms"
    return f"  {name:18} {counts}   {failures}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = list(candidates(1))
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.recycling", description="Count what clients lose when workers are replaced."
    )
    parser.add_argument("--servers", nargs="+", default=names, choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=20.0, help="of load on each server")
    parser.add_argument("--max-requests", type=int, default=50, metavar="N", help="of a worker")
    parser.add_argument("--clients", type=int, default=16, metavar="N", help="half of them keep their connection")
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second, of all clients together")
    chosen = parser.parse_args(arguments)
    if min(chosen.seconds, chosen.max_requests, chosen.clients, chosen.rate) <= 0:
        parser.error("seconds, requests, clients and the rate are to be more than 0")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if hybrid lost a request, or replaced nobody."""
    chosen = _parse(arguments)
    plan = Plan(chosen.seconds, chosen.clients, chosen.rate)
    pin(CLIENT_CPU)
    print(f"{WORKERS} workers, --max-requests {chosen.max_requests}; {plan.clients} clients, {plan.per_s:g} requests/s")
    print(f"  {'':18} {'ok':>7} {'failed':>7} {'replaced':>9} {'slowest':>11}")
    good = True
    for name in chosen.servers:
        candidate, app = candidates(chosen.max_requests)[name]
        try:
            if candidate.problem:
                raise WrongAnswer(candidate.problem)
            tally = measure(candidate, app, plan)
        except WrongAnswer as error:
            print(f"  {name:18} {error}", flush=True)
            good = good and name != "hybrid"
            continue
        print(line(name, tally), flush=True)
        good = good and (name != "hybrid" or (not tally.failed and len(tally.pids) > WORKERS))
    return 0 if good else 1


if __name__ == "__main__":
    as_command(main)
