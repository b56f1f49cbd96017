"""What a booting mold or worker leaves behind for the parent, readable also after a SIGKILL.

A memfd per attempt: 64 bytes for the step being done, then one JSON document written once. A step is one
``pwrite`` of one fixed-size field, so a process killed at any instant leaves the last step whole.

Idea: Passenger's spawning kit, where a spawn is a journey of named steps and a failure names the step.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace

_STEP_BYTES = 64


@dataclass(frozen=True, slots=True)
class Report:
    """What one attempt to boot came to.

    ``step``: what was being done last: ``fork``, ``load``, ``loop``, ``lifespan``, ``listen``, ``ready``.
    ``error``: one line, empty when nothing failed. ``detail``: a traceback or a list, may span lines.
    ``exit_code``: what the server should exit with if this ends it.
    ``name``/``kind``: what is served, once known.
    """

    step: str = ""
    error: str = ""
    detail: str = ""
    exit_code: int = 3
    name: str = ""
    kind: str = ""

    @property
    def fingerprint(self) -> str:
        """Equal for two attempts that failed the same way: the second is logged in one line."""
        return f"{self.step}\0{self.error}\0{self.detail}"


def create() -> int:
    """Return a new, empty report's descriptor (CLOEXEC). Runs in: parent."""
    return os.memfd_create("hybrid-boot", os.MFD_CLOEXEC)


def write_step(fd: int, step: str) -> None:
    """Note what is being done now. Runs in: mold, worker."""
    os.pwrite(fd, step.encode()[:_STEP_BYTES].ljust(_STEP_BYTES, b"\0"), 0)


def write(fd: int, report: Report) -> None:
    """Write the whole report; a second one replaces the first. Runs in: mold, worker."""
    # A message's beginning and a traceback's end say most; read() takes a megabyte.
    report = replace(report, error=report.error[:4000], detail=report.detail[-40_000:])
    write_step(fd, report.step)
    os.ftruncate(fd, _STEP_BYTES)  # of an earlier report, which may have been longer
    os.pwrite(fd, json.dumps(asdict(report)).encode(), _STEP_BYTES)


def read(fd: int) -> Report:
    """Return what was written so far. Runs in: parent. Never raises on what it reads."""
    data = os.pread(fd, 1 << 20, 0)
    step = data[:_STEP_BYTES].rstrip(b"\0").decode(errors="replace")
    try:
        report = Report(**{**json.loads(data[_STEP_BYTES:]), "step": step})
    except (ValueError, TypeError, RecursionError):
        return Report(step=step)
    texts = (report.error, report.detail, report.name, report.kind)
    if not all(isinstance(text, str) for text in texts) or not isinstance(report.exit_code, int):
        return Report(step=step)  # the app's code runs where this is written
    return report
