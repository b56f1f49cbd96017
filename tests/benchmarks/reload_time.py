"""How long new code takes to be served, and what that costs: ``python -m tests.benchmarks.reload_time``, beside peers.

Four workers with an application of 100 MB. The code on disk changes, the server gets a SIGHUP, and clients, each with a
new connection, ask twenty times a second which code answers. It is served when the first answer has come of a second in
which only new code answers. Failed are requests that were not answered at all; memory is the proportional set size of
all of a server's processes, read five times a second. *slowest* is how long a client waited: there may be a time in
which nobody serves. Servers take turns, each started afresh in every round.

``make .venv-peers/.installed-peers VENV=.venv-peers`` sets up the environment that has the peers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from hybrid.bench.server import session_members
from hybrid.shared.procfs import memory_pss_bytes
from tests.benchmarks.http_load import HOST, Workload, WrongAnswer, read_answer
from tests.benchmarks.measure import as_command
from tests.benchmarks.peer_report import machine
from tests.benchmarks.peer_servers import HERE, ROOT, Candidate, Running, installed, module
from tests.benchmarks.reloads import Log

APP = "apps_heap:app"
OLD, NEW = "1", "2"
PER_S = 20
STEADY_S = 1.0
PATIENCE_S = 10.0
"""For an answer."""
GIVEN_UP_S = 120.0
"""For a reload, or a boot."""
_LOOK_S = 0.2
_IDLE_LOOKS = 10
_IDLE = 0.1
"""Of a CPU, at most: nobody boots any more."""
_GET = b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Site:
    """The directory that the application is in."""

    def __init__(self, directory: Path, megabytes: int) -> None:
        self._directory = directory
        self._source = (HERE / "apps_heap.py").read_text().replace("MEGABYTES = 100", f"MEGABYTES = {megabytes}")

    def write(self, version: str) -> None:
        """Let this be the code. No two are of the same length: compiled code is taken for fresh by time and length."""
        fresh = self._directory / "fresh"
        fresh.write_text(self._source.replace("VERSION = 0", f"VERSION = {version}") + "#" * int(version))
        fresh.rename(self._directory / "apps_heap.py")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request."""

    sent_s: float
    took_s: float
    said: str
    """The version, or why there was none."""

    @property
    def failed(self) -> bool:
        """Whether there was none."""
        return self.said not in (OLD, NEW)


def new_since(answers: Sequence[Answer]) -> tuple[float, float] | None:
    """Return when the first answer came of the requests that, to the last one, only new code answered.

    And for how long it did, from the first to the last of these requests. ``answers``: as they came, not as they were
    asked for. None: the last request was not answered by new code.
    """
    in_order = sorted(answers, key=lambda each: each.sent_s)
    only_new = in_order[max((at for at, each in enumerate(in_order, 1) if each.said != NEW), default=0) :]
    if not only_new:
        return None
    return min(each.sent_s + each.took_s for each in only_new), only_new[-1].sent_s - only_new[0].sent_s


