"""An event of the server as a line for people: the time, what happened, in which slot.

Tolerant on purpose: a newer server may tell of kinds that this command does not know; their fields are shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hybrid.cli.ctl_words import clock, printable

Notice = Mapping[str, Any]
_COMMON = frozenset({"at", "number", "notice", "id", "ev"})
_ELSEWHERE = ("pool_state", "answered")
_TOLD_TWICE = re.compile(r"worker \d+ \(pid \d+\) (is ready|exited with )|reloaded: |sizing: ")
_QUIET_LEVELS = ("info", "debug")


def notice_in(event: Notice) -> Notice:
    """Return the notice that an event brings: of ``events`` as it is, of ``reload`` as the step that it tells of."""
    found = event.get("notice")
    return found if isinstance(found, Mapping) else {"notice": "reload_step", **event}


def is_news(notice: Notice) -> bool:
    """Return whether people need the line: not if the log says what a notice of its own says, too.

    The notice stays, as the log may be set to say less; and answers and states of the pool are shown elsewhere.
    """
    if kind_of(notice) == "logged":
        return notice.get("level") != "info" or not _TOLD_TWICE.match(str(notice.get("text")))
    return kind_of(notice) not in _ELSEWHERE


def line_of(notice: Notice) -> str:
    """Return the line, its time in front."""
    at = notice.get("at")
    return f"{clock(at) if isinstance(at, (int, float)) else '--:--:--'}  {printable(words_of(notice))}"


def words_of(notice: Notice) -> str:
    """Return what happened, without the time."""
    told = _KINDS.get(kind_of(notice))
    try:
        if told is not None:
            return told(notice)
    except (KeyError, TypeError, ValueError):  # fields of another version
        pass
    rest = ", ".join(f"{name} {value}" for name, value in notice.items() if name not in _COMMON)
    return f"{kind_of(notice)}: {rest}" if rest else kind_of(notice)


def kind_of(notice: Notice) -> str:
    """Return the name of its kind, of those in :data:`hybrid.shared.notices.KINDS` or of a newer server's."""
    return str(notice.get("notice") or "event")


def _with_text(line: str, notice: Notice) -> str:
    text = str(notice.get("text") or "")
    return f"{line}: {text}" if text else line


def _logged(notice: Notice) -> str:
    level = "" if notice["level"] in _QUIET_LEVELS else f"{notice['level']}: "
    who = "" if notice.get("who") in ("", "parent") else f"{notice['who']}: "
    return f"{level}{who}{notice['text']}"


def _exited(notice: Notice) -> str:
    cause = f" ({notice['cause']})" if notice.get("cause") else ""
    return _with_text(f"worker {notice['slot']} has left, pid {notice['pid']}{cause}", notice)


def _resized(notice: Notice) -> str:
    before, target = notice["before"], notice["target"]
    verb = "grows" if target > before else "shrinks" if target < before else "stays"
    reason = str(notice["reason"])
    return f"pool {verb}, {reason}" if "→" in reason else f"pool {verb}, {before} → {target} workers: {reason}"


_KINDS: dict[str, Callable[[Notice], str]] = {
    "logged": _logged,
    "worker_started": lambda n: f"worker {n['slot']} starts, generation {n['generation']}",
    "worker_ready": lambda n: f"worker {n['slot']} is ready, pid {n['pid']}",
    "worker_parked": lambda n: f"worker {n['slot']} is parked",
    "worker_unparked": lambda n: f"worker {n['slot']} accepts again",
    "worker_draining": lambda n: f"worker {n['slot']} drains, pid {n['pid']}",
    "worker_exited": _exited,
    "resized": _resized,
    "reload_step": lambda n: _with_text(f"reload, {n['stage']}", n),
    "reload_ended": lambda n: _with_text("reload done", n) if n["ok"] else str(n["text"]),  # it says so itself
    "phase_changed": lambda n: f"the server is {n['phase']}",
    "pool_state": lambda n: f"{n['phase']}, {n['target']} workers wanted, generation {n['generation']}",
    "answered": lambda n: _with_text("done" if n["ok"] else "refused", n),
}
