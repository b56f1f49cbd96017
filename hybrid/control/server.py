"""The control socket: JSON lines over a unix socket, for those who may.

A request is one line, ``{"id": 7, "op": "status", "args": {}}``; what comes back bears its ``id``: any number of
``{"id": 7, "ev": …}``, and in the end ``{"id": 7, "ok": true, "result": {…}}`` or
``{"id": 7, "ok": false, "error": "…", "detail": "…"}``. Requests of one connection run side by side.

Whoever is neither root, nor the parent's user, nor our own is told so and closed: the socket's directory is private,
but a descriptor can be passed on. Nobody makes us keep more than a little for him: who sends too long a line or reads
too slowly is told so and closed.

Source: unix(7), SO_PEERCRED; docs/reference/control-protocol.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import struct
from collections.abc import Callable

from hybrid.control.accepting import Accepting
from hybrid.control.commands import OPS, Call, Refused
from hybrid.control.sampler import Sampler
from hybrid.control.state import State

LINE_BYTES = 65536
"""Of a request, at most."""
UNREAD_BYTES = 1 << 20
"""Of answers that a client has not read: then it is dropped."""
MOST_CLIENTS = 64
MOST_REQUESTS = 16
"""Of one connection at a time."""
GONE_EVERY_S = 1.0
"""Between two looks whether a client that only listens is still there."""
LINGER_S = 0.05
"""For whoever was accepted when it was decided to leave."""
LAST_WORDS_S = 0.5
"""For answers that are on their way when the server ends."""
PARTING_S = 1.0
"""For a client that is dropped to read why."""
_CREDENTIALS = struct.Struct("iII")

Peer = Callable[[socket.socket], "tuple[int, int]"]


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Return pid and uid of the process that connected."""
    pid, uid, _gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


class TooSlow(Exception):
    """The client does not read what it asked for."""


class Server:
    """Everybody who is connected to the control socket. Runs in: control. Closes: their connections.

    Args: peer: tells who has connected.
    """

    def __init__(self, state: State, sampler: Sampler, peer: Peer = peer_of) -> None:
        self._state = state
        self._sampler = sampler
        self._allowed = {0, os.getuid(), state.owner}
        self._peer = peer
        self._clients: set[Client] = set()
        self._left = asyncio.Event()
        """Nobody is connected."""
        self._left.set()

    async def run(self, listener: socket.socket, idle_s: float | None = None) -> None:
        """Answer whoever connects to ``listener``; then say goodbye to everybody.

        Until cancelled, or nobody has been connected for ``idle_s``.
        """
        try:
            while await self._serve(listener.dup(), idle_s):
                pass
        finally:
            listener.close()
            if self._state.is_over.is_set():
                await self._last_words()
            for client in tuple(self._clients):
                client.end()

    async def _last_words(self) -> None:
        """Let requests end by themselves, now that the server is gone: followers hear how it came to that."""
        if tasks := [task for client in self._clients for task in client.tasks]:
            await asyncio.wait(tasks, timeout=LAST_WORDS_S)

    async def _serve(self, listener: socket.socket, idle_s: float | None) -> bool:
        """Accept until it is time to leave; return whether somebody came in meanwhile. Closes: ``listener``."""
        accepting = Accepting(
            listener, lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=LINE_BYTES), self._greet)
        )
        try:
            await self._be_idle(idle_s)
        finally:
            accepting.close()
        await asyncio.sleep(LINGER_S)  # who was accepted is greeted; who comes from now on waits for the next control
        return bool(self._clients)

    async def _be_idle(self, idle_s: float | None) -> None:
        """Wait until nobody has been connected for ``idle_s``; for ever if that is None."""
        if idle_s is None:
            await asyncio.Event().wait()
            return
        while True:
            await self._left.wait()
            arrived = self._arrived
            await asyncio.sleep(idle_s)
            if self._left.is_set() and arrived == self._arrived:
                return

    _arrived = 0
    """Clients ever."""

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer, self._state, self._sampler)
        pid, uid = self._peer(writer.get_extra_info("socket"))
        if uid not in self._allowed:
            self._state.log.warning(f"control refuses process {pid} of uid {uid}")
            client.drop(f"uid {uid} may not control this server. Ask as root, or as the user who started it.")
            return
        if len(self._clients) >= MOST_CLIENTS:
            client.drop(f"{MOST_CLIENTS} clients are connected to control already. Close one, and try again.")
            return
        client.who = f"process {pid} (uid {uid})"
        self._clients.add(client)
        self._left.clear()
        self._arrived += 1
        try:
            await client.run()
        except (OSError, asyncio.CancelledError):
            pass  # it left, or we do
        finally:
            self._clients.discard(client)
            if not self._clients:
                self._left.set()
            client.end()


