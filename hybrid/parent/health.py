"""Whether the workers' loops turn, and what is done about one that does not. Pure: no clock, no descriptor, no log.

A worker's loop writes a heartbeat four times a second. Every half second the parent looks at all of them; one that is
late is looked at more closely: by what the kernel says about its thread. Seen are a *pulse* for each worker, decided is
what to say, whose stacks to ask for, and whom to send a signal.

Rules, and where they come from:

* A worker is never killed for what is not its fault. Time counts only if its thread could have run in it: neither the
  time in which it waited for a CPU (uvicorn#2506), nor that in which somebody had stopped it. So a worker that starves
  is not killed; two that compute for ever on one CPU are, later.
* When the parent itself comes late (stopped, or the whole machine was), every age begins anew. (pitchfork)
* A worker that is stopped or traced is somebody's who debugs it: it is left alone. One that waits for a disk cannot be
  killed by anybody: that has time until it can.
* The loop is what counts. Blocking handlers run in threads, and may take as long as they like.
* What a row says is the worker's word, and may be a lie: a heartbeat counts from the look before it was seen, at the
  earliest, and from that look at the latest.

Source: proc(5), Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from hybrid.shared.health_settings import HealthSettings
from hybrid.shared.machine import advance
from hybrid.shared.procfs import ThreadState

SECOND = 1_000_000_000
STALL_NS = SECOND // 2
"""A heartbeat older than this is a stall; it is due every 0.25 s."""
LOOK_NS = SECOND // 2
CLOSE_LOOK_NS = SECOND // 4
"""Between looks while somebody is not well."""
LATE_NS = SECOND
"""A look that comes later than this after its time shows that the parent, or the machine, was held up."""
LEAVE_NS = 2 * SECOND
"""From SIGABRT to SIGKILL."""
QUIET_NS = 10 * SECOND
"""Short stalls of one worker are told once in so long, and counted in between."""
SHORT_NS = 2 * SECOND
"""What a short stall is."""


class Health(IntEnum):
    """How the loop of one worker is."""

    WELL = 0
    """It turns."""
    STALLED = 1
    """Its heartbeat is late."""
    DUMPED = 2
    """It stood still for ``--stall-dump``: its stacks were asked for."""
    ABORTING = 3
    """It stood still for ``--worker-timeout``: its stacks were asked for, and when they are logged it gets SIGABRT."""
    ABORTED = 4
    """SIGABRT was sent, the exit has not been seen yet."""
    KILLED = 5
    """SIGKILL was sent, the exit has not been seen yet."""


class Sign(IntEnum):
    """What moves a worker from one :class:`Health` to the next."""

    LATE = 0
    BEAT = 1
    """The loop has turned."""
    DUMP_DUE = 2
    TIMED_OUT = 3
    ABORT = 4
    """Its last stacks are in the log."""
    KILL = 5
    """It did not leave on SIGABRT."""


HEALTH: dict[tuple[Health, Sign], Health] = {
    (Health.WELL, Sign.LATE): Health.STALLED,
    (Health.STALLED, Sign.BEAT): Health.WELL,
    (Health.STALLED, Sign.DUMP_DUE): Health.DUMPED,
    (Health.STALLED, Sign.TIMED_OUT): Health.ABORTING,
    (Health.DUMPED, Sign.BEAT): Health.WELL,
    (Health.DUMPED, Sign.TIMED_OUT): Health.ABORTING,
    (Health.ABORTING, Sign.BEAT): Health.WELL,
    (Health.ABORTING, Sign.ABORT): Health.ABORTED,
    (Health.ABORTED, Sign.KILL): Health.KILLED,
}


class Verdict(Enum):
    """What the thread of a loop that does not turn is doing; the value says it in a sentence."""

    RUNNING = "busy"
    STARVED = "short of CPU"
    BLOCKED = "blocked"
    STOPPED = "stopped"
    DISK = "waiting for a disk"
    UNKNOWN = "silent"


_EXPLAINED = {
    Verdict.RUNNING: "it is busy (a long computation, in Python or in C)",
    Verdict.STARVED: "it is short of CPU: ready to run, and others do. It is not killed for that",
    Verdict.BLOCKED: "it is blocked (a blocking call, or a lock)",
    Verdict.STOPPED: "it is stopped (SIGSTOP, or a debugger). It is not killed for that",
    Verdict.DISK: "it is waiting for a disk. It is not killed while it does",
    Verdict.UNKNOWN: "the system does not say why. It is not killed",
}
_SPARED = (Verdict.STOPPED, Verdict.DISK, Verdict.UNKNOWN)
"""Never killed while that is what they do."""
_WORTH_A_LINE = (Verdict.STARVED, Verdict.STOPPED, Verdict.DISK)
"""Told also when the stall was told before as something else: they say why nothing happens."""
_STOPPED_LETTERS = ("T", "t")


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is seen of one worker. ``facts``: of its loop's thread, if they were asked for and there are any."""

    slot: int
    ticket: int
    """Tells it from an earlier one in the same slot."""
    pid: int
    heartbeat_ns: int
    """0: the loop does not turn yet, or no more; its boot, or its drain, has a deadline of its own."""
    facts: ThreadState | None = None
    dumping: bool = False
    """Its stacks were asked for, and are not in the log yet."""


