"""The contract of acceptors: every model that has a listener, with each kind of handler it serves, on both loops."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell
from hybrid.worker.acceptors import shared
from hybrid.worker.acceptors.acceptor import Stage
from hybrid.worker.loops import new_loop
from tests.component.acceptor_room import FAMILIES, LOOPS, PAIRS, Room, run
from tests.support.eventually import eventually_async

EVERYWHERE = [(*pair, family) for pair, family in itertools.product(PAIRS, FAMILIES)]


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoop:
    return new_loop(request.param)


# ── the contract: every name, every loop, every family ──


@pytest.mark.parametrize(("name", "kind", "family"), EVERYWHERE)
def test_connections_are_served_and_counted(
    loop: asyncio.AbstractEventLoop, name: str, kind: str, family: str, tmp_path: Path
) -> None:
    """Every client is served, and the scoreboard knows at once how many there are."""

    async def main() -> None:
        room = Room(family, tmp_path)
        room.furnish_pair(name, kind)
        assert room.row[Cell.ACTIVE] == NOT_ACCEPTING
        await room.intake.start()
        clients = [room.connect() for _ in range(10)]
        assert all([await room.served(client) for client in clients])
        assert room.row[Cell.ACTIVE] == 10
        for client in clients[:4]:
            client.close()
        await eventually_async(lambda: room.row[Cell.ACTIVE] == 6)
        await room.leave()
        assert (room.registry.accepted, room.registry.closed) == (10, 10)

    run(loop, main())


@pytest.mark.parametrize(("name", "kind", "family"), EVERYWHERE)
def test_a_parked_worker_leaves_connections_in_the_queue(
    loop: asyncio.AbstractEventLoop, name: str, kind: str, family: str, tmp_path: Path
) -> None:
    """Parked, it takes nothing and serves what it holds; un-parked, it takes what waited. As often as wanted."""

    async def main() -> None:
        room = Room(family, tmp_path)
        room.furnish_pair(name, kind)
        await room.intake.start()
        held = room.connect()
        await room.holds(1)
        for round_ in range(1, 4):
            room.intake.park()
            await room.away()
            late = room.connect()
            assert await room.served(held)
            assert room.waiting()
            assert room.row[Cell.ACTIVE] == NOT_ACCEPTING | round_
            room.intake.unpark()
            assert await room.served(late)
            assert room.row[Cell.ACTIVE] == round_ + 1
        await room.leave()

    run(loop, main())


@pytest.mark.parametrize(("name", "kind", "family"), EVERYWHERE)
def test_leaving_keeps_the_listener_alive(
    loop: asyncio.AbstractEventLoop, name: str, kind: str, family: str, tmp_path: Path
) -> None:
    """A worker that leaves closes only its own copy: others accept on, and a unix socket's file stays."""

    async def main() -> None:
        room = Room(family, tmp_path)
        room.furnish_pair(name, kind)
        await room.intake.start()
        await room.served(room.connect())
        await room.intake.leave()
        await room.intake.leave()
        assert room.stage is Stage.GONE
        late = room.connect()
        accepted, _ = room.outside.accept()
        accepted.sendall(b"x")
        assert late.recv(1) == b"x"
        accepted.close()
        assert family != "unix" or room.path.is_socket()
        await room.leave()

    run(loop, main())


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@pytest.mark.parametrize("within_reach", [True, False])
def test_leaving_serves_what_it_has_accepted(
    loop: asyncio.AbstractEventLoop,
    name: str,
    kind: str,
    within_reach: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of many connections that arrive while the worker leaves each is either served or still in the queue."""
    if not within_reach:
        monkeypatch.setattr(shared, "loop_epoll", lambda loop: None)

    async def main() -> None:
        room = Room("v4", tmp_path)
        room.furnish_pair(name, kind)
        await room.intake.start()
        clients = [room.connect() for _ in range(20)]
        await room.intake.leave()
        taken = room.registry.active
        room.outside.setblocking(False)
        left = 0
        while room.waiting():
            room.outside.accept()[0].close()
            left += 1
        assert taken + left == len(clients)
        assert room.registry.accepted == taken
        await room.leave()

    run(loop, main())
