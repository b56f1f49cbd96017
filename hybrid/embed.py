"""The doors for programs: :func:`run` blocks, :func:`serve` lives in an asyncio service.

Both start the parent as a program of its own (never a bare fork of the caller), in a session of its own, so a
Ctrl-C in the terminal reaches only the caller, who decides. A socket between the two is the life line: when the
caller dies in whatever way, the pool drains and leaves.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from hybrid.ground.errors import BootError, ExitCode, HybridError, ListenError, LoadError, UsageError
from hybrid.in_loop import InLoopServer, entered_twice, not_entered, run_here
from hybrid.shared import loader, messages, start
from hybrid.shared.keywords import refuse_what_needs_a_pool, settings_from_keywords, speaking_keywords
from hybrid.shared.scoreboard import Scoreboard
from hybrid.shared.settings import Settings
from hybrid.shared.status import WorkerStatus, replacements, statuses
from hybrid.shared.target_name import LIFESPAN, refuse_constant

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def run(handler: Any, **options: Any) -> None:
    """Serve ``handler`` on a pool of worker processes until told to stop; blocks.

    Runs in: the caller's main thread; the pool runs in processes of its own. Signals that come meanwhile are
    passed on to it, and the caller's handlers are restored before this returns. With ``workers=0`` this process
    serves and hears the signals itself.
    Args: handler: a function or class with an importable name, or ``"module:attr"``. options: every option of
    ``hybrid-serve`` as a keyword (``bind=``, ``workers=``, ``graceful_timeout=`` …); neither the environment nor a
    configuration file is read.
    Raises: UsageError: an option is wrong, the handler has no name, or a loop runs in this thread; LoadError;
    BootError: no worker became ready; ListenError: the address cannot be bound; HybridError: the pool ended by itself.
    """
    _refuse_running_loop()
    asked = _understood(handler, options)
    if asked.in_loop:
        refuse_what_needs_a_pool(options, guest=False)
        run_here(asked.settings, asked.handler, asked.lifespan)
        return
    parent = _Parent(asked.settings)
    restore = _forward_signals(parent)
    try:
        code = parent.process.wait()
    finally:
        for number, before in restore.items():
            signal.signal(number, before)
        failure = parent.last_words()
        parent.close()
    if code != ExitCode.OK:
        with speaking_keywords():
            raise failure or _ended_by_itself(code)


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(
        "cannot call hybrid.run() here: it blocks, and an event loop runs in this thread. "
        "Write: async with hybrid.serve(...) as server:"
    )


def serve(handler: Any, **options: Any) -> PoolServer | InLoopServer:
    """Return a server to enter with ``async with``; leaving it drains and ends the server.

    With ``workers`` ≥ 1 (or ``"auto"``) a pool of processes serves; ``handler`` needs an importable name. With
    ``workers=0`` the handler runs in the caller's own loop and needs none; options that would change the caller's
    process are refused. The caller's signal handlers are never touched. Several servers can live in one process.
    Args and Raises: as :func:`run`; errors of the boot are raised when the server is entered.
    """
    asked = _understood(handler, options)
    if asked.in_loop:
        refuse_what_needs_a_pool(options, guest=True)
        return InLoopServer(asked.settings, asked.handler, asked.lifespan)
    return PoolServer(asked.settings)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call, understood. ``handler``, ``lifespan``: the objects that ``workers=0`` serves; None: named in settings."""

    settings: Settings
    handler: Any
    lifespan: Any

    @property
    def in_loop(self) -> bool:
        return self.settings.worker.workers == 0


