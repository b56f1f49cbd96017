"""A command that is sent SIGTERM when whoever runs the tests is killed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache


def tied(command: Sequence[str]) -> list[str]:
    """Return the command that becomes ``command``, by exec, tied to the thread that starts it.

    Not by Popen's ``preexec_fn``: with it Python forks where it else needs no copy of itself, and that of a process
    which has collected all tests costs 30 ms of CPU. Without util-linux there is no tie.
    Source: prctl(2) PR_SET_PDEATHSIG; setpriv(1).
    """
    return [*_prefix(), *command]


@cache
def _prefix() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()
