"""A worker's life, from fork to exit: boot → ready → serve → drain → leave.

What moves it: records from the parent, SIGTERM, and the end of the life pipe. What it says: its boot report
(step by step), READY, and a heartbeat that its loop writes into the scoreboard.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import traceback
from dataclasses import dataclass
from functools import partial

from hybrid.connection.access_log import access_log
from hybrid.ground.clock import monotonic_ns
from hybrid.ground.errors import ExitCode, HybridError
from hybrid.handlers.exceptions import install_exception_handler
from hybrid.handlers.lifespan import Worker
from hybrid.meters.loop_use import IdleClock
from hybrid.shared import boot_report, messages
from hybrid.shared.boot_report import Report
from hybrid.shared.loader import LoadedTarget, load
from hybrid.shared.log_line import LogWriter
from hybrid.shared.messages import Log, Op, Record
from hybrid.shared.scoreboard import Cell, Row, Scoreboard
from hybrid.shared.settings import Settings
from hybrid.shared.tls_context import ServerTls
from hybrid.worker import logs, watchdog
from hybrid.worker.acceptors import forking
from hybrid.worker.drain import Step, next_step
from hybrid.worker.dump import Stacks
from hybrid.worker.loops import close_loop, new_measured_loop
from hybrid.worker.meter import Meter
from hybrid.worker.offspring import keep_queues_from_children
from hybrid.worker.service import Service, ServicePlan, Stage
from hybrid.worker.wear import Wear

_log = logging.getLogger("hybrid.error")

TICK_S = 0.25
"""Between heartbeats, and between flushes of the counters into the scoreboard."""


@dataclass(frozen=True, slots=True)
class Birth:
    """What a worker is born with: what it inherits from the mold, and what is its own."""

    settings: Settings
    slot: int
    seat: int
    generation: int
    channel: socket.socket
    report_fd: int
    dump_fd: int
    wake_fd: int
    scoreboard: Scoreboard
    life_fd: int
    log_fd: int
    access_fd: int
    listeners: list[socket.socket]
    addresses: tuple[str, ...]
    app: LoadedTarget | None
    tls: ServerTls | None


def live(birth: Birth) -> int:
    """Be a worker; return the exit code. Runs in: worker, right after the fork, with no loop and one thread."""
    gc.enable()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _ignore)
    who = f"worker {birth.slot}"
    _set_title(f"hybrid: {who} [{birth.settings.app.target.rpartition(':')[2]}]")
    boot_report.write_step(birth.report_fd, "load")
    try:
        log = logs.install(birth.settings.log, who, birth.log_fd)
        # Before the app is imported: an import can hang, too.
        stacks = Stacks(birth.dump_fd, birth.wake_fd)
        watchdog.start(birth.life_fd, birth.settings.timeout.grace_s, log, stacks)
        forking.in_child[:] = [partial(_let_go, birth, log, stacks)]
        keep_queues_from_children(birth.listeners)
        app = birth.app or load(birth.settings.app.target, factory=birth.settings.app.factory)
    except HybridError as error:
        return _boot_failed(birth, "load", error)
    loop, idle = new_measured_loop(birth.settings.worker.loop)
    stacks.loop = loop
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(WorkerProcess(birth, app, loop, idle).run())
    finally:
        close_loop(loop)


def _ignore(number: int, frame: object) -> None:
    """Do nothing: Ctrl-C reaches the whole group, and only the parent decides. Not SIG_IGN: subprocesses inherit it."""


def _let_go(birth: Birth, log: LogWriter, stacks: Stacks) -> None:
    """Keep nothing of the worker's that outlives it. Runs in: a child that serves one connection (``accept fork``)."""
    birth.channel.close()
    stacks.close()
    for listener in birth.listeners:
        listener.close()
    try:
        watchdog.start(birth.life_fd, birth.settings.timeout.grace_s, log)
    except RuntimeError:
        pass  # the system has no thread left: the client is served all the same


def _set_title(title: str) -> None:
    import setproctitle

    setproctitle.setproctitle(title)


def _boot_failed(birth: Birth, step: str, error: BaseException) -> int:
    """Write the report; the parent reads it when it reaps us, and shows it once for all workers."""
    code = ExitCode.BOOT_FAILED
    if isinstance(error, HybridError):
        code, message, detail = error.exit_code, str(error), error.detail
    else:
        message, detail = f"{type(error).__name__}: {error}", traceback.format_exc()
    boot_report.write(birth.report_fd, Report(step, message, detail, code))
    return code


