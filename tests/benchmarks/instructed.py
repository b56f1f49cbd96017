"""The process whose instructions :mod:`tests.benchmarks.instructions` counts: ``instructed.py hybrid|bare|uvicorn``.

It prints one line of JSON, its ports, and serves until whoever reads that closes the control connection. On this one
each order is a byte and answered with one, so that both sides know what was before it:

``m``  call getloadavg(3): callgrind is told to write down its counts whenever somebody does
``p``  begin to count what the interpreter does
``s``  stop, and write it to the file that follows the byte: JSON, [calls, bytecode instructions] by function

What varies from run to run is taken out: objects of the start are frozen, the wall clock stands still, and hybrid's
timers never end. Callgrind is fifty times slower than a processor, and what is due once a second would weigh as much.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import itertools
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import CodeType, FrameType
from typing import Any, cast

time.time = itertools.repeat(1767225600.0).__next__  # before anybody takes the name from the module

import uvloop  # noqa: E402

from hybrid.ground.build import kind  # noqa: E402
from tests.benchmarks.apps_http import hello, websocket_echo  # noqa: E402

Ports = dict[str, int]
"""By what is served there: ``http``, ``websocket``, ``echo``."""


class Unhurried(uvloop.Loop):
    """A loop in which a second takes a day. Nobody sets a timer for each request, but uvicorn: it has a plain loop."""

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]  # as good as
        """Call it, but not today."""
        return super().call_later(delay * 86400, callback, *args, context=context)


class Steps:
    """Counts the instructions of the interpreter, by function. What is called in C, or compiled, is none of it."""

    def __init__(self) -> None:
        self._calls: Counter[CodeType] = Counter()
        self._steps: Counter[CodeType] = Counter()

    def begin(self) -> None:
        """Count from now on, in this thread."""
        sys.settrace(self._enter)

    def _enter(self, frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self._calls[frame.f_code] += 1
        return self._step

    def _step(self, frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        if event == "opcode":
            self._steps[frame.f_code] += 1
        return self._step

    def end(self, path: str) -> None:
        """Stop, and write what was counted."""
        sys.settrace(None)
        counts = {
            f"{getattr(code, 'co_qualname', code.co_name)} ({os.path.basename(code.co_filename)})": (calls, steps)
            for code, calls in self._calls.items()
            if (steps := self._steps[code])
        }
        with open(path, "w") as file:
            json.dump(counts, file)


class Control(asyncio.Protocol):
    """The control connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._steps = Steps()

    def data_received(self, data: bytes) -> None:
        """Obey, then say so."""
        if data == b"m":
            gc.collect()  # the next one is as far away every time
            os.getloadavg()
        elif data == b"p":
            self._steps.begin()
        else:
            self._steps.end(os.fsdecode(data[1:]))
        self._transport.write(b"k")

    def connection_lost(self, error: Exception | None) -> None:
        """End at once: there is nothing to lose."""
        os._exit(0)


async def serve_hybrid(stack: AsyncExitStack) -> Ports:
    """Serve with a worker's room, as it is, in this process."""
    import hybrid

    async def echo(conn: hybrid.Connection) -> None:
        async for chunk in conn:
            await conn.send(chunk)

    ports = {}
    for name, app in (("http", hello), ("websocket", websocket_echo), ("echo", echo)):
        server: Any = hybrid.serve(app, bind="127.0.0.1:0", workers=0)
        await stack.enter_async_context(server)
        ports[name] = int(server.addresses[0].rpartition(":")[2])
    return ports


async def serve_bare(stack: AsyncExitStack) -> Ports:
    """Serve with as good as nothing: the floor."""
    from tests.benchmarks.bare_http import Bare
    from tests.benchmarks.servers import BareEcho

    async def serve(factory: Callable[[], asyncio.BaseProtocol]) -> int:
        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=4096)
        stack.callback(server.close)
        port: int = server.sockets[0].getsockname()[1]
        return port

    return {"http": await serve(Bare), "echo": await serve(BareEcho)}


async def serve_uvicorn(stack: AsyncExitStack) -> Ports:
    """Serve with uvicorn."""
    uvicorn = importlib.import_module("uvicorn")  # in the peers' environment only

    ports = {}
    for name, app in (("http", hello), ("websocket", websocket_echo)):
        listener = socket.create_server(("127.0.0.1", 0))
        quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "ws_ping_interval": None}
        settings = uvicorn.Config(app, http="httptools", lifespan="off", **quiet)
        server = uvicorn.Server(settings)
        stack.callback(asyncio.ensure_future(server.serve([listener])).cancel)
        while not server.started:  # noqa: ASYNC110  (it has no event)
            await asyncio.sleep(0.01)
        ports[name] = listener.getsockname()[1]
    return ports


SERVERS = {"hybrid": serve_hybrid, "bare": serve_bare, "uvicorn": serve_uvicorn}


async def main(name: str) -> None:
    """Serve until the process is ended."""
    async with AsyncExitStack() as stack:
        ports = await SERVERS[name](stack)
        control = await asyncio.get_running_loop().create_server(Control, "127.0.0.1", 0)
        gc.collect()
        gc.freeze()
        said = {
            "control": control.sockets[0].getsockname()[1],
            "ports": ports,
            "kind": kind() if name == "hybrid" else "",
        }
        print(json.dumps(said), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    loop = uvloop.new_event_loop() if sys.argv[1] == "uvicorn" else Unhurried()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main(sys.argv[1]))
