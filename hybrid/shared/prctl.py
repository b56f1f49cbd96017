"""The prctl(2) calls that Python has no name for.

Source: prctl(2) PR_SET_CHILD_SUBREAPER, PR_SET_NAME.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, argument: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def become_subreaper() -> None:
    """Adopt every orphan below this process, so that a worker forked by the mold becomes our child.

    Raises: OSError: the kernel is older than Linux 3.4.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def set_name(name: str) -> None:
    """Set the name that ``ps -o comm`` and ``top`` show; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))
