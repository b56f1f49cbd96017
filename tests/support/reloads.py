"""A server whose code is in a directory of the test's, and gates that hold its boots: :mod:`tests.apps.reloaded`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybrid.ground.states import Life
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand
from tests.support.server import ROOT, Server

PATIENCE_S = 30.0
SOURCE = ROOT / "tests" / "apps" / "reloaded.py"


class Site:
    """The directory that the server's code is in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.target = f"{directory / 'reloaded.py'}:app"
        self._writers: list[int] = []
        self.write(1)

    def write(self, load: int, text: str = "") -> None:
        """Let the next load be this one; ``text``: what is in it besides.

        Each has a size of its own: compiled code is taken for that of another source of the same second and size.
        """
        source = SOURCE.read_text().replace("LOAD = 0", f"LOAD = {load}") + "#" * load + text
        fresh = self.directory / "fresh"
        fresh.write_text(source)
        fresh.rename(self.directory / "reloaded.py")

    def shut(self, gate: str) -> None:
        """Let whoever comes by wait."""
        (self.directory / gate).touch()

    def waiting(self, gate: str) -> list[int]:
        """Return who has come to the gate, ever."""
        return sorted(int(path.suffix[1:]) for path in self.directory.glob(f"{gate}.*"))

    def wait_for(self, gate: str, count: int) -> list[int]:
        """Wait until so many have come to the gate."""
        return eventually(lambda: pids if len(pids := self.waiting(gate)) >= count else [], PATIENCE_S)

    def let_through(self, gate: str) -> None:
        """Let those who have come to the gate go on; who comes later waits."""
        for pid in self.waiting(gate):
            # For reading, too, so that nobody has to be there: who is on his way to it finds a writer.
            self._writers.append(os.open(self.directory / f"{gate}.{pid}", os.O_RDWR))

    def open(self, gate: str) -> None:
        """Take the gate away; those who wait at it go on."""
        (self.directory / gate).unlink(missing_ok=True)
        self.let_through(gate)

    @contextmanager
    def opened(self, *gates: str) -> Iterator[None]:
        """Let everybody through at the end of a block, whatever happens in it."""
        try:
            yield
        finally:
            for gate in gates:
                self.open(gate)

    def close(self) -> None:
        """Close what holds the gates open."""
        for fd in self._writers:
            os.close(fd)


def serves_load(server: Server, load: int) -> bool:
    """Wait until a newcomer is served by this load: a worker that is busy hears a moment later that it is parked."""
    return eventually(lambda: load_of(server) == load, PATIENCE_S)


def load_of(server: Server) -> int:
    """Return which load a newcomer is served by."""
    with ByHand(server.connect()) as client:
        return int(client.get("/load").body)


def reload(server: Server) -> None:
    """Ask for a reload and wait until it is through, one way or the other."""
    before = ended(server)
    server.signal(signal.SIGHUP)
    eventually(lambda: ended(server) > before, PATIENCE_S)


def ended(server: Server) -> int:
    """Return how many reloads have ended."""
    return server.log.count("] info    reloaded: ") + server.log.count("] error   reload failed: ")


def wait_ended(server: Server, count: int = 1) -> None:
    """Wait until so many reloads have ended."""
    eventually(lambda: ended(server) == count, PATIENCE_S)


def wait_alone(server: Server, generation: int, workers: int) -> None:
    """Wait until that generation serves, and every process of another one is gone."""

    def alone() -> bool:
        views = [each for each in server.workers() if each.life is not Life.VACANT]
        is_right = all(each.generation == generation and each.life is Life.READY for each in views)
        return is_right and len(views) == workers and len(server.others()) == 1

    eventually(alone, PATIENCE_S)
