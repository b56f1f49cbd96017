"""What is on its way to control: bounded, in order, and never waited for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from hybrid.parent.outbox import MOST_WAITING, TOO_LONG, Outbox
from hybrid.parent.watch import Watch
from hybrid.shared import messages
from hybrid.shared.notices import Answered, Logged, Notice, PoolState, WorkerReady, from_json


class Wire:
    """An outbox, and the other end of its channel."""

    def __init__(self) -> None:
        self.ours, self.theirs = messages.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.watch = Watch()
        self.outbox = Outbox(self.ours, self.watch)
        self.watch.add(self.ours.fileno(), self.outbox.flush)
        self.descriptors = 0

    def read(self) -> Iterator[Notice]:
        """Yield what has come through, and let the outbox send the rest."""
        while True:
            try:
                data, descriptors = messages.receive_bytes(self.theirs, 1 << 18)
            except BlockingIOError:
                return
            for fd in descriptors:
                self.descriptors += 1
                os.close(fd)
            notice = from_json(data)
            assert notice is not None
            yield notice
            self.watch.wait(0)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """An outbox whose other end nobody reads, yet."""
    wire = Wire()
    yield wire
    wire.ours.close()
    wire.theirs.close()


def test_notices_come_in_order(wire: Wire) -> None:
    """As they were put, with a descriptor where there is one."""
    sent = [WorkerReady(1, 2, number=1), PoolState(target=3), Answered(7)]
    for each in sent:
        wire.outbox.put(each, fd=0 if isinstance(each, PoolState) else -1)
    assert list(wire.read()) == sent
    assert wire.descriptors == 1


def test_what_nobody_reads_is_dropped_the_oldest_first(wire: Wire) -> None:
    """The reader learns how many; answers are kept, and so is the last state."""
    count = 5 * MOST_WAITING
    wire.outbox.put(Answered(7))
    for number in range(count):
        wire.outbox.put(WorkerReady(0, 0, number=number))
        if number % 100 == 0:
            wire.outbox.put(PoolState(target=number))
    wire.outbox.put(Answered(8))
    found = list(wire.read())
    assert [each.token for each in found if isinstance(each, Answered)] == [7, 8]
    numbers = [each.number for each in found if isinstance(each, WorkerReady)]
    assert numbers == sorted(numbers) and numbers[-1] == count - 1
    lost = sum(int(each.text.split()[0]) for each in found if isinstance(each, Logged))
    assert lost == count - len(numbers) > 0
    states = [each.target for each in found if isinstance(each, PoolState)]
    assert states[-1] == (count - 1) // 100 * 100


def test_word_about_what_was_lost_has_the_place_of_the_last_of_it(wire: Wire) -> None:
    """Whoever goes by the numbers, as the page does, misses neither it nor what comes after."""
    for number in range(1, 5 * MOST_WAITING):
        wire.outbox.put(WorkerReady(0, 0, at=1000.0 + number, number=number))
    found = list(wire.read())
    words = [each for each in found if isinstance(each, Logged)]
    assert words and all(each.at == 1000.0 + each.number for each in words)
    numbers = [each.number for each in found]
    assert numbers == sorted(set(numbers))


def test_state_that_was_not_sent_is_replaced(wire: Wire) -> None:
    """But not its settings by a state without."""
    while not wire.outbox._waiting:
        wire.outbox.put(WorkerReady(0, 0))
    wire.outbox.put(PoolState(target=1), fd=0)
    wire.outbox.put(PoolState(target=2))
    wire.outbox.put(PoolState(target=3), fd=0)
    wire.outbox.put(PoolState(target=4))
    states = [each.target for each in wire.read() if isinstance(each, PoolState)]
    assert (states, wire.descriptors) == ([3, 4], 1)


def test_what_is_too_long_comes_without_its_detail(wire: Wire) -> None:
    """Whoever waits is answered."""
    wire.outbox.put(Answered(7, True, "text", "x" * (1 << 20)))
    assert list(wire.read()) == [Answered(7, True, "text", TOO_LONG)]


def test_control_that_is_gone_is_no_error(wire: Wire) -> None:
    """Its exit comes through its pidfd."""
    wire.theirs.close()
    for _ in range(3):
        wire.outbox.put(WorkerReady(0, 0))
    wire.theirs = socket.socket()
