"""Real protocols run unchanged: aiosmtpd driven by smtplib, aiohttp driven by http.client and its own client."""

from __future__ import annotations

import asyncio
import http.client
import smtplib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.smtp import SMTP

from hybrid.handlers import detect, protocol_factory
from hybrid.handlers.detect import Kind
from hybrid.handlers.exceptions import install_exception_handler
from hybrid.shared.loader import load
from hybrid.worker.loops import new_loop
from tests.component.test_protocol import FakeDoor, anonymous_tls
from tests.support.eventually import eventually_async

if TYPE_CHECKING:  # an import of a second, which each process that collects would pay
    from aiohttp import web

EXAMPLES = Path(__file__).parents[2] / "examples"


@asynccontextmanager
async def serving(obj: object, interface: str = "auto") -> AsyncIterator[tuple[FakeDoor, int]]:
    """Serve ``obj`` as a worker does, on a port of its own."""
    loop = asyncio.get_running_loop()
    handler = detect(obj, interface, "test")
    assert handler.kind is Kind.PROTOCOL
    door = FakeDoor()
    server = await loop.create_server(protocol_factory(handler, door, loop, None), "127.0.0.1", 0)
    try:
        yield door, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in door.connections:
            connection.abort()
        await eventually_async(lambda: not door.inside)
        await server.wait_closed()


def on_uvloop(test: Callable[[], Awaitable[None]]) -> None:
    """Run ``test`` on uvloop, and fail on whatever the loop had to complain of."""
    loop = new_loop("uvloop")
    try:
        install_exception_handler(loop)
        loop.run_until_complete(test())
    finally:
        loop.close()


class Mailbox:
    def __init__(self) -> None:
        self.contents: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.contents.append(envelope.content)
        return "250 kept"


def send_mails(port: int, tls: ssl.SSLContext | None = None) -> None:
    """Send two mails over one connection; runs in a thread."""
    with smtplib.SMTP("127.0.0.1", port, "localhost", timeout=10) as client:
        if tls is not None:
            client.starttls(context=tls)
        for number in range(2):
            client.sendmail("a@x", ["b@x"], f"Subject: {number}\r\n\r\n" + ("y" * 70 + "\r\n") * 1000)


@pytest.mark.parametrize("with_tls", [False, True])
def test_aiosmtpd_takes_mail_from_smtplib(with_tls: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Several connections, with STARTTLS and without; each is counted in and out once."""
    server_tls, client_tls = anonymous_tls()

    async def run() -> None:
        mailbox = Mailbox()

        def make() -> SMTP:
            return SMTP(mailbox, hostname="localhost", tls_context=server_tls if with_tls else None)

        async with serving(make, "protocol") as (door, port):
            await asyncio.gather(
                *(asyncio.to_thread(send_mails, port, client_tls if with_tls else None) for _ in range(3))
            )
            await eventually_async(lambda: not door.inside)
            assert sorted(door.events) == ["closed"] * 3 + ["opened"] * 3
        assert len(mailbox.contents) == 6

    on_uvloop(run)
    assert [record for record in caplog.records if record.name == "hybrid.error"] == []


def test_aiosmtpd_is_closed_by_a_drain() -> None:
    """An idle SMTP connection has no request to finish: the end of the grace closes it."""

    async def run() -> None:
        async with serving(lambda: SMTP(Mailbox(), hostname="localhost"), "protocol") as (door, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert (await reader.readline()).startswith(b"220")
            door.connections[0].start_draining()
            door.connections[0].cancel()
            assert await reader.read() == b""
            await eventually_async(lambda: door.events == ["opened", "closed"])
            writer.close()
            await writer.wait_closed()

    on_uvloop(run)


def ask(port: int) -> list[bytes]:
    """Make three requests over one kept connection; runs in a thread."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    answers = []
    for path in ("/one", "/two", "/three"):
        client.request("POST", path, body=b"z" * 100_000)
        answers.append(client.getresponse().read())
    client.close()
    return answers


async def count_body(request: web.BaseRequest) -> web.Response:
    from aiohttp import web

    return web.Response(text=f"{request.path} {len(await request.read())}")


def test_aiohttp_serves_http_client_and_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """web.Server has no room for an attribute of ours, keep-alive and bodies work all the same."""
    import aiohttp
    from aiohttp import web

    async def run() -> None:
        async with serving(web.Server(count_body)) as (door, port):
            expected = [b"/one 100000", b"/two 100000", b"/three 100000"]
            assert await asyncio.gather(*(asyncio.to_thread(ask, port) for _ in range(2))) == [expected] * 2
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/x") as answer:
                assert await answer.text() == "/x 0"
            await eventually_async(lambda: not door.inside)
            assert sorted(door.events) == ["closed"] * 3 + ["opened"] * 3

    on_uvloop(run)
    assert [record for record in caplog.records if record.name == "hybrid.error"] == []


def test_aiohttp_finishes_its_request_when_it_drains() -> None:
    """The example: made by an async factory; idle connections close, busy ones answer first."""
    from aiohttp import web

    async def run() -> None:
        made = await load(f"{EXAMPLES}/aiohttp_server.py:make_server", factory=True).complete()
        started, finish = asyncio.Event(), asyncio.Event()

        async def slow(request: web.BaseRequest) -> web.Response:
            started.set()
            await finish.wait()
            return web.Response(text="done")

        handler = detect(made, "auto", "test")
        assert handler.on_drain is not None
        made.factory.request_handler = slow
        async with serving(made) as (door, port):
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
            busy, busy_writer = await asyncio.open_connection("127.0.0.1", port)
            busy_writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await started.wait()
            for connection in door.connections:
                connection.start_draining()
            assert await idle.read() == b""
            finish.set()
            answer = await busy.read()
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert answer.endswith(b"done")
            await eventually_async(lambda: not door.inside)
            for writer in (idle_writer, busy_writer):
                writer.close()
                await writer.wait_closed()

    on_uvloop(run)


def test_smtp_example_is_detected() -> None:
    """hybrid-serve examples/smtp.py:smtp needs no option."""
    made = load(f"{EXAMPLES}/smtp.py:smtp").obj
    handler = detect(made, "auto", "smtp")
    assert handler.kind is Kind.PROTOCOL

    async def run() -> None:
        async with serving(made) as (door, port):
            await asyncio.to_thread(send_mails, port)
            await eventually_async(lambda: door.events == ["opened", "closed"])

    on_uvloop(run)
