"""The shared acceptor on a real loop: what it promises on uvloop and asyncio, over TCP, IPv6 and unix sockets."""

from __future__ import annotations

import asyncio
import itertools
import logging
import selectors
import socket
import struct
import sys
from pathlib import Path

import pytest

from hybrid.connection.registry import Door, Registry
from hybrid.ground.errors import ListenError
from hybrid.worker.acceptors import shared
from hybrid.worker.acceptors.acceptor import Factory, Stage
from hybrid.worker.acceptors.courtesy import PAUSE_S
from hybrid.worker.loops import new_loop
from tests.component.acceptor_room import BACKLOG, LOOPS, Echo, Room, Thief, run
from tests.support.eventually import eventually_async


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoop:
    return new_loop(request.param)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room("v4", tmp_path)


# ── exclusive or plain ──


def test_wake_ups_are_exclusive_on_both_loops(loop: asyncio.AbstractEventLoop, room: Room) -> None:
    """Neither loop needs the fallback."""

    async def main() -> None:
        room.furnish()
        await room.intake.start()
        assert room.acceptor.mode == "exclusive"
        await room.leave()

    run(loop, main())


def test_plain_can_be_asked_for(loop: asyncio.AbstractEventLoop, room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """shared=plain is plain, and nothing to warn of."""

    async def main() -> None:
        room.furnish("shared=plain")
        await room.intake.start()
        assert room.acceptor.mode == "plain"
        await room.leave()

    run(loop, main())
    assert not caplog.records


@pytest.mark.parametrize("kind", ["uvloop", "asyncio", "poll"])
def test_without_the_loops_epoll_it_is_plain_and_says_so(
    kind: str, room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A loop whose epoll cannot be reached accepts plainly, warns once, and still parks and leaves."""
    if kind == "poll":
        loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop(selectors.PollSelector())
    else:
        loop = new_loop(kind)
        monkeypatch.setattr(shared, "loop_epoll", lambda loop: None)

    async def main() -> None:
        room.furnish()
        room.accept_on(room.outside.dup())
        await room.intake.start()
        assert room.acceptor.mode == "plain"
        assert await room.served(room.connect())
        room.intake.park()
        await room.away()
        late = room.connect()
        room.intake.unpark()
        room.intake.park()
        room.intake.unpark()
        assert await room.served(late)
        room.intake.beat()
        await room.leave()

    run(loop, main())
    warnings = [record for record in caplog.records if record.name == "hybrid.error"]
    assert [record.levelno for record in warnings] == [logging.WARNING]
    assert "plain shared socket" in warnings[0].getMessage()


def test_a_lost_wake_up_is_healed_by_the_heartbeat(loop: asyncio.AbstractEventLoop, room: Room) -> None:
    """A connection whose wake-up went to a worker that died then is taken at the next heartbeat."""

    async def main() -> None:
        with Thief(room.outside) as thief:
            room.furnish()
            await room.intake.start()  # behind the thief in the wait queue
            room.intake.registry.accepting = True
            client = room.connect()
            thief.join()
            for _ in range(20):
                await asyncio.sleep(0)
            assert room.waiting(), "the thief was not the only one woken"
            room.intake.beat()
            assert await room.served(client)
        await room.leave()

    run(loop, main())


def test_a_parked_worker_first_takes_what_it_was_woken_for(loop: asyncio.AbstractEventLoop, room: Room) -> None:
    """Told to park with a connection in the queue, it takes that one: nobody else was woken for it."""

    async def main() -> None:
        room.furnish()
        await room.intake.start()
        client = room.connect()
        room.intake.park()
        assert await room.served(client)
        assert room.stage is Stage.AWAY
        room.connect()
        for _ in range(10):
            await asyncio.sleep(0)
        assert room.waiting()
        await room.leave()

    run(loop, main())


# ── a burst ──

BEFORE_IT_WAITS = 2
"""Connections that a worker takes before one that has none is to have its part."""


def _another_accepts(room: Room) -> None:
    """Let there be a worker that holds nothing."""
    Registry(room.scoreboard.use_slot(1)).accepting = True


def test_of_a_burst_a_part_is_left_to_others(
    loop: asyncio.AbstractEventLoop, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another worker at hand that has none, the rest of the queue is left alone; a park first looks again."""
    monkeypatch.setattr(shared, "PAUSE_S", 60.0)

    async def main() -> None:
        room.furnish()
        _another_accepts(room)
        clients = [room.connect() for _ in range(10)]
        await room.intake.start()
        await eventually_async(lambda: room.registry.active >= BEFORE_IT_WAITS)
        for _ in range(10):
            await asyncio.sleep(0)
        assert room.registry.active <= BEFORE_IT_WAITS + 2  # asyncio opens them two turns after it accepts
        assert room.waiting()
        assert await room.served(clients[0])
        room.intake.park()
        await room.away()
        assert room.waiting()
        monkeypatch.setattr(shared, "PAUSE_S", PAUSE_S)
        room.intake.unpark()
        await room.holds(10)
        await room.leave()

    run(loop, main())


def test_a_burst_that_nobody_else_takes_is_taken(loop: asyncio.AbstractEventLoop, room: Room) -> None:
    """The other worker is blocked: it has the fewest, and goes on having them."""

    async def main() -> None:
        room.furnish()
        _another_accepts(room)
        clients = [room.connect() for _ in range(50)]
        await room.intake.start()
        await room.holds(50)
        assert [await room.served(client) for client in clients] == [True] * 50
        await room.leave()

    run(loop, main())


def test_the_last_that_fits_is_the_last_in_a_burst_too(loop: asyncio.AbstractEventLoop, room: Room) -> None:
    """A full worker has left its listeners alone already: nothing takes it back."""

    async def main() -> None:
        room.furnish(limit=BEFORE_IT_WAITS)
        _another_accepts(room)
        for _ in range(20):
            room.connect()
        await room.intake.start()
        await eventually_async(lambda: room.registry.active >= BEFORE_IT_WAITS)
        ended = asyncio.get_running_loop().time() + 20 * PAUSE_S
        await eventually_async(lambda: asyncio.get_running_loop().time() > ended)
        assert room.registry.active <= BEFORE_IT_WAITS + 2
        await room.leave()

    run(loop, main())


def test_a_worker_that_looks_away_can_leave(
    loop: asyncio.AbstractEventLoop, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it outlives the acceptor."""
    monkeypatch.setattr(shared, "PAUSE_S", 0.02)

    async def main() -> None:
        room.furnish()
        _another_accepts(room)
        for _ in range(10):
            room.connect()
        await room.intake.start()
        await eventually_async(lambda: room.registry.active >= BEFORE_IT_WAITS)
        await room.intake.leave()
        held = room.registry.active
        ended = asyncio.get_running_loop().time() + 0.05
        await eventually_async(lambda: asyncio.get_running_loop().time() > ended)
        assert room.registry.active == held
        await room.leave()

    run(loop, main())


def test_the_backlog_is_the_configured_one(loop: asyncio.AbstractEventLoop, room: Room) -> None:
    """The loops call listen(2) again; the queue of all workers must not shrink by it."""

    async def main() -> None:
        room.furnish()
        await room.intake.start()
        assert _backlog(room.outside) == BACKLOG
        await room.leave()

    run(loop, main())


# ── bad handlers, bad clients ──


def test_a_factory_that_raises_costs_its_connection_only(
    loop: asyncio.AbstractEventLoop, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is cut, the error is logged with its traceback and counted, and the listener lives."""

    async def main() -> None:
        room.furnish(factory_for=_raising_every_other)
        await room.intake.start()
        running = asyncio.get_running_loop()
        for _ in range(3):
            assert await asyncio.wait_for(running.sock_recv(room.connect(), 1), 20) == b""
            assert await room.served(room.connect())
        assert (room.registry.failed, room.registry.accepted) == (3, 3)
        await room.leave()

    run(loop, main())
    assert caplog.text.count("ValueError: no protocol today") == 3


def _raising_every_other(door: Door) -> Factory:
    calls = itertools.count()

    def make() -> asyncio.BaseProtocol:
        if next(calls) % 2 == 0:
            raise ValueError("no protocol today")
        return Echo(door)

    return make


def test_a_factory_that_exits_ends_the_loop_as_anywhere_else(loop: asyncio.AbstractEventLoop, room: Room) -> None:
    """SystemExit is not swallowed."""

    def factory_for(door: Door) -> Factory:
        return lambda: sys.exit(7)

    async def main() -> None:
        room.furnish(factory_for=factory_for)
        await room.intake.start()
        room.connect()
        await asyncio.get_running_loop().create_future()

    task = loop.create_task(main())
    with pytest.raises(SystemExit) as exit_:
        loop.run_until_complete(task)
    assert exit_.value.code == 7
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    run(loop, room.leave())


def test_clients_that_are_gone_do_no_harm(loop: asyncio.AbstractEventLoop, room: Room) -> None:
    """Connections reset before they are accepted are counted out again; the next client is served."""

    async def main() -> None:
        room.furnish()
        await room.intake.start()
        for _ in range(20):
            client = room.connect()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        assert await room.served(room.connect())
        await room.holds(1)
        await room.leave()

    run(loop, main())


def test_what_cannot_be_accepted_on_is_an_error(loop: asyncio.AbstractEventLoop, room: Room) -> None:
    """A descriptor that is no stream socket is refused by name."""

    async def main() -> None:
        room.furnish()
        datagram = socket.socket(type=socket.SOCK_DGRAM)
        room.accept_on(datagram)
        with pytest.raises(ListenError, match=r"cannot accept on .*Give a listening stream socket"):
            await room.intake.start()
        await room.leave()

    run(loop, main())


# ── looking ──


def _backlog(listener: socket.socket) -> int:
    """Return the accept queue's size: tcpi_sacked of a listener (linux/net/ipv4/tcp.c, tcp_get_info)."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    size: int = struct.unpack_from("I", info, 28)[0]
    return size
