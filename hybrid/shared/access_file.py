"""The descriptor behind ``--access-log-file``: who opens it, and what SIGUSR1 does to it.

It is opened once, by the parent (or by a process that serves alone), before any child is started and as the user who
started the server; children inherit the number. A reopened file takes the number over.
"""

from __future__ import annotations

import os

from hybrid.shared.access_settings import AccessSettings
from hybrid.shared.log_line import LogWriter, open_log_file

_FLAG = "--access-log-file"
_STDOUT_FD = 1


def open_access_file(settings: AccessSettings) -> int:
    """Return a descriptor for the access log: of its file, which the caller closes, or stdout's.

    stdout also where there is no access log: nothing is written to it then. Raises: UsageError: the file cannot be
    opened.
    """
    return open_log_file(settings.path, _FLAG) if settings.path else _STDOUT_FD


def reopen_access_file(settings: AccessSettings, fd: int, log: LogWriter, source: str) -> int | None:
    """Let ``fd`` point to the access log's file, opened anew; say so in ``log``, and who asked: ``source``.

    Returns: another descriptor of it, the caller's, for whoever shall follow; None: there is no file. Raises:
    UsageError: it cannot be opened, and the old one stays.
    """
    if not settings.path:
        return None
    fresh = open_log_file(settings.path, _FLAG)
    os.dup2(fresh, fd, inheritable=False)
    log.info(f"{source}: access log file reopened")
    return fresh
