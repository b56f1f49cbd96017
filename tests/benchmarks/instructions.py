"""User-space instructions of a request, counted under callgrind: ``make bench-instructions``.

They do not depend on what else the machine does, so a figure that grew is a change of ours. One client asks, one
request at a time: each has a turn of the loop. Where each has a connection, all wait before the first is accepted. A
count is the difference of two lengths, which leaves out what marks them. What the kernel does is not in it: that is the
business of :mod:`tests.benchmarks.peers`. Nor are garbage collections, unless there is one in every 120 requests.

The last figures are in instructions.json, by the version of Python and by whether the hot path is compiled. They
belong to one build of the interpreter: with another one they are shown, and nothing fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from hybrid.bench import tethered
from tests.benchmarks.http_load import HOST, Workload, WrongAnswer, connect, sample
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.measure import as_command

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FIGURES = HERE / "instructions.json"
LIMIT = 1.05
"""More than so many times the last figure is an error."""
COUNT = 40
WINDOWS = 8
"""So often each length is counted; the least of them counts: what comes when it likes falls into some of them only."""
WARM_UP = 300
"""Before: the interpreter specializes its code, and lists of free objects fill."""
OTHERS = ("bare", "uvicorn")
"""What hybrid is compared with: a floor, and a peer where it is installed."""
_WORDS = b"what is said in sixty-four bytes comes back in sixty-four bytes."
_ECHO = Workload("echo", "", "", lambda number: _WORDS, _WORDS, begins=_WORDS, read=lambda data: data[:64] or None)
ASKED = {
    "hello": ("http", WORKLOADS["hello"]),
    "headers": ("http", WORKLOADS["headers"]),
    "connections": ("http", WORKLOADS["connections"]),
    "websocket": ("websocket", WORKLOADS["websocket"]),
    "echo": ("echo", _ECHO),
}
"""By name: which of a server's ports is asked, and what."""


class Asking:
    """One client of one workload. Closes: its connection, on :meth:`close`. Raises: WrongAnswer."""

    def __init__(self, port: int, workload: Workload, held: Callable[[], AbstractContextManager[None]]) -> None:
        """``held``: makes a block in which the server does nothing."""
        self._port = port
        self._workload = workload
        self._held = held
        self._number = 0
        self._size = len(sample(port, workload))
        self._sock = connect(port, workload.opening) if workload.keeps_alive else None

    def ask(self, count: int) -> None:
        """Ask so often: one after another on the connection that is kept, else on so many that wait together.

        How many turns of the loop a connection takes would else depend on who of us is faster.
        """
        requests = [self._workload.request(number) for number in range(self._number, self._number + count)]
        self._number += count
        if self._sock is not None:
            for request in requests:
                self._sock.sendall(request)
                self._read(self._sock)
            return
        with ExitStack() as stack:
            with self._held():
                socks = [stack.enter_context(connect(self._port, b"")) for _ in requests]
                for sock, request in zip(socks, requests, strict=True):
                    sock.sendall(request)
            for sock in socks:
                self._read(sock)
                if sock.recv(1):
                    raise WrongAnswer("something comes behind the answer")

    def _read(self, sock: socket.socket) -> None:
        answer = b""
        while len(answer) < self._size and (more := sock.recv(65536)):
            answer += more
        if len(answer) != self._size or not answer.startswith(self._workload.begins):
            raise WrongAnswer(f"not the answer that came first: {answer[:60]!r}")

    def close(self) -> None:
        """Close the connection."""
        if self._sock is not None:
            self._sock.close()


