"""Ports that a test names itself, where a server cannot be asked for the one that it was given."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVILEGED = 81
"""A port that only root may have."""
_FIRST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """Return a port that is free, and that the kernel gives to nobody who does not name it.

    One that it has chosen itself may be somebody else's a moment later: other tests bind port 0 all the time.
    Source: ip(7), ip_local_port_range.
    """
    first_given = int(_RANGE.read_text().split()[0])
    while True:
        port = random.randrange(_FIRST, max(first_given, _FIRST + 1000))
        try:
            socket.create_server(("0.0.0.0", port)).close()
        except OSError:  # somebody has it
            continue
        return port


@contextmanager
def closed_port() -> Iterator[int]:
    """Yield a port at which nobody listens, and that nobody else is given, for the length of a block."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        yield port


def own_host() -> str:
    """Return an address of this machine that is this process's alone, for a port that several tests want.

    All of 127.0.0.0/8 is this machine, and a server at one address of it is in nobody's way at another.
    """
    pid = os.getpid()
    return f"127.{64 + (pid >> 16 & 63)}.{pid >> 8 & 255}.{pid & 255}"
