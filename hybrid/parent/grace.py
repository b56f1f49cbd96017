"""Whether a stop fits into the time that the platform leaves for it, which is what ``HYBRID_GRACE`` says.

A container is told nothing of it: Kubernetes shows ``terminationGracePeriodSeconds`` to nobody, so the manifest says
it twice. What does not fit is no error: a stop that nobody holds up is over sooner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from hybrid.ground.errors import UsageError
from hybrid.parent.stopping import CANCEL_S, LEAVE_S
from hybrid.shared.log_line import LogWriter
from hybrid.shared.process_settings import GRACE_VARIABLE
from hybrid.shared.settings import TimeoutSettings

_LONGEST_DIGITS = 9


def longest_stop_s(timeout: TimeoutSettings) -> float:
    """Return the seconds from SIGTERM to the end of the last worker, if some connections never end."""
    return timeout.drain_delay_s + timeout.grace_s + CANCEL_S + LEAVE_S


def platform_grace_s(environ: Mapping[str, str]) -> int | None:
    """Return the seconds from SIGTERM to SIGKILL that ``environ`` tells of; None: it does not.

    Raises: UsageError: it does, but not in whole seconds.
    """
    text = environ.get(GRACE_VARIABLE, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_DIGITS):
        raise UsageError(
            f"cannot use {text!r} for {GRACE_VARIABLE}, from the environment: not a whole number of seconds. Give it "
            "the pod's terminationGracePeriodSeconds, for example 45, or remove it."
        )
    return int(text)


def check_grace(timeout: TimeoutSettings, given_s: int | None, log: LogWriter) -> None:
    """Warn if the platform, which leaves ``given_s``, kills before a stop with ``timeout`` is over.

    Runs in: parent, or the process of ``--workers 0``; when it starts, and when a reload has changed ``timeout``.
    """
    if given_s is not None and longest_stop_s(timeout) > given_s:
        log.warning(_words(timeout, given_s))


def _words(timeout: TimeoutSettings, given_s: int) -> str:
    """Return the arithmetic, what comes of it, and which numbers to change."""
    needed_s = longest_stop_s(timeout)
    parts = [
        *([f"{timeout.drain_delay_s:g} of --drain-delay"] if timeout.drain_delay_s else []),
        f"{timeout.grace_s:g} of --graceful-timeout",
        f"{CANCEL_S:g} for cancelled handlers",
        f"{LEAVE_S:g} to leave",
    ]
    room_s = given_s - (needed_s - timeout.grace_s)
    remedy = f"Set terminationGracePeriodSeconds and {GRACE_VARIABLE} to {math.ceil(needed_s)} at least"
    if room_s >= 0:
        remedy += f", or --graceful-timeout to {room_s:g} at most"
    return (
        f"a stop may take {needed_s:g} s ({' + '.join(parts)}), but {GRACE_VARIABLE}={given_s}: who is still served "
        f"then is killed. {remedy}."
    )
