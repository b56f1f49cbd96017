"""The control process, from its orders to its end.

It reads: the scoreboard, and what the parent tells through the channel. It opens: the control socket, and the other
doors (:class:`~hybrid.shared.doors.DoorKind`), all bound by the parent, which has them while no control runs. It holds
nothing that is not to be had again, so that killing it harms nothing; when its channel ends, it leaves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from hybrid.connection.line_handler import LineHandler
from hybrid.control import server
from hybrid.control.sampler import Sampler
from hybrid.control.state import State
from hybrid.ground.errors import ExitCode, HybridError
from hybrid.shared import boot_report, settings
from hybrid.shared.boot_report import Report
from hybrid.shared.doors import DoorKind
from hybrid.shared.log_line import LogWriter, Style
from hybrid.shared.scoreboard import Scoreboard

IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""They reach whole process groups, and only the parent decides."""
IDLE_S = 300.0
"""Without a client for so long, control leaves; the next who asks is answered by another."""
AGAIN_S = 1.0
"""Before a door that has failed is opened again."""

Serve = Callable[[State, Sampler, socket.socket], Awaitable[None]]


async def _serve_site(state: State, sampler: Sampler, listener: socket.socket) -> None:
    from hybrid.control.site import serve  # here: a server without --metrics-bind need not load it

    await serve(state, sampler, listener)


async def _serve_agent(state: State, sampler: Sampler, listener: socket.socket) -> None:
    from hybrid.control.agent import serve  # here: as above

    await serve(state, sampler, listener)


DOORS: dict[DoorKind, Serve] = {
    DoorKind.CONTROL: server.serve,
    DoorKind.METRICS: _serve_site,
    DoorKind.AGENT: _serve_agent,
}
"""Who answers at which door, until cancelled. Each closes the socket that it is given."""


def main(argv: list[str]) -> int:
    """Answer until the parent is gone, or wants no control any more. Runs in: control."""
    if len(argv) != 2:
        sys.stderr.write("usage: python -m hybrid.control ORDERS   (JSON, as the parent passes it)\n")
        return ExitCode.USAGE
    orders = json.loads(argv[1])
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    try:
        told = settings.from_json(os.pread(orders["settings"], 1 << 24, 0).decode())
        scoreboard = Scoreboard.attach(orders["scoreboard"])
    except HybridError as error:
        boot_report.write(orders["report"], Report("start", str(error), error.detail, error.exit_code))
        return error.exit_code
    os.close(orders["report"])  # it was for a start that failed
    os.close(orders["settings"])
    _set_title("hybrid: control")
    channel = socket.socket(fileno=orders["channel"])
    channel.setblocking(False)
    style = Style.make(told.log.format, told.log.colour, orders["log"])
    log = LogWriter(orders["log"], style, told.log.level, "control")
    log_records(log)
    doors = [(DoorKind(kind), _listener(fd)) for kind, fd in orders["doors"]]
    asyncio.run(_live(State(told, scoreboard, channel, log, orders["owner"]), doors))
    return ExitCode.OK


def log_records(log: LogWriter) -> None:
    """Have the records of our logger, which the connections of a site write, written as lines of the log."""
    handler = LineHandler(log)
    handler.addFilter(lambda record: record.levelno >= log.least)
    logger = logging.getLogger("hybrid.error")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)  # what a client has done wrong is no news here


def _listener(fd: int) -> socket.socket:
    """Return the socket; as ours it is non-blocking, too, so that no copy of it makes the parent's a blocking one."""
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def _set_title(title: str) -> None:
    import setproctitle

    setproctitle.setproctitle(title)


async def _live(state: State, doors: list[tuple[DoorKind, socket.socket]]) -> None:
    """Serve at every door until the channel ends; where there is only the control socket, while somebody asks."""
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: _log_fault(state.log, context))
    state.listen()
    sampler = Sampler(state.scoreboard)
    only_asked = all(kind is DoorKind.CONTROL for kind, _listener in doors)
    at: dict[DoorKind, Serve] = {
        **DOORS,
        DoorKind.CONTROL: partial(server.serve, idle_s=IDLE_S if only_asked else None),
    }
    serving = [asyncio.create_task(_serve(at[kind], state, sampler, listener)) for kind, listener in doors]
    over = asyncio.create_task(state.is_over.wait())
    await asyncio.wait({over, *serving}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0)  # who asked for a page, and waited for the parent's answer, gets ours now
    for task in serving:
        task.cancel()
    over.cancel()
    await asyncio.wait(serving, timeout=server.LAST_WORDS_S)
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=server.LAST_WORDS_S)


async def _serve(serve: Serve, state: State, sampler: Sampler, listener: socket.socket) -> None:
    """Serve at one door; one that fails is opened again, and the others do not notice."""
    while True:
        try:
            await serve(state, sampler, listener.dup())  # whoever serves closes what it is given
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, the other doors stay open
            where = listener.getsockname()
            state.log.error(f"control cannot serve at {where}: {type(error).__name__}: {error}")
        await asyncio.sleep(AGAIN_S)


def _log_fault(log: LogWriter, context: dict[str, Any]) -> None:
    error = context.get("exception")
    log.error(f"control: {context.get('message', 'fault')}" + (f": {type(error).__name__}: {error}" if error else ""))
