"""The parent's side of control: starts it when somebody knocks, tells it what is new, hears its wishes, replaces it.

Nobody may need control at all, so none runs until the control socket has a visitor: the parent polls the listening
socket, and accepts nothing from it. Where there are other doors (``--metrics-bind``, ``--agent-bind``) one runs from
the start. The parent never waits for it: what it says goes through an :class:`~hybrid.parent.outbox.Outbox`.

Control holds nothing that is not to be had again, so its death costs those who were asking, and nobody else. A new
parent in this process (an upgrade) has another one: the old one's channel ends, and it leaves.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence

from hybrid.ground.clock import Clock, monotonic, monotonic_ns, wall
from hybrid.ground.errors import HybridError
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import noticing
from hybrid.parent import pool as p
from hybrid.parent.children import Children
from hybrid.parent.edition import Editions, plan_of
from hybrid.parent.house import House
from hybrid.parent.outbox import Outbox
from hybrid.parent.pulse import Nurse
from hybrid.parent.spawn import Child, ControlHeirloom, start_control
from hybrid.parent.watching import STABLE_S, backoff_s
from hybrid.parent.wishes import SOURCE, Wishes
from hybrid.shared import knobs, messages
from hybrid.shared.messages import Op, Record
from hybrid.shared.notices import Notice, PoolState

LEAVE_S = 2.0
"""For control to say goodbye; then SIGKILL."""


class Controlling:
    """The control process, if there is one. Runs in: parent. Closes: its descriptors, when it has been reaped."""

    def __init__(self, house: House, children: Children, editions: Editions, pool: Callable[[], p.Pool]) -> None:
        self.deadline: float | None = None
        """When :meth:`time_passed` is due; None: nothing waits. Monotonic seconds."""
        self.ledger = noticing.Ledger(house.news)
        self._house = house
        self._children = children
        self._watch = children.watch
        self._editions = editions
        self._pool = pool
        self._clock: Clock = monotonic
        self._child: Child | None = None
        self._outbox: Outbox | None = None
        self._wishes: Wishes | None = None
        self._events = children.events
        self._is_wanted = bool(house.doors.all)
        self._since = 0.0
        self._failures = 0
        self._state = PoolState()
        self._started_at = wall() - (monotonic_ns() - house.scoreboard.started_ns) / 1e9
        house.log.also = lambda event: self._tell(self.ledger.enter_line(event))

    def obey(self, doer: Hand) -> None:
        """Have wishes carried out by ``doer``."""
        self._wishes = Wishes(self._events, self._pool, self._tell, doer)

    @property
    def is_over(self) -> bool:
        """Whether no control is left that has to be reaped."""
        return self._child is None

    # ── its life ──

    def start(self) -> None:
        """Start control, or wait until somebody knocks."""
        self.deadline = None
        door = self._house.doors.control
        if not self._is_wanted or self._child is not None:
            return
        if self._house.doors.are_others:
            self._start()
        elif door is not None:
            self._watch.add(door.fileno(), self._on_knock)

    def _on_knock(self) -> None:
        self._leave_door()
        self._start()

    def _leave_door(self) -> None:
        door = self._house.doors.control
        if door is not None:
            self._watch.drop(door.fileno())

    def _start(self) -> None:
        house, edition, self._since = self._house, self._editions.current, self._clock()
        doors = tuple((int(door.kind), door.listener.fileno()) for door in house.doors.all)
        heirloom = ControlHeirloom(edition.fd, house.scoreboard.fd, house.log.fd, doors)
        try:
            child = start_control(heirloom, edition.settings, house.identity)
        except (OSError, HybridError) as error:
            self._failed(f"cannot start control: {getattr(error, 'strerror', None) or error}")
            return
        self._child, self._outbox = child, Outbox(child.channel, self._watch)
        self._children.attend(child, self._on_channel, self._reap)
        for notice in self.ledger.kept:
            self._outbox.put(notice)
        self._tell_state()

    def time_passed(self) -> None:
        """Do what is due: start control again; or lose patience with one that is to leave."""
        if self.deadline is None or self.deadline > self._clock():
            return
        self.deadline = None
        if self._is_wanted:
            self.start()
        elif self._child is not None:
            self._child.kill(signal.SIGKILL)

    def end(self) -> None:
        """Want no control any more; it has a moment for its last words. May be called twice."""
        if not self._is_wanted:
            return
        self._is_wanted, self.deadline = False, None
        self._leave_door()
        if self._child is not None:
            self.deadline = self._clock() + LEAVE_S
            try:
                self._child.channel.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it is gone already

    def _on_channel(self) -> None:
        """Hear one wish, and send what waits."""
        child = self._child
        assert child is not None
        if self._outbox is not None:
            self._outbox.flush()
        try:
            record, descriptors, is_open = messages.receive(child.channel)
        except OSError:  # nothing to hear: there is room in the channel again
            return
        for fd in descriptors:
            os.close(fd)
        if not is_open:
            self._watch.drop(child.channel.fileno())  # its exit comes through the pidfd
            self._outbox = None
        elif record is not None and self._wishes is not None:
            self._wishes.hear(record)

    def _reap(self) -> None:
        assert self._child is not None
        parted = self._children.part(self._child)
        if parted is None:
            return
        left, report = parted
        self._child = self._outbox = self.deadline = None
        if self._wishes is not None:
            self._wishes.forget()
        if not self._is_wanted:
            return
        is_stable = self._clock() - self._since >= STABLE_S
        self._failures = 0 if is_stable else self._failures
        if is_stable and not (left.code or left.signal):
            self.start()  # nobody had asked for a while, so it left; who has knocked meanwhile is heard at once
        else:
            self._failed(report.error or f"control {left}")

    def _failed(self, what: str) -> None:
        self._failures += 1
        wait_s = backoff_s(self._failures)
        self.deadline = self._clock() + wait_s
        is_news = self._pool().stop_step is p.StopStep.NONE
        when = "another starts" if self._house.doors.are_others else "another starts when somebody asks,"
        self._house.log.write("error" if is_news else "debug", f"{what.rstrip('.')}; {when} in {wait_s:g} s")

    # ── what it is told ──

    def follow(self, before: p.Pool, actions: Sequence[act.Action], event: ev.Event) -> None:
        """Tell what is new since ``before``, and answer wishes. Args: event: what led to it; actions: of the step."""
        after = self._pool()
        for notice in noticing.news(before, after, actions, event):
            self._tell(self.ledger.enter(notice))
        if isinstance(event, ev.Replanned) or any(isinstance(action, act.Adopt) for action in actions):
            self._tell_state()
        elif self._outbox is not None and (state := self._state_now()) != self._state:
            self._state = state
            self._tell(state)
        if self._wishes is not None:
            self._wishes.follow(before, after, actions)

    def _state_now(self) -> PoolState:
        house = self._house
        served = house.served
        readiness = house.scoreboard.readiness.name.lower()
        what = house.settings.app.target or served.name
        facts = noticing.Facts(readiness, what, served.kind, house.addresses, self._started_at)
        return noticing.state_of(self._pool(), facts)

    def _tell_state(self) -> None:
        """Tell the whole state, with the settings in force."""
        self._state = self._state_now()
        if self._outbox is not None:
            self._outbox.put(self._state, self._editions.current.fd)

    def _tell(self, notice: Notice) -> None:
        if self._outbox is not None:
            self._outbox.put(notice)


class Hand:
    """Does what control wishes and the core does not decide. Runs in: parent."""

    def __init__(self, house: House, children: Children, editions: Editions, nurse: Nurse) -> None:
        self._house = house
        self._children = children
        self._editions = editions
        self._nurse = nurse

    @property
    def reopen_failure(self) -> str:
        """Return why a log file could not be opened anew the last time; nothing: all could."""
        return self._house.reopen_failure

    def dump(self, slot: int, then: Callable[[str, str], None]) -> bool:
        """Have the stacks of a worker written to the log, and told to ``then``; False: there is none."""
        child = self._children.workers.get(slot)
        pid = child.pid if child is not None else 0
        return self._nurse.dump(slot, f"stacks, as asked, of worker {slot} (pid {pid})", then=then)

    def turn(self, knob: int, value: int, token: int) -> str | None:
        """Set one of :mod:`hybrid.shared.knobs`; return what to say; None: the core answers.

        Raises: UsageError: it does not go with the rest. OSError: the settings cannot be kept.
        """
        key, settings = knobs.applied(self._house.settings, knob, value)
        self._editions.change(settings)
        self._house.adopt(settings)
        self._children.events.append(ev.Replanned(plan_of(settings)))
        if knob == knobs.STANDBY:
            self._children.events.append(ev.StandbyAsked(value, SOURCE, token))
            return None
        if knob == knobs.LOG_LEVEL:
            for child in self._children.all():
                try:
                    messages.send(child.channel, Record(Op.LEVEL, a=value))
                except BlockingIOError:
                    self._house.log.warning(f"process {child.pid} keeps its log level: it does not listen")
                except OSError:
                    pass  # it leaves, or is gone
        return f"{key} is set until the settings are read anew (reload, restart)"

    def loads(self) -> tuple[int, ...]:
        """Return the open connections of each slot."""
        return tuple(row.active for row in self._house.scoreboard.rows())