def _understood(handler: Any, options: dict[str, Any]) -> _Asked:
    """Return what a call of :func:`run` or :func:`serve` means. Raises: UsageError."""
    importing = loader.importing()
    if importing is not None:
        raise UsageError(
            f"{importing} starts a server while it is being imported by one. "
            'Put the call under: if __name__ == "__main__":'
        )
    named = dict(options)
    lifespan = None if isinstance(options.get("lifespan"), (str, os.PathLike)) else named.pop("lifespan", None)
    if not isinstance(handler, str):
        refuse_constant(handler)
    if lifespan is not None:
        refuse_constant(lifespan, LIFESPAN)
    with speaking_keywords():
        settings = settings_from_keywords(handler if isinstance(handler, str) else "", named)
    app, object_ = settings.app, None if isinstance(handler, str) else handler
    if settings.worker.workers == 0:
        if object_ is not None:
            app = replace(app, target=getattr(handler, "__qualname__", type(handler).__name__))
        return _Asked(replace(settings, app=app), object_, lifespan)
    if object_ is not None:
        app = replace(app, target=loader.name_of(handler))
    if lifespan is not None:
        app = replace(app, lifespan=loader.name_of(lifespan, LIFESPAN))
    return _Asked(replace(settings, app=app), None, None)


def _ended_by_itself(code: int) -> HybridError:
    where = "its own log says why" if code >= 0 else "the kernel's log (dmesg) may say why"
    return HybridError(f"the pool ended by itself: {_how_it_ended(code)}; {where}.")


def _how_it_ended(code: int) -> str:
    """Say it in words. Args: code: as of :class:`subprocess.Popen`: negative for a signal."""
    if code >= 0:
        return f"the parent left with code {code}"
    try:
        return f"the parent was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"the parent was killed by signal {-code}"


class _Parent:
    """The parent process, as its host sees it. Closes: the life line and the pidfd; never the process by force."""

    def __init__(self, settings: Settings) -> None:
        self.channel, theirs = messages.socketpair()
        settings_fd = -1
        try:
            settings = replace(settings, launch=replace(settings.launch, host_fd=theirs.fileno()))
            settings_fd = start.settings_memfd(settings)
            command = start.parent_command(settings, str(settings_fd))
            keep = (settings_fd, theirs.fileno())
            self.process = subprocess.Popen(command, pass_fds=keep, start_new_session=True)
        except OSError as error:
            self.channel.close()
            raise BootError(f"cannot start the parent process: {error}") from error
        finally:
            theirs.close()
            if settings_fd >= 0:
                os.close(settings_fd)
        self.channel.setblocking(False)
        self.failure: HybridError | None = None

    def last_words(self) -> HybridError | None:
        """Read what the parent said until its end; return the failure it reported, if any."""
        while self.failure is None:
            try:
                data, descriptors = messages.receive_bytes(self.channel)
            except OSError:
                break
            for fd in descriptors:
                os.close(fd)
            if not data:
                break
            self.failure = failure_of(data)
        return self.failure

    def close(self) -> None:
        self.channel.close()


def _forward_signals(parent: _Parent) -> dict[signal.Signals, Any]:
    def forward(number: int, frame: object) -> None:
        parent.process.send_signal(number)

    try:
        return {number: signal.signal(number, forward) for number in FORWARDED}
    except ValueError:  # not the main thread: whoever owns it hears the signals
        return {}


_ERRORS: dict[int, type[HybridError]] = {
    ExitCode.USAGE: UsageError,
    ExitCode.BOOT_FAILED: BootError,
    ExitCode.APP_NOT_LOADED: LoadError,
}


def failure_of(data: bytes) -> HybridError | None:
    """Return the error that a parent's message reports, or None when it reports none."""
    said = json.loads(data)
    if said["event"] != "failed":
        return None
    message, detail = said["error"], said["detail"]
    kind = _ERRORS.get(said["exit_code"], HybridError)
    if kind is UsageError and message.startswith("cannot listen"):
        kind = ListenError
    return kind(message, detail=detail)


