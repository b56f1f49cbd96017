"""The parent's one poll(2): what it is handed is what it takes, and nobody holds it."""

from __future__ import annotations

import select
from contextlib import suppress
from itertools import count

import pytest

from hybrid.parent.children import LAST_WORDS
from hybrid.parent.watch import LONGEST_POLL_MS, Watch, patience_ms, sooner
from hybrid.shared import messages
from hybrid.shared.messages import Op, Record


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [(None, None), (100.0, 1.0), (99.0, 0.0), (101.5, 1501.0), (1e7, LONGEST_POLL_MS), (1e300, LONGEST_POLL_MS)],
)
def test_patience_is_what_poll_takes(deadline: float | None, expected: float | None) -> None:
    """A little more than is left, so that the deadline has passed then; a part of it where a C int is too small."""
    patience = patience_ms(deadline, 100.0)
    assert patience == expected
    if patience is not None:
        poll = select.poll()
        with open("/dev/zero", "rb") as ready:
            poll.register(ready, select.POLLIN)
            assert poll.poll(patience)


@pytest.mark.parametrize(
    ("one", "other", "expected"), [(None, None, None), (1.0, None, 1.0), (None, 2.0, 2.0), (3.0, 2.0, 2.0)]
)
def test_sooner_of_two_deadlines(one: float | None, other: float | None, expected: float | None) -> None:
    """None is never."""
    assert sooner(one, other) == expected


def test_process_that_is_gone_is_heard_to_its_last_word() -> None:
    """A full channel is emptied, and then left alone when the other end is closed."""
    ours, theirs = messages.socketpair()
    watch = Watch()
    heard: list[bool] = []

    def hear() -> None:
        heard.append(messages.receive(ours)[2])
        if not heard[-1]:
            watch.drop(ours.fileno())

    theirs.setblocking(False)
    sent = 0
    with ours:
        with theirs, suppress(BlockingIOError):
            while True:
                messages.send(theirs, Record(Op.READY))
                sent += 1
        watch.add(ours.fileno(), hear)
        watch.hear_out(ours.fileno(), LAST_WORDS)
    assert heard == [True] * sent + [False]


def test_process_that_is_gone_is_not_heard_for_ever() -> None:
    """Its children may hold its channel and talk as fast as we listen."""
    ours, theirs = messages.socketpair()
    watch = Watch()
    heard = count(1)

    def hear() -> None:
        messages.receive(ours)
        if next(heard) <= 2 * LAST_WORDS:  # or the test would hang, not fail
            messages.send(theirs, Record(Op.READY))

    with ours, theirs:
        messages.send(theirs, Record(Op.READY))
        watch.add(ours.fileno(), hear)
        watch.hear_out(ours.fileno(), LAST_WORDS)
    assert next(heard) == LAST_WORDS + 1


def test_descriptor_that_was_dropped_in_the_same_round_is_not_called() -> None:
    """An earlier call of the round may have closed it."""
    pairs = [messages.socketpair() for _ in range(2)]
    called: list[None] = []
    watch = Watch()

    def call() -> None:
        called.append(None)
        for ours, _theirs in pairs:
            watch.drop(ours.fileno())

    for ours, theirs in pairs:
        watch.add(ours.fileno(), call)
        messages.send(theirs, Record(Op.READY))
    watch.wait(0)
    assert len(called) == 1
    watch.wait(0)
    assert len(called) == 1
    for pair in pairs:
        for end in pair:
            end.close()
