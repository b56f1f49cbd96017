"""A real pool under load that steps up by five and back: ``python -m tests.benchmarks.sizing_steps``, five minutes.

``--workers 1..6`` on this machine, and three handlers. One blocks its loop and uses no CPU: more workers serve more.
One computes: no more of them are of any use than there are cores. One awaits: one worker is enough. Clients come at
random (a Poisson process, seeded), each with a connection of its own, whether or not the ones before were served.
What is kept of it: how many workers served, what each second's clients waited, and every decision with its words.
Writes ``docs/explanation/sizing-steps.json`` and ``.svg``; ``--quick`` takes less than a minute, and writes nothing.

Loopback only. The clients run on the same cores as the server, as everywhere in these benchmarks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hybrid.ground.states import Life
from tests.benchmarks.measure import as_command
from tests.benchmarks.sizing_plot import Summary, save
from tests.support.server import ROOT, Server, running

WORKERS = "1..6"
FACTOR = 5
SEED = 8
LOOK_S = 0.1
PLACE = ROOT / "docs" / "explanation" / "sizing-steps.json"
_DECISION = re.compile(
    r"^(\S+ \S+) \[parent\] info +sizing: (?:more would be wanted: )?((?:(\d+) → )?(\d+) workers? \((\w+)\).*)$"
)
"""One that changes nothing says what forbids it."""


@dataclass(frozen=True, slots=True)
class Case:
    """A handler, and how many clients a second it has before the step."""

    name: str
    line: str
    rate: float


CASES = (
    Case("blocks", "block 0.04", 10.0),
    Case("computes", "spin 0.02", 13.0),
    Case("awaits", "await 0.05", 20.0),
)
"""Of the first, the step asks for 2.0 loops; of the second, for 1.3 CPUs; of the third, for next to nothing."""


@dataclass(frozen=True, slots=True)
class Phases:
    """How long the load stays: low, five times as high, low again."""

    before_s: float = 15.0
    high_s: float = 30.0
    after_s: float = 45.0

    @property
    def whole_s(self) -> float:
        """From the first client to the last."""
        return self.before_s + self.high_s + self.after_s

    def rate(self, case: Case, at_s: float) -> float:
        """Return the clients a second."""
        is_high = self.before_s <= at_s < self.before_s + self.high_s
        return case.rate * (FACTOR if is_high else 1)

    def name(self, at_s: float) -> str:
        """Return which phase it is."""
        if at_s < self.before_s:
            return "before"
        return "high" if at_s < self.before_s + self.high_s else "after"


@dataclass(frozen=True, slots=True)
class Size:
    """How many workers served, and how many were parked."""

    at_s: float
    serving: int
    parked: int


@dataclass(frozen=True, slots=True)
class Served:
    """A client: when he came, and how long he waited for his answer; ``took_s`` < 0: he got none."""

    at_s: float
    took_s: float


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision of the pool's, as its log has it."""

    at_s: float
    before: int
    target: int
    reason: str
    words: str


@dataclass(frozen=True, slots=True)
class Course:
    """What one case came to."""

    case: Case
    phases: Phases
    sizes: list[Size] = field(default_factory=list)
    clients: list[Served] = field(default_factory=list)
    decisions: list[Decided] = field(default_factory=list)


# ── the load ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _client(address: str, line: str) -> None:
    """Be one client: connect, ask, hear the answer. Raises: OSError, EOFError: there was none."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"{line}\n".encode())
        await reader.readuntil(b"\n")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _serve_one(course: Course, address: str, at_s: float) -> None:
    began_s = time.monotonic()
    try:
        await asyncio.wait_for(_client(address, course.case.line), 60.0)
        course.clients.append(Served(at_s, time.monotonic() - began_s))
    except (OSError, EOFError, asyncio.TimeoutError):
        course.clients.append(Served(at_s, -1.0))


async def _arrivals(course: Course, server: Server, began_s: float) -> None:
    """Have clients come, at random times that are the same in every run."""
    chance = random.Random(SEED)
    asked: set[asyncio.Task[None]] = set()
    due_s = 0.0
    while (due_s := due_s + chance.expovariate(course.phases.rate(course.case, due_s))) < course.phases.whole_s:
        await asyncio.sleep(max(0.0, began_s + due_s - time.monotonic()))
        task = asyncio.create_task(_serve_one(course, server.address, due_s))
        asked.add(task)
        task.add_done_callback(asked.discard)
    await asyncio.gather(*asked)


async def _looks(course: Course, server: Server, began_s: float) -> None:
    """Note how many serve, until nobody asks any more."""
    while True:
        lives = [worker.life for worker in server.workers() if worker.pid]
        at_s = time.monotonic() - began_s
        course.sizes.append(Size(at_s, lives.count(Life.READY), lives.count(Life.PARKED)))
        await asyncio.sleep(LOOK_S)


async def _run(case: Case, phases: Phases, server: Server) -> Course:
    course = Course(case, phases)
    began_s, began_at = time.monotonic(), time.time()
    looking = asyncio.create_task(_looks(course, server, began_s))
    await _arrivals(course, server, began_s)
    looking.cancel()
    course.decisions.extend(_decisions(server.log, began_at))
    return course


def _decisions(log: str, began_at: float) -> list[Decided]:
    """Read the pool's decisions out of its log."""
    found = []
    for line in log.splitlines():
        said = _DECISION.match(line)
        if said is not None:
            second, _, milli = said[1].partition(".")
            at = time.mktime(time.strptime(second, "%Y-%m-%d %H:%M:%S")) + float(f"0.{milli or 0}")
            found.append(Decided(at - began_at, int(said[3] or said[4]), int(said[4]), said[5], said[2]))
    return found


