"""Passing connections on while something is wrong: hostile workers, nothing left, a stop. Nobody is lost."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from hybrid.parent import passing as module
from hybrid.parent.dispatch import STALL_S, Stage
from hybrid.parent.passing import PAUSE_S, WARN_S
from hybrid.shared import messages
from hybrid.shared.scoreboard import Cell
from tests.unit.parent.pass_world import PassWorld, passing, sockets


@pytest.fixture
def world() -> Iterator[PassWorld]:
    with passing() as world:
        yield world


# ── hostile workers ──────────────────────────────────────────────────────────────────────────────────────────


def test_books_are_kept_while_a_channel_is_emptied_into_a_full_one(world: PassWorld) -> None:
    """Only as much is taken back as somebody can have; the rest stays where it is, and is counted."""
    world.hires(1, b"+")
    world.fills()
    world.workers[0].says(b"-")
    world.turns()
    before = world.waiting(0) + len(world.porter._held)
    world.hires()
    assert world.stage(1) is Stage.FULL
    assert world.waiting(0) + world.waiting(1) + len(world.porter._held) == before > world.waiting(0)
    while world.workers[1].takes():
        world.turns()
    assert world.everybody_is_served()


@pytest.mark.parametrize("said", [b"x", b"", b"++", b"+-", b"-" * 1000, b"\0", bytes(32)])
def test_garbage_is_passed_over(world: PassWorld, said: bytes) -> None:
    """What is no word changes nothing, and ends nothing."""
    (worker,) = world.hires()
    worker.says(said)
    world.turns()
    world.comes(2)
    assert worker.takes() == 2
    worker.says(said, b"-")
    world.turns()
    assert world.stage(0) is Stage.AWAY


def test_descriptors_from_a_worker_are_closed(world: PassWorld) -> None:
    """It cannot fill the parent's table."""
    (worker,) = world.hires()
    before = len(sockets())
    for _ in range(5):
        messages.send_bytes(worker.end, b"+", (0, 1, 2))
    world.turns()
    assert len(sockets()) == before


def test_flood_does_not_keep_the_parent_from_others(world: PassWorld) -> None:
    """However much one says, each round hears everybody once."""
    noisy, other = world.hires(2)
    noisy.end.setblocking(False)
    try:
        while True:
            noisy.says(b"+", b"-", b"?")
    except BlockingIOError:
        pass
    world.comes(seen=False)
    other.says(b"-", b"+")
    for _ in range(3):
        world.watch.wait(0)
    assert noisy.takes() + other.takes() == 1


def test_worker_that_closes_its_channel_is_left_out(world: PassWorld) -> None:
    """By shutdown(2), the one way it has while we hold its end, too: said once; others get what was in it."""
    broken, other = world.hires(2)
    world.comes(4)
    broken.end.shutdown(socket.SHUT_RDWR)
    world.turns()
    assert other.takes() == 4
    world.comes(2)
    assert other.takes() == 2
    world.porter.gone(broken.slot)
    assert [line.partition("] ")[2] for line in world.lobby.said()] == [
        "warning worker 0 has closed its pass channel: it gets no more connections"
    ]


def test_channel_that_breaks_while_it_is_sent_to_costs_nobody(world: PassWorld) -> None:
    """EPIPE at the very moment: the connection goes to the next in line."""
    broken, other = world.hires(2)
    broken.end.shutdown(socket.SHUT_RD)
    world.comes(4)
    assert other.takes() == 4


def test_only_channel_that_breaks_while_it_is_sent_to_ends_nothing(world: PassWorld) -> None:
    """Nobody is left to have it: it waits for the next worker."""
    (broken,) = world.hires()
    broken.end.shutdown(socket.SHUT_RD)
    world.comes(2)
    assert not world.listens()
    (other,) = world.hires()
    assert other.takes() == 2


def test_blocking_end_does_not_block_the_parent(world: PassWorld) -> None:
    """O_NONBLOCK of the worker's end is its own to clear; the parent reads it all the same without waiting."""
    blocking, other = world.hires(2)
    world.comes(4)
    blocking.end.setblocking(True)
    blocking.says(b"-")
    world.turns()
    assert other.takes() == 4
    world.dies(blocking.slot)
    assert world.everybody_is_served()


def test_liar_does_not_hide_what_others_have_not_taken(world: PassWorld) -> None:
    """A channel that is empty, though RECEIVED says otherwise, is not looked at for ever."""
    liar, parked, other = world.hires(3)
    world.comes(9)
    liar.takes()
    liar.row[Cell.RECEIVED] = 0
    liar.says(b"-")
    parked.says(b"-")
    world.turns()
    assert other.takes() == 6
    assert world.everybody_is_served()


def test_numbers_that_lie_cost_nobody(world: PassWorld) -> None:
    """RECEIVED and ACTIVE at any value: connections still reach somebody, and come back from a dead liar."""
    liar, honest = world.hires(2)
    for lie in (2**64 - 1, 0, 2**63, 1):
        liar.row[Cell.RECEIVED] = lie
        liar.row[Cell.ACTIVE] = lie
        world.comes(4)
        honest.takes()
        world.passes(STALL_S)
    world.dies(liar.slot)
    honest.takes()
    assert world.everybody_is_served()


