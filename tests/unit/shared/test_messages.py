"""Records between processes: what one side said is heard, however it left."""

from __future__ import annotations

import os

from hybrid.shared import messages
from hybrid.shared.messages import Op, Record


def test_record_and_descriptors_arrive() -> None:
    """What is sent is received, with copies of the descriptors."""
    ours, theirs = messages.socketpair()
    with ours, theirs:
        messages.send(theirs, Record(Op.FORKED, 3, 1, a=7, b=1234), (theirs.fileno(),))
        record, descriptors, is_open = messages.receive(ours)
        assert record == Record(Op.FORKED, 3, 1, a=7, b=1234) and is_open
        assert len(descriptors) == 1
        assert not os.get_inheritable(descriptors[0])
        os.close(descriptors[0])


def test_last_words_of_one_who_left_something_unread_are_heard() -> None:
    """The kernel reports the unread message first, as a reset; what the other side had sent comes after it."""
    ours, theirs = messages.socketpair()
    with ours:
        messages.send(ours, Record(Op.LISTENERS))
        messages.send(theirs, Record(Op.UNSAFE))
        theirs.close()
        assert messages.receive(ours) == (Record(Op.UNSAFE), [], True)
        assert messages.receive(ours) == (None, [], False)


def test_end_of_the_other_side_is_told() -> None:
    """Nothing unread, nothing sent: the end."""
    ours, theirs = messages.socketpair()
    with ours:
        theirs.close()
        assert messages.receive(ours) == (None, [], False)


def test_foreign_bytes_are_no_record_and_cost_no_descriptor() -> None:
    """A message of another version is passed over; what came with it is closed."""
    ours, theirs = messages.socketpair()
    with ours, theirs:
        before = len(os.listdir("/proc/self/fd"))
        messages.send_bytes(theirs, b"\xff" * messages.RECORD_BYTES, (theirs.fileno(),))
        messages.send_bytes(theirs, b"short")
        assert messages.receive(ours) == (None, [], True)
        assert messages.receive(ours) == (None, [], True)
        assert len(os.listdir("/proc/self/fd")) == before


def test_empty_message_is_not_the_end_and_costs_no_descriptor() -> None:
    """recvmsg(2) returns 0 for it as for the end: whoever still listens is asked, and hears what comes next."""
    ours, theirs = messages.socketpair()
    with ours, theirs:
        before = len(os.listdir("/proc/self/fd"))
        messages.send_bytes(theirs, b"", (theirs.fileno(), theirs.fileno()))
        messages.send_bytes(theirs, b"")
        messages.send(theirs, Record(Op.READY))
        assert messages.receive(ours) == (None, [], True)
        assert messages.receive(ours) == (None, [], True)
        assert messages.receive(ours) == (Record(Op.READY), [], True)
        assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_of_an_empty_message_are_closed_for_whoever_reads_bytes() -> None:
    """Who takes no bytes for the end would leave them open."""
    ours, theirs = messages.socketpair()
    with ours, theirs:
        before = len(os.listdir("/proc/self/fd"))
        messages.send_bytes(theirs, b"", (theirs.fileno(),))
        assert messages.receive_bytes(ours) == (b"", [])
        assert len(os.listdir("/proc/self/fd")) == before
