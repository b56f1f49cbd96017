"""An event of the server as a line for people: the time, what happened, in which slot.

Tolerant on purpose: a newer server may tell of kinds that this command does not know; their fields are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hybrid.cli.ctl_words import clock

Notice = Mapping[str, Any]
_COMMON = frozenset({"at", "number", "kind", "id", "ev"})


def line_of(notice: Notice) -> str:
    """Return the line, its time in front."""
    at = notice.get("at")
    return f"{clock(at) if isinstance(at, (int, float)) else '--:--:--'}  {words_of(notice)}"


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
    """Return the name of the notice's class."""
    return str(notice.get("kind") or "event")


def _with_text(line: str, notice: Notice) -> str:
    text = str(notice.get("text") or "")
    return f"{line}: {text}" if text else line


def _resized(notice: Notice) -> str:
    before, target = notice["before"], notice["target"]
    verb = "grows" if target > before else "shrinks" if target < before else "stays"
    return f"pool {verb}, {before} → {target} workers: {notice['reason']}"


_KINDS: dict[str, Callable[[Notice], str]] = {
    "Logged": lambda n: f"{n['level']}: {n['who']}: {n['text']}" if n.get("who") else f"{n['level']}: {n['text']}",
    "WorkerStarted": lambda n: f"worker {n['slot']} starts, generation {n['generation']}",
    "WorkerReady": lambda n: f"worker {n['slot']} is ready, pid {n['pid']}",
    "WorkerParked": lambda n: f"worker {n['slot']} is parked",
    "WorkerUnparked": lambda n: f"worker {n['slot']} accepts again",
    "WorkerDraining": lambda n: f"worker {n['slot']} drains, pid {n['pid']}",
    "WorkerExited": lambda n: _with_text(f"worker {n['slot']} has left, pid {n['pid']}, {n['cause']}", n),
    "Resized": _resized,
    "ReloadStep": lambda n: _with_text(f"reload, {n['stage']}", n),
    "ReloadEnded": lambda n: _with_text("reload done" if n["ok"] else "reload failed", n),
    "PhaseChanged": lambda n: f"the server is {n['phase']}",
    "PoolState": lambda n: f"{n['phase']}, {n['target']} workers wanted, generation {n['generation']}",
    "Answered": lambda n: _with_text("done" if n["ok"] else "refused", n),
}
