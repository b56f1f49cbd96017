"""Acceptors: how a worker takes connections off the listeners. One file for each way; see README.md."""

from __future__ import annotations

from collections.abc import Callable

from hybrid.ground.errors import UsageError
from hybrid.shared.models import MODELS
from hybrid.worker.acceptors.accept_threads import AcceptThreads
from hybrid.worker.acceptors.acceptor import Acceptor, Site
from hybrid.worker.acceptors.crew import Crew
from hybrid.worker.acceptors.forking import ForkReception
from hybrid.worker.acceptors.guard import guarded
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.passing import Passing
from hybrid.worker.acceptors.receptions import CrewReception, LoopReception, Reception, ThreadReception
from hybrid.worker.acceptors.reuseport import Orphans, Reuseport
from hybrid.worker.acceptors.shared import Shared
from hybrid.worker.acceptors.thread_door import ThreadDoor
from hybrid.worker.acceptors.turns import FileLock, Mutex, Robust, Turn

__all__ = ["make_acceptors"]


def make_acceptors(name: str, site: Site, intake: Intake) -> None:
    """Give ``intake`` the acceptors that ``--accept NAME`` asks for; it starts, pauses and ends them.

    Runs in: worker, in its loop. Args: name: as :func:`hybrid.shared.models.resolve` returned it.
    Raises: UsageError: there is none of that name.
    """
    if name not in _MAKERS:
        raise UsageError(f"--accept {name}: no such way of accepting. Use one of {', '.join(MODELS)}.")
    intake.acceptors += _MAKERS[name](name, site, intake)


def _shared(name: str, site: Site, intake: Intake) -> list[Acceptor]:
    plain = name == "shared=plain"
    return [Shared.for_loop(name, site.entrance(each), intake, plain=plain) for each in site.listeners]


def _threads(name: str, site: Site, intake: Intake) -> list[Acceptor]:
    turns: dict[str, Callable[[], Turn | None]] = {
        "threads": lambda: None,
        "threads=mutex": Mutex,
        "locked=fcntl": lambda: FileLock(intake.scoreboard),
        "locked=robust": lambda: Robust(intake.scoreboard),
    }
    return [AcceptThreads(name, site, intake, turns[name]())]


def _reuseport(name: str, site: Site, intake: Intake) -> list[Acceptor]:
    if site.endpoint_for is None:
        return [Reuseport(site, intake)]
    return [AcceptThreads(name, site, intake, None, Orphans(site, intake).sockets)]


def _passing(name: str, site: Site, intake: Intake) -> list[Acceptor]:
    def make_reception(passing: Passing, door: ThreadDoor) -> Reception:
        if site.endpoint_for is None:
            assert site.factory_for is not None
            return LoopReception(guarded(site.factory_for(passing), intake.registry))
        return CrewReception(site.endpoint(door), _started_crew(site, intake))

    return [Passing(channel, intake, make_reception) for channel in site.listeners]


def _main_thread(name: str, site: Site, intake: Intake) -> list[Acceptor]:
    """The loop, which is the main thread's, accepts; others serve."""
    if name == "threads=main":
        crew = _started_crew(site, intake)  # one for all listeners

        def make_reception(door: ThreadDoor) -> Reception:
            return CrewReception(site.endpoint(door), crew)

    else:
        kind = ThreadReception if name == "thread" else ForkReception

        def make_reception(door: ThreadDoor) -> Reception:
            return kind(site.endpoint(door), intake)

    return [Shared.for_reception(name, each, intake, make_reception) for each in site.listeners]


def _started_crew(site: Site, intake: Intake) -> Crew:
    """Return threads that accept nothing themselves, resting."""
    crew = Crew(site.threads, None, lambda _sock: None, intake.exhausted)
    crew.start()
    return crew


_MAKERS: dict[str, Callable[[str, Site, Intake], list[Acceptor]]] = {
    "shared": _shared,
    "shared=plain": _shared,
    "locked=fcntl": _threads,
    "locked=robust": _threads,
    "passing": _passing,
    "reuseport": _reuseport,
    "threads": _threads,
    "threads=mutex": _threads,
    "threads=main": _main_thread,
    "thread": _main_thread,
    "fork": _main_thread,
}
