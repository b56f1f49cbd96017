"""The prctl(2) calls that Python has no name for.

Source: prctl(2) PR_SET_CHILD_SUBREAPER, PR_SET_NAME, PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
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


def signal_at_parents_death(number: int) -> None:
    """Let the kernel send us signal ``number`` when our parent's thread that forked us, or adopted us, ends.

    It is kept across exec, and forgotten by a change of user and by our own children. A parent that is dead already
    sends nothing: ask ``os.getppid()`` afterwards.
    """
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number))


def set_name(name: str) -> None:
    """Set the name that ``ps -o comm`` and ``top`` show; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))