@dataclass(frozen=True, slots=True)
class Say:
    """Write a log line."""

    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Dump:
    """Ask the worker for its stacks, and write them to the log; ``message`` is how that line begins."""

    slot: int
    message: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send the worker a signal."""

    slot: int
    number: int


Decision = Say | Dump | Send


def classify(before: ThreadState | None, after: ThreadState | None, window_ns: int) -> Verdict:
    """Return what a thread did between two looks that were ``window_ns`` apart."""
    if before is None or after is None:
        return Verdict.UNKNOWN
    if after.letter in _STOPPED_LETTERS:
        return Verdict.STOPPED
    if after.letter == "D":
        return Verdict.DISK
    ran, waited = after.on_cpu_ns - before.on_cpu_ns, _waited_ns(before, after, window_ns)
    if ran + waited < window_ns // 5:
        return Verdict.BLOCKED
    return Verdict.STARVED if waited > ran else Verdict.RUNNING


def _waited_ns(before: ThreadState, after: ThreadState, window_ns: int) -> int:
    """Return how long the thread could have run and had no CPU.

    One that was runnable at both looks ran or waited, whatever the kernel has accounted for: it may keep no accounts;
    it accounts for a wait only when that is over; and Linux 6.18 takes a thread whose cgroup has used up its quota off
    the queue that it counts.
    """
    waited_ns = after.waiting_ns - before.waiting_ns
    if before.letter == after.letter == "R":
        waited_ns = max(waited_ns, window_ns - (after.on_cpu_ns - before.on_cpu_ns))
    return waited_ns


@dataclass(slots=True)
class Unusable:
    """The time of one stall in which the thread could not have run."""

    stopped_ns: int = 0
    seen_ns: int = 0
    """Waiting for a CPU, between looks at which it was seen to."""
    told_ns: int = 0
    """The same by the kernel's account: of all waits that are over."""
    first: ThreadState | None = None

    def add(self, before: ThreadState | None, after: ThreadState | None, window_ns: int) -> None:
        """Take note of the time between two looks that were ``window_ns`` apart."""
        if before is None or after is None:
            return
        self.first = self.first or before
        if before.letter in _STOPPED_LETTERS or after.letter in _STOPPED_LETTERS:
            self.stopped_ns += window_ns
        elif before.letter == after.letter == "R":
            self.seen_ns += max(0, window_ns - (after.on_cpu_ns - before.on_cpu_ns))
        self.told_ns = max(self.told_ns, after.waiting_ns - self.first.waiting_ns)

    @property
    def total_ns(self) -> int:
        """All of it. What was seen and what was told is mostly the same time, so the longer of them counts."""
        return self.stopped_ns + max(self.seen_ns, self.told_ns)


