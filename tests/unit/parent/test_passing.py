"""The parent accepts and passes on: real sockets, workers that do what the test says. Nobody is lost."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from hybrid.parent.dispatch import STALL_S, Stage
from hybrid.parent.passing import HANDFUL, PAUSE_S
from hybrid.shared import messages
from hybrid.shared.scoreboard import Cell
from tests.unit.parent.pass_world import PassWorld, passing, sockets


@pytest.fixture
def world() -> Iterator[PassWorld]:
    with passing() as world:
        yield world


# ── who gets what ────────────────────────────────────────────────────────────────────────────────────────────


def test_connections_are_spread_evenly(world: PassWorld) -> None:
    """Connections that stay are as many with each worker."""
    workers = world.hires(3)
    for _ in range(30):
        world.comes()
        for worker in workers:
            worker.takes()
    assert [len(worker.held) for worker in workers] == [10, 10, 10]
    assert world.everybody_is_served()


def test_burst_is_passed_in_few_messages(world: PassWorld) -> None:
    """A handful is one message for each worker; what is passed is no longer the parent's."""
    workers = world.hires(2)
    before = len(sockets())
    world.comes(HANDFUL)
    assert len(sockets()) == before + HANDFUL  # the clients
    assert [worker.takes(1) for worker in workers] == [HANDFUL // 2] * 2
    assert not world.porter._dispatch.changed  # what is settled is not settled again for each connection
    assert world.everybody_is_served()


def test_worker_near_its_limit_can_stop_after_any_connection(world: PassWorld) -> None:
    """Each has a message of its own: what it does not take any more goes to the other one."""
    near, other = world.hires(2)
    near.row[Cell.LIMIT] = 2
    world.comes(HANDFUL)
    assert [near.takes(1), near.takes(1)] == [1, 1]
    near.says(b"-")
    world.turns()
    assert other.takes() == HANDFUL - 2
    assert world.everybody_is_served()


def test_channel_that_is_full_in_the_middle_of_a_share(world: PassWorld) -> None:
    """What was sent is sent, the rest goes to the next one."""
    near, other = world.hires(2)
    near.row[Cell.LIMIT] = 2
    while world.stage(near.slot) is not Stage.FULL:
        world.comes(HANDFUL)
        other.takes()
    near.takes()
    other.takes()
    assert world.everybody_is_served()


def test_all_addresses_are_served() -> None:
    """What comes in by any listener goes to the same workers."""
    with passing(addresses=2) as world:
        (worker,) = world.hires()
        world.comes(address=0)
        world.comes(address=1)
        assert worker.takes() == 2


def test_nobody_is_accepted_before_somebody_takes(world: PassWorld) -> None:
    """While no worker has said ``+`` connections wait in the kernel's queue, and not with us."""
    (worker,) = world.hires(1, b"-")
    world.comes(3)
    assert not world.listens() and not worker.takes()
    worker.says(b"+")
    world.turns()
    assert worker.takes() == 3


def test_mold_gets_no_listener(world: PassWorld) -> None:
    """A worker listens on its channel only."""
    assert world.porter.for_new_mold() == []
    assert world.porter.before_spawn(3) == []


def test_descriptors_are_never_inherited(world: PassWorld) -> None:
    """Listeners, both ends of a channel, accepted or read back: the mold is started by exec while they are open."""
    world.hires()
    world.fills()
    world.workers[0].says(b"-")
    world.turns()
    world.hires()
    channels = [end for each in world.porter._channels.values() for end in (each.ours, each.theirs)]
    fds = [*world.porter._held, *world.listener_fds, *(end.fileno() for end in channels)]
    assert len(world.porter._held) == HANDFUL and len(channels) == 4
    assert not any(os.get_inheritable(fd) for fd in fds)


# ── channels that are full ───────────────────────────────────────────────────────────────────────────────────


def test_full_channel_sends_connections_to_another(world: PassWorld) -> None:
    """A worker that reads nothing is given a bounded number; the next one gets the rest, and none is lost."""
    slow, quick = world.hires(2)
    while world.stage(slow.slot) is not Stage.FULL:
        world.comes(HANDFUL)
        quick.takes()
        assert len(world.clients) < 1000
    world.comes(HANDFUL)
    assert quick.takes() >= HANDFUL
    assert world.waiting(slow.slot) <= 20 * HANDFUL
    slow.takes()
    assert world.everybody_is_served()


def test_all_channels_full_leaves_connections_in_the_queue(world: PassWorld) -> None:
    """Then nothing is accepted, and nothing held; it goes on as soon as one of them has room."""
    workers = world.hires(2)
    world.fills()
    assert [world.stage(worker.slot) for worker in workers] == [Stage.FULL, Stage.FULL]
    before = world.waiting(0) + world.waiting(1)
    assert before + len(world.porter._held) < len(world.clients)
    workers[0].takes(8)
    world.turns()
    assert not world.listens()  # poll(2) calls a channel writable when three quarters of it are free
    workers[0].takes()
    world.turns()
    assert world.listens() or workers[0].takes()
    for _ in range(10):
        for worker in workers:
            worker.takes()
        world.turns()
    assert world.everybody_is_served()


def test_no_descriptor_allowed_on_its_way_is_a_pause(world: PassWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """ETOOMANYREFS: what was accepted stays in our hands, nothing more is accepted, and all goes on later."""
    real = messages.send_bytes

    def refuse(channel: socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
        raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

    workers = world.hires(2)
    monkeypatch.setattr(messages, "send_bytes", refuse)
    world.comes(3)
    assert len(world.porter._held) == 3 and not world.listens()
    monkeypatch.setattr(messages, "send_bytes", real)
    world.passes(PAUSE_S)
    assert sum(worker.takes() for worker in workers) == 3
    assert world.listens()
    assert "cannot pass connections on: Too many references" in world.lobby.said()[0]


# ── taking back ──────────────────────────────────────────────────────────────────────────────────────────────


def test_worker_that_dies_loses_nobody_who_was_on_his_way(world: PassWorld) -> None:
    """What it had not taken goes to the others, before anybody is asked for in its place."""
    doomed, other = world.hires(2)
    world.comes(20)
    assert doomed.takes(1)
    other.takes()
    world.comes(20)
    world.dies(doomed.slot)
    assert other.takes()
    assert world.everybody_is_served()


def test_only_worker_that_dies_loses_nobody(world: PassWorld) -> None:
    """With nobody left, connections wait for the replacement, in the channel of the dead."""
    world.hires()
    world.comes(40)
    world.dies(0)
    world.comes(5)
    assert not world.listens()
    (replacement,) = world.hires()
    replacement.takes()
    assert world.everybody_is_served()


def test_dead_workers_leave_no_descriptor(world: PassWorld) -> None:
    """A channel in which nothing is left is closed at once, whether somebody takes or nobody does."""
    world.hires()
    world.dies(0)
    before = len(sockets())
    for _ in range(5):
        world.hires(1, b"-")
        world.dies(0)
    assert len(sockets()) == before


def test_fork_that_failed_leaves_no_descriptor(world: PassWorld) -> None:
    """A channel was made, and nobody came: it is closed; told twice, it is closed once."""
    before = len(sockets())
    world.porter.ends_for(3)
    world.porter.gone(3)
    world.porter.gone(3)
    assert len(sockets()) == before


def test_worker_that_takes_none_any_more_gives_back_what_it_has_not_taken(world: PassWorld) -> None:
    """``-``: what lies in its channel goes to others, and it gets nothing more until ``+``."""
    parked, other = world.hires(2)
    world.comes(10)
    parked.says(b"-")
    world.turns()
    assert parked.takes() == 0
    assert other.takes() == 10
    world.comes(2)
    assert other.takes() == 2
    parked.says(b"+")
    world.turns()
    world.comes(4)
    assert parked.takes() == 4


def test_only_worker_that_takes_none_keeps_what_is_in_its_channel(world: PassWorld) -> None:
    """Nobody else can have it; when it takes again it is there already."""
    (worker,) = world.hires()
    world.comes(10)
    worker.says(b"-")
    world.turns()
    assert world.waiting(0) == 10 and not world.porter._held
    world.comes(2)
    assert not world.listens()
    worker.says(b"+")
    world.turns()
    assert worker.takes() == 12


# ── stuck ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_connections_of_a_stuck_worker_go_to_another(world: PassWorld) -> None:
    """50 ms without a move, and they are with somebody who moves; it gets nothing until it moves itself."""
    blocked, other = world.hires(2)
    world.comes(4)
    other.takes()
    world.passes(STALL_S)
    assert other.takes() == 2
    world.comes(6)
    assert other.takes() == 6
    assert world.porter.deadline is None or world.waiting(0) == 0
    assert blocked.takes() == 0
    blocked.beats()
    world.comes(4)
    assert blocked.takes() == 4
    assert world.everybody_is_served()


def test_worker_that_takes_its_time_keeps_its_connections(world: PassWorld) -> None:
    """Slow is not stuck: something is taken in each 50 ms."""
    slow, other = world.hires(2)
    for _ in range(6):
        world.comes(2)
        other.takes()
    for _ in range(5):
        slow.takes(1)
        world.passes(STALL_S * 0.9)
        assert world.stage(slow.slot) is Stage.TAKING


def test_all_stuck_move_nothing_until_one_of_them_moves(world: PassWorld) -> None:
    """No ping-pong; then whoever moves first gets it all."""
    workers = world.hires(2)
    world.comes(6)
    world.passes(10 * STALL_S)
    world.comes(4)
    assert [world.waiting(worker.slot) for worker in workers] == [5, 5]
    workers[1].takes()
    world.passes(STALL_S)
    assert workers[1].takes() == 5
    assert workers[0].takes() == 0


def test_only_worker_is_never_taken_from(world: PassWorld) -> None:
    """A pool of one whose loop blocks: connections lie where it finds them as soon as it turns."""
    (worker,) = world.hires()
    world.comes(3)
    world.passes(1.0)
    world.comes(3)
    assert worker.takes() == 6


def test_stuck_worker_with_a_full_channel_is_emptied(world: PassWorld) -> None:
    """Full, then stuck: somebody who comes gets it all."""
    world.hires()
    world.fills()
    world.passes(STALL_S)
    assert world.stage(0) is Stage.CLOGGED
    (other,) = world.hires()
    while other.takes():
        world.turns()
    assert world.everybody_is_served()
    world.workers[0].beats()
    world.passes(STALL_S)
    world.comes(2)
    assert world.workers[0].takes()


def test_nothing_on_its_way_is_nothing_to_wait_for(world: PassWorld) -> None:
    """An idle pool has no deadline: the parent sleeps."""
    (worker,) = world.hires()
    assert world.porter.deadline is None
    world.comes()
    worker.takes()
    world.passes(STALL_S)
    assert world.porter.deadline is None