class WorkerProcess:
    """The process around a :class:`~hybrid.worker.service.Service`.

    Runs in: worker, in its loop. Closes: the service; descriptors go with the process.
    """

    def __init__(
        self, birth: Birth, app: LoadedTarget, loop: asyncio.AbstractEventLoop, idle: IdleClock | None
    ) -> None:
        self._birth = birth
        self._app = app
        self._loop = loop
        self._row: Row = birth.scoreboard.row(birth.slot)
        self._meter = Meter(self._row, idle, birth.listeners)
        self._access_log = access_log(birth.settings.access, birth.access_fd, birth.slot)
        self._service: Service
        self._ticking: asyncio.TimerHandle | None = None
        self._wear: Wear | None = None
        """None: not ready yet, or it serves for ever, or has said already that it served enough."""
        self._step = Step.SERVE
        self._stepped_at = 0.0

    async def run(self) -> int:
        """Boot, serve until told to leave, drain; return the exit code."""
        birth = self._birth
        worker = Worker(birth.slot, birth.generation, os.getpid(), birth.addresses, seat=birth.seat)
        plan = ServicePlan.of(birth.settings, self._app, worker, self._access_log, birth.tls)
        self._service = Service(plan, birth.scoreboard, birth.slot)
        self._loop.add_signal_handler(signal.SIGTERM, self._on_term)
        self._loop.add_reader(birth.channel.fileno(), self._on_parent)
        self._loop.add_reader(birth.life_fd, self._on_parent_gone)
        install_exception_handler(self._loop)
        try:
            left = await self._service.run(birth.listeners, self._note_step, self._say_ready)
        except Exception as error:  # noqa: BLE001  # whatever ends the boot is reported to the parent
            return _boot_failed(birth, boot_report.read(birth.report_fd).step, error)
        finally:
            if self._ticking is not None:
                self._ticking.cancel()
            self._row[Cell.HEARTBEAT_NS] = 0  # the loop turns no more; what is left has the drain's deadline
            self._meter.close()
            if self._access_log is not None:
                self._access_log.close()
        if left is not None and left.open:
            _log.info(
                "drained: %d connections were open, %d were cancelled, %d cut", left.open, left.cancelled, left.aborted
            )
        return ExitCode.OK

    def _note_step(self, step: str) -> None:
        boot_report.write_step(self._birth.report_fd, step)

    def _say_ready(self) -> None:
        service = self._service
        report = Report("ready", name=self._app.name, kind=service.kind, detail=service.description)
        boot_report.write(self._birth.report_fd, report)
        self._row[Cell.READY_NS] = monotonic_ns()
        self._wear = Wear.of(self._birth.settings.recycling)
        self._tell(Record(Op.READY, self._birth.slot, self._birth.generation))
        self._tick()

    def _tick(self) -> None:
        self._row[Cell.HEARTBEAT_NS] = monotonic_ns()
        self._meter.tick()
        self._service.flush()
        if self._wear is not None and self._service.stage is Stage.SERVING:
            self._say_worn_out(self._wear)
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        self._meter.expect(TICK_S)

    def _say_worn_out(self, wear: Wear) -> None:
        """Tell the parent, once, that the worker has served enough; it goes on until it is drained."""
        worn = wear.look(self._service.uses)
        if worn is not None:
            record = Record(Op.WORN_OUT, self._birth.slot, a=worn.reason, b=worn.value, c=worn.limit)
            if self._tell(record):
                self._wear = None

    # ── what moves it ──

    def _on_term(self) -> None:
        """Drain; again: cancel, then cut. The parent has a ladder of its own for all workers."""
        now = self._loop.time()
        wanted = next_step(self._step, now - self._stepped_at)
        if wanted is self._step:
            return
        self._step, self._stepped_at = wanted, now
        grace_s = self._birth.settings.timeout.grace_s if wanted is Step.DRAIN else 0.0
        if wanted is Step.DRAIN:
            self._tell(Record(Op.DRAINING, self._birth.slot, a=int(grace_s * 1000)))
        else:
            _log.info("SIGTERM again: %s", "cancelling handlers" if wanted is Step.CANCEL else "cutting connections")
        self._service.leave(grace_s, abort=wanted is Step.CUT)

    def _on_parent(self) -> None:
        try:
            record, descriptors, is_open = messages.receive(self._birth.channel)
        except BlockingIOError:
            return
        if not is_open:
            self._on_parent_gone()
        elif record is not None:
            self._obey(record, descriptors)
        for fd in descriptors:
            os.close(fd)

    def _obey(self, record: Record, descriptors: list[int]) -> None:
        if record.op is Op.DRAIN:
            self._service.leave(record.a / 1000, abort=bool(record.b), last=bool(record.c))
        elif record.op is Op.PARK:
            self._service.park()
            self._tell(Record(Op.PARKED, self._birth.slot))
        elif record.op is Op.UNPARK:
            self._service.unpark()
            self._tell(Record(Op.UNPARKED, self._birth.slot))
        elif record.op is Op.LOOK:
            self._service.look()
        elif record.op is Op.LEVEL:
            logs.set_level(record.a)
        elif record.op is Op.REOPEN_LOGS and descriptors:
            self._take_log(descriptors[0], is_access=record.a == Log.ACCESS)

    def _take_log(self, fd: int, *, is_access: bool) -> None:
        """Write to the file that ``fd`` points to from now on."""
        os.dup2(fd, self._birth.access_fd if is_access else self._birth.log_fd, inheritable=False)
        if self._access_log is not None:
            self._access_log.follow()

    def _on_parent_gone(self) -> None:
        _log.warning("the parent is gone: draining")
        self._loop.remove_reader(self._birth.life_fd)
        self._loop.remove_reader(self._birth.channel.fileno())
        self._service.leave(self._birth.settings.timeout.grace_s, last=True)

    def _tell(self, record: Record) -> bool:
        """Return whether it was sent: the parent may be gone, which the life pipe says, or stopped, its ear full."""
        try:
            messages.send(self._birth.channel, record)
        except OSError:
            return False
        return True