@dataclass(slots=True)
class _Case:
    """What is known of one worker."""

    slot: int
    ticket: int
    pid: int
    heartbeat_ns: int
    """As the row says."""
    turned_ns: int
    """When that was, as far as it can be believed."""
    since_ns: int
    """What its age is counted from: as ``turned_ns``, or the end of a gap in the parent's own time."""
    looked_ns: int
    unusable: Unusable = field(default_factory=Unusable)
    """Since then."""
    facts: ThreadState | None = None
    health: Health = Health.WELL
    health_ns: int = 0
    """Since when."""
    verdict: Verdict | None = None
    """None: it was not looked at twice yet."""
    told: set[Verdict] = field(default_factory=set)
    """In this stall."""
    quiet_until_ns: int = 0
    untold: int = 0
    """Short stalls since the last that was told."""

    def advance(self, sign: Sign, now_ns: int) -> None:
        """Move to the next state."""
        self.health, self.health_ns = advance(HEALTH, self.health, sign), now_ns

    def counted_ns(self, now_ns: int) -> int:
        """Return how long the loop has stood still though it could have turned."""
        return max(0, now_ns - self.since_ns - self.unusable.total_ns)

    def how_long(self, now_ns: int) -> str:
        """Return the same in words, with the time by the clock where that differs."""
        counted_s, clock_s = self.counted_ns(now_ns) / SECOND, (now_ns - self.turned_ns) / SECOND
        return f"{counted_s:.1f} s" + (f" ({clock_s:.1f} s by the clock)" if clock_s - counted_s >= 1 else "")

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"


class Rounds:
    """Looks after the workers, one look after the other.

    Runs in: parent. ``due_ns``: when the next :meth:`look` is due. ``settings``: may be replaced; a reload does.
    """

    def __init__(self, settings: HealthSettings, now_ns: int) -> None:
        self.settings = settings
        self._cases: dict[int, _Case] = {}
        self._looked_ns = now_ns
        self.due_ns = now_ns + LOOK_NS

    def wants_facts(self, slot: int, ticket: int, heartbeat_ns: int, now_ns: int) -> bool:
        """Return whether the next look is to be told what the kernel says of the worker: only if it is late."""
        case = self._cases.get(slot)
        if case is None or case.ticket != ticket or case.heartbeat_ns != heartbeat_ns:
            since_ns = self._believed_ns(heartbeat_ns, now_ns)
        else:
            since_ns = case.since_ns
        return heartbeat_ns != 0 and now_ns - since_ns >= STALL_NS

    def look(self, now_ns: int, pulses: Iterable[Pulse]) -> list[Decision]:
        """Take every worker's pulse; return what is to be done. Whoever is not among them is forgotten."""
        gap = now_ns - self.due_ns > LATE_NS
        decisions: list[Decision] = []
        cases: dict[int, _Case] = {}
        for pulse in pulses:
            if not pulse.heartbeat_ns:
                continue
            turned_ns = self._believed_ns(pulse.heartbeat_ns, now_ns)
            case = self._cases.get(pulse.slot)
            if case is None or case.ticket != pulse.ticket:
                case = _Case(pulse.slot, pulse.ticket, pulse.pid, pulse.heartbeat_ns, turned_ns, turned_ns, now_ns)
            elif case.heartbeat_ns != pulse.heartbeat_ns:
                decisions += self._beat(case, turned_ns, now_ns)
                case.heartbeat_ns, case.turned_ns = pulse.heartbeat_ns, turned_ns
                case.since_ns, case.unusable = turned_ns, Unusable()
            elif case.health is not Health.WELL:
                window_ns = now_ns - case.looked_ns
                case.verdict = classify(case.facts, pulse.facts, window_ns)
                case.unusable.add(case.facts, pulse.facts, window_ns)
            if gap:
                case.since_ns, case.unusable, case.health_ns = now_ns, Unusable(), now_ns
            case.facts, case.looked_ns = pulse.facts, now_ns
            decisions += self._judge(case, pulse.dumping, now_ns)
            cases[pulse.slot] = case
        self._cases, self._looked_ns = cases, now_ns
        well = all(case.health is Health.WELL for case in cases.values())
        self.due_ns = now_ns + (LOOK_NS if well else CLOSE_LOOK_NS)
        return decisions

    def _believed_ns(self, heartbeat_ns: int, now_ns: int) -> int:
        """Return when a heartbeat that was not there at the last look came: after that, and not in the future."""
        return min(now_ns, max(heartbeat_ns, self._looked_ns))

    # ── one worker ──

    def _beat(self, case: _Case, turned_ns: int, now_ns: int) -> list[Decision]:
        """Take note that the loop has turned. One that was sent SIGABRT leaves all the same."""
        if case.health is Health.WELL or case.health >= Health.ABORTED:
            return []
        case.advance(Sign.BEAT, now_ns)
        for_s = (turned_ns - case.turned_ns) / SECOND
        if case.told:
            return [Say("info", f"{case}: its loop turns again after {for_s:.1f} s")]
        if now_ns < case.quiet_until_ns:
            case.untold += 1
            return []
        return [Say("info", f"{case}: its loop did not turn for {for_s:.1f} s{_untold(case, now_ns)}")]

    def _judge(self, case: _Case, dumping: bool, now_ns: int) -> list[Decision]:
        """Decide what is to be done about the worker as it is now."""
        if case.health is Health.WELL:
            if case.counted_ns(now_ns) >= STALL_NS:
                case.advance(Sign.LATE, now_ns)
                case.verdict, case.told = None, set()
            return []
        if case.health >= Health.ABORTED:
            return _kill(case, now_ns)
        if case.verdict is None:
            return []
        return [*_tell(case, case.verdict, now_ns), *self._escalate(case, case.verdict, dumping, now_ns)]

    def _escalate(self, case: _Case, verdict: Verdict, dumping: bool, now_ns: int) -> list[Decision]:
        counted_s, settings = case.counted_ns(now_ns) / SECOND, self.settings
        timed_out = bool(settings.kill_s) and counted_s >= settings.kill_s and verdict not in _SPARED
        dump_due = bool(settings.dump_s) and counted_s >= settings.dump_s and verdict is not Verdict.STOPPED
        if case.health is Health.ABORTING:
            return self._abort(case, verdict, now_ns) if timed_out and not dumping else []
        if timed_out:
            case.advance(Sign.TIMED_OUT, now_ns)
        elif dump_due and case.health is Health.STALLED:
            case.advance(Sign.DUMP_DUE, now_ns)
        else:
            return []
        return [Dump(case.slot, f"{case} has been {_what(verdict)} for {case.how_long(now_ns)}")]

    def _abort(self, case: _Case, verdict: Verdict, now_ns: int) -> list[Decision]:
        case.advance(Sign.ABORT, now_ns)
        limit = f"--worker-timeout {self.settings.kill_s:g}"
        what = f"its loop has been {_what(verdict)} for {case.how_long(now_ns)} ({limit}): SIGABRT"
        return [Say("error", f"{case}: {what}"), Send(case.slot, signal.SIGABRT)]


