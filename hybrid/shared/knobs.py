"""The few settings that a running server changes at once, without a reload: ``set`` at the control socket.

Control turns what was asked into two numbers, which knob and its value; the parent turns these into settings. What is
set holds until the settings are read anew: at the next reload, or restart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from hybrid.ground.clock import LONGEST_S
from hybrid.ground.errors import UsageError
from hybrid.shared.health_settings import check_health
from hybrid.shared.log_line import LEVELS, NAMES
from hybrid.shared.settings import MOST_WORKERS, Settings


@dataclass(frozen=True, slots=True)
class Knob:
    """One of them. ``encode``: its value as a number. ``apply``: the settings with that number in them.

    ``encode`` raises UsageError, with the cause and the remedy, for what it does not take.
    """

    number: int
    encode: Callable[[object], int]
    apply: Callable[[Settings, int], Settings]


def read(key: object, value: object) -> tuple[int, int]:
    """Return which knob ``key`` names, and ``value`` as its number. Runs in: control.

    Raises: UsageError: there is no such knob, or it does not take the value.
    """
    knob = KNOBS.get(key) if isinstance(key, str) else None
    if knob is None:
        raise UsageError(
            f"cannot set {key!r}: it is nothing that changes at once. There are {', '.join(KNOBS)}; for everything "
            "else change the configuration, and reload."
        )
    try:
        return knob.number, knob.encode(value)
    except UsageError as error:
        raise UsageError(f"cannot set {key} to {value!r}: {error}") from None


def applied(settings: Settings, number: int, value: int) -> tuple[str, Settings]:
    """Return what was set, in words, and ``settings`` with it. Runs in: parent.

    Raises: UsageError: there is no such knob here, or the value contradicts another setting.
    """
    for key, knob in KNOBS.items():
        if knob.number == number:
            if value > (MOST_WORKERS if key == "standby" else LONGEST_S * 1000):
                raise UsageError(f"cannot set {key}: {value} is out of range.")
            return key, knob.apply(settings, value)
    raise UsageError(f"cannot set knob {number}: the server is of another version. Upgrade it (SIGUSR2).")


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────


def _level(value: object) -> int:
    if not isinstance(value, str) or value not in LEVELS:
        raise UsageError(f"not a level. Give one of {', '.join(LEVELS)}.")
    return LEVELS[value]


def _number(value: object, remedy: str) -> float:
    """Return a number, which may come as text."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= LONGEST_S:
        raise UsageError(f"not a number in the range. {remedy}")
    return number


def _milliseconds(value: object) -> int:
    return round(_number(value, f"Give seconds, 0 to {LONGEST_S:.0f}.") * 1000)


def _workers(value: object) -> int:
    remedy = f"Give a whole number, 0 to {MOST_WORKERS}."
    number = _number(value, remedy)
    if number != int(number) or number > MOST_WORKERS:
        raise UsageError(f"not a whole number in the range. {remedy}")
    return int(number)


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────


def _set_level(settings: Settings, value: int) -> Settings:
    if value not in NAMES:
        raise UsageError(f"cannot set log-level to {value}: not the weight of a level.")
    return replace(settings, log=replace(settings.log, level=NAMES[value]))


def _set_grace(settings: Settings, value: int) -> Settings:
    return replace(settings, timeout=replace(settings.timeout, grace_s=value / 1000))


def _set_standby(settings: Settings, value: int) -> Settings:
    return replace(settings, worker=replace(settings.worker, standby=value))


def _set_worker_timeout(settings: Settings, value: int) -> Settings:
    health = replace(settings.health, kill_s=value / 1000)
    check_health(health)
    return replace(settings, health=health)


def _set_stall_dump(settings: Settings, value: int) -> Settings:
    health = replace(settings.health, dump_s=value / 1000)
    check_health(health)
    return replace(settings, health=health)


KNOBS: dict[str, Knob] = {
    "log-level": Knob(1, _level, _set_level),
    "graceful-timeout": Knob(2, _milliseconds, _set_grace),
    "worker-timeout": Knob(3, _milliseconds, _set_worker_timeout),
    "stall-dump": Knob(4, _milliseconds, _set_stall_dump),
    "standby": Knob(5, _workers, _set_standby),
}
"""By the name of its option."""
LOG_LEVEL = KNOBS["log-level"].number
STANDBY = KNOBS["standby"].number
