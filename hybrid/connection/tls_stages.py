"""Life of a TLS connection: one enum, one table."""

from __future__ import annotations

from enum import IntEnum


class Stage(IntEnum):
    """Where a TLS connection is in its life."""

    HANDSHAKE = 0
    """Nothing of the application's is on it yet."""
    OPEN = 1
    """Bytes flow both ways."""
    ENDED = 2
    """We said that we send no more; what the peer sends is still received."""
    CLOSING = 3
    """We closed: what is unsent is flushed, nothing is received."""
    LOST = 4
    """The transport below is gone."""


class StageEvent(IntEnum):
    """What moves a TLS connection from one :class:`Stage` to the next."""

    SECURED = 0
    """The handshake is complete."""
    END = 1
    """We send no more."""
    CLOSE = 2
    """We want no more of it, or it is broken."""
    LOST = 3
    """The transport below is gone."""


STAGES: dict[tuple[Stage, StageEvent], Stage] = {
    (Stage.HANDSHAKE, StageEvent.SECURED): Stage.OPEN,
    (Stage.HANDSHAKE, StageEvent.CLOSE): Stage.CLOSING,
    (Stage.OPEN, StageEvent.END): Stage.ENDED,
    (Stage.OPEN, StageEvent.CLOSE): Stage.CLOSING,
    (Stage.ENDED, StageEvent.CLOSE): Stage.CLOSING,
    **{(stage, StageEvent.LOST): Stage.LOST for stage in Stage},
}
HANDSHAKE, OPEN, ENDED, CLOSING, LOST = Stage
# A pair that is not listed stays where it is: an exception in a loop's callback would harm more than this connection.
AFTER = tuple(tuple(STAGES.get((stage, event), stage) for event in StageEvent) for stage in Stage)
