"""How many workers serve, and how many stand by. Rules of :mod:`hybrid.parent.core`.

The pool grows by whoever is there first: a parked worker accepts again in milliseconds, a fresh one has to boot. It
shrinks by parking the emptiest, which goes on serving what it holds and can be called back as fast; only when it has
held nothing for a while, and nobody needs it to stand by, it leaves. No work is ever cut off for the size's sake.

A pool of fixed size does not keep whom it does not need: they drain at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hybrid.ground.states import Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.auto_size import auto_workers
from hybrid.parent.draft import Draft
from hybrid.parent.stopping import retire
from hybrid.shared.pool_size import PoolSize
from hybrid.shared.settings import MOST_WORKERS

Loads = Sequence[int]
"""Open connections of each slot, as the scoreboard has them; of one that is missing nothing is known."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the settings of a generation come to on this machine. ``reason``: for the boot line."""

    least: int
    most: int
    reason: str


def bounds_of(plan: p.Plan, event: ev.MoldImported) -> Bounds:
    """Return between how many workers the pool is to be, and why."""
    size = plan.size or PoolSize(plan.workers, plan.workers)
    if not size.asks_the_machine:
        return Bounds(*size.bounds(0, MOST_WORKERS), "as asked")
    auto, words = auto_workers(event.cpus, event.memory)
    least, most = size.bounds(auto, MOST_WORKERS)
    return Bounds(least, most, f"{least} to {most}; {words}" if size.is_range else words)


def sized(draft: Draft, event: ev.Sized) -> None:
    """Take what the sizing has decided; park, un-park, start, or let go."""
    pool = draft.pool
    if not pool.target or is_held_up(pool):
        return
    target = max(pool.least, min(pool.most, event.target))
    if target != pool.target:
        resize(draft, target, event.reason, event.inputs)
        draft.write("info", f"sizing: {event.reason}")
    elif event.is_barred:
        draft.write("info", f"sizing: more would be wanted: {event.reason}")
        draft.do(act.Resized(target, target, event.reason, event.inputs))
    fit(draft, event.loads)
    _let_one_go(draft, event)


def is_held_up(pool: p.Pool) -> bool:
    """Return whether the size stays as it is for now: what was measured is not about the pool as it will be."""
    return (
        pool.phase is not p.Phase.RUNNING
        or pool.stance is p.Stance.PARKED
        or pool.stop_step is not p.StopStep.NONE
        or pool.reload.generation > pool.generation
    )


def resize(draft: Draft, target: int, reason: str, inputs: tuple[tuple[str, float], ...] = ()) -> None:
    """Let ``target`` workers serve, and say why. Who comes and who goes follows from it: :func:`fit`."""
    pool = draft.pool
    draft.pool = replace(pool, target=target, size_reason=reason)
    draft.do(act.Resized(pool.target, target, reason, inputs))


# ── seats ────────────────────────────────────────────────────────────────────────────────────────────────────


def fit(draft: Draft, loads: Loads = (), keep: int | None = None) -> None:
    """Have as many serve, and as many stand by, as are wanted. Not while a reload brings others.

    ``keep``: the seat of one that is to serve, whoever else may be too many.
    """
    seats = _Seats(draft)
    serving = seats.of(p.Duty.SERVE)
    held = [] if draft.pool.is_sized else seats.of(p.Duty.HELD)  # one that is sized can do without them
    surplus = len(serving) + len(held) - draft.pool.target
    if surplus < 0:
        _grow(draft, seats, -surplus)
    elif surplus:
        for seat in held[:surplus]:  # they accept nothing: were others let go, in the end nobody would
            seats.give_up(seat)
        _shrink(draft, seats, loads, [seat for seat in serving if seat != keep], max(0, surplus - len(held)))
    _stand_in(draft, seats)
    _stand_by(draft, seats)


