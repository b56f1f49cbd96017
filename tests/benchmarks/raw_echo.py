"""Raw echo: what one message costs the server. ``python -m tests.benchmarks.raw_echo --rounds 15``.

64 connections, one message of 64 B or 1 KiB open on each. The client is one process; it names itself in the report,
because it matters. ``ring`` has blocking sockets and goes round them (receive the reply, send the next): the server
finds many messages at a time. ``busy`` polls without ever sleeping and answers at once: the server finds few, and
pays for more turns of its loop. ``--compiled TREE`` (by default build/compiled, if it is there) measures ``Connection``
as it is there as well.
"""

from __future__ import annotations

import argparse
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from tests.benchmarks.measure import CLIENT_CPU, Bar, Server, as_command, compare, pin, report
from tests.benchmarks.peer_choice import add_options, announce, check, subjects, write_json

CONNECTIONS = 64
SERVERS = "tests.benchmarks.servers"
OTHERS = ("bare", "streams", "anyio")
BARS = (
    Bar("connection", "bare", 1.5),
    Bar("connection", "streams", 1.0),
    Bar("connection", "anyio", 1.0),
    Bar("connection compiled", "bare", 1.3),
)


def connect(port: int, message: bytes) -> list[socket.socket]:
    """Open the connections and send the first message on each."""
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for sock in sockets:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(message)
    return sockets


def receive(recv: Callable[[int], bytes], size_bytes: int) -> None:
    """Receive one whole message."""
    missing = size_bytes - len(recv(size_bytes))
    while missing:
        missing -= len(recv(missing))


def ring(port: int, size_bytes: int, for_s: float) -> int:
    """Exchange messages for a while, socket after socket; return how many."""
    message = b"x" * size_bytes
    sockets = connect(port, message)
    calls = [(sock.recv, sock.send) for sock in sockets]
    count = 0
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        for recv, send in calls:
            receive(recv, size_bytes)
            send(message)
        count += CONNECTIONS
    return count + finish(sockets, size_bytes)


def busy(port: int, size_bytes: int, for_s: float) -> int:
    """Exchange messages for a while, whoever is ready first; return how many."""
    message = b"x" * size_bytes
    sockets = connect(port, message)
    calls = {sock.fileno(): (sock.recv, sock.send) for sock in sockets}
    count = 0
    deadline = time.monotonic() + for_s
    with select.epoll() as ready:
        for descriptor in calls:
            ready.register(descriptor, select.EPOLLIN)
        while time.monotonic() < deadline:
            for descriptor, _ in ready.poll(0):
                recv, send = calls[descriptor]
                receive(recv, size_bytes)
                send(message)
                count += 1
    return count + finish(sockets, size_bytes)


def finish(sockets: list[socket.socket], size_bytes: int) -> int:
    """Take the last replies and close; return how many."""
    for sock in sockets:
        receive(sock.recv, size_bytes)
        sock.close()
    return len(sockets)


CLIENTS: dict[str, Callable[..., int]] = {"ring": ring, "busy": busy}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a bar is missed or hybrid cannot be measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.raw_echo", description="Measure a raw echo.")
    add_options(parser, rounds=15, for_s=0.5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 1024], help="of a message, in bytes")
    parser.add_argument("--clients", nargs="+", default=list(CLIENTS), choices=list(CLIENTS))
    chosen = parser.parse_args(arguments)
    check(parser, chosen)
    ours = subjects(chosen)
    announce(ours)
    pin(CLIENT_CPU)
    held = True
    results: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as running:
        servers = {name: running.enter_context(Server(SERVERS, "echo", name)) for name in OTHERS}
        for subject in ours:
            if subject.problem:
                print(f"{subject.name}: {subject.problem}")
                held = False
                continue
            name = subject.name.replace("hybrid", "connection")
            servers[name] = running.enter_context(Server(SERVERS, "echo", "connection", tree=subject.cwd))
        for client in chosen.clients:
            for size in chosen.sizes:
                work = partial(CLIENTS[client], size_bytes=size, for_s=chosen.seconds)
                title = f"echo of {size} B, {CONNECTIONS} connections, client {client}"
                results[title] = compare(servers, work, chosen.rounds)
                held = report(title, results[title], "bare", BARS) and held
    write_json(chosen.json, {"cpu_us": results})
    return 0 if held else 1


if __name__ == "__main__":
    as_command(main)
