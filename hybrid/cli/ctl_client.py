"""The client's end of a control socket: a question, the events on the way, an answer. JSON, a line each.

Runs in: ``hybrid-ctl``. One question at a time; :mod:`hybrid.cli.top_link` has the same for an event loop.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Any

from hybrid.ground.errors import HybridError

LINE_BYTES = 1 << 20
"""Longer lines end the conversation. What a server sends is shorter by far, boot logs included."""
CONNECT_S = 5.0
_CHUNK_BYTES = 65536

Event = dict[str, Any]
"""What comes before the answer: ``{"id": …, "ev": "step", …}``."""


class Unreached(HybridError):
    """Nobody answers: no server, several of them, a dead socket, or an answer that does not come."""


class Lost(Unreached):
    """Who answered is gone: the server, or only its control process, in whose place there will be another."""


class Refused(HybridError):
    """The server said no. ``detail``: what it adds, for example the log of a boot that failed."""


class ControlClient:
    """A connection to a control socket. Closes: itself, as a context manager.

    Args: timeout_s: how long to wait for each next line; None: for as long as it takes.
    Raises: Unreached: nobody listens there, or we may not.
    """

    def __init__(self, path: str, timeout_s: float | None = None) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._pending = b""
        self._number = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(CONNECT_S)
            self._socket.connect(path)
            self._socket.settimeout(timeout_s)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            self._socket.close()
            raise unreached(path, error) from error

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def exchange(self, op: str, args: Mapping[str, object]) -> Generator[Event, None, dict[str, Any]]:
        """Ask; yield each event on the way, and return the result.

        Raises: Refused: the server said no. Lost: it went away. Unreached: it took too long.
        """
        self._number += 1
        try:
            self._socket.sendall(question(self._number, op, args))
            while True:
                found = answer(self._line(), self._number)
                if found is None:
                    continue
                if "ev" not in found:
                    return result_of(found)
                yield found
        except TimeoutError as error:
            raise Unreached(
                f"no answer from the server at {self.path} within {self._timeout_s:g} s. Try again, or give it more "
                "time with --timeout."
            ) from error
        except OSError as error:
            raise _lost(self.path) from error

    def ask(self, op: str, args: Mapping[str, object]) -> dict[str, Any]:
        """Ask; return the result, whatever happens on the way. Raises: as :meth:`exchange`."""
        conversation = self.exchange(op, args)
        while True:
            try:
                next(conversation)
            except StopIteration as end:
                result: dict[str, Any] = end.value
                return result

    def _line(self) -> bytes:
        """Return the next line. Raises: Unreached: there is none. OSError."""
        while b"\n" not in self._pending:
            chunk = self._socket.recv(_CHUNK_BYTES)
            if not chunk or len(self._pending) > LINE_BYTES:
                raise _lost(self.path)
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line


def question(number: int, op: str, args: Mapping[str, object]) -> bytes:
    """Return the line that asks for ``op``."""
    return json.dumps({"id": number, "op": op, "args": dict(args)}).encode() + b"\n"


def answer(line: bytes, number: int) -> dict[str, Any] | None:
    """Return what a line says about question ``number``; None: it is about another.

    An answer without an id is to a line that the server could not read: ours.

    Raises: Unreached: it is no line of this protocol.
    """
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unreached("what listens there does not speak the control protocol. Check --control.")
    return found if found.get("id") in (number, None) else None


def result_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of an answer. Raises: Refused: it says no."""
    if not found.get("ok"):
        raise Refused(str(found.get("error") or "the server said no"), detail=str(found.get("detail") or ""))
    result = found.get("result")
    return result if isinstance(result, dict) else {} if result is None else {"result": result}


def unreached(path: str, error: Exception) -> Unreached:
    """Return the error that says why a connect to ``path`` failed."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    remedy = "Check --control, and that the server runs."
    if isinstance(error, FileNotFoundError):
        remedy = "Check --control; a server with --control off has none."
    elif isinstance(error, ConnectionRefusedError):
        remedy = "The server that left the file is gone."
    elif isinstance(error, PermissionError):
        remedy = "Run this as the server's user, or as root."
    return Unreached(f"cannot connect to {path}: {why[:1].lower()}{why[1:]}. {remedy}")


def _lost(path: str) -> Lost:
    return Lost(f"the server at {path} closed the connection before it answered. It may be going down; see its log.")
