"""A name for each request, so that the lines of several programs about it can be found.

Who stands before us may have given it one: then that is its name. Otherwise it gets a new one: eight random bytes of
this process, and a number. Nobody has to be asked, and a name costs no system call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import Final

from hybrid.http.head import Head

HEADER: Final = b"x-request-id"
LONGEST: Final = 128
_SANE: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
"""What an id of somebody else's may hold: it goes into logs, headers and file names."""


def request_id(head: Head | None) -> str:
    """Return the request's X-Request-ID, if that is 1 to 128 of ``A–Z a–z 0–9 . _ -``; else a new one.

    Runs in: worker. Raises: nothing.
    """
    if head is not None:
        for name, value in head.fields.pairs:
            if name == HEADER:
                if 0 < len(value) <= LONGEST and not value.translate(None, _SANE):
                    return value.decode("ascii")
                break
    return new_request_id()


def new_request_id() -> str:
    """Return an id that no other request has, in this process or another: 24 hexadecimal digits, later more."""
    return f"{_prefix}{_next():08x}"


def _reseed() -> None:
    """Take another prefix: a forked process would give the same names as the one it was forked from."""
    global _prefix, _next
    _prefix = os.urandom(8).hex()
    _next = count(1).__next__


_prefix: str
_next: Callable[[], int]
_reseed()
os.register_at_fork(after_in_child=_reseed)
