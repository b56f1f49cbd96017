"""The parent's loop: what it hands to the kernel is what the kernel takes, and nobody holds it."""

from __future__ import annotations

import select
from contextlib import suppress
from itertools import count
from typing import cast

import pytest

from hybrid.parent import pool as p
from hybrid.parent.house import House
from hybrid.parent.main import LAST_WORDS, LONGEST_POLL_MS, Parent, patience_ms
from hybrid.shared import messages
from hybrid.shared.messages import Op, Record
from tests.unit.parent.world import PLAN

NO_HOUSE = cast(House, None)
"""For what touches nothing of it."""


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


def test_process_that_is_gone_is_heard_to_its_last_word() -> None:
    """A full channel is emptied, and then left alone when the other end is closed."""
    ours, theirs = messages.socketpair()
    parent = Parent(NO_HOUSE, p.Pool(PLAN))
    heard: list[bool] = []

    def hear() -> None:
        heard.append(messages.receive(ours)[2])
        if not heard[-1]:
            parent._unwatch(ours.fileno())

    theirs.setblocking(False)
    sent = 0
    with ours:
        with theirs, suppress(BlockingIOError):
            while True:
                messages.send(theirs, Record(Op.READY))
                sent += 1
        parent._watch(ours.fileno(), hear)
        parent._hear_last_words(ours)
    assert heard == [True] * sent + [False]


def test_process_that_is_gone_is_not_heard_for_ever() -> None:
    """Its children may hold its channel and talk as fast as we listen."""
    ours, theirs = messages.socketpair()
    parent = Parent(NO_HOUSE, p.Pool(PLAN))
    heard = count(1)

    def hear() -> None:
        messages.receive(ours)
        if next(heard) <= 2 * LAST_WORDS:  # or the test would hang, not fail
            messages.send(theirs, Record(Op.READY))

    with ours, theirs:
        messages.send(theirs, Record(Op.READY))
        parent._watch(ours.fileno(), hear)
        parent._hear_last_words(ours)
    assert next(heard) == LAST_WORDS + 1