def _tell(case: _Case, verdict: Verdict, now_ns: int) -> list[Decision]:
    """Tell of the stall, once; and why nothing happens, once."""
    if verdict in case.told or (case.told and verdict not in _WORTH_A_LINE):
        return []
    stood_ns = now_ns - case.turned_ns
    if now_ns < case.quiet_until_ns and stood_ns < SHORT_NS:
        return []
    case.told.add(verdict)
    what = f"its loop has not turned for {stood_ns / SECOND:.1f} s: {_EXPLAINED[verdict]}"
    return [Say("warning", f"{case}: {what}{_untold(case, now_ns)}")]


def _what(verdict: Verdict) -> str:
    """Return what a thread did with the time that counts: one that is short of CPU was busy in it."""
    told = Verdict.RUNNING if verdict is Verdict.STARVED else verdict
    return str(told.value)


def _untold(case: _Case, now_ns: int) -> str:
    """Return what to say of stalls that were not told, and begin to be quiet about short ones."""
    case.quiet_until_ns = now_ns + QUIET_NS
    count, case.untold = case.untold, 0
    return f" ({count} more stall{'s' if count > 1 else ''} since the last that was told)" if count else ""


def _kill(case: _Case, now_ns: int) -> list[Decision]:
    """Kill one that did not leave on SIGABRT; not under the hands of a debugger that caught it."""
    is_stopped = case.facts is not None and case.facts.letter in _STOPPED_LETTERS
    if case.health is Health.KILLED or is_stopped or now_ns - case.health_ns < LEAVE_NS:
        return []
    case.advance(Sign.KILL, now_ns)
    why = f"did not leave within {LEAVE_NS // SECOND} s of SIGABRT: SIGKILL"
    return [Say("error", f"{case} {why}"), Send(case.slot, signal.SIGKILL)]
