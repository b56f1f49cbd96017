"""The doors of control: sockets that the parent binds, keeps, and passes to whichever control process runs."""

from __future__ import annotations

from enum import IntEnum


class DoorKind(IntEnum):
    """What is spoken at a door."""

    CONTROL = 0
    """JSON lines, at the control socket."""
    METRICS = 1
    """HTTP: metrics, health checks, the page (``--metrics-bind``)."""
    AGENT = 2
    """HAProxy's agent-check (``--agent-bind``)."""
