"""The mold: a fresh interpreter that imports the app once, freezes the heap, and forks workers on request.

One thread, one blocking loop over its channel to the parent; the end of that channel is the end of the mold.
Preloading without its usual price: the import runs with the collector off, then everything is collected and
frozen, so that a worker's first collection does not copy the app's memory page by page.

Source: fork(2); CPython ``gc.freeze`` documentation (disable, import, freeze, fork, enable).
"""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, replace

from hybrid.ground.errors import ExitCode, HybridError, LoadError
from hybrid.mold import fork_safety
from hybrid.mold.fork import fork_sibling
from hybrid.shared import boot_report, messages, prctl, procfs, settings
from hybrid.shared.boot_report import Report
from hybrid.shared.loader import LoadedTarget, load
from hybrid.shared.log_line import NAMES
from hybrid.shared.messages import Log, Op, Record
from hybrid.shared.scoreboard import Scoreboard
from hybrid.shared.tls_context import ServerTls, server_tls
from hybrid.worker.loops import import_loop
from hybrid.worker.main import Birth, live


@dataclass(slots=True)
class Mold:
    """What the mold holds and every worker inherits."""

    settings: settings.Settings
    generation: int
    channel: socket.socket
    scoreboard: Scoreboard
    life_fd: int
    log_fd: int
    access_fd: int
    listeners: list[socket.socket]
    addresses: list[str]
    app: LoadedTarget | None = None
    tls: ServerTls | None = None


def main(argv: list[str]) -> int:
    """Import, report, fork until told to leave. Runs in: mold."""
    if len(argv) != 2:
        sys.stderr.write("usage: python -m hybrid.mold ORDERS   (JSON, as the parent passes it)\n")
        return ExitCode.USAGE
    orders = json.loads(argv[1])
    for name in ("settings", "scoreboard", "life", "log", "access", "channel", "report"):
        os.set_inheritable(orders[name], orders[name] <= 2)  # our own children get them by fork, never by exec
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _ignore)  # Ctrl-C reaches the whole group; only the parent decides
    mold = Mold(
        settings=settings.from_json(os.pread(orders["settings"], 1 << 24, 0).decode()),
        generation=orders["generation"],
        channel=socket.socket(fileno=orders["channel"]),
        scoreboard=Scoreboard.attach(orders["scoreboard"]),
        life_fd=orders["life"],
        log_fd=orders["log"],
        access_fd=orders["access"],
        listeners=[],
        addresses=orders["addresses"],
    )
    _enter_directory(mold.settings)
    _set_title(f"hybrid: mold [{mold.settings.app.target.rpartition(':')[2]}]")
    try:
        ready = _set_up_tls(mold, orders["report"], orders["tls"])
        if ready and _prepare(mold, orders["report"], orders["preload"]):
            _serve_forks(mold)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone
    return ExitCode.OK


def _ignore(number: int, frame: object) -> None:
    """Do nothing. Not SIG_IGN: the app's subprocesses would inherit that."""


def _enter_directory(asked: settings.Settings) -> None:
    """Go to where the command was started, by its name: a link in it may lead to another release than it did then."""
    if asked.launch.command:
        with suppress(OSError):  # gone, or not ours to enter: we stay where the parent is
            os.chdir(asked.process.chdir or asked.launch.cwd)


def _set_title(title: str) -> None:
    import setproctitle

    setproctitle.setproctitle(title)


# ── importing ────────────────────────────────────────────────────────────────────────────────────────────────


def _prepare(mold: Mold, report_fd: int, preload: bool) -> bool:
    """Import the app if asked to, and tell the parent how it went; False when nothing can be forked."""
    _find_imports(mold.settings.launch.sys_path)
    import_loop(mold.settings.worker.loop)
    before = fork_safety.snapshot()
    gc.disable()
    if preload:
        boot_report.write_step(report_fd, "import")
        try:
            mold.app = load(mold.settings.app.target, factory=mold.settings.app.factory)
        except LoadError as error:
            report = Report("import", str(error), error.detail, ExitCode.APP_NOT_LOADED)
            return _refuse(mold, report_fd, Op.IMPORT_FAILED, report)
        found = fork_safety.check(before)
        if found:
            detail = "\n".join(found)
            report = Report(
                "fork safety", "importing the app left what does not survive a fork", detail, ExitCode.BOOT_FAILED
            )
            return _refuse(mold, report_fd, Op.UNSAFE, report)
    gc.collect()
    gc.freeze()
    private, resident = procfs.memory_private_bytes(os.getpid()), procfs.memory_resident_bytes(os.getpid())
    messages.send(mold.channel, Record(Op.IMPORTED, a=private, b=resident))
    os.close(report_fd)
    return True


