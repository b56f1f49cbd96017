"""The parent accepts and passes on: real sockets, workers that do what the test says. Nobody is lost."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from hybrid.parent import passing as module
from hybrid.parent.dispatch import STALL_S, Stage
from hybrid.parent.passing import HANDFUL, PAUSE_S, WARN_S
from hybrid.shared import messages
from hybrid.shared.scoreboard import Cell
from tests.unit.parent.pass_world import PassWorld, passing


@pytest.fixture
def world() -> Iterator[PassWorld]:
    with passing() as world:
        yield world


def fill(world: PassWorld) -> None:
    """Let clients come until every channel is full and some wait in the kernel's queue."""
    while world.listens():
        world.comes(HANDFUL)
        assert len(world.clients) < 3000
    world.comes(HANDFUL)


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
    before = len(os.listdir("/proc/self/fd"))
    world.comes(HANDFUL)
    assert len(os.listdir("/proc/self/fd")) == before + HANDFUL  # the clients
    assert [worker.takes(1) for worker in workers] == [HANDFUL // 2] * 2
    assert not world.porter._dispatch.changed  # what is settled is not settled again for each connection
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
    """Listeners, both ends of each channel, and what was accepted: the mold is started by exec while they are open."""
    before = set(os.listdir("/proc/self/fd"))
    world.hires(1, b"+", b"-")
    world.comes()
    world.workers[0].says(b"+")
    world.turns()
    world.workers[0].end.set_inheritable(False)
    new = set(os.listdir("/proc/self/fd")) - before
    assert len(new) > 3
    assert not any(os.get_inheritable(int(fd)) for fd in new if os.path.exists(f"/proc/self/fd/{fd}"))


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
    fill(world)
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
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        world.hires(1, b"-")
        world.dies(0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_fork_that_failed_leaves_no_descriptor(world: PassWorld) -> None:
    """A channel was made, and nobody came: it is closed; told twice, it is closed once."""
    before = len(os.listdir("/proc/self/fd"))
    world.porter.ends_for(3)
    world.porter.gone(3)
    world.porter.gone(3)
    assert len(os.listdir("/proc/self/fd")) == before


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
    fill(world)
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


# ── hostile workers ──────────────────────────────────────────────────────────────────────────────────────────


def test_books_are_kept_while_a_channel_is_emptied_into_a_full_one(world: PassWorld) -> None:
    """Only as much is taken back as somebody can have; the rest stays where it is, and is counted."""
    world.hires(1, b"+")
    fill(world)
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
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        messages.send_bytes(worker.end, b"+", (0, 1, 2))
    world.turns()
    assert len(os.listdir("/proc/self/fd")) == before


def test_flood_does_not_keep_the_parent_from_others(world: PassWorld) -> None:
    """However much one says, each round hears everybody once."""
    noisy, other = world.hires(2)
    noisy.end.setblocking(False)
    try:
        while True:
            noisy.says(b"+", b"-", b"?")
    except BlockingIOError:
        pass
    client = socket.create_connection(world.lobby.listeners[0].socket.getsockname())
    world.clients.append(client)
    client.sendall(client.getsockname()[1].to_bytes(4, "big"))
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
    fill(world)
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
        assert not world.watch_has_listeners()
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
    fill(world)
    broken.end.shutdown(socket.SHUT_RD)
    world.porter.stop_listening()
    other.takes()
    assert world.everybody_is_served()


def test_stop_while_nothing_can_be_sent_accepts_no_more(world: PassWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in our hands is one handful; the rest of the queue is given up."""

    def refuse(channel: socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    (worker,) = world.hires(1, b"-")
    world.comes(200)
    worker.says(b"+")
    world.porter._on_channel(0)
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
    (worker,) = world.hires(1, b"-")
    world.comes(20)
    worker.says(b"+")
    world.porter._on_channel(0)  # heard, and nothing accepted yet
    world.porter.stop_listening()
    assert worker.takes() == 8
