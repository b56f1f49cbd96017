"""Makes reports from a few figures, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybrid.bench.designs import BLOCKING, LOOP, Design, designs
from hybrid.bench.figures import latencies
from hybrid.bench.load import Honesty
from hybrid.bench.report import LoadFigures, Report, RowFigures
from hybrid.bench.scenarios import Casualties, Held, Spread

ROUNDS = 6
PLAN: dict[str, Any] = {
    "rounds": ROUNDS,
    "for_s": 0.4,
    "concurrency": 64,
    "connections": 400,
    "per_s": 500.0,
    "clients": 2,
    "request": "4000\n",
    "threads": 8,
    "reply": {"ends": "close", "size_bytes": 4000},
}
EVEN = Spread((100, 100, 100, 100))
LOPSIDED = Spread((252, 152, 1539, 57))


def design(kind: str, name: str) -> Design:
    """Return one of the real rows."""
    return next(each for each in designs((kind,), 8) if each.name == name)


def load(cpu_us: float, honesty: Honesty | None = None, samples: int = 2000, lost: int = 0) -> LoadFigures:
    """Return rounds around ``cpu_us``."""
    rounds = tuple(cpu_us * (1 + 0.001 * turn) for turn in range(ROUNDS))
    times = [0.001 + 0.000001 * number for number in range(samples)]
    return LoadFigures(rounds, (3.0,) * ROUNDS, (20_000.0,) * ROUNDS, 0.0, latencies(times), lost, honesty or Honesty())


def held(first: Spread, again: Spread | None = None) -> Held:
    """Return what became of 400 held connections."""
    return Held(400, False, first, again or first)


def casualties(reset: int = 0, stalled: int = 0) -> Casualties:
    """Return what 3200 clients saw."""
    return Casualties(3200, 2000.0, refused=0, reset=reset, timed_out=0, short=0, stalled=stalled)


def row(name: str, cpu_us: float, *, kind: str = LOOP, **more: Any) -> RowFigures:
    """Return a row with a load, and perhaps more."""
    return RowFigures(design(kind, name), **{"load": load(cpu_us), **more})


def report(rows: Sequence[RowFigures], **plan: Any) -> Report:
    """Return a report of these rows."""
    kinds = {each.design.kind: "app:handle" for each in rows if each.design.kind in (LOOP, BLOCKING)}
    return Report(4, kinds, {"python": "CPython 3.11.7", "cpus": "2"}, {**PLAN, **plan}, tuple(rows))