class _Seats:
    """The seats of the pool, and who is in them: one worker, or two while one takes over from the other."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._held: dict[int, list[int]] = {}
        for slot in draft.pool.slots:
            if slot.wanted:
                self._held.setdefault(slot.seat, []).append(slot.index)
        self._next_free = 0

    def slots(self, seat: int) -> list[p.Slot]:
        """Return the slots of ``seat`` as they are now."""
        return [self._draft.pool.slots[index] for index in self._held[seat]]

    def of(self, duty: p.Duty) -> list[int]:
        """Return the seats whose worker is there for ``duty``."""
        slots = self._draft.pool.slots
        return [seat for seat, held in self._held.items() if slots[held[0]].duty is duty]

    def parked_spares(self) -> list[int]:
        """Return the seats of those who can accept at once; whoever was parked last, last."""
        found: dict[int, float] = {}  # in a seat with two of them, one boots to take the other's place
        for seat in self.of(p.Duty.SPARE):
            for slot in self.slots(seat):
                if slot.life is Life.PARKED:
                    found[seat] = slot.since
        return sorted(found, key=lambda seat: (found[seat], seat))

    def assign(self, seat: int, duty: p.Duty) -> None:
        """Let the worker in ``seat`` be there for ``duty``."""
        for slot in self.slots(seat):
            assign(self._draft, slot, duty)

    def claim(self, duty: p.Duty) -> None:
        """Have a worker more, in the first free seat."""
        while self._next_free in self._held:
            self._next_free += 1
        slot = self._draft.claim(self._next_free, self._draft.pool.generation, duty)
        if slot is not None:
            self._held[slot.seat] = [slot.index]

    def give_up(self, seat: int) -> None:
        """Want nobody in ``seat``."""
        for slot in self.slots(seat):
            retire(self._draft, slot)
        del self._held[seat]
        self._next_free = 0


def assign_seat(draft: Draft, of: p.Slot, duty: p.Duty) -> None:
    """Do the same for the worker in the slot ``of``, and for whoever is to take over its seat."""
    for slot in draft.pool.slots:
        if slot.wanted and slot.seat == of.seat and slot.generation == of.generation:
            assign(draft, slot, duty)


def assign(draft: Draft, slot: p.Slot, duty: p.Duty) -> None:
    """Let the worker in ``slot`` be there for ``duty``, and have it accept, or not, as that takes."""
    slot = draft.put(replace(slot, duty=duty))
    accepts = duty is p.Duty.SERVE and draft.pool.stance is p.Stance.ACCEPTING and not draft.pool.is_replaced(slot)
    if slot.life is Life.PARKED and accepts:
        draft.unpark(slot)
    elif slot.life is Life.READY and not accepts:
        draft.park(slot)


def _grow(draft: Draft, seats: _Seats, count: int) -> None:
    """Have ``count`` more serve: whoever is parked, whoever boots to stand by, and fresh ones."""
    parked = seats.parked_spares()
    others = [seat for seat in seats.of(p.Duty.SPARE) if seat not in parked]
    ready = others + parked
    for _ in range(count):
        if ready:
            seats.assign(ready.pop(), p.Duty.SERVE)
        else:
            seats.claim(p.Duty.SERVE)


def _shrink(draft: Draft, seats: _Seats, loads: Loads, serving: list[int], count: int) -> None:
    """Have ``count`` fewer serve: whoever is not there yet, then the emptiest; of a fixed size, the last seats."""
    if not draft.pool.is_sized and not loads:
        serving.sort(reverse=True)
    else:
        serving.sort(key=lambda seat: (_weight(seats.slots(seat), loads), -seat))
    for seat in serving[:count]:
        if draft.pool.is_sized and any(slot.life is not Life.VACANT for slot in seats.slots(seat)):
            seats.assign(seat, p.Duty.SPARE)
        else:
            seats.give_up(seat)


def _weight(slots: Iterable[p.Slot], loads: Loads) -> tuple[int, int]:
    """Return what is to be compared, to find whose clients are disturbed least."""
    is_there = any(slot.life in p.SERVING for slot in slots)
    return int(is_there), sum(loads[slot.index] for slot in slots if slot.index < len(loads))


def _stand_in(draft: Draft, seats: _Seats) -> None:
    """Let a parked worker take over where one is missing; whoever comes up there stands by instead."""
    if draft.pool.stance is p.Stance.PARKED:
        return
    parked = seats.parked_spares()
    if not parked:
        return
    for seat in seats.of(p.Duty.SERVE):
        if parked and all(slot.life in (Life.VACANT, Life.STARTING) for slot in seats.slots(seat)):
            seats.assign(seat, p.Duty.SPARE)
            seats.assign(parked.pop(), p.Duty.SERVE)


def _stand_by(draft: Draft, seats: _Seats) -> None:
    """Have as many spares as are to stand by; of more, let go of those that nobody could un-park anyway."""
    spares = seats.of(p.Duty.SPARE)
    for _ in range(draft.pool.standby - len(spares)):
        seats.claim(p.Duty.SPARE)
    surplus = len(spares) - draft.pool.standby
    for seat in reversed(spares):
        slots = seats.slots(seat)
        if surplus > 0 and (not draft.pool.is_sized or all(slot.life is Life.VACANT for slot in slots)):
            surplus -= 1
            seats.give_up(seat)


def _let_one_go(draft: Draft, event: ev.Sized) -> None:
    """Let one parked worker leave that nobody needs, if it has held nothing for a while: the oldest of them."""
    seats = _Seats(draft)
    if len(seats.of(p.Duty.SPARE)) <= draft.pool.standby:
        return
    for seat in seats.parked_spares():
        slots = seats.slots(seat)
        is_idle = all(draft.now - slot.since >= event.linger_s for slot in slots)
        if is_idle and not any(event.loads[slot.index : slot.index + 1] != (0,) for slot in slots):
            who = next(f"worker {slot.index} (pid {slot.pid})" for slot in slots if slot.life is Life.PARKED)
            draft.write("info", f"{who} leaves: it is parked, holds nothing, and need not stand by")
            seats.give_up(seat)
            return
