"""What a worker says on its pass channel: the last word always arrives, however slowly the parent listens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from hybrid.connection.registry import Registry
from hybrid.shared import messages
from hybrid.shared.scoreboard import Scoreboard
from hybrid.worker.acceptors.acceptor import Stage
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.passing import Passing
from hybrid.worker.acceptors.receptions import LoopReception
from tests.support.eventually import eventually_async


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The parent's end, and the worker's."""
    ours, theirs = messages.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def words(ours: socket.socket) -> bytes:
    """Everything the worker has said."""
    said = b""
    while True:
        try:
            said += ours.recv(2)
        except BlockingIOError:
            return said


@pytest.mark.parametrize("times", [1000, 1001], ids=["parked at last", "accepting at last"])
async def test_last_word_arrives_though_the_parent_was_slow(
    channel: tuple[socket.socket, socket.socket], times: int
) -> None:
    """More words than the channel holds: when the parent listens again, it learns what the worker does now.

    A worker with one thread says two for each connection; one that was lost was a worker that nobody used again.
    """
    ours, theirs = channel
    scoreboard = Scoreboard.create(1, 0)
    intake = Intake(Registry(scoreboard.use_slot(0)), scoreboard, 8)
    acceptor = Passing(theirs, intake, lambda passing, door: LoopReception(asyncio.Protocol))
    await acceptor.start()
    for number in range(1, times):
        (acceptor.park if number % 2 else acceptor.unpark)()
    wanted = b"+" if acceptor.stage is Stage.ACCEPTING else b"-"
    assert len(words(ours)) < times, "the channel held every word: say more"

    await eventually_async(lambda: words(ours).endswith(wanted))
    await acceptor.leave()
