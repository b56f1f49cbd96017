"""What can be asked at the control socket: a table of ops, each a coroutine that returns its result.

A result is what JSON has. An op that streams sends events before it. Whatever changes something is a wish to the
parent (:meth:`~hybrid.control.state.State.ask`), which decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import Field, dataclass, fields
from itertools import islice
from typing import Any

from hybrid import __version__
from hybrid.control.sampler import Sampler
from hybrid.control.snapshot import snapshot
from hybrid.control.state import HISTORY, State
from hybrid.ground.errors import HybridError
from hybrid.shared import knobs
from hybrid.shared.messages import Op
from hybrid.shared.notices import Answered, Notice, to_plain
from hybrid.shared.settings import MOST_SLOTS, MOST_WORKERS, Settings

SHORTEST_S, LONGEST_S = 0.1, 3600.0
"""Between two snapshots of ``watch``."""
BEHIND_S = 30.0
"""A watcher that has read nothing for so long is dropped."""
PATIENCE_S = 5.0
"""For the parent to say what the pool is like, after control was started."""


class Refused(HybridError):
    """A request that is not granted: why, and perhaps a boot log in ``detail``."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


async def _room() -> None:
    """Wait for nobody: there is room always."""


@dataclass(slots=True)
class Call:
    """One request. ``send``: sends an event, with the request's id. ``who``: asks, for the log."""

    state: State
    sampler: Sampler
    args: dict[str, Any]
    who: str
    send: Callable[[dict[str, object]], None]
    is_behind: Callable[[], bool] = lambda: False
    """Whether the client has not read all that was sent."""
    room: Callable[[], Awaitable[None]] = _room
    """Waits until the client has read most of it."""

    def note(self, what: str) -> None:
        """Leave in the log who wants what: the parent learns only that somebody does."""
        self.state.log.info(f"{self.who}: {what}")

    def number(self, name: str, least: float, most: float, default: float | None = None) -> float:
        """Return a number among the arguments. Raises: Refused: it is missing, or none in the range."""
        value = self.args.get(name, default)
        if value is None:
            raise Refused(f"{name} is missing. Give a number from {least:g} to {most:g}.")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise Refused(f"{name} is {value!r}. Give a number from {least:g} to {most:g}.")
        return value

    def whole(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """Return a whole number among the arguments. Raises: Refused: it is missing, or none in the range."""
        value = self.number(name, least, most, default)
        if value != int(value):
            raise Refused(f"{name} is {value!r}. Give a whole number.")
        return int(value)

    def flag(self, name: str) -> bool:
        """Return whether something is asked for. Raises: Refused: neither true nor false."""
        value = self.args.get(name, False)
        if not isinstance(value, bool):
            raise Refused(f"{name} is {value!r}. Give true or false.")
        return value

    def only(self, *names: str) -> None:
        """Refuse every other argument. Raises: Refused: names it."""
        for name in self.args:
            if name not in names:
                known = f"It takes {', '.join(names)}." if names else "It takes none."
                raise Refused(f"there is no argument {name!r} here. {known}")


Run = Callable[[Call], Awaitable[object]]


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────


async def _snapshot(call: Call) -> dict[str, object]:
    await _know(call.state)
    return snapshot(call.state, call.sampler)


async def _know(state: State) -> None:
    """Wait until the parent has told what there was before control was started; not for ever."""
    if not state.is_known.is_set():
        try:
            await asyncio.wait_for(state.is_known.wait(), PATIENCE_S)
        except (TimeoutError, asyncio.TimeoutError):
            pass  # the parent is stopped: the scoreboard is there all the same


async def _status(call: Call) -> object:
    call.only()
    return await _snapshot(call)


async def _workers(call: Call) -> object:
    call.only()
    return {"workers": (await _snapshot(call))["workers"]}


async def _watch(call: Call) -> object:
    call.only("every_s", "count")
    every_s = call.number("every_s", SHORTEST_S, LONGEST_S, 1.0)
    count = call.whole("count", 0, 1 << 31, 0)
    behind_s, sent = 0.0, 0
    over = asyncio.ensure_future(call.state.is_over.wait())
    try:
        while True:
            if call.is_behind():
                behind_s += every_s
                if behind_s >= BEHIND_S:
                    raise Refused("the snapshots are not read: no more are sent. Read faster, or ask less often.")
            else:
                behind_s, sent = 0.0, sent + 1
                call.send({"ev": "snapshot", "snapshot": await _snapshot(call)})
            if sent == count or (await asyncio.wait({over}, timeout=every_s))[0]:
                return {"snapshots": sent}
    finally:
        over.cancel()


async def _events(call: Call) -> object:
    call.only("follow", "last")
    last, follow = call.whole("last", 0, HISTORY, 0 if call.flag("follow") else HISTORY), call.flag("follow")
    await _know(call.state)
    history, sent = call.state.history, 0
    subscription = call.state.subscribe() if follow else None
    try:
        for notice in tuple(islice(history, max(0, len(history) - last), None)):
            await _send_event(call, notice)
            sent += 1
        if subscription is not None:
            async for notice in subscription:
                await _send_event(call, notice)
                sent += 1
            if subscription.is_lost:
                raise Refused("the events are not read: no more are sent. Read faster.")
    finally:
        if subscription is not None:
            subscription.close()
    return {"events": sent}


async def _send_event(call: Call, notice: Notice) -> None:
    """Send it when there is room: many are more than may lie unread. Raises: Refused: none comes."""
    try:
        await asyncio.wait_for(call.room(), BEHIND_S)
    except asyncio.TimeoutError:
        raise Refused("the events are not read: no more are sent. Read faster.") from None
    call.send({"ev": "notice", "notice": to_plain(notice)})


async def _config(call: Call) -> object:
    call.only()
    return {"version": __version__, "settings": shown(call.state.settings)}


def shown(settings: Settings) -> dict[str, dict[str, object]]:
    """Return the settings by group and option, as in a file: a mode is octal; null: not given. Secrets are masked."""
    found: dict[str, dict[str, object]] = {}
    for group in fields(settings):
        if "title" not in group.metadata:
            continue
        values = getattr(settings, group.name)
        found[group.name] = {
            each.metadata["flag"].lstrip("-").lower(): _setting(each, getattr(values, each.name))
            for each in fields(values)
        }
    return found


def _setting(field: Field[object], value: object) -> object:
    if field.metadata["secret"] and value:
        return "***"
    if isinstance(value, int) and not isinstance(value, bool):
        return None if value < 0 else f"{value:03o}" if field.metadata["parse"] == "mode" else value
    return value


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────────────


def _result(answer: Answered) -> dict[str, object]:
    """Return what the parent answered. Raises: Refused: it was a no."""
    if not answer.ok:
        raise Refused(answer.text, answer.detail)
    return {"text": answer.text}


async def _reload(call: Call) -> object:
    call.only()
    call.note("reload")

    def on_step(notice: Notice) -> None:
        call.send({"ev": "step", **{key: value for key, value in to_plain(notice).items() if key != "notice"}})

    return _result(await call.state.ask(Op.CONTROL_RELOAD, on_step=on_step))


async def _scale(call: Call) -> object:
    call.only("workers", "least", "most")
    if "workers" in call.args:
        if len(call.args) > 1:
            raise Refused("workers goes without least and most. Give one or the others.")
        least = most = call.whole("workers", 1, MOST_WORKERS)
    else:
        least, most = call.whole("least", 0, MOST_WORKERS, 0), call.whole("most", 0, MOST_WORKERS, 0)
        if not least and not most:
            raise Refused("nothing says how many. Give workers, or least and most.")
        if most and least > most:
            raise Refused(f"least is {least} and most is {most}. Give a least that is not more.")
    call.note(f"scale {least or ''}..{most or ''}")
    return _result(await call.state.ask(Op.CONTROL_SCALE, a=least, b=most))


def _about_a_slot(op: Op) -> Run:
    async def run(call: Call) -> object:
        call.only("slot")
        slot = call.whole("slot", 0, MOST_SLOTS - 1)
        call.note(f"{op.name.removeprefix('CONTROL_').lower()} {slot}")
        return _result(await call.state.ask(op, slot))

    return run


async def _dump(call: Call) -> object:
    call.only("slot")
    slot = call.whole("slot", 0, MOST_SLOTS - 1)
    answer = await call.state.ask(Op.CONTROL_DUMP, slot)
    return {**_result(answer), "slot": slot, "stacks": answer.detail}


async def _set(call: Call) -> object:
    call.only("key", "value")
    key, value = call.args.get("key"), call.args.get("value")
    try:
        number, encoded = knobs.read(key, value)
    except HybridError as error:
        raise Refused(str(error)) from error
    call.note(f"set {key} {value}")
    return _result(await call.state.ask(Op.CONTROL_SET, number, a=encoded))


async def _shutdown(call: Call) -> object:
    call.only("now")
    now = call.flag("now")
    call.note("shutdown now" if now else "shutdown")
    return _result(await call.state.ask(Op.CONTROL_STOP, a=int(now)))


async def _reopen_logs(call: Call) -> object:
    call.only()
    call.note("reopen-logs")
    return _result(await call.state.ask(Op.CONTROL_REOPEN_LOGS))


async def _upgrade(call: Call) -> object:
    call.only()
    call.note("upgrade")
    return _result(await call.state.ask(Op.CONTROL_UPGRADE))


OPS: dict[str, Run] = {
    "status": _status,
    "workers": _workers,
    "watch": _watch,
    "events": _events,
    "config": _config,
    "reload": _reload,
    "scale": _scale,
    "park": _about_a_slot(Op.CONTROL_PARK),
    "unpark": _about_a_slot(Op.CONTROL_UNPARK),
    "drain": _about_a_slot(Op.CONTROL_DRAIN),
    "kill": _about_a_slot(Op.CONTROL_KILL),
    "dump": _dump,
    "set": _set,
    "reopen-logs": _reopen_logs,
    "upgrade": _upgrade,
    "shutdown": _shutdown,
}
"""Every op, by its name. docs/reference/control-protocol.md describes them."""