class Counted:
    """A server process, under callgrind or not. Closes: the process, on :meth:`end`; it ends with us in any case."""

    def __init__(self, name: str, tree: Path, folder: Path, *, counts: bool = True) -> None:
        self.name = name
        self.kind = ""
        self._out = folder / name
        self._dumps = 0
        self._control: socket.socket | None = None
        # Nothing of our environment but what finds Python's parts: its size moves the stack.
        environ = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
        environ |= {"PYTHONPATH": f"{tree}:{ROOT}", "PYTHONHASHSEED": "0"}
        tether = [sys.executable, "-I", tethered.__file__, str(os.getpid())]
        valgrind = [shutil.which("valgrind") or "", "-q", "--tool=callgrind", "--dump-before=getloadavg"]
        command = [sys.executable, str(HERE / "instructed.py"), name]
        self._process = subprocess.Popen(
            [*tether, *valgrind, f"--callgrind-out-file={self._out}", *command] if counts else [*tether, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environ,
            cwd=folder,
            text=True,
        )

    def wait_ready(self) -> bool:
        """Wait until it serves; False: it has ended instead, and said why."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return False
        said = json.loads(line)
        self._ports, self.kind = said["ports"], said["kind"]
        self._control = socket.create_connection((HOST, said["control"]))
        return True

    def order(self, order: bytes) -> None:
        """Have an order of :mod:`tests.benchmarks.instructed` obeyed."""
        assert self._control is not None
        self._control.sendall(order)
        if self._control.recv(1) != b"k":
            raise WrongAnswer(f"{self.name} has ended")

    def asking(self, workload: str) -> Asking | None:
        """Return a client that has warmed the server up; None: it does not serve that."""
        port, asked = ASKED[workload]
        if port not in self._ports:
            return None
        asking = Asking(self._ports[port], asked, self._held)
        asking.ask(WARM_UP)
        return asking

    def count(self, workload: str) -> float | None:
        """Return instructions per request; None: it does not serve that. Raises: WrongAnswer."""
        asking = self.asking(workload)
        if asking is None:
            return None
        self._mark()
        short = min(self._window(asking, COUNT) for _ in range(WINDOWS))
        long = min(self._window(asking, 3 * COUNT) for _ in range(WINDOWS))
        asking.close()
        return (long - short) / (2 * COUNT)

    def _window(self, asking: Asking, count: int) -> int:
        """Return the instructions of so many requests and a mark."""
        asking.ask(count)
        return self._mark()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Stop the process meanwhile."""
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    @property
    def dump(self) -> Path:
        """What callgrind wrote last."""
        return Path(f"{self._out}.{self._dumps}")

    def _mark(self) -> int:
        """Return the instructions since the last mark."""
        self.order(b"m")
        self._dumps += 1
        for line in reversed(self.dump.read_text().splitlines()):
            if line.startswith("totals:"):
                return int(line.split()[1])
        raise WrongAnswer(f"callgrind wrote no totals into {self.dump}")

    def end(self) -> None:
        """End it."""
        if self._control is not None:
            self._control.close()
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@dataclass(frozen=True, slots=True)
class Last:
    """The figures of a file, for one Python and one kind of hot path."""

    key: str
    build: str
    instructions: Mapping[str, int]

    @classmethod
    def read(cls, path: Path, kind: str) -> Last:
        """Return what is in the file; nothing, if there is none of this sort."""
        key = f"{platform.python_implementation()} {platform.python_version()}, {kind}"
        stored = json.loads(path.read_text()).get(key, {}) if path.exists() else {}
        return cls(key, stored.get("build", ""), stored.get("instructions", {}))

    def write(self, path: Path, figures: Mapping[str, float]) -> None:
        """Store figures in its place; those of other sorts stay, and those that were not counted now."""
        stored = json.loads(path.read_text()) if path.exists() else {}
        before = self.instructions if self.build == build() else {}
        merged = {**before, **{name: round(count) for name, count in figures.items()}}
        stored[self.key] = {"build": build(), "instructions": merged}
        path.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")


def build() -> str:
    """Return what the counts depend on, besides our code."""
    interpreter = " ".join(sys.version.split())
    return f"{interpreter}, uvloop {version('uvloop')}, {' '.join(platform.libc_ver())}, {platform.machine()}"


def table(counts: Mapping[str, Mapping[str, float]], last: Last) -> str:
    """Return the figures of hybrid, with what they are compared with."""
    lines = [f"{'':12} {'now':>9} {'last':>9} {'ratio':>6} {'bare':>9} {'x bare':>7} {'uvicorn':>9} {'x uvicorn':>10}"]
    for name, now in counts["hybrid"].items():
        row = f"{name:12} {now:9,.0f}"
        before = last.instructions.get(name)
        row += f" {before:9,} {now / before:6.3f}" if before else f" {'-':>9} {'-':>6}"
        for server, width in (("bare", 7), ("uvicorn", 10)):
            other = counts.get(server, {}).get(name)
            row += f" {other:9,.0f} {now / other:{width}.2f}" if other else f" {'-':>9} {'-':>{width}}"
        lines.append(row)
    return "\n".join(lines)


def grown(figures: Mapping[str, float], last: Last) -> list[str]:
    """Return a line for each figure that is above the last one by more than is allowed, of the same build."""
    if last.build != build():
        return []
    return [
        f"{name}: {now:,.0f} instructions are {now / before:.2f} x the last {before:,}; at most {LIMIT} is allowed. "
        "Find out why (--profile), or keep it with --update."
        for name, now in figures.items()
        if (before := last.instructions.get(name)) and now > LIMIT * before
    ]


def measure(servers: Sequence[str], workloads: Sequence[str], tree: Path) -> tuple[dict[str, dict[str, float]], str]:
    """Return instructions per request by server and workload, and the kind of hybrid's hot path.

    Closes: all servers. Raises: WrongAnswer: also when one does not start.
    """
    counts: dict[str, dict[str, float]] = {}
    kind = ""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hybrid-instructions-")))
        started = []
        for name in servers:  # all at a time: what takes longest is that they start, and nothing is timed
            started.append(Counted(name, tree, folder))
            stack.callback(started[-1].end)
        for server in started:
            if not server.wait_ready():
                raise WrongAnswer(f"{server.name} did not start: see above")
            kind = server.kind if server.name == "hybrid" else kind
            found = {name: server.count(name) for name in workloads}
            counts[server.name] = {name: count for name, count in found.items() if count is not None}
    return counts, kind


def self_costs(dump: Path) -> dict[str, int]:
    """Return what callgrind wrote, by function of C, without what it calls.

    Source: the Callgrind Format Specification. (callgrind_annotate loses the names in a file that is not the first.)
    """
    names: dict[str, str] = {}
    costs: Counter[str] = Counter()
    function, is_call = "", False
    for line in dump.read_text().splitlines():
        if line.startswith(("fn=", "cfn=")):
            number, _, name = line.partition("=")[2].partition(" ")
            if name:
                names[number] = name.partition("'")[0]  # what follows is the depth of a recursion
            if line.startswith("fn="):
                function = number
        elif line.startswith("calls="):
            is_call = True  # the next line is what the called one cost
        elif line[:1] in set("0123456789+-*"):
            if not is_call:
                costs[function] += int(line.split()[1])
            is_call = False
    merged: Counter[str] = Counter()
    for number, cost in costs.items():
        merged[names[number]] += cost
    return merged


def profile(workload: str, tree: Path, lines: int) -> None:
    """Print where a request goes: by function of C in instructions, and by function of Python in the interpreter's.

    Raises: WrongAnswer.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hybrid-instructions-")))
        counted, stepped = Counted("hybrid", tree, folder), Counted("hybrid", tree, folder, counts=False)
        stack.callback(counted.end)
        stack.callback(stepped.end)
        if not (stepped.wait_ready() and counted.wait_ready()):
            raise WrongAnswer("hybrid did not start: see above")
        print(f"{workload}: {counted.count(workload):,.0f} instructions of the processor a request; by function of C:")
        costs = Counter(self_costs(counted.dump))
        for name, cost in costs.most_common(lines):
            print(f"{cost / 3 / COUNT:10,.0f} {name}")
        asking = stepped.asking(workload)
        assert asking is not None
        stepped.order(b"p")
        asking.ask(COUNT)
        stepped.order(b"s" + os.fsencode(folder / "steps"))
        steps = json.loads((folder / "steps").read_text())
        total = sum(count for _, count in steps.values()) / COUNT
        print(f"{total:,.0f} instructions of the interpreter a request, and calls; by function of Python:")
        for name, (calls, count) in sorted(steps.items(), key=lambda item: -item[1][1])[:lines]:
            print(f"{count / COUNT:10,.0f} {calls / COUNT:6.2f} {name}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.instructions", description="Count the user-space instructions of a request."
    )
    parser.add_argument("--workload", nargs="+", default=list(ASKED), choices=list(ASKED), metavar="NAME")
    parser.add_argument("--against", nargs="*", default=list(OTHERS), choices=OTHERS, metavar="NAME")
    parser.add_argument("--tree", type=Path, default=ROOT, help="hybrid is taken from there; default: this tree")
    parser.add_argument("--update", action="store_true", help="the figures are the last ones from now on")
    parser.add_argument("--profile", choices=list(ASKED), metavar="NAME", help="no comparison: where it goes")
    parser.add_argument("--lines", type=int, default=40, metavar="N", help="of a profile")
    parser.epilog = "workloads: " + ", ".join(ASKED)
    chosen = parser.parse_args(arguments)
    chosen.tree = chosen.tree.resolve()
    if not (chosen.tree / "hybrid" / "__init__.py").is_file():
        parser.error(f"--tree {chosen.tree} holds no hybrid/: give the directory that it is in")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print, compare; return 1 if a figure has grown too much or a server answers wrongly."""
    chosen = _parse(arguments)
    if shutil.which("valgrind") is None:
        print("instructions are not counted: there is no valgrind on the PATH")
        return 0
    try:
        if chosen.profile:
            profile(chosen.profile, chosen.tree, chosen.lines)
            return 0
        others = [name for name in chosen.against if name == "bare" or find_spec(name) is not None]
        counts, kind = measure(("hybrid", *others), chosen.workload, chosen.tree)
    except WrongAnswer as error:
        print(f"instructions are not counted: {error}")
        return 1
    last = Last.read(FIGURES, kind)
    print(f"User-space instructions per request, {last.key}")
    print(table(counts, last))
    if last.build and last.build != build():
        print(f"The last figures are of another build, so nothing is compared: {last.build}; this is {build()}")
    if chosen.update:
        last.write(FIGURES, counts["hybrid"])
        return 0
    failures = grown(counts["hybrid"], last)
    print("\n".join(failures), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    as_command(main)
