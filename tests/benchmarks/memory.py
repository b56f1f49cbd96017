"""What each process of a pool holds, and what of it are modules: before a load and after it.

Run: ``python -m tests.benchmarks.memory [--workers 2] [--seconds 3] [--modules 12]``. Beside the peers:
:mod:`tests.benchmarks.peer_memory`.

The figure is the proportional set size (smaps_rollup, proc(5)): a page that several processes have counts in parts, so
that the sum is what the whole tree takes of the machine. *Own* is what nobody else has: what a process has written to
since it was forked, and what it was given since. The interpreter and its libraries are shared with all other programs
that happen to run, so compare figures of one moment. Modules are measured apart from the pool, in a fresh interpreter:
the objects that an import makes (tracemalloc) and keeps, those of what it imports itself left out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from hybrid.bench.measure import tree, tree_cpu_ns
from hybrid.bench.server import BenchServer, plain_environment
from hybrid.shared.procfs import memory_use
from tests.benchmarks.http_load import Load
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.measure import as_command
from tests.benchmarks.peer_memory import LIMIT_MIB
from tests.benchmarks.peer_servers import ROOT
from tests.support.eventually import eventually

WORKERS = 2
APP = ("apps_http:hello", "--app-dir", str(ROOT / "tests" / "benchmarks"))
PARENT = ("hybrid.parent.__main__", "hybrid.parent.main")
MOLD = ("hybrid.mold.main", "setproctitle", "uvloop")
"""What the two interpreters of a pool import; workers are forked from the second."""
_TITLE = re.compile(r"hybrid: (\w+(?: \d+)?)")
_QUIET_NS = 5_000_000
_LEDGER = """
import importlib._bootstrap as machinery, json, sys, tracemalloc
made, inner, plain = {}, [0], machinery._find_and_load
def measured(name, *rest):
    before = tracemalloc.get_traced_memory()[0]
    inner.append(0)
    try:
        return plain(name, *rest)
    finally:
        grown, within = tracemalloc.get_traced_memory()[0] - before, inner.pop()
        inner[-1] += grown
        made[name] = made.get(name, 0) + grown - within
machinery._find_and_load = measured
tracemalloc.start(1)
for name in sys.argv[1:]:
    __import__(name)
print(json.dumps(made))
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What one process holds, in kB."""

    role: str
    pss_kb: int
    own_kb: int


def role_of(pid: int, first: int) -> str:
    """Return ``parent``, ``mold``, ``worker 0``, or the command of what is neither. Raises: OSError: it ended."""
    if pid == first:
        return "parent"
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
        command = file.read().replace("\0", " ").strip()
    title = _TITLE.match(command)
    return title[1] if title else command


def held(pid: int) -> list[Held]:
    """Return what a process and each one below it holds; the first is ``pid`` itself."""
    found = []
    for each in tree(pid):
        with suppress(OSError):  # it ended meanwhile
            used = memory_use(each)
            found.append(Held(role_of(each, pid), used.pss_bytes // 1024, used.private_bytes // 1024))
    return found


def modules(*names: str) -> dict[str, int]:
    """Return the bytes that each import made and kept, when a fresh interpreter imports ``names``."""
    command = [sys.executable, "-c", _LEDGER, *names]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    made: dict[str, int] = json.loads(run.stdout)
    return made


def measure(workers: int, for_s: float) -> tuple[list[Held], list[Held]]:
    """Return what a pool holds before and after a load of 64 connections. Closes: the pool."""
    workload = WORKLOADS["hello"]
    environ = {**plain_environment(os.environ), "PYTHONPATH": str(ROOT)}
    arguments = (*APP, "--workers", str(workers))
    with BenchServer(arguments, environ, str(ROOT)).wait_ready() as server:
        _come_to_rest(server.pid)
        before = held(server.pid)
        with Load(server.port, workload) as load:
            load.run(for_s)
            _come_to_rest(server.pid)
            after = held(server.pid)
    return before, after


def _come_to_rest(pid: int) -> None:
    """Return when the tree has used no CPU between two looks."""
    last = [tree_cpu_ns(pid)]

    def is_quiet() -> bool:
        last.append(tree_cpu_ns(pid))
        return len(last) > 50 and last[-1] - last[-50] < _QUIET_NS

    eventually(is_quiet, within_s=20)


def table(before: Sequence[Held], after: Sequence[Held]) -> str:
    """Return what the processes hold, in MiB."""
    lines = [f"  {'':16} {'before: PSS':>12} {'own':>6} {'after: PSS':>12} {'own':>6}"]
    then = {each.role: each for each in before}
    for each in after:
        first = then.get(each.role, Held(each.role, 0, 0))
        figures = (first.pss_kb, first.own_kb, each.pss_kb, each.own_kb)
        lines.append("  {:16.16} {:12.1f} {:6.1f} {:12.1f} {:6.1f}".format(each.role, *(kb / 1024 for kb in figures)))
    sums = (sum(each.pss_kb for each in before) / 1024, sum(each.pss_kb for each in after) / 1024)
    lines.append(f"  {'all':16} {sums[0]:12.1f} {'':6} {sums[1]:12.1f}")
    return "\n".join(lines)


def ledger(title: str, made: dict[str, int], most: int) -> str:
    """Return the largest imports, in KiB."""
    whole = sum(made.values()) / 1024
    largest = sorted(made.items(), key=lambda item: -item[1])[:most]
    said = ", ".join(f"{name} {size // 1024}" for name, size in largest)
    return f"  {title}: {len(made)} imports, {whole:.0f} KiB of objects: {said}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=WORKERS, metavar="N")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load")
    parser.add_argument("--modules", type=int, default=12, metavar="N", help="name the largest; 0: none")
    chosen = parser.parse_args(arguments)
    before, after = measure(chosen.workers, chosen.seconds)
    print(f"memory in MiB, {chosen.workers} workers, {chosen.seconds:g} s of hello on 64 connections between")
    print(table(before, after))
    if chosen.modules:
        print(ledger("the parent", modules(*PARENT), chosen.modules))
        print(ledger("the mold", modules(*MOLD), chosen.modules))
    whole = sum(each.pss_kb for each in after) / 1024
    if chosen.workers != WORKERS:
        return 0
    print(f"  bar: <= {LIMIT_MIB:g} MiB: {'held' if whole <= LIMIT_MIB else 'MISSED'}")
    return 0 if whole <= LIMIT_MIB else 1


if __name__ == "__main__":
    as_command(main)