# ── what came of it ──────────────────────────────────────────────────────────────────────────────────────────


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of them do not exceed; NaN of none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")


def summary(course: Course) -> Summary:
    """Return what is kept of a case: a row for each second that somebody came in, and the decisions."""
    seconds = []
    for second in range(int(course.phases.whole_s)):
        took = [each.took_s * 1e3 for each in course.clients if int(each.at_s) == second and each.took_s >= 0]
        sizes = [each for each in course.sizes if int(each.at_s) == second]
        if took and sizes:
            serving, parked = (
                sum(each) / len(sizes) for each in zip(*((s.serving, s.parked) for s in sizes), strict=True)
            )
            row = (second, len(took), quantile(took, 0.5), quantile(took, 0.99), serving, parked)
            seconds.append([round(value, 2) for value in row])
    case = {"name": course.case.name, "line": course.case.line, "rate": course.case.rate, "factor": FACTOR}
    return {**case, "phases": asdict(course.phases), "seconds": seconds, "decisions": [*map(asdict, course.decisions)]}


def table(courses: Sequence[Course]) -> str:
    """Return what is worth reading of all cases."""
    lines = ["handler    phase    clients/s   p50 ms   p99 ms   workers (mean, most)   lost"]
    for course in courses:
        for phase, at_s in (("before", 0.0), ("high", course.phases.before_s), ("after", course.phases.whole_s)):
            clients = [each for each in course.clients if course.phases.name(each.at_s) == phase]
            took = [each.took_s * 1e3 for each in clients if each.took_s >= 0]
            sizes = [each.serving for each in course.sizes if course.phases.name(each.at_s) == phase]
            mean = sum(sizes) / len(sizes) if sizes else 0.0
            lines.append(
                f"{course.case.name:10} {phase:8} {course.phases.rate(course.case, at_s):9.0f} "
                f"{quantile(took, 0.5):8.1f} {quantile(took, 0.99):8.1f} "
                f"{mean:10.1f} {max(sizes, default=0):6} {len(clients) - len(took):14}"
            )
    return "\n".join(lines)


def _kept(fresh: Sequence[Summary]) -> list[Summary]:
    """Return what is to be written: the cases that were run, and of others what was written before."""
    before = json.loads(PLACE.read_text()) if PLACE.exists() else []
    found = {case["name"]: case for case in (*before, *fresh)}
    return [found[case.name] for case in CASES if case.name in found]


def _say(course: Course) -> None:
    for each in course.decisions:
        print(f"  {each.at_s:6.1f} s  {each.words}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every case, say what came of it, and write it down."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less than a minute; writes nothing")
    parser.add_argument(
        "--case", choices=[case.name for case in CASES], help="only this handler; the others stay as they were"
    )
    given = parser.parse_args(arguments)
    phases = Phases(4.0, 7.0, 6.0) if given.quick else Phases()
    # So that there is anything to see of the way back in six seconds.
    env = {**os.environ, "HYBRID_SIZING_PACE": "0.2"} if given.quick else dict(os.environ)
    courses = []
    with tempfile.TemporaryDirectory() as folder:
        for case in (each for each in CASES if given.case in (None, each.name)):
            print(f"{case.name}: {case.line} s, {case.rate:g} clients a second, then {case.rate * FACTOR:g}, and back")
            options = ("tests.apps.loads:loads", "--workers", WORKERS, "--bind", "127.0.0.1:0")
            with running(*options, log=Path(folder, f"{case.name}.log"), env=env) as server:
                server.wait_ready()
                courses.append(asyncio.run(_run(case, phases, server)))
                server.stop()
            _say(courses[-1])
    print(table(courses))
    if not given.quick:
        kept = _kept([summary(course) for course in courses])
        PLACE.write_text(json.dumps(kept, ensure_ascii=False).replace("}, {", "},\n{").replace("], [", "],\n[") + "\n")
        save(kept, PLACE.with_suffix(".svg"))
        print(f"written: {PLACE} and {PLACE.with_suffix('.svg').name}")
    return 0


if __name__ == "__main__":
    as_command(main)
