"""Life of a connection: one enum, one table; and, beside it, the life of its handler.

They are two because neither contains the other: a handler may outlive its connection (the peer reset it while the
handler awaited something else), and a connection its handler (the last bytes are still on their way).
"""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """Where a connection is in its life."""

    NEW = 0
    """Made by the protocol factory; no transport yet."""
    OPEN = 1
    """Bytes may flow; either direction may have ended already (half-close)."""
    CLOSING = 2
    """We closed: nothing more is received or sent, unsent bytes are still flushed."""
    BROKEN = 3
    """The transport is gone and it was not us: the peer reset, or the network failed."""
    CLOSED = 4
    """We closed, and the transport is gone."""


class PhaseEvent(IntEnum):
    """What moves a connection from one :class:`Phase` to the next."""

    MADE = 0
    """The transport is there."""
    CLOSE = 1
    """Our side ends it: the handler returned, or somebody closed, aborted or detached it."""
    LOST = 2
    """The transport is gone."""


PHASES: dict[tuple[Phase, PhaseEvent], Phase] = {
    (Phase.NEW, PhaseEvent.MADE): Phase.OPEN,
    (Phase.OPEN, PhaseEvent.CLOSE): Phase.CLOSING,
    (Phase.OPEN, PhaseEvent.LOST): Phase.BROKEN,
    (Phase.CLOSING, PhaseEvent.CLOSE): Phase.CLOSING,  # the handler returns after aclose(), or an abort ends the flush
    (Phase.CLOSING, PhaseEvent.LOST): Phase.CLOSED,
    (Phase.BROKEN, PhaseEvent.CLOSE): Phase.CLOSED,
    (Phase.CLOSED, PhaseEvent.CLOSE): Phase.CLOSED,
}


class Handling(IntEnum):
    """Where a connection's handler is in its life."""

    PENDING = 0
    """Its task did not take its first step yet."""
    RUNNING = 1
    """It was called."""
    ENDED = 2
    """It returned, raised or was cancelled."""


class Reading(IntEnum):
    """What can be expected of the socket's reading side."""

    FLOWING = 0
    """The loop reads and hands over what comes."""
    HELD = 1
    """Too much was not received yet: the loop does not read until a receiver waits."""
    FINISHED = 2
    """The peer said that it sends no more."""
    OVER = 3
    """We closed, or the connection broke: nothing more will come."""


class Sending(IntEnum):
    """What a sender has to reckon with."""

    FREE = 0
    """The transport takes bytes."""
    FULL = 1
    """The transport holds more than the high-water mark: senders wait."""
    DONE = 2
    """We said that we send no more, we closed, or the connection broke."""


# hot: fetch; on CPython 3.11 ``Phase.OPEN`` costs 95 ns and ``OPEN`` 5: 7.5 µs of Python a connection, 6.2 so.
NEW, OPEN, CLOSING, BROKEN, CLOSED = Phase
PENDING, RUNNING, ENDED = Handling
FLOWING, HELD, FINISHED, OVER = Reading
FREE, FULL, DONE = Sending


def after(event: PhaseEvent) -> tuple[Phase, ...]:
    """Return where ``event`` leads, by phase: ``self._phase = AFTER_LOST[self._phase]``.

    A pair that is not listed stays where it is: an exception in a loop's callback would harm more than this connection.
    """
    return tuple(PHASES.get((phase, event), phase) for phase in Phase)


# hot: fetch; machine.advance() makes it 47,700 instructions of Python a connection, these rows 42,100.
AFTER_MADE = after(PhaseEvent.MADE)
AFTER_CLOSE = after(PhaseEvent.CLOSE)
AFTER_LOST = after(PhaseEvent.LOST)
