"""The settings of each generation that lives: those in force, and those of one that is coming.

A reload's settings are read by a child, the resolver (:mod:`hybrid.cli.resolve_again`): the parent parses no command
line and no file, and a resolver that hangs or dies costs a reload and nothing else.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

from hybrid.ground.errors import HybridError
from hybrid.parent import events as ev
from hybrid.parent.children import Children, wait_for
from hybrid.parent.pool import Plan
from hybrid.parent.spawn import fork_exec
from hybrid.shared import boot_report, pool_size
from hybrid.shared.boot_report import Report
from hybrid.shared.log_line import LogWriter
from hybrid.shared.reloadable import merge
from hybrid.shared.settings import Settings, from_json
from hybrid.shared.start import resolver_command, settings_memfd


def plan_of(settings: Settings) -> Plan:
    """Return what the core has to know of ``settings``."""
    worker, timeout = settings.worker, settings.timeout
    size = pool_size.parse(worker.workers)
    return Plan(
        workers=size.least,
        size=size if size.is_range else None,
        standby=worker.standby,
        preload=settings.app.preload,
        grace_s=timeout.grace_s,
        boot_s=timeout.boot_s,
        boot_attempts=timeout.boot_attempts,
        max_surge=None if worker.max_surge == "auto" else int(worker.max_surge),
        waits_for_change=settings.reload.enabled,
        drain_delay_s=timeout.drain_delay_s,
    )


@dataclass(frozen=True, slots=True)
class Edition:
    """One generation's settings, and the memfd that its mold and workers read them from."""

    settings: Settings
    fd: int


@dataclass(slots=True)
class _Resolver:
    """A process that reads the settings anew. Closes: its descriptors, on :meth:`close`."""

    generation: int
    pid: int
    pidfd: int
    settings_fd: int
    report_fd: int

    def close(self) -> None:
        for fd in (self.pidfd, self.settings_fd, self.report_fd):
            os.close(fd)


class Editions:
    """The settings of all generations, and whoever is reading new ones.

    Runs in: parent. Closes: the memfds, when nobody is born with them any more.
    """

    def __init__(self, first: Edition, generation: int, children: Children, log: LogWriter) -> None:
        """``first``: the settings in force, those of ``generation``."""
        self._editions = {generation: first}
        self._watch = children.watch
        self._events = children.events
        self._others = children.others
        self._log = log
        self._now = generation
        self._resolver: _Resolver | None = None

    def __getitem__(self, generation: int) -> Edition:
        """Return the settings of ``generation``, which lives."""
        return self._editions[generation]

    @property
    def current(self) -> Edition:
        """The settings in force."""
        return self._editions[self._now]

    # ── reading them anew ──

    def resolve(self, generation: int) -> None:
        """Have the settings of ``generation`` read; what comes of it is an event."""
        now = self._editions[self._now]
        if not now.settings.launch.command:  # a program said everything, and says nothing new
            self._take(generation, now.settings)
            return
        try:
            self._resolver = _start_resolver(generation, now)
        except (OSError, HybridError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._events.append(ev.ResolveFailed(generation, Report(error=f"cannot start the resolver: {reason}")))
            return
        self._others.add(self._resolver.pid)
        self._watch.add(self._resolver.pidfd, self._on_resolver)

    def end_resolver(self) -> None:
        """Wait for nobody any more. It is reaped as a stranger."""
        if self._resolver is not None:
            try:
                signal.pidfd_send_signal(self._resolver.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._forget(self._resolver)

    def _forget(self, resolver: _Resolver) -> None:
        self._others.discard(resolver.pid)
        self._watch.drop(resolver.pidfd)
        resolver.close()
        self._resolver = None

    def _on_resolver(self) -> None:
        resolver = self._resolver
        assert resolver is not None
        left = wait_for(os.P_PIDFD, resolver.pidfd)
        if left is None:
            return
        data = os.pread(resolver.settings_fd, 1 << 24, 0)
        report = boot_report.read(resolver.report_fd)
        self._forget(resolver)
        if left.code or left.signal or not data:
            report = report if report.error else Report(error=f"the resolver {left}")
            self._events.append(ev.ResolveFailed(resolver.generation, report))
            return
        try:
            said = from_json(data.decode())
        except HybridError as error:  # a program that was installed meanwhile
            self._events.append(ev.ResolveFailed(resolver.generation, Report(error=str(error))))
            return
        fresh, kept = merge(self._editions[self._now].settings, said)
        if kept:
            self._log.warning(f"changed, but taken over by a restart only: {', '.join(kept)}")
        self._take(resolver.generation, fresh)

    def _take(self, generation: int, settings: Settings) -> None:
        try:
            self._editions[generation] = Edition(settings, settings_memfd(settings))
        except OSError as error:
            report = Report(error=f"cannot keep the settings: {error.strerror}")
            self._events.append(ev.ResolveFailed(generation, report))
            return
        self._events.append(ev.Resolved(generation, plan_of(settings)))

    def change(self, settings: Settings) -> None:
        """Let ``settings`` be those in force, within the generation that serves. Raises: OSError: they stay."""
        fd = settings_memfd(settings)
        os.close(self.current.fd)
        self._editions[self._now] = Edition(settings, fd)

    # ── what becomes of them ──

    def adopt(self, generation: int) -> Settings:
        """Let the settings of ``generation`` be those in force; return them."""
        for each in [each for each in self._editions if each != generation]:
            self.discard(each)
        self._now = generation
        return self._editions[generation].settings

    def discard(self, generation: int) -> None:
        """Forget the settings of a generation that never came to serve, or does so no more."""
        edition = self._editions.pop(generation, None)
        if edition is not None:
            os.close(edition.fd)


def _start_resolver(generation: int, now: Edition) -> _Resolver:
    """Raises: OSError: no descriptor, memory or process left; HybridError: there is no interpreter to start."""
    opened: list[int] = []
    try:
        opened.append(os.memfd_create("hybrid-resolved", os.MFD_CLOEXEC))
        opened.append(boot_report.create())
        settings_fd, report_fd = opened
        orders = json.dumps({"now": now.fd, "settings": settings_fd, "report": report_fd})
        command = resolver_command(now.settings, orders)
        pid = fork_exec(command, (now.fd, settings_fd, report_fd), None, report_fd)
        try:
            opened.append(os.pidfd_open(pid))
        except OSError:
            os.kill(pid, signal.SIGKILL)  # ours, and not reaped yet
            raise
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    return _Resolver(generation, pid, opened[2], settings_fd, report_fd)