class PoolServer:
    """A pool of worker processes, owned by an asyncio service.

    Runs in: the host's loop; the pool runs in processes of its own. Closes: the pool, on leaving ``async with``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._addresses: tuple[str, ...] = ()
        self._parent: _Parent | None = None
        self._scoreboard: Scoreboard | None = None
        self._pidfd = -1
        self._asked = False

    async def __aenter__(self) -> PoolServer:
        if self._parent is not None:
            raise entered_twice()
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._exited: asyncio.Future[int] = loop.create_future()
        self._parent = parent = _Parent(self._settings)
        self._pidfd = os.pidfd_open(parent.process.pid)
        loop.add_reader(self._pidfd, self._on_exit)
        loop.add_reader(parent.channel.fileno(), self._on_parent)
        try:
            with speaking_keywords():
                await self._ready
        except BaseException:
            # Not ready, or not wanted any more: the end of the life line ends the pool, and no process is left.
            await asyncio.shield(self.drain(0.0))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        unasked = not self._asked and self._exited.done()
        await asyncio.shield(self.drain())
        code = self._exited.result()
        if error is None and (unasked or code != ExitCode.OK):
            raise _ended_by_itself(code)

    @property
    def addresses(self) -> tuple[str, ...]:
        """What the server listens on, in the grammar of ``bind``; port 0 is replaced by the real one."""
        self._entered("read addresses")
        return self._addresses

    @property
    def pid(self) -> int:
        """The parent's process."""
        return self._entered("read pid").process.pid

    @property
    def workers(self) -> tuple[WorkerStatus, ...]:
        """The workers as they are now, read from shared memory; none after the server has ended."""
        self._entered("read workers")
        if self._scoreboard is None:
            return ()
        return statuses(self._scoreboard)

    @property
    def replaced(self) -> dict[str, int]:
        """How many workers had to be replaced, by why: ``requests``, ``lifetime``, ``memory``, ``died``, ``told``.

        The first three are ``max_requests``, ``max_lifetime`` and ``max_memory``. ``died``: it crashed, or was killed
        (``worker_timeout`` included). ``told``: somebody else sent it SIGTERM. Empty after the server has ended.
        """
        self._entered("read replaced")
        return replacements(self._scoreboard) if self._scoreboard is not None else {}

    async def drain(self, grace_s: float | None = None) -> None:
        """Stop accepting, let open connections finish within ``grace_s`` seconds, end the pool; wait for its end.

        ``grace_s``: None: the configured one. Called again with less: the rest is cancelled sooner.
        """
        parent = self._entered("drain")
        if self._exited.done():
            return
        self._asked = True
        grace_s = self._settings.timeout.grace_s if grace_s is None else grace_s
        try:
            messages.send(parent.channel, messages.Record(messages.Op.HOST_DRAIN, a=int(grace_s * 1000)))
        except OSError:
            pass  # it is gone: its pidfd says so
        await asyncio.shield(self._exited)

    async def wait_closed(self) -> int:
        """Wait until the pool has ended, for whatever reason; return its exit code."""
        self._entered("wait")
        return await asyncio.shield(self._exited)

    def _entered(self, what: str) -> _Parent:
        if self._parent is None:
            raise not_entered(what)
        return self._parent

    def _on_parent(self) -> None:
        assert self._parent is not None
        try:
            data, descriptors = messages.receive_bytes(self._parent.channel)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._parent.channel.fileno())
            return
        self._parent.failure = failure_of(data)
        if self._parent.failure is None and descriptors:
            self._scoreboard = Scoreboard.attach(descriptors.pop(0))
            self._addresses = tuple(json.loads(data)["addresses"])
            if not self._ready.done():
                self._ready.set_result(None)
        for fd in descriptors:
            os.close(fd)

    def _on_exit(self) -> None:
        """The parent is gone: reap it, keep its code, and wake whoever waits."""
        loop = asyncio.get_running_loop()
        parent = self._parent
        assert parent is not None
        code = parent.process.poll()
        if code is None:
            return
        loop.remove_reader(self._pidfd)
        loop.remove_reader(parent.channel.fileno())
        os.close(self._pidfd)
        failure = parent.last_words()
        parent.close()
        if self._scoreboard is not None:
            self._scoreboard.close()
            self._scoreboard = None
        if not self._ready.done():
            self._ready.set_exception(
                failure or BootError(f"the pool ended before it was ready: {_how_it_ended(code)}")
            )
        self._exited.set_result(code)
