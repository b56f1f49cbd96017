"""A pool in small, for tests of accepting: forks workers that hold and echo, and obeys one line at a time.

Run as ``python -m tests.process.accept_pool`` with a JSON object (see ``Plan``) as its argument. Commands on
stdin, one JSON object a line, each answered by one on stdout; the end of stdin ends the pool. It is a program of
its own because a fork of the test runner would take the runner's threads and descriptors along.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, cast

from hybrid.connection.registry import Door, Registry
from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell, Scoreboard
from hybrid.worker.acceptors import make_acceptors
from hybrid.worker.acceptors.acceptor import Factory, Site
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.loops import new_loop
from tests.support.eventually import eventually


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pool is made of; the descriptors are inherited."""

    loop: str
    accept: str
    listener_fd: int
    scoreboard_fd: int
    backlog: int = 1024
    limit: int = 10_000


class Hold(asyncio.Protocol):
    """A connection that echoes and stays."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._door.opened(self)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.closed(self)

    def start_draining(self) -> None:
        self._transport.close()

    def cancel(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


class Worker:
    """The forked side: one loop, one acceptor, one channel."""

    def __init__(self, plan: Plan, scoreboard: Scoreboard, slot: int, channel: socket.socket) -> None:
        self._plan = plan
        self._registry = Registry(scoreboard.row(slot))
        self._intake = Intake(self._registry, scoreboard, plan.limit)
        self._channel = channel
        self._held_files: list[int] = []

    async def run(self) -> None:
        """Accept until the channel says otherwise."""
        listener = socket.socket(fileno=os.dup(self._plan.listener_fd))

        def factory_for(door: Door) -> Factory:
            return lambda: Hold(door)

        make_acceptors(self._plan.accept, Site((listener,), self._plan.backlog, factory_for), self._intake)
        await self._intake.start()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel, self._on_command, loop)
        self._say(mode=self._intake.acceptors[0].mode)
        await loop.create_future()

    def _on_command(self, loop: asyncio.AbstractEventLoop) -> None:
        command = self._channel.recv(4096)
        if not command:
            os._exit(0)
        self._obeying = loop.create_task(self._obey(json.loads(command)))

    async def _obey(self, do: dict[str, Any]) -> None:
        if "files" in do:
            self._hold_files(do["files"])
        if do.get("leave"):
            await self._intake.leave()
        self._registry.flush()
        self._say()

    def _hold_files(self, count: int) -> None:
        for fd in self._held_files[count:]:
            os.close(fd)
        del self._held_files[count:]
        with contextlib.suppress(OSError):
            while len(self._held_files) < count:
                self._held_files.append(os.open(os.devnull, os.O_RDONLY))

    def _say(self, **what: object) -> None:
        self._channel.send(json.dumps(what).encode())


class Pool:
    """The parent's side."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._scoreboard = Scoreboard.attach(plan.scoreboard_fd)
        self._pids: dict[int, int] = {}
        self._channels: dict[int, socket.socket] = {}

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one command, return the answer."""
        slot = command["slot"]
        if command["do"] == "spawn":
            return self._spawn(slot, command.get("descriptors"))
        if command["do"] == "kill":
            return self._kill(slot)
        self._channels[slot].send(json.dumps(command).encode())
        return cast("dict[str, Any]", json.loads(self._channels[slot].recv(4096)))

    def end(self) -> None:
        """Kill what is left."""
        for slot in tuple(self._pids):
            self._kill(slot)

    def _spawn(self, slot: int, descriptors: int | None) -> dict[str, Any]:
        row = self._scoreboard.use_slot(slot)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            for channel in (ours, *self._channels.values()):
                channel.close()
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
            loop = new_loop(self._plan.loop)
            asyncio.set_event_loop(loop)
            loop.run_until_complete(Worker(self._plan, self._scoreboard, slot, theirs).run())
            os._exit(0)
        theirs.close()
        self._pids[slot], self._channels[slot] = pid, ours
        answer = cast("dict[str, Any]", json.loads(ours.recv(4096)))
        eventually(lambda: not row[Cell.ACTIVE] & NOT_ACCEPTING)
        return {**answer, "pid": pid}

    def _kill(self, slot: int) -> dict[str, Any]:
        pid = self._pids.pop(slot)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._channels.pop(slot).close()
        self._scoreboard.retire(slot)
        return {}


def main() -> None:
    """Obey until stdin ends."""
    pool = Pool(Plan(**json.loads(sys.argv[1])))
    try:
        for line in sys.stdin:
            print(json.dumps(pool.obey(json.loads(line))), flush=True)
    finally:
        pool.end()


if __name__ == "__main__":
    main()
