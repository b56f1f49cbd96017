"""Run a function in a forked child, as another user if asked: for what cannot be undone in the test's own process."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

NOBODY = 65534


def forked(work: Callable[[], object], uid: int | None = None) -> str:
    """Return ``str(work())`` as computed in a child; fail with the child's traceback if it raised.

    ``uid``: become that user, its group alone, first. Needs root.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            try:
                if uid is not None:
                    os.setgroups([])
                    os.setresgid(uid, uid, uid)
                    os.setresuid(uid, uid, uid)
                os.write(write, str(work()).encode())
                code = 0
            except BaseException:  # noqa: BLE001  # it goes to the test, which fails with it
                os.write(write, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as file:
        said = file.read().decode()
    _pid, status = os.waitpid(pid, 0)
    if status:
        raise AssertionError(f"the child left with status {status}:\n{said}")
    return said
