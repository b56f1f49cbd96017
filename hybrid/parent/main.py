"""The parent's shell: owns the descriptors, runs one poll loop, turns the world into events and actions into calls.

What it never does: import the app or asyncio, wait for a lock or a slow disk, parse what another process wrote.
Whatever the kernel refuses becomes an event for :mod:`hybrid.parent.core`, which decides.

What the children say is heard in :mod:`hybrid.parent.children`; what the parent does about connections, in
:mod:`hybrid.parent.porter`.

Source: poll(2), signal(7).
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest

from hybrid import __version__
from hybrid.ground.clock import monotonic, monotonic_ns
from hybrid.ground.errors import ExitCode, HybridError
from hybrid.ground.states import Life, Readiness
from hybrid.parent import actions as act
from hybrid.parent import core, upgrading
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.children import Children
from hybrid.parent.controlling import Controlling, Hand
from hybrid.parent.edition import Edition, Editions, plan_of
from hybrid.parent.handover import Handover
from hybrid.parent.house import House
from hybrid.parent.passing import Passing
from hybrid.parent.pool_news import PoolNews
from hybrid.parent.porter import PerSlot, Porter
from hybrid.parent.pulse import Nurse
from hybrid.parent.sizer import Sizer
from hybrid.parent.spawn import Child, Heirloom, ask_for_worker, send_listeners, start_mold
from hybrid.parent.upgrade import Upgrade
from hybrid.parent.watch import Watch, patience_ms, sooner
from hybrid.parent.watching import Watching
from hybrid.shared import messages
from hybrid.shared.messages import Op, Record
from hybrid.shared.scoreboard import Cell

INTENTS = {
    signal.SIGTERM: ev.Intent.STOP,
    signal.SIGINT: ev.Intent.STOP,
    signal.SIGQUIT: ev.Intent.STOP_NOW,
    signal.SIGUSR1: ev.Intent.REOPEN_LOGS,
    signal.SIGHUP: ev.Intent.RELOAD,
    signal.SIGTTIN: ev.Intent.MORE,
    signal.SIGTTOU: ev.Intent.FEWER,
    signal.SIGWINCH: ev.Intent.PARK,
    signal.SIGUSR2: ev.Intent.UPGRADE,
}

LATE_S = 1.0
"""A turn of the loop that comes later than this after its time shows that the parent, or the machine, was held up."""


class Parent:
    """One running pool.

    Runs in: parent. Closes: everything in its :class:`~hybrid.parent.house.House`, before :meth:`run` returns.
    """

    def __init__(self, house: House, pool: p.Pool, held: Handover | None = None) -> None:
        """``held``: of the program that was in this process before us."""
        self._house = house
        self._pool = pool
        self._watch = Watch()
        self._events: deque[ev.Event] = deque([ev.Started() if held is None else ev.TimePassed()])
        self._porter = _porter_for(house, self._watch)
        self._children = Children(self._watch, self._events, lambda: self._pool, self._porter)
        self._news = PoolNews(house)
        first = Edition(house.settings, house.settings_fd)
        self._editions = Editions(first, pool.generation, self._children, house.log)
        self._watching = Watching(house, self._children, lambda: self._editions.current, self._on_change)
        self._nurse = Nurse(house, lambda: self._pool, self._children.workers)
        self._controlling = Controlling(house, self._children, self._editions, lambda: self._pool)
        self._controlling.obey(Hand(house, self._children, self._editions, self._nurse))
        self._upgrade = Upgrade(house, self._children, self._watch, self._state)
        memory = held.sizing if held is not None else None
        self._sizer = Sizer(house, lambda: self._pool, self._porter, self._events, memory)
        if held is not None:
            self._porter.take_over(held.queues)
            self._children.take_over(held.molds, held.workers)
            self._porter.time_passed()
        self._exit_code: ExitCode | None = None
        self._actions: dict[type, Callable[..., None]] = {
            act.StartMold: self._start_mold,
            act.EndMold: self._end_mold,
            act.Spawn: self._spawn,
            act.Tell: self._tell,
            act.Signal: self._signal,
            act.Vacate: self._vacate,
            act.Write: self._write,
            act.Resized: self._leave_to_control,
            act.Answer: self._leave_to_control,
            act.Announce: self._announce,
            act.Fail: self._fail,
            act.Resolve: self._resolve,
            act.EndResolver: self._end_resolver,
            act.Adopt: self._adopt,
            act.Discard: self._discard,
            act.CheckUpgrade: self._check_upgrade,
            act.CarryOutUpgrade: self._carry_out_upgrade,
            act.Unready: self._unready,
            act.StopListening: self._stop_listening,
            act.ReopenLogs: self._reopen_logs,
            act.Quit: self._quit,
        }

    # ── the loop ──

    def run(self) -> ExitCode:
        """Run until no child is left; return what the command exits with."""
        self._watch.add(self._house.wakeup.fileno(), self._on_signals)
        if self._house.host is not None:
            self._watch.add(self._house.host.fileno(), self._on_host)
        self._watching.start()
        self._controlling.start()
        due: float | None = None
        turned = monotonic()
        while True:
            if self._events:
                self._decide()
                self._children.reap_strangers()
                due = core.next_deadline(self._pool)
            if self._exit_code is not None and self._watching.is_over and self._controlling.is_over:
                self._porter.close()
                self._sizer.close()
                return self._exit_code
            if self._upgrade.is_due:
                self._carry_out_upgrade_now()
            if self._events:
                continue
            # A connection that is passed on is none of the core's business, so it costs no step of it.
            other = sooner(sooner(self._porter.deadline, self._watching.deadline), self._news.deadline)
            other = sooner(other, self._controlling.deadline)
            wake = sooner(sooner(due, other), sooner(self._nurse.deadline, self._upgrade.deadline))
            wake = sooner(wake, self._sizer.deadline)
            self._watch.wait(patience_ms(wake, monotonic()))
            now = monotonic()
            if wake is not None and (late_s := now - max(wake, turned)) > LATE_S:
                self._events.appendleft(ev.HeldUp(late_s))  # first: what was said meanwhile is heard in time
            turned = now
            self._news.time_passed(now)
            if due is not None and due <= now:
                self._events.append(ev.TimePassed())
            if self._porter.deadline is not None and self._porter.deadline <= now:
                self._porter.time_passed()
            self._watching.time_passed()
            self._controlling.time_passed()
            self._upgrade.time_passed()
            if self._nurse.deadline <= now:
                self._nurse.time_passed()
            self._sizer.time_passed()

    def _decide(self) -> None:
        while self._events and self._exit_code is None:
            before, event = self._pool, self._events.popleft()
            self._pool, actions = core.step(before, event, monotonic())
            self._publish(before)  # before anybody is told: who hears "ready" finds it in the scoreboard
            for action in actions:
                self._actions[type(action)](action)
            self._news.follow(self._pool, monotonic())
            self._controlling.follow(before, actions, event)
        if self._exit_code is not None:
            self._events.clear()  # nobody decides any more: the loop is to wait for the watcher, not to turn for these
            self._controlling.end()  # now that it has heard of the last step

    def _publish(self, before: p.Pool) -> None:
        """Write what changed into the parent's line of each row."""
        for slot, old in zip_longest(self._pool.slots, before.slots):  # slots are added, and none is taken away
            if slot is not old and (slot.life is not Life.VACANT or old is not None):
                row = self._house.scoreboard.row(slot.index)
                row[Cell.LIFE], row[Cell.PID] = slot.life, slot.pid if slot.life is not Life.VACANT else 0
        if self._pool.replaced is not before.replaced:
            self._house.scoreboard.replaced = self._pool.replaced

    # ── the world → events ──

    def _on_signals(self) -> None:
        for number in self._house.wakeup.take():
            if number == signal.SIGWINCH and has_terminal():
                continue  # somebody resizes his window
            if number in INTENTS:
                source = signal.Signals(number).name
                self._events.append(ev.Asked(INTENTS[signal.Signals(number)], source, loads=self._sizer.loads()))
            elif number == signal.SIGCHLD:
                self._events.append(ev.TimePassed())  # a child of ours has its pidfd; a stranger is reaped after this

    def _on_host(self) -> None:
        host = self._house.host
        assert host is not None
        record, descriptors, is_open = messages.receive(host)
        for fd in descriptors:
            os.close(fd)
        if not is_open:
            self._watch.drop(host.fileno())
            self._events.append(ev.Asked(ev.Intent.STOP, "the program that started this server is gone"))
        elif record is not None and record.op is Op.HOST_DRAIN:
            self._events.append(ev.Asked(ev.Intent.STOP, "asked by the program", record.a / 1000))

    def _on_change(self) -> None:
        self._events.append(ev.Asked(ev.Intent.RELOAD, "a file changed"))

    # ── actions → calls ──

    def _start_mold(self, action: act.StartMold) -> None:
        house, edition = self._house, self._editions[action.generation]
        heirloom = Heirloom(
            settings_fd=edition.fd,
            scoreboard_fd=house.scoreboard.fd,
            life_fd=house.life_read,
            log_fd=house.log.fd,
            access_fd=house.access_fd,
            addresses=house.addresses,
        )
        try:
            mold = start_mold(heirloom, edition.settings, action.generation, action.preload, house.identity)
        except OSError as error:
            house.log.write("error", f"cannot start the mold: {error.strerror}")
            self._events.append(ev.MoldExited(action.generation, ev.Exit(code=127)))
            return
        self._children.watch_mold(action.generation, mold)
        try:
            send_listeners(mold, self._porter.for_new_mold())
        except OSError:
            mold.kill(signal.SIGKILL)  # it died already; or has not got all, and must not fork

    def _end_mold(self, action: act.EndMold) -> None:
        mold = self._children.molds.get(action.generation)
        if mold is None:
            return
        if action.kill:
            mold.kill(signal.SIGKILL)
            return
        try:
            messages.send(mold.channel, Record(Op.LEAVE))
        except OSError:
            pass  # it died already, or does not read: its deadline stands

    def _spawn(self, action: act.Spawn) -> None:
        row = self._house.scoreboard.use_slot(action.slot)
        row[Cell.LIFE], row[Cell.GENERATION], row[Cell.SPAWNED_NS] = Life.STARTING, action.generation, monotonic_ns()
        row[Cell.SPAWNS], row[Cell.SEAT] = self._pool.slots[action.slot].spawns, action.seat
        try:
            mold = self._children.molds.get(action.generation)
            if mold is None:
                raise OSError(0, "the mold is gone")
            self._complete(mold)
            ends = self._porter.ends_for(action.slot)
            child = ask_for_worker(mold, action, ends)
        except (OSError, HybridError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._events.append(ev.ForkFailed(action.slot, action.ticket, reason))
            return
        self._children.workers[action.slot] = child

    def _complete(self, mold: Child) -> None:
        """Give the mold the listening sockets that it lacks. Raises: OSError, HybridError: it must not fork."""
        missing = self._porter.before_spawn(self._pool.most_seats)
        try:
            send_listeners(mold, missing)
        except OSError:
            mold.kill(signal.SIGKILL)  # its successor gets all of them at once
            raise

    def _tell(self, action: act.Tell) -> None:
        child = self._children.workers.get(action.slot)
        if child is not None:
            try:
                messages.send(child.channel, Record(action.op, action.slot, a=action.a, b=action.b, c=action.c))
            except OSError:
                pass  # gone (its pidfd tells) or stopped with a full channel (its deadline stands)

    def _signal(self, action: act.Signal) -> None:
        child = self._children.workers.get(action.slot)
        if child is not None:
            child.kill(action.number)

    def _vacate(self, action: act.Vacate) -> None:
        self._children.forget_worker(action.slot)
        self._house.scoreboard.retire(action.slot)  # VACANT is 0

    def _write(self, action: act.Write) -> None:
        self._house.log.write(action.level, action.message, action.detail)

    def _leave_to_control(self, action: act.Resized | act.Answer) -> None:
        """Nothing is left to be done: whoever tells control what is new tells it this, too."""

    def _announce(self, action: act.Announce) -> None:
        self._house.served = self._children.served
        self._house.announce(self._pool.size_reason, action.workers, action.seconds, self._pool.mold.preload)

    def _fail(self, action: act.Fail) -> None:
        self._house.tell_failure(action.code, action.message, action.detail)

    def _resolve(self, action: act.Resolve) -> None:
        self._editions.resolve(action.generation)

    def _end_resolver(self, action: act.EndResolver) -> None:
        self._editions.end_resolver()

    def _adopt(self, action: act.Adopt) -> None:
        self._house.adopt(self._editions.adopt(action.generation))

    def _discard(self, action: act.Discard) -> None:
        self._editions.discard(action.generation)

    def _check_upgrade(self, action: act.CheckUpgrade) -> None:
        self._upgrade.check()

    def _carry_out_upgrade(self, action: act.CarryOutUpgrade) -> None:
        self._upgrade.is_due = True

    def _carry_out_upgrade_now(self) -> None:
        """Become the new program, unless it was decided meanwhile to stop."""
        if upgrading.is_quiet(self._pool):
            self._upgrade.carry_out()
        else:
            self._upgrade.is_due = False

    def _state(self) -> Handover:
        """Return what a new program in this process needs to go on."""
        pool = replace(self._pool, upgrade=p.UpgradeStage.NONE)
        self._house.news = self._controlling.ledger.held()
        held = self._house.held(pool, self._porter.held(), self._children.held())
        return replace(held, sizing=self._sizer.memory)

    def _unready(self, action: act.Unready) -> None:
        self._house.scoreboard.readiness = Readiness.LEAVING

    def _stop_listening(self, action: act.StopListening) -> None:
        self._watching.end()
        self._porter.stop_listening()

    def _reopen_logs(self, action: act.ReopenLogs) -> None:
        for which, fd in self._house.reopen_logs(action.source).items():
            for child in self._children.all():
                try:
                    messages.send(child.channel, Record(Op.REOPEN_LOGS, a=which), (fd,))
                except OSError as error:
                    self._house.log.write("warning", f"process {child.pid} keeps the old log file: {error.strerror}")
            os.close(fd)

    def _quit(self, action: act.Quit) -> None:
        self._exit_code = action.code


def _porter_for(house: House, watch: Watch) -> Porter:
    """Return the parent's part in the way of accepting that was asked for."""
    bind = house.settings.bind
    if bind.accept == "passing":
        return Passing(house, watch)
    if bind.accept == "reuseport":
        return PerSlot(house, bind.backlog)
    return Porter(house)


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal. Source: tty(4)."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def go_on(house: House, held: Handover) -> ExitCode:
    """Run the pool of the program that was in this process before us; return the exit code."""
    house.take_over(held)
    parent = Parent(house, held.pool, held)
    workers = sum(slot.wanted for slot in held.pool.slots)
    house.log.info(
        f"upgraded: hybrid {__version__} in the place of {held.version}; generation {held.pool.generation} with "
        f"{workers} worker{'s' if workers != 1 else ''} serves on"
    )
    return parent.run()


def run(house: House) -> ExitCode:
    """Run a pool in ``house`` until it has left; return the exit code."""
    return Parent(house, p.Pool(plan_of(house.settings))).run()