class Client:
    """One connection: its requests, each a task. Closes: the connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: State, sampler: Sampler
    ) -> None:
        self.who = ""
        self._reader = reader
        self._writer = writer
        self._state = state
        self._sampler = sampler
        self.tasks: set[asyncio.Task[None]] = set()
        """Its requests that are being answered."""

    # ── what comes ──

    async def run(self) -> None:
        """Answer until the client has said its last word and has its last answer."""
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                self.drop(f"the line is longer than {LINE_BYTES} bytes. Send a request in fewer.")
                return
            except asyncio.IncompleteReadError as error:
                line = error.partial
                if not line.strip():
                    break
            self._take(line)
        while self.tasks and not self._is_gone():
            await asyncio.wait(self.tasks, timeout=GONE_EVERY_S)
        if not self._writer.is_closing():
            await self._writer.drain()

    def _is_gone(self) -> bool:
        """Return whether a client that says no more does not hear us, either. Source: poll(2), POLLHUP."""
        if self._writer.is_closing():
            return True
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), 0)
        return bool(poll.poll(0))

    def _take(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            self._fail(None, 'the line is no JSON object. Send {"id": 1, "op": "status"}.')
            return
        number, args = request.get("id"), request.get("args", {})
        op = OPS.get(op) if isinstance(op := request.get("op"), str) else None
        if number is not None and not isinstance(number, (int, str)):
            self._fail(None, "the id is neither a number nor a text.")
        elif op is None:
            self._fail(number, f"there is no op {request.get('op')!r}. There are {', '.join(OPS)}.")
        elif not isinstance(args, dict):
            self._fail(number, f"the args are no object but {args!r}.")
        elif len(self.tasks) >= MOST_REQUESTS:
            self._fail(number, f"{MOST_REQUESTS} requests of this connection are being answered. Wait for one.")
        else:
            call = Call(self._state, self._sampler, args, self.who, lambda said: self.send({"id": number, **said}))
            call.is_behind, call.room = self._is_behind, self._writer.drain
            task = asyncio.create_task(self._answer(number, op, call))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _answer(self, number: int | str | None, op: Callable[[Call], object], call: Call) -> None:
        try:
            result = await op(call)  # type: ignore[misc]  # a coroutine function of the table
            self.send({"id": number, "ok": True, "result": result})
        except Refused as error:
            self._fail(number, str(error), error.detail)
        except TooSlow:
            self.drop("what was asked for is not read. Read faster, or ask for less.")
        except OSError:
            pass  # it left
        except Exception as error:  # noqa: BLE001  # one request is not all of them
            self._state.log.error(f"control cannot answer: {type(error).__name__}: {error}")
            self._fail(number, f"control cannot answer: {type(error).__name__}: {error}")

    # ── what goes ──

    def _fail(self, number: int | str | None, error: str, detail: str = "") -> None:
        try:
            self.send({"id": number, "ok": False, "error": error, "detail": detail})
        except TooSlow:
            self.drop("what was asked for is not read.")

    def send(self, what: dict[str, object]) -> None:
        """Send one line. Raises: TooSlow: it has not read a lot; ConnectionError: it left."""
        if self._writer.is_closing():
            raise ConnectionResetError
        if self._unread() > UNREAD_BYTES:
            raise TooSlow
        self._writer.write(json.dumps(what).encode() + b"\n")

    def _unread(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    def _is_behind(self) -> bool:
        return self._unread() > 0

    def drop(self, why: str) -> None:
        """Say why, and close; who does not read it either is cut."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"id": None, "ok": False, "error": why, "detail": ""}).encode() + b"\n")
        self.end()

    def end(self) -> None:
        """Close the connection, after what was said; may be called twice."""
        for task in self.tasks:
            task.cancel()
        if not self._writer.is_closing():
            self._writer.close()
            asyncio.get_running_loop().call_later(PARTING_S, self._writer.transport.abort)


async def serve(state: State, sampler: Sampler, listener: socket.socket, idle_s: float | None = None) -> None:
    """Answer at the control socket until cancelled, or idle for so long. Runs in: control. Closes: ``listener``."""
    await Server(state, sampler).run(listener, idle_s)
