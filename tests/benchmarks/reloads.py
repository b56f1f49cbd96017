"""Reload after reload under load: ``python -m tests.benchmarks.reloads --count 1000``, half an hour for each target.

About 200 requests a second, from clients of every kind (:mod:`tests.benchmarks.mixed_load`), while the server reloads
as often as it can: the next one is asked for when one is through. No request may fail, and the parent must be at the
end as it was at the beginning: looked at are its descriptors, its memory and the number of processes, each time when
nothing of an earlier generation is left. Loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hybrid.ground.states import Life
from hybrid.shared import procfs
from tests.benchmarks.measure import as_command
from tests.benchmarks.mixed_load import KINDS, TALKS, Load, Outcome
from tests.support.server import Server, running

APPS = {"http": "tests.benchmarks.apps_reloaded:app", "stream": "tests.benchmarks.apps_reloaded:stream"}
PATIENCE_S = 60.0
RETRIED_SHARE = 0.001
"""Of the requests: more of them that crossed with the end of their connection are too many."""
GROWTH_KB = 1024
"""Of the parent's resident memory: what comes and goes, and what a thousand reloads must not add up to."""
_POLL_S = 0.01
_LOOK_S = 0.2
_RELOADED = re.compile(r"\] info +reloaded: .* after ([0-9.]+) s")
_FAILED = re.compile(r"\] error +(reload failed: .*)")


