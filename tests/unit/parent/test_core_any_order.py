"""The parent's rules under any order of events that the kernel, the molds and the workers can bring about."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Cause, Life
from hybrid.parent import actions as act
from hybrid.parent import core
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.pool import LIVING
from hybrid.parent.reload_stages import Stage
from hybrid.shared.boot_report import Report
from hybrid.shared.pool_size import parse
from tests.unit.parent.world import IMPORTED, KILLED, PLAN, World


class Machine:
    """Children that do whatever the test draws, as the kernel would let them."""

    def __init__(self, plan: p.Plan) -> None:
        self.world = World(plan)
        self.molds: set[int] = set()
        self.asked: list[act.Spawn] = []
        self.alive: dict[int, int] = {}
        self.resolving = 0
        self.quit: ExitCode | None = None
        self.next_pid = 10

    def see(self, event: ev.Event) -> None:
        for action in self.world.happens(event):
            assert self.quit is None, "an action after Quit"
            self.do(action)
        pool = self.world.pool
        serving = [slot for slot in pool.slots if slot.life in p.SERVING]
        assert all(slot.pid and self.alive.get(slot.index) == slot.ticket for slot in serving), "ready, but not there"
        seats = [(slot.generation, slot.seat) for slot in pool.slots if slot.wanted and not slot.worn]
        assert pool.phase >= p.Phase.STOPPING or len(seats) == len(set(seats)), "two in one seat"
        if pool.reload.stage is Stage.IDLE and pool.phase < p.Phase.STOPPING:
            assert all(slot.generation == pool.generation for slot in pool.slots if slot.wanted), "a stray generation"
            serving = [slot for slot in pool.slots if slot.wanted and slot.duty is p.Duty.SERVE]
            parked = [slot for slot in serving if slot.life is Life.PARKED]
            assert not parked or pool.stance is p.Stance.PARKED, "parked for nothing"
            idle = [slot for slot in pool.slots if slot.life is Life.READY and slot.duty is not p.Duty.SERVE]
            assert not idle, "accepts, and is not to"
            spares = {slot.seat for slot in pool.slots if slot.wanted and slot.duty is p.Duty.SPARE}
            ready = [s for s in pool.slots if s.wanted and s.duty is p.Duty.SPARE and s.life is Life.PARKED]
            if pool.target:
                assert len(spares) >= pool.standby, "too few stand by"
                assert pool.is_sized or len(spares) == pool.standby, "too many stand by"
                assert not ready or pool.stance is p.Stance.PARKED or self.all_there(), "one stands by, one is missing"
                held = {slot.seat for slot in pool.slots if slot.wanted and slot.duty is p.Duty.HELD}
                held = set() if pool.is_sized else held
                taken = {slot.seat for slot in serving}
                assert pool.least <= pool.target <= pool.most, "outside of the bounds"
                assert len(taken) == max(0, pool.target - len(held)), "another size"

    def all_there(self) -> bool:
        """Return whether somebody is in each seat that is to serve, and does not boot any more."""
        serving = [slot for slot in self.world.pool.slots if slot.wanted and slot.duty is p.Duty.SERVE]
        booting = (Life.VACANT, Life.STARTING)
        return {s.seat for s in serving} == {s.seat for s in serving if s.life not in booting}

    def do(self, action: act.Action) -> None:
        if isinstance(action, act.StartMold):
            assert action.generation not in self.molds, "two molds of a generation"
            self.molds.add(action.generation)
        elif isinstance(action, act.Spawn):
            assert action.generation in self.molds and action.slot not in self.alive, "a spawn into an occupied slot"
            self.asked.append(action)
        elif isinstance(action, act.Signal):
            life = self.world.pool.slots[action.slot].life
            assert life in (Life.DRAINING, Life.KILLING), f"a signal to a worker that is {life.name}"
        elif isinstance(action, act.Resolve):
            assert not self.resolving, "two resolvers"
            self.resolving = action.generation
        elif isinstance(action, act.EndResolver):
            self.resolving = 0
        elif isinstance(action, act.Quit):
            assert not self.alive and not self.molds, "quit with a child left"
            self.quit = action.code

    def options(self) -> list[str]:
        """Return what can happen now."""
        choices = ["time", "stop", "stop now", "reload", "more", "fewer", "park", "sized", "scaled"]
        choices += ["standby", "held up", "upgrade", "upgrade checked"]
        if self.world.pool.slots:
            choices += ["words", "by hand"]
        if self.molds:
            choices += ["imported", "import failed", "unsafe", "mold dies"]
        if any(spawn.generation in self.molds for spawn in self.asked):
            choices += ["forked", "fork failed"]
        if self.alive:
            choices += ["ready", "worker dies", "worker drains", "boot fails", "worn"]
        if self.resolving:
            choices += ["resolved", "unresolved"]
        return choices

    def happen(self, what: str, pick: int) -> None:
        intents = {"stop": ev.Intent.STOP, "stop now": ev.Intent.STOP_NOW, "reload": ev.Intent.RELOAD}
        intents |= {"more": ev.Intent.MORE, "fewer": ev.Intent.FEWER, "park": ev.Intent.PARK}
        if what == "time":
            self.world.now += (0.1, 1.0, 40.0, 100.0)[pick % 4]
            self.see(ev.TimePassed())
        elif what in intents:
            self.world.now += 0.3
            self.see(ev.Asked(intents[what], "test"))
        elif what in ("mold dies", "imported", "import failed", "unsafe"):
            self.happen_to_mold(what, sorted(self.molds)[pick % len(self.molds)])
        elif what in ("forked", "fork failed"):
            self.answer(what, next(spawn for spawn in self.asked if spawn.generation in self.molds))
        elif what == "words":
            self.see(self.words(pick))
        elif what in WISHES:
            self.see(self.wish(what, pick))
        elif what in ("resolved", "unresolved"):
            generation, self.resolving = self.resolving, 0
            size = parse(("auto..", "1..3", "2..5")[pick % 3]) if pick % 2 else None
            preload = ("auto", "on", "off")[pick % 3]
            plan = replace(PLAN, workers=1 + pick % 4, size=size, standby=pick % 5 // 2, preload=preload)
            report = Report("resolve", "no such option")
            self.see(ev.Resolved(generation, plan) if what == "resolved" else ev.ResolveFailed(generation, report))
        else:
            self.happen_to_worker(what, sorted(self.alive)[pick % len(self.alive)])

    def happen_to_mold(self, what: str, generation: int) -> None:
        mold = self.world.pool.mold_of(generation)
        if what == "mold dies":
            self.molds.discard(generation)
            self.asked = [spawn for spawn in self.asked if spawn.generation != generation]
            self.see(ev.MoldExited(generation, KILLED))
        elif mold is not None and mold.life is p.MoldLife.IMPORTING:
            unsafe = ev.MoldUnsafe(generation, Report("fork safety", "no", "thread", 3))
            failed = ev.MoldImportFailed(generation, Report("import", "no", "", 4))
            imported = replace(IMPORTED, generation=generation)
            answers: dict[str, ev.Event] = {"imported": imported, "import failed": failed, "unsafe": unsafe}
            self.see(answers[what])

    def answer(self, what: str, spawn: act.Spawn) -> None:
        self.asked.remove(spawn)
        if what == "forked":
            self.next_pid += 1
            slot = self.world.pool.slots[spawn.slot]
            if slot.ticket == spawn.ticket and slot.life in LIVING:
                self.alive[spawn.slot] = spawn.ticket  # else it is no longer waited for: it finds its channel closed
            self.see(ev.Forked(spawn.slot, spawn.ticket, self.next_pid))
        else:
            self.see(ev.ForkFailed(spawn.slot, spawn.ticket, "EAGAIN"))

    def happen_to_worker(self, what: str, slot: int) -> None:
        if what == "ready":
            self.see(ev.WorkerReady(slot, self.alive[slot]))
        elif what == "worn":
            self.see(ev.WornOut(slot, self.alive[slot], "it is old", Cause.LIFETIME))
        elif what == "worker drains":
            self.see(ev.WorkerDraining(slot, self.alive[slot], 30.0))
        else:
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
            ev.WornOut(slot.index, ticket, "a lie", Cause.MEMORY),
        )
        return said[pick // 5 % len(said)]

    def wish(self, what: str, pick: int) -> ev.Event:
        """Return what the sizing, or somebody, wants; or what befalls the parent."""
        others: dict[str, ev.Event] = {
            "standby": ev.StandbyAsked(pick % 4, "test", pick),
            "held up": ev.HeldUp(pick),
            "upgrade": ev.Asked(ev.Intent.UPGRADE, "test"),
            "upgrade checked": ev.UpgradeChecked(Report(error="no" if pick % 2 else "")),
        }
        if what in others:
            return others[what]
        count = len(self.world.pool.slots)
        loads = tuple((pick * each) % 3 for each in range(count))
        if what == "sized":
            return ev.Sized(pick % 7, "because", loads=loads, linger_s=pick % 3)
        if what == "scaled":
            return ev.ScaleAsked(pick % 4, pick % 7, "test", pick, loads)
        return ev.SlotAsked(pick % (count + 1), ev.SlotIntent(pick // 4 % 4), "test", pick)

    def ends(self) -> None:
        """From wherever that led: stop, let everyone who was told to die, die."""
        for _ in range(300):
            if self.quit is not None:
                break
            self.happen("stop", 0)
            if self.alive:
                self.happen("worker dies", 0)
            if self.molds:
                self.happen("mold dies", 0)


OFTEN = ("forked", "ready", "words", "time", "imported", "worker dies", "resolved")
SOMETIMES = (
    *("mold dies", "fork failed", "worker drains", "boot fails", "reload", "worn", "more", "fewer"),
    *("sized", "sized", "scaled", "by hand", "by hand", "standby", "held up"),
)
WISHES = ("sized", "scaled", "by hand", "standby", "held up", "upgrade", "upgrade checked")
RARELY = ("stop", "stop now", "import failed", "unsafe", "park", "unresolved", "upgrade", "upgrade checked")
"""These end the pool, or most of what it can do: too many of them, and nothing else is ever tried."""
EVENTS = (*OFTEN * 6, *SOMETIMES * 3, *RARELY)
SIZES = st.one_of(
    st.integers(1, 4).map(lambda workers: replace(PLAN, workers=workers)),
    st.tuples(st.sampled_from(["1..4", "2..3", "auto.."]), st.integers(0, 2)).map(
        lambda drawn: replace(PLAN, size=parse(drawn[0]), standby=drawn[1])
    ),
)
"""Fixed and not, with standbys and without."""
SMOOTH = ("forked", "ready", "imported", "resolved", "time", "reload", "worn")
"""What happens when all goes well."""


@settings(max_examples=150, deadline=None)
@given(
    choices=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 50)), min_size=40, max_size=80),
    preload=st.sampled_from(["auto", "on", "off"]),
    size=SIZES,
)
def test_any_order_of_events_is_survived(choices: list[tuple[str, int]], preload: str, size: p.Plan) -> None:
    """No order of deaths, answers and wishes breaks a rule; and a stop always ends."""
    machine = Machine(replace(size, preload=preload))
    machine.see(ev.Started())
    for what, pick in choices:
        if machine.quit is None and what in machine.options():
            machine.happen(what, pick)
    machine.ends()
    assert machine.quit is not None
    assert core.next_deadline(machine.world.pool) is None


@settings(max_examples=100, deadline=None)
@given(
    before=st.lists(st.tuples(st.sampled_from((*OFTEN, *SOMETIMES)), st.integers(0, 50)), min_size=30, max_size=60),
    size=SIZES,
)
def test_pool_is_whole_again_after_anything(before: list[tuple[str, int]], size: p.Plan) -> None:
    """When whatever went wrong is over, the pool has as many workers as it should, all of one generation."""
    machine = Machine(size)
    machine.see(ev.Started())
    for what in ("imported", *("forked", "ready") * 4):
        if what in machine.options():
            machine.happen(what, len(machine.alive) - 1)
    for what, pick in before:
        if machine.quit is None and what in machine.options():
            machine.happen(what, pick)
    for _ in range(60):  # all goes well from now on
        for what in ("time", "resolved", *("imported",) * 3, *("forked",) * 8):
            if what in machine.options():
                for generation in sorted(machine.molds) if what == "imported" else [0]:
                    machine.happen(what, sorted(machine.molds).index(generation) if generation else 2)
        for slot in list(machine.alive):
            pool = machine.world.pool
            leaves = pool.slots[slot].life in (Life.DRAINING, Life.KILLING)
            machine.happen_to_worker("worker dies" if leaves else "ready", slot)
        for mold in machine.world.pool.molds:
            if mold.life is p.MoldLife.LEAVING and mold.generation in machine.molds:
                machine.happen_to_mold("mold dies", mold.generation)
    pool = machine.world.pool
    if pool.phase is p.Phase.RUNNING:
        wanted = [slot for slot in pool.slots if slot.wanted]
        assert all(slot.life in p.SERVING for slot in wanted)
        assert {slot.generation for slot in wanted} == {pool.generation}
        assert len({slot.seat for slot in wanted}) == len(wanted)
        spares = sum(slot.duty is p.Duty.SPARE for slot in wanted)
        assert spares >= pool.standby if pool.is_sized else spares == pool.standby
        if not any(slot.duty is p.Duty.HELD for slot in wanted):
            assert len(wanted) == pool.target + spares
        assert [mold.life for mold in pool.molds] == [p.MoldLife.READY]
        assert pool.reload.stage is Stage.IDLE