class Probes:
    """Asks at a pace, whether the last answer has come or not. Closes: its connections, with the block."""

    def __init__(self, port: int) -> None:
        self.answers: list[Answer] = []
        self._port = port
        self._asked: set[asyncio.Task[None]] = set()
        self._pace: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Probes:
        """Begin."""
        self._pace = asyncio.ensure_future(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ask nothing more; wait for the answers that are to come."""
        assert self._pace is not None
        self._pace.cancel()
        await asyncio.gather(*self._asked)

    @property
    def open(self) -> int:
        """How many requests wait for their answer."""
        return len(self._asked)

    async def _ask(self) -> None:
        while True:
            probe = asyncio.ensure_future(self._probe())
            self._asked.add(probe)
            probe.add_done_callback(self._asked.discard)
            await asyncio.sleep(1 / PER_S)

    async def _probe(self) -> None:
        sent_s = time.monotonic()
        try:
            said = await asyncio.wait_for(ask(self._port), PATIENCE_S)
        except ConnectionRefusedError:
            said = "refused"
        except (ConnectionError, WrongAnswer) as error:
            said = "not answered" if isinstance(error, ConnectionError) else "wrong answer"
        except asyncio.TimeoutError:
            said = f"none in {PATIENCE_S:g} s"
        self.answers.append(Answer(sent_s, time.monotonic() - sent_s, said))


async def ask(port: int) -> str:
    """Return the version that answers. Raises: ConnectionError: nobody did; WrongAnswer: no version."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(_GET)
        body = read_answer(await reader.read())
    finally:
        writer.close()
    if body is None:
        raise ConnectionResetError("the server closed before the answer was whole")
    return body.decode()


# ── one reload ───────────────────────────────────────────────────────────────────────────────────────────────


class Ending(Enum):
    """How a reload ended."""

    NEW = "new code"
    OLD = "old code, from fresh workers"
    GIVEN_UP = f"old code after {GIVEN_UP_S:g} s"


@dataclass(frozen=True, slots=True)
class Reload:
    """What a reload of one server was like."""

    ending: Ending
    commit_s: float | None
    """From SIGHUP until the server said that it was done, for one that says it."""
    new_s: float | None
    """From SIGHUP until new code answered, and went on answering everybody; None: it never did."""
    answers: Sequence[Answer]
    before_mb: float
    most_mb: float

    @property
    def failures(self) -> Counter[str]:
        """Requests that were not answered, by why."""
        return Counter(answer.said for answer in self.answers if answer.failed)


@dataclass(slots=True)
class Watch:
    """What all processes of a server need, over time."""

    running: Running
    most_bytes: int = 0
    idle_looks: int = 0
    _before: tuple[int, int] = field(default_factory=lambda: (0, 0))

    def look(self) -> int:
        """Look; return the memory that is used now. It is idle if it was for some looks one after another."""
        used = 0
        for pid in session_members(self.running.pid):
            try:
                used += memory_pss_bytes(pid)
            except (ProcessLookupError, PermissionError):  # it ended, or is about to
                continue
        self.most_bytes = max(self.most_bytes, used)
        now_ns, cpu_ns = time.monotonic_ns(), self.running.cpu_ns()
        then_ns, before_ns = self._before
        is_idle = abs(cpu_ns - before_ns) < _IDLE * (now_ns - then_ns)
        self.idle_looks = self.idle_looks + 1 if is_idle else 0
        self._before = now_ns, cpu_ns
        return used

    def has_replaced(self, known: set[int], workers: int) -> bool:
        """Return whether so many of these processes are gone, and as many others are there."""
        now = set(session_members(self.running.pid))
        return min(len(known - now), len(now - known)) >= workers

    @property
    def is_idle(self) -> bool:
        """Whether nobody boots any more."""
        return self.idle_looks >= _IDLE_LOOKS


async def settled(watch: Watch) -> int:
    """Wait until nobody boots any more; return the memory that is used then."""
    deadline_s = time.monotonic() + GIVEN_UP_S
    while True:
        used = watch.look()
        if watch.is_idle or time.monotonic() > deadline_s:
            return used
        await asyncio.sleep(_LOOK_S)


async def reload(running: Running, site: Site, workers: int, *, says: bool) -> Reload:
    """Change the code of a server that serves, and reload it. ``says``: it logs when it is done."""
    before_bytes = await settled(Watch(running))
    known = set(session_members(running.pid))
    watch = Watch(running)
    site.write(NEW)
    with Log(running.log_path) as log:
        async with Probes(running.port) as probes:
            await asyncio.sleep(_LOOK_S)
            begun_s = time.monotonic()
            os.kill(running.pid, signal.SIGHUP)
            said = asyncio.ensure_future(_commit(log, begun_s)) if says else None
            while time.monotonic() < begun_s + GIVEN_UP_S:
                watch.look()
                since = new_since(probes.answers)
                if since is not None and since[1] >= STEADY_S:
                    break
                if since is None and watch.is_idle and watch.has_replaced(known, workers):
                    break
                await asyncio.sleep(_LOOK_S)
        commit_s = await said if said is not None else None
    since = new_since(probes.answers)
    new_s = None if since is None else since[0] - begun_s
    given_up = Ending.OLD if watch.has_replaced(known, workers) else Ending.GIVEN_UP
    ending = given_up if since is None else Ending.NEW
    return Reload(ending, commit_s, new_s, probes.answers, before_bytes / 2**20, watch.most_bytes / 2**20)


async def _commit(log: Log, begun_s: float) -> float | None:
    """Return how long it takes until the server says that it is done; None: it fails."""
    said = await log.reload_over()
    return None if isinstance(said, str) else time.monotonic() - begun_s


# ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────


def candidates(site: Path, workers: int) -> dict[str, Candidate]:
    """Return the servers, by name."""
    count = ("--workers", str(workers))
    quiet = ("--log-level", "warning")

    def hybrid(app: str, port: int, _: Path) -> Sequence[str]:
        return module("hybrid", app, "--app-dir", str(site), "--bind", f"{HOST}:{port}", *count)

    def uvicorn(app: str, port: int, _: Path) -> Sequence[str]:
        options = ("--http", "httptools", "--loop", "uvloop", "--no-access-log")
        return module("uvicorn", app, "--host", HOST, "--port", str(port), *count, *options, *quiet)

    def gunicorn(*options: str) -> Callable[[str, int, Path], Sequence[str]]:
        worker = ("--worker-class", "uvicorn.workers.UvicornWorker")
        return lambda app, port, _: module(
            "gunicorn", app, "--bind", f"{HOST}:{port}", *count, *worker, *options, *quiet
        )

    peers = {
        "uvicorn": installed("uvicorn", uvicorn),
        "gunicorn": installed("gunicorn", gunicorn()),
        "gunicorn --preload": installed("gunicorn", gunicorn("--preload")),
    }
    here = {name: replace(candidate, cwd=site) for name, candidate in peers.items()}
    return {**here, "hybrid": Candidate("hybrid", "", hybrid, cwd=ROOT)}


def measure(candidate: Candidate, name: str, site: Site, workers: int) -> Reload:
    """Start a server with the old code, reload it, end it. Raises: WrongAnswer: it does not come up."""
    site.write(OLD)
    running = Running(candidate, APP, cpu=None)
    try:
        running.wait_ready(Workload("version", "the code", APP, lambda _: _GET, OLD.encode(), keeps_alive=False))
        return asyncio.run(reload(running, site, workers, says=name == "hybrid"))
    finally:
        running.end()


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────


def line(name: str, reloads: Sequence[Reload]) -> str:
    """Return a row of the table: medians, and how far they went."""
    failures: Counter[str] = sum((each.failures for each in reloads), Counter())
    failed = sum(failures.values())
    asked = sum(len(each.answers) for each in reloads)
    slowest_ms = max(answer.took_s for each in reloads for answer in each.answers) * 1000
    before_mb = statistics.median(each.before_mb for each in reloads)
    most_mb = max(each.most_mb for each in reloads)
    figures = f"{_times([each.commit_s for each in reloads]):>20} {_times([each.new_s for each in reloads]):>20}"
    told = ", ".join(f"{count} {why}" for why, count in failures.items())
    endings = Counter(each.ending.value for each in reloads if each.ending is not Ending.NEW)
    ends = ", ".join(f"{count} x {ending}" for ending, count in endings.items())
    counts = f"{failed:6} of {asked:4} {slowest_ms:8.0f} ms {before_mb:7.0f} MB {most_mb:7.0f} MB"
    return f"  {name:19} {figures} {counts}   {', '.join(filter(None, (told, ends)))}".rstrip()


def _times(times: Sequence[float | None]) -> str:
    there = [each for each in times if each is not None]
    if not there:
        return "–"
    return f"{statistics.median(there):.2f} s ({min(there):.2f}–{max(there):.2f})"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = list(candidates(ROOT, 1))
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.reload_time", description="Measure how long new code takes to be served."
    )
    parser.add_argument("--servers", nargs="+", default=names, choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="reloads of each server")
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    parser.add_argument("--megabytes", type=int, default=100, metavar="N", help="of the application")
    chosen = parser.parse_args(arguments)
    if min(chosen.rounds, chosen.workers, chosen.megabytes) < 1:
        parser.error("rounds, workers and megabytes are to be 1 or more")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if hybrid lost a request, or did not serve the new code."""
    chosen = _parse(arguments)
    reloads: dict[str, list[Reload]] = {name: [] for name in chosen.servers}
    problems: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), chosen.megabytes)
        servers = candidates(Path(folder), chosen.workers)
        for turn in range(chosen.rounds):
            for name in chosen.servers if turn % 2 else reversed(chosen.servers):
                try:
                    if servers[name].problem:
                        raise WrongAnswer(servers[name].problem)
                    reloads[name].append(measure(servers[name], name, site, chosen.workers))
                except WrongAnswer as error:
                    problems[name] = str(error)
    print(", ".join([*machine().values(), *(f"{each.name} {each.version}".strip() for each in servers.values())]))
    print(f"SIGHUP: {chosen.workers} workers, {chosen.megabytes} MB of objects, rounds: {chosen.rounds}")
    times = f"{'says it is done':>20} {'only new code':>20}"
    print(f"  {'':19} {times} {'failed':>14} {'slowest':>11} {'before':>10} {'most':>10}")
    for name, each in reloads.items():
        print(f"  {name:19} {problems[name]}" if name in problems else line(name, each))
    ours = reloads.get("hybrid", [])
    good = "hybrid" not in problems and not any(each.failures or each.new_s is None for each in ours)
    return 0 if good else 1


if __name__ == "__main__":
    as_command(main)
