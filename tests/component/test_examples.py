"""The stream examples do what their first lines say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hybrid.handlers import detect, protocol_factory
from hybrid.handlers.lifespan import Lifespan, Worker
from hybrid.shared.loader import load
from tests.component.test_protocol import FakeDoor
from tests.support.eventually import eventually_async

EXAMPLES = Path(__file__).parents[2] / "examples"


@asynccontextmanager
async def serving(target: str, state: object = None) -> AsyncIterator[int]:
    """Serve an example in the test's own loop; yield the port."""
    loop = asyncio.get_running_loop()
    loaded = load(f"{EXAMPLES}/{target}")
    handler = detect(loaded.obj, "auto", loaded.name)
    door = FakeDoor()
    server = await loop.create_server(protocol_factory(handler, door, loop, state), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
        await eventually_async(lambda: door.events and not door.inside)
        assert "failed" not in door.events
    finally:
        server.close()
        await server.wait_closed()


async def ask(port: int, question: bytes) -> bytes:
    """Send a question, say that it was all, and return the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(question)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_echo() -> None:
    """What is sent comes back."""
    async with serving("echo.py:echo") as port:
        assert await ask(port, b"hello") == b"hello"


async def test_fetch() -> None:
    """So many bytes, or what one may ask for."""
    async with serving("fetch.py:fetch") as port:
        assert await ask(port, b"4000\n") == b"x" * 4000
        assert await ask(port, b"99999999\n") == b"ask for 0 to 1000000 bytes\n"


async def test_keyvalue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers' lifespans share the file."""
    monkeypatch.setenv("KEYVALUE_DB", str(tmp_path / "pairs.db"))
    lifespan = load(f"{EXAMPLES}/keyvalue.py:lifespan").obj
    async with Lifespan(lifespan, Worker(slot=0)) as first, Lifespan(lifespan, Worker(slot=1)) as second:
        async with serving("keyvalue.py:serve", first) as port:
            assert await ask(port, b"set colour light blue\nget colour\nfly\n") == (
                b"ok\nlight blue\nsay: get KEY, set KEY VALUE, or quit\n"
            )
        async with serving("keyvalue.py:serve", second) as port:
            assert await ask(port, b"get colour\nget shape\nquit\nget colour\n") == b"light blue\n-\n"
