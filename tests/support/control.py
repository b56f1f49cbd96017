"""Somebody at the control socket of a real server: asks in JSON lines, and hears the answers."""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.support.server import Server, command_line

Answer = dict[str, Any]
PATIENCE_S = 60.0


class Control:
    """One connection to a control socket. Closes: it, at the end of the ``with`` block."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path_of(server))
        self._lines = self.socket.makefile("rb")
        self._number = 0
        self.events: list[Answer] = []
        """What came before the last answer."""

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *exc: object) -> None:
        self._lines.close()
        self.socket.close()

    def send(self, op: str, **args: Any) -> int:
        """Ask for something; return under which number."""
        self._number += 1
        self.socket.sendall(json.dumps({"id": self._number, "op": op, "args": args}).encode() + b"\n")
        return self._number

    def hear(self) -> Answer | None:
        """Return the next line; None: the end."""
        line = self._lines.readline()
        return json.loads(line) if line else None

    def ask(self, op: str, **args: Any) -> Answer:
        """Ask, and return the answer; the events before it are kept."""
        number = self.send(op, **args)
        self.events = []
        while (said := self.hear()) is not None:
            assert said["id"] == number, said
            if "ok" in said:
                return said
            self.events.append(said)
        raise AssertionError(f"no answer to {op}")

    def result(self, op: str, **args: Any) -> Any:
        """Ask for what cannot fail; return the result."""
        answer = self.ask(op, **args)
        assert answer["ok"], answer
        return answer["result"]


def path_of(server: Server) -> str:
    """Return where the control socket is."""
    address: str = server.said["doors"]["control"][0]
    return address.removeprefix("unix:")


def control_pid(server: Server) -> int:
    """Return the pid of the control process; 0: none runs."""
    for pid in server.others():
        name = command_line(pid)
        if "/control/__main__.py" in name or name.startswith("hybrid: control"):
            return pid
    return 0