# ── what runs short ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
def test_accept_that_fails_is_tried_again_later(world: PassWorld, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The queue is left alone for a moment: no busy loop, one line a minute, and then everybody is served."""

    def fail(_listener: int) -> int:
        raise OSError(number, os.strerror(number))

    (worker,) = world.hires()
    with monkeypatch.context() as patch:
        patch.setattr(module, "accept4", fail)
        world.comes(2)
        for _ in range(int(WARN_S / PAUSE_S) - 1):
            assert not world.listens()
            world.passes(PAUSE_S)
        assert len(world.lobby.said()) == 1
        world.passes(2 * PAUSE_S)
        assert len(world.lobby.said()) == 2
    world.passes(PAUSE_S)
    assert worker.takes() == 2
    assert os.strerror(number) in world.lobby.said()[0]


def test_last_descriptors_are_left_for_what_is_read_back(world: PassWorld) -> None:
    """A connection that is read back without a free descriptor would be closed by the kernel: so some stay free."""
    (worker,) = world.hires()
    world.porter._ceiling = 0
    world.comes(3)
    assert worker.takes() == 1
    assert not world.listens()
    assert "Too many open files; they wait in the queue. Raise RLIMIT_NOFILE" in world.lobby.said()[0]
    world.passes(PAUSE_S)
    assert worker.takes() == 1


def test_connection_that_cannot_be_read_back_hides_no_other(world: PassWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a free descriptor the kernel closes what comes with a message: what is behind it is still read."""
    real, lost = messages.receive_bytes, list[int]()

    def without_descriptors(channel: socket.socket, limit_bytes: int, flags: int) -> tuple[bytes, list[int]]:
        data, descriptors = real(channel, limit_bytes, flags)
        if data and not lost:
            lost.extend(descriptors)
            return data, []
        return data, descriptors

    parked, other = world.hires(2)
    for _ in range(3):
        world.comes(2)
        other.takes()
    monkeypatch.setattr(messages, "receive_bytes", without_descriptors)
    parked.says(b"-")
    world.turns()
    monkeypatch.undo()
    assert other.takes() == 2
    os.close(lost[0])


def test_connection_that_is_over_is_no_reason_to_stop(world: PassWorld) -> None:
    """A client that left before it was accepted is passed on as it is, and the next one is served."""
    (worker,) = world.hires(1, b"-")
    with socket.create_connection(world.lobby.listeners[0].socket.getsockname()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    world.comes()
    worker.says(b"+")
    world.turns()
    assert worker.takes() >= 1
    assert world.clients[0].getsockname() in [peer(sock) for sock in worker.held]


def peer(sock: socket.socket) -> object:
    try:
        return sock.getpeername()
    except OSError:
        return None


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_stop_passes_on_what_waits(world: PassWorld) -> None:
    """Full channels, and a queue behind them: at a stop there is room for all, and then nobody can connect."""
    workers = world.hires(2)
    world.fills()
    world.porter.stop_listening()
    for worker in workers:
        worker.takes()
    assert world.everybody_is_served()
    assert not world.watch_has_listeners()


def test_stop_does_not_wait_for_anybody(world: PassWorld) -> None:
    """Nobody takes: the queue is given up, and whoever connects from now on is refused."""
    world.hires(1, b"-")
    address = world.lobby.listeners[0].socket.getsockname()
    world.comes(3)
    world.porter.stop_listening()
    assert not world.porter._held
    with open(os.devnull) as taken:  # the number that is free now, lest a channel gets it
        assert taken.fileno() in world.listener_fds
        world.hires()
        assert not world.watch_has_listeners() and world.lobby.said() == []
    with socket.socket() as late:
        assert late.connect_ex(address) == errno.ECONNREFUSED


def test_worker_that_leaves_at_a_stop_leaves_its_connections_to_another(world: PassWorld) -> None:
    """After the listeners are closed, what is on its way is still for whoever lives."""
    leaving, other = world.hires(2)
    world.comes(10)
    world.porter.stop_listening()
    leaving.says(b"-")
    world.turns()
    world.dies(leaving.slot)
    other.takes()
    assert world.everybody_is_served()


def test_stop_while_a_channel_breaks_costs_nobody(world: PassWorld) -> None:
    """What was in it, and what was to follow, goes to the other one at once."""
    broken, other = world.hires(2)
    world.comes(4)
    world.comes(4, seen=False)
    broken.end.shutdown(socket.SHUT_RD)
    world.porter.stop_listening()
    other.takes()
    assert world.everybody_is_served()


def test_stop_while_nothing_can_be_sent_accepts_no_more(world: PassWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in our hands is one handful; the rest of the queue is given up."""

    def refuse(channel: socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    (worker,) = world.hires()
    world.comes(200, seen=False)
    with monkeypatch.context() as patch:
        patch.setattr(messages, "send_bytes", refuse)
        world.porter.stop_listening()
    assert len(world.porter._held) == messages.MAX_DESCRIPTORS
    world.passes(PAUSE_S)
    assert worker.takes() == messages.MAX_DESCRIPTORS


def test_stop_ends_though_more_and_more_come(world: PassWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is accepted at a stop is bounded."""
    monkeypatch.setattr(module, "LAST_HANDFULS", 2)
    monkeypatch.setattr(messages, "MAX_DESCRIPTORS", 4)
    (worker,) = world.hires()
    world.comes(20, seen=False)
    world.porter.stop_listening()
    assert worker.takes() == 8
