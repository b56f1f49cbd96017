"""``--accept fork``: a process for each connection, the oldest concurrent server.

The worker accepts, forks, and closes its own copy; the child serves that one connection and leaves. A handler that
crashes its process, leaks, or changes global state harms nobody else. It costs about a hundred times what a thread
does.

Why forking from a process with an event loop is safe here: the child never touches the loop. It leaves by ``_exit``
as soon as the handler has returned, and what it inherited of the worker's (listeners, the channel to the parent, the
loop's own descriptors) it closes first. Signals are blocked around the fork. Handlers see the worker's memory as it was
at that moment; a lock that another thread of the app holds then stays locked in the child, so an app that runs
threads of its own should not be served this way.

When the worker dies, its children finish: they are adopted and reaped by the parent. When the parent is gone, their
own watchdog ends them after the grace.

Source: UNP ch. 30, "TCP Concurrent Server, One Child per Client"; fork(2), pidfd_open(2).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from hybrid.handlers.threaded import BlockingConnection, BlockingEndpoint
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.receptions import AGAIN_S, nothing

_logger = logging.getLogger("hybrid.error")
_EVERY_SIGNAL = signal.valid_signals()
END_STREAM = signal.SIGUSR1
"""What tells a child that its time is over. Not SIGTERM: a service manager sends that to every process at once."""
FAILED = 70
"""What a child exits with when its handler raised, and has been logged (EX_SOFTWARE of sysexits.h)."""

in_child: list[Callable[[], object]] = []
"""What a forked child does first: each process's own room adds what it must let go of, or keep watch over."""


class ForkedConnection:
    """A connection that a child serves: what the drain sees of it. Closes: the pidfd, when the child is reaped."""

    __slots__ = ("_reception", "pid", "pidfd", "sock")

    def __init__(self, reception: ForkReception, sock: socket.socket) -> None:
        self._reception = reception
        self.sock: socket.socket | None = sock
        """Until it is forked."""
        self.pid = 0
        self.pidfd = -1

    def start_draining(self) -> None:
        """Do nothing: nobody can be told."""

    def cancel(self) -> None:
        """Have the child see the end of its stream, as a handler in a thread would."""
        self._end(END_STREAM)

    def abort(self) -> None:
        """Send the child SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                pass
        else:
            self._reception.forget(self)


class ForkReception:
    """Forks for each connection. See :class:`~hybrid.worker.acceptors.receptions.Reception`."""

    description = "one process each"

    def __init__(self, endpoint: BlockingEndpoint, intake: Intake) -> None:
        self._endpoint = endpoint
        self._intake = intake
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[ForkedConnection] = deque()

    def take(self, sock: socket.socket, counted: Callable[[], None] = nothing) -> None:
        """Count it, and fork its child."""
        sock.setblocking(True)
        connection = ForkedConnection(self, sock)
        self._endpoint.door.opened(connection)
        counted()
        self._waiting.append(connection)
        self._fork_waiting()

    async def settle(self) -> None:
        """Return at once: it is counted when it is taken."""

    def end(self) -> None:
        """Do nothing: children end with their connections."""

    def forget(self, connection: ForkedConnection) -> None:
        """Cut a connection that has no child yet."""
        if connection in self._waiting:
            self._waiting.remove(connection)
            self._close(connection)

    def _fork_waiting(self) -> None:
        registry = self._intake.registry
        while self._waiting and registry.active - len(self._waiting) < registry.limit:
            connection = self._waiting[0]
            try:
                self._fork(connection)
            except OSError as error:
                self._intake.warn(
                    f"cannot fork: {error.strerror}; {len(self._waiting)} connections wait for a child to end"
                )
                self._loop.call_later(AGAIN_S, self._fork_waiting)
                return
            self._waiting.popleft()

    def _fork(self, connection: ForkedConnection) -> None:
        sock = connection.sock
        assert sock is not None
        # A signal between fork and the child's own dispositions would be written into the worker's wake-up pipe.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _EVERY_SIGNAL)
        try:
            with warnings.catch_warnings():
                # CPython 3.12+ warns of threads: ours, the watchdog, holds no lock.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                self._serve(sock)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sock.close()
        connection.sock, connection.pid = None, pid
        try:
            connection.pidfd = os.pidfd_open(pid)
        except OSError:  # no descriptor left, though we have just closed one: a thread waits for the child
            waiting = self._loop.run_in_executor(None, os.waitpid, pid, 0)
            waiting.add_done_callback(lambda _done: self._close(connection))
            return
        self._loop.add_reader(connection.pidfd, self._reap, connection)

    def _serve(self, sock: socket.socket) -> NoReturn:
        """Be the child: serve one connection, leave. Never returns into the worker's frames."""
        code = 1
        try:
            gc.freeze()  # a collection would copy the worker's memory page by page
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, _ignore)
            connection = self._endpoint.connection(sock)
            signal.signal(END_STREAM, partial(_end_stream, connection))
            for let_go in in_child:
                let_go()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            code = 0 if self._endpoint.run(connection) else FAILED
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        except BaseException:
            _logger.exception("a blocking handler raised what no handler should")
            code = FAILED
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError, AttributeError):
                    pass
            os._exit(code)

    def _reap(self, connection: ForkedConnection) -> None:
        try:
            found = os.waitid(os.P_PIDFD, connection.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:  # the app waited for it
            self._close(connection)
            return
        if found is None:
            return
        if found.si_code != os.CLD_EXITED and found.si_status != signal.SIGKILL:
            _logger.error(
                "handler %s: the child that served a connection died of %s",
                self._endpoint.name,
                signal.Signals(found.si_status).name,
            )
        elif found.si_code == os.CLD_EXITED and found.si_status not in (0, FAILED):
            _logger.error("handler %s: its child exited with code %d", self._endpoint.name, found.si_status)
        if found.si_code != os.CLD_EXITED or found.si_status:
            self._endpoint.door.failed(connection)
        self._close(connection)

    def _close(self, connection: ForkedConnection) -> None:
        if connection.pidfd >= 0:
            self._loop.remove_reader(connection.pidfd)
            os.close(connection.pidfd)
            connection.pidfd = -1
        if connection.sock is not None:
            connection.sock.close()
        self._endpoint.door.closed(connection)
        if self._waiting:
            self._loop.call_soon(self._fork_waiting)


def _ignore(number: int, frame: object) -> None:
    """Do nothing: only the worker says when a child's time is over. Not SIG_IGN: subprocesses inherit that."""


def _end_stream(connection: BlockingConnection, number: int, frame: object) -> None:
    """Show the handler the end of the stream: what the peer sends from now on is not read. Runs in: the child."""
    connection.cancel()
