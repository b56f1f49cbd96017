"""A worker without a pool: a real process that lives a worker's life, and a test that plays its parent.

Run as ``python -m tests.support.lone_worker`` with a JSON object as its argument; the descriptors are inherited. It is
a program of its own because a fork of the test runner would take the runner's threads and descriptors along.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from types import TracebackType

from hybrid.ground.clock import monotonic_ns
from hybrid.shared import boot_report, messages, stack_dump
from hybrid.shared.messages import Op, Record
from hybrid.shared.scoreboard import Cell, Row, Scoreboard
from hybrid.shared.settings import Settings, from_json, to_json
from hybrid.worker.main import Birth, live
from tests.support.server import ROOT

PATIENCE_S = 20.0


class LoneWorker:
    """A worker in slot 0, of its own process. Ready when entered. Closes: the process, and all it had."""

    def __init__(self, settings: Settings) -> None:
        self._scoreboard = Scoreboard.create(1, monotonic_ns())
        self.row: Row = self._scoreboard.use_slot(0)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self._channel, theirs = messages.socketpair()
        self._channel.settimeout(PATIENCE_S)
        self._report_fd = boot_report.create()
        life_fd, self._life_fd = os.pipe()
        theirs.setblocking(False)
        inherited = {
            "channel_fd": theirs.fileno(),
            "report_fd": self._report_fd,
            "scoreboard_fd": self._scoreboard.fd,
            "life_fd": life_fd,
            "listener_fd": self.listener.fileno(),
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.lone_worker",
                json.dumps({**inherited, "settings": to_json(settings)}),
            ],
            pass_fds=tuple(inherited.values()),
            cwd=ROOT,
        )
        theirs.close()
        os.close(life_fd)

    def __enter__(self) -> LoneWorker:
        try:
            assert self.hear().op is Op.READY, boot_report.read(self._report_fd)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process, if it is still there, and let go of all it had."""
        self.process.kill()
        self.process.wait()
        os.close(self._life_fd)
        os.close(self._report_fd)
        self._channel.close()
        self.listener.close()
        self.row.cells.release()
        self._scoreboard.close()

    def connect(self) -> socket.socket:
        """Return a connected, blocking socket."""
        return socket.create_connection(self.listener.getsockname(), timeout=10)

    def hear(self) -> Record:
        """Return what the worker says next; fail if it leaves without a word."""
        record, _, is_open = messages.receive(self._channel)
        assert record is not None and is_open, f"the worker is gone; at {boot_report.read(self._report_fd)}"
        return record

    def tell(self, record: Record) -> None:
        """Tell the worker something."""
        messages.send(self._channel, record)

    def last_words(self) -> list[Record]:
        """Return all that the worker says until it is gone."""
        said: list[Record] = []
        while True:
            record, _, is_open = messages.receive(self._channel)
            if not is_open:
                return said
            assert record is not None
            said.append(record)

    @property
    def requests(self) -> int:
        """The count that it has published."""
        return self.row[Cell.REQUESTS]


def main() -> int:
    """Live as a worker. Runs in: the process that :class:`LoneWorker` starts."""
    born = json.loads(sys.argv[1])
    dump_fd, wake_fd, _nobody_asks = stack_dump.create()
    listener = socket.socket(fileno=born["listener_fd"])
    host, port = listener.getsockname()[:2]
    birth = Birth(
        settings=from_json(born["settings"]),
        slot=0,
        seat=0,
        generation=1,
        channel=socket.socket(fileno=born["channel_fd"]),
        report_fd=born["report_fd"],
        dump_fd=dump_fd,
        wake_fd=wake_fd,
        scoreboard=Scoreboard.attach(born["scoreboard_fd"]),
        life_fd=born["life_fd"],
        log_fd=2,
        access_fd=1,
        listeners=[listener],
        addresses=(f"{host}:{port}",),
        app=None,
        tls=None,
    )
    return live(birth)


if __name__ == "__main__":
    sys.exit(main())
