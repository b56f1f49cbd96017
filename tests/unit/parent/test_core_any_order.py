"""The parent's rules under any order of events that the kernel, the mold and the workers can bring about."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life
from hybrid.parent import actions as act
from hybrid.parent import core
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.pool import LIVING
from hybrid.shared.boot_report import Report
from tests.unit.parent.world import IMPORTED, KILLED, PLAN, World


class Machine:
    """Children that do whatever the test draws, as the kernel would let them."""

    def __init__(self, plan: p.Plan) -> None:
        self.world = World(plan)
        self.mold = False
        self.asked: list[tuple[int, int]] = []
        self.alive: dict[int, int] = {}
        self.quit: ExitCode | None = None
        self.next_pid = 10

    def see(self, event: ev.Event) -> None:
        for action in self.world.happens(event):
            assert self.quit is None, "an action after Quit"
            if isinstance(action, act.StartMold):
                assert not self.mold, "two molds"
                self.mold = True
            elif isinstance(action, act.Spawn):
                assert self.mold and action.slot not in self.alive, "a spawn into an occupied slot"
                self.asked.append((action.slot, action.ticket))
            elif isinstance(action, act.Signal):
                life = self.world.pool.slots[action.slot].life
                assert life in (Life.DRAINING, Life.KILLING), f"a signal to a worker that is {life.name}"
            elif isinstance(action, act.Quit):
                assert not self.alive and not self.mold, "quit with a child left"
                self.quit = action.code
        serving = [slot for slot in self.world.pool.slots if slot.life in (Life.READY, Life.PARKED)]
        assert all(slot.pid and self.alive.get(slot.index) == slot.ticket for slot in serving), "ready, but not there"

    def options(self) -> list[str]:
        """Return what can happen now."""
        choices = ["time", "stop", "stop now"]
        if self.world.pool.slots:
            choices += ["words"]
        if self.mold:
            choices += ["imported", "import failed", "unsafe", "mold dies"]
        if self.mold and self.asked:
            choices += ["forked", "fork failed"]
        if self.alive:
            choices += ["ready", "worker dies", "worker drains", "boot fails"]
        return choices

    def happen(self, what: str, pick: int) -> None:
        slots = sorted(self.alive)
        slot = slots[pick % len(slots)] if slots else 0
        mold_life = self.world.pool.mold.life
        if what == "time":
            self.world.now += (0.1, 1.0, 40.0, 100.0)[pick % 4]
            self.see(ev.TimePassed())
        elif what in ("stop", "stop now"):
            self.world.now += 0.3
            self.see(ev.Asked(ev.Intent.STOP if what == "stop" else ev.Intent.STOP_NOW, "test"))
        elif what == "mold dies":
            self.mold, self.asked = False, []
            self.see(ev.MoldExited(1, KILLED))
        elif what in ("imported", "import failed", "unsafe") and mold_life is p.MoldLife.IMPORTING:
            unsafe = ev.MoldUnsafe(1, Report("fork safety", "no", "thread", 3))
            failed = ev.MoldImportFailed(1, Report("import", "no", "", 4))
            answers: dict[str, ev.Event] = {"imported": IMPORTED, "import failed": failed, "unsafe": unsafe}
            self.see(answers[what])
        elif what in ("forked", "fork failed"):
            asked, ticket = self.asked.pop(0)
            if what == "forked":
                self.next_pid += 1
                if self.world.pool.slots[asked].ticket == ticket and self.world.pool.slots[asked].life in LIVING:
                    self.alive[asked] = ticket  # else it is no longer waited for: it finds its channel closed
                self.see(ev.Forked(asked, ticket, self.next_pid))
            else:
                self.see(ev.ForkFailed(asked, ticket, "EAGAIN"))
        elif what == "words":
            self.see(self.words(pick))
        elif what == "ready":
            self.see(ev.WorkerReady(slot, self.alive[slot]))
        elif what == "worker drains":
            self.see(ev.WorkerDraining(slot, self.alive[slot], 30.0))
        elif what in ("worker dies", "boot fails"):
            ticket = self.alive.pop(slot)
            report = Report("lifespan", "no", "tb", 3) if what == "boot fails" else Report("ready")
            self.see(ev.WorkerExited(slot, ticket, KILLED, report))

    def words(self, pick: int) -> ev.Event:
        """Return what somebody says at any time: before a fork is reported, after an exit, about any spawn."""
        slot = self.world.pool.slots[pick % len(self.world.pool.slots)]
        ticket = slot.ticket - (pick % 3 == 2)
        said: tuple[ev.Event, ...] = (
            ev.WorkerReady(slot.index, ticket),
            ev.WorkerDraining(slot.index, ticket, float(1 << 63)),
            ev.ForkFailed(slot.index, ticket, "a lie"),
        )
        return said[pick // 5 % len(said)]


OFTEN = ("forked", "ready", "words", "time", "imported", "worker dies")
SOMETIMES = ("mold dies", "fork failed", "worker drains", "boot fails")
RARELY = ("stop", "stop now", "import failed", "unsafe")
"""These end the pool, or most of what it can do: too many of them, and nothing else is ever tried."""
EVENTS = (*OFTEN * 6, *SOMETIMES * 3, *RARELY)


@settings(max_examples=150, deadline=None)
@given(
    choices=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 50)), min_size=40, max_size=60),
    preload=st.sampled_from(["auto", "on", "off"]),
    workers=st.integers(1, 4),
)
def test_any_order_of_events_is_survived(choices: list[tuple[str, int]], preload: str, workers: int) -> None:
    """No order of deaths, answers and wishes breaks a rule; and a stop always ends."""
    machine = Machine(replace(PLAN, preload=preload, workers=workers))
    machine.see(ev.Started())
    for what, pick in choices:
        if machine.quit is None and what in machine.options():
            machine.happen(what, pick)
    for _ in range(200):  # from wherever that led: stop, let everyone who was told to die, die
        if machine.quit is not None:
            break
        machine.happen("stop", 0)
        if machine.alive:
            machine.happen("worker dies", 0)
        if machine.mold:
            machine.happen("mold dies", 0)
    assert machine.quit is not None
    assert core.next_deadline(machine.world.pool) is None