def _set_up_tls(mold: Mold, report_fd: int, opened: dict[str, int]) -> bool:
    """Read certificate and key, before any code of the app's runs; False when that cannot be done.

    Closes: ``opened``: the files, which the parent opened with the rights that we gave up.
    """
    try:
        mold.tls = server_tls(mold.settings.tls, opened)
    except HybridError as error:
        return _refuse(mold, report_fd, Op.IMPORT_FAILED, Report("tls", str(error), "", error.exit_code))
    finally:
        for fd in opened.values():
            os.close(fd)
    return True


def _find_imports(path: tuple[str, ...]) -> None:
    """Give the app the import path of whoever started the server, then what we need ourselves."""
    if path:
        ours = [entry for entry in sys.path if entry not in path]
        sys.path[:] = [*path, *ours]


def _refuse(mold: Mold, report_fd: int, op: Op, report: Report) -> bool:
    boot_report.write(report_fd, report)
    messages.send(mold.channel, Record(op))
    return False


# ── forking ──────────────────────────────────────────────────────────────────────────────────────────────────


def _serve_forks(mold: Mold) -> None:
    ends = 5 if mold.settings.bind.accept == "passing" else 4
    while True:
        record, descriptors, is_open = messages.receive(mold.channel)
        if not is_open or (record is not None and record.op is Op.LEAVE):
            return
        if record is None:
            continue
        if record.op is Op.LISTENERS:
            mold.listeners += [socket.socket(fileno=fd) for fd in descriptors]
        elif record.op is Op.SPAWN and len(descriptors) == ends:
            _spawn(mold, record, descriptors)
        else:
            if record.op is Op.LEVEL and record.a in NAMES:
                mold.settings = replace(mold.settings, log=replace(mold.settings.log, level=NAMES[record.a]))
            if record.op is Op.REOPEN_LOGS and descriptors:
                fd = mold.access_fd if record.a == Log.ACCESS else mold.log_fd
                os.dup2(descriptors[0], fd, inheritable=False)
            for fd in descriptors:
                os.close(fd)
            if record.op is Op.SPAWN:  # the kernel drops what it has no number for
                messages.send(mold.channel, Record(Op.FORK_FAILED, record.slot, a=record.a, b=errno.EMFILE))


def _spawn(mold: Mold, order: Record, descriptors: list[int]) -> None:
    """Fork a worker. Closes: ``descriptors``: :data:`~hybrid.shared.messages.Op.SPAWN` says which they are."""
    channel_fd, report_fd, dump_fd, wake_fd, *pass_fds = descriptors

    def worker() -> int:
        mold.channel.close()
        prctl.signal_at_parents_death(signal.SIGCONT)  # a worker that somebody has stopped is to see that it is alone
        birth = Birth(
            settings=mold.settings,
            slot=order.slot,
            seat=order.b,
            generation=mold.generation,
            channel=socket.socket(fileno=channel_fd),
            report_fd=report_fd,
            dump_fd=dump_fd,
            wake_fd=wake_fd,
            scoreboard=mold.scoreboard,
            life_fd=mold.life_fd,
            log_fd=mold.log_fd,
            access_fd=mold.access_fd,
            # What is passed on to it comes from the parent: its pass channel is all it listens on.
            listeners=[socket.socket(fileno=fd) for fd in pass_fds] or mold.listeners,
            addresses=tuple(mold.addresses),
            app=mold.app,
            tls=mold.tls,
        )
        return live(birth)

    try:
        pid = fork_sibling(worker, report_fd)
        answer = Record(Op.FORKED, order.slot, order.generation, a=order.a, b=pid)
    except OSError as error:
        answer = Record(Op.FORK_FAILED, order.slot, order.generation, a=order.a, b=error.errno or 0)
    finally:
        for fd in descriptors:
            os.close(fd)
    messages.send(mold.channel, answer)
