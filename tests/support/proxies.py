"""Real proxies in front of real pools, with the configurations of ``examples``; and clients that count what failed.

Nothing of the examples is changed but where things are: the proxy listens at a unix socket, the machines are two ports
of this one, and HAProxy looks five times as often.
"""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.clients import PATIENCE_S, People
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand, Cut
from tests.support.server import ROOT, Server, until_eof
from tests.support.tied import tied

CLIENTS = 4
MACHINES = ("10.0.0.5:8000", "10.0.0.6:8000")
"""Those of the examples."""
PROXIES = {"haproxy": ROOT / "examples/haproxy/haproxy.cfg", "nginx": ROOT / "examples/nginx/nginx.conf"}
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def program(name: str) -> str:
    """Return where a proxy's program is; skip where it is not."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def changed(text: str, changes: Mapping[str, str]) -> str:
    """Return ``text`` with each of these replaced; fail where one is not there: the example has become another one."""
    for old, new in changes.items():
        assert old in text, f"the example has no {old!r}"
        text = text.replace(old, new)
    return text


@dataclass
class Proxy:
    """A running proxy. ``path``: its unix socket. Closes: nothing; :func:`proxy` does."""

    name: str
    path: str
    folder: Path
    process: subprocess.Popen[bytes]

    def connect(self, timeout_s: float = PATIENCE_S) -> socket.socket:
        """Return a connected, blocking socket."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(timeout_s)
        try:
            client.connect(self.path)
        except OSError:
            client.close()
            raise
        return client

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask once; return status and body."""
        with ByHand(self.connect()) as client:
            answer = client.get(path)
        return answer.status, answer.body

    def stats(self) -> dict[str, dict[str, str]]:
        """Return what HAProxy shows of each server of the backend: status, weight, what the agent said …"""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(PATIENCE_S)
            admin.connect(str(self.folder / "admin.sock"))
            admin.sendall(b"show stat app 4 -1\n")
            text = b""
            while more := admin.recv(65536):
                text += more
        rows = csv.DictReader(text.decode().removeprefix("# ").strip().splitlines())
        return {row["svname"]: row for row in rows}


def settings_of(name: str, folder: Path, machines: Sequence[str], agents: Sequence[str] = ()) -> Path:
    """Write the example's configuration for these machines into ``folder``; return the file."""
    text = PROXIES[name].read_text(encoding="utf-8")
    if name == "haproxy":
        ports = [each.rpartition(":")[2] for each in agents] or ["1", "1"]
        servers = [f"{where} agent-port {port}" for where, port in zip(machines, ports, strict=True)]
        changes = {
            **dict(zip(MACHINES, servers, strict=True)),
            "bind :80": f"bind unix@{folder}/haproxy.sock",
            "/run/haproxy/admin.sock": f"{folder}/admin.sock",
            "check inter 2s": "check inter 400ms",
            "agent-inter 1s": "agent-inter 200ms",
        }
    else:
        temporary = "".join(
            f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        changes = {
            **dict(zip(MACHINES, machines, strict=True)),
            "listen 80": f"listen unix:{folder}/nginx.sock",
            "/run/nginx.pid": f"{folder}/nginx.pid",
            "worker_processes auto": "worker_processes 1",
            "http {\n": "http {\n" + temporary,
        }
    file = folder / PROXIES[name].name
    file.write_text(changed(text, changes), encoding="utf-8")
    return file


def command_of(name: str, file: Path, *, check: bool = False) -> list[str]:
    """Return the command that runs a proxy in the foreground, or has it look at its file only."""
    if name == "haproxy":
        return [program(name), *(("-c",) if check else ("-db",)), "-f", str(file)]
    return [program(name), "-c", str(file), *(("-t",) if check else ("-g", "daemon off;"))]


@contextmanager
def proxy(name: str, folder: Path, machines: Sequence[str], agents: Sequence[str] = ()) -> Iterator[Proxy]:
    """Run a proxy for the length of a block, in front of these machines; ready when the block begins."""
    file = settings_of(name, folder, machines, agents)
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            tied(command_of(name, file)), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    running = Proxy(name, str(folder / f"{name}.sock"), folder, process)
    try:
        eventually(lambda: _is_open(running))
        yield running
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)


def _is_open(running: Proxy) -> bool:
    assert running.process.poll() is None, running.log
    try:
        return running.get("/pid")[0] == 200
    except OSError:
        return False


@dataclass
class Visitors(People):
    """Clients of a proxy: each asks on one connection for a while, then on a new one. GET and POST in turn."""

    proxy: Proxy | None = None
    methods: tuple[str, ...] = ("GET",)
    failed: list[str] = field(default_factory=list)
    """Requests that were not answered with 200, and how."""

    def work(self) -> None:
        """Be one client after another. Runs in: a thread."""
        assert self.proxy is not None
        while not self.is_over():
            try:
                with ByHand(self.proxy.connect()) as client:
                    self._visit(client)
            except (Cut, OSError) as error:
                with self._lock:
                    self.failed.append(repr(error))

    def _visit(self, client: ByHand) -> None:
        for turn in range(20):
            if turn and self.is_over():
                return
            method = self.methods[turn % len(self.methods)]
            body = "Content-Length: 0\r\n" if method == "POST" else ""
            client.send(f"{method} /pid HTTP/1.1\r\nHost: test\r\n{body}\r\n".encode())
            answer = client.answer()
            with self._lock:
                if answer.status == 200:
                    self.served[int(answer.body)] = self.served.get(int(answer.body), 0) + 1
                else:
                    self.failed.append(f"{method}: {answer.status}")
            if answer.is_last:
                return


@contextmanager
def visitors(proxy: Proxy, server: Server, *methods: str) -> Iterator[Visitors]:
    """Keep the machines behind a proxy busy for the length of a block; it begins when both have served."""
    people = Visitors(server, proxy=proxy, methods=methods or ("GET",))
    with people.busy(CLIENTS):
        people.wait_more(20)
        yield people
        people.wait_more(20)


def agent_address(server: Server) -> str:
    """Return where the server answers an agent-check."""
    (address,) = server.said["doors"]["agent-bind"]
    return str(address)


def agent_line(server: Server) -> str:
    """Ask as HAProxy does; return what is said. Nothing: nobody answered."""
    with server.connect(agent_address(server)) as client:
        return until_eof(client).decode()