@dataclass(frozen=True, slots=True)
class Look:
    """What the kernel says of a server of which one generation is there."""

    descriptors: int
    """Of the parent, as the memory is."""
    pss_kb: int
    resident_kb: int
    processes: int
    """Of the whole session."""

    @classmethod
    def at(cls, server: Server) -> Look:
        """Look now."""
        use = procfs.memory_use(server.pid)
        descriptors = len(procfs.open_descriptors(server.pid))
        return cls(descriptors, use.pss_bytes // 1024, use.resident_bytes // 1024, len(server.everyone()))


class Log:
    """What the server says of its reloads. Reads its file as it grows. Closes: the file, with the block."""

    def __init__(self, path: Path) -> None:
        self._file = path.open(encoding="utf-8", errors="replace")
        self._begun = ""

    def __enter__(self) -> Log:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    async def reload_over(self, within_s: float = PATIENCE_S) -> float | str:
        """Wait for the end of a reload; return how long the server says that it took, or why it failed."""
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            while line := self._file.readline():
                self._begun += line
                if self._begun.endswith("\n"):
                    line, self._begun = self._begun, ""
                    if found := _RELOADED.search(line):
                        return float(found[1])
                    if found := _FAILED.search(line):
                        return found[1]
            await asyncio.sleep(_POLL_S)
        return f"no reload was through within {within_s:g} s"


@dataclass(slots=True)
class Run:
    """What came of all reloads of one server."""

    looks: dict[str, Look] = field(default_factory=dict)
    """By when it was; the first one is the beginning, the last one the end."""
    waited_s: list[float] = field(default_factory=list)
    """From SIGHUP to the line that says that it is done: also until an earlier generation had left."""
    took_s: list[float] = field(default_factory=list)
    """As the server says: from its beginning to its end."""
    problems: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return reloads and looks."""
        lines = [f"  reloads done: {len(self.took_s)}"]
        for name, times in (("from signal to done", self.waited_s), ("of these, the reload", self.took_s)):
            if times:
                lines.append(f"  {name:22} median {statistics.median(times):6.2f} s, max {max(times):6.2f} s")
        lines.append(f"  {'the parent':22} {'descriptors':>11} {'PSS':>10} {'RSS':>10} {'processes':>10}")
        for name, look in self.looks.items():
            memory = f"{look.pss_kb:7} kB {look.resident_kb:7} kB"
            lines.append(f"  {name:22} {look.descriptors:11} {memory} {look.processes:10}")
        return "\n".join([*lines, *(f"  problem: {problem}" for problem in self.problems)])

    def judge(self, load: Load) -> None:
        """Add what is wrong with the figures to the problems."""
        tally, looks = load.tally, list(self.looks.values())
        if tally.failed:
            self.problems.append(f"{tally.failed} requests failed")
        if tally.count(Outcome.RETRIED) > RETRIED_SHARE * tally.count(Outcome.OK):
            self.problems.append(f"{tally.count(Outcome.RETRIED)} requests met a kept connection that was being closed")
        if not load.has_come:
            self.problems.append("not every kind of client was answered")
        if looks and looks[-1].descriptors > looks[0].descriptors:
            self.problems.append(f"the parent has {looks[-1].descriptors - looks[0].descriptors} descriptors more")
        if looks and looks[-1].resident_kb > looks[0].resident_kb + GROWTH_KB:
            self.problems.append(f"the parent has {looks[-1].resident_kb - looks[0].resident_kb} kB more")
        if looks and looks[-1].processes > looks[0].processes:
            self.problems.append(f"there are {looks[-1].processes - looks[0].processes} processes more")


async def drive(server: Server, log_path: Path, target: str, count: int, workers: int) -> tuple[Run, Load]:
    """Reload so often under load; return what came of it. The server is ready."""
    run, tenth = Run(), max(1, count // 10)
    with Log(log_path) as log:
        async with Load(int(server.address.rpartition(":")[2]), TALKS[target], KINDS) as load:
            await _until(lambda: load.has_come)
            run.looks["at the beginning"] = await _look(server, workers)
            for number in range(1, count + 1):
                begun_s = time.monotonic()
                server.signal(signal.SIGHUP)
                said = await log.reload_over()
                if isinstance(said, str):
                    run.problems.append(f"reload {number}: {said}")
                    if server.process.poll() is not None:
                        break
                    continue
                run.waited_s.append(time.monotonic() - begun_s)
                run.took_s.append(said)
                if number == tenth and number < count:
                    run.looks[f"after {number}"] = await _look(server, workers)
                if number % tenth == 0:
                    tally = load.tally
                    resident_kb = procfs.memory_resident_bytes(server.pid) // 1024
                    counts = f"{tally.count(Outcome.OK):7} ok, {tally.failed} failed"
                    print(f"  {number:4} reloads: {counts}; the parent's RSS {resident_kb} kB", flush=True)
            if server.process.poll() is None:
                run.looks["at the end"] = await _look(server, workers)
    if (code := server.stop(PATIENCE_S)) != 0:
        run.problems.append(f"the server exited with {code}")
    run.judge(load)
    return run, load


async def _look(server: Server, workers: int) -> Look:
    """Look as soon as one generation is there, and nothing else. The clients go on."""

    def is_alone() -> bool:
        views = [each for each in server.workers() if each.life is not Life.VACANT]
        is_one = len({each.generation for each in views}) == 1 and all(each.life is Life.READY for each in views)
        return is_one and len(views) == workers and len(server.others()) == 1

    await _until(is_alone)
    return Look.at(server)


async def _until(check: Callable[[], bool]) -> None:
    """Wait for it; for :data:`PATIENCE_S` at most, after which the figures say what is missing."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        if check() or time.monotonic() > deadline_s:
            return
        await asyncio.sleep(_LOOK_S)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.reloads", description="Count what clients lose when the server reloads."
    )
    parser.add_argument("--count", type=int, default=25, metavar="N", help="reloads, of each target")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument(
        "--target", nargs="+", default=list(APPS), choices=list(APPS), metavar="KIND", help="http, stream"
    )
    parser.add_argument("options", nargs="*", help="of hybrid-serve, after --")
    chosen = parser.parse_args(arguments)
    if min(chosen.count, chosen.workers) < 1:
        parser.error(f"--count {chosen.count} --workers {chosen.workers}: give 1 or more of each")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Reload, print; return 1 if a request was lost, a reload failed, or something of the parent's has grown."""
    chosen = _parse(arguments)
    good = True
    for target in chosen.target:
        print(f"\n{chosen.count} reloads of {chosen.workers} workers, {target}:", flush=True)
        options = ("--workers", str(chosen.workers), "--bind", "127.0.0.1:0", *chosen.options)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            with running(APPS[target], *options, log=log) as server:
                server.wait_ready()
                run, load = asyncio.run(drive(server, log, target, chosen.count, chosen.workers))
                print(f"{run.table()}\n{load.table()}", flush=True)
                if run.problems:
                    print("".join(server.log.splitlines(keepends=True)[-200:]), flush=True)
        good = good and not run.problems
    return 0 if good else 1


if __name__ == "__main__":
    as_command(main)
