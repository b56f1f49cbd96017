"""Bodies that come and go in pieces: memory stays small, clients may be slow or leave, time and limits hold."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from tests.component.http_room import Drip, HttpRoom
from tests.component.wsgi_room import PATIENCE_S, Blocks, Environ, Gate, StartResponse, answer, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PIECE = b"x" * 65536


class Reader:
    """An application that reads the body by what ``read`` says, and remembers what came of it."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read
        self.began = 0
        self.got: list[Any] = []
        self.raised: list[Exception] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        self.began += 1
        try:
            self.got.append(self._read(environ["wsgi.input"]))
        except Exception as error:
            self.raised.append(error)
            raise
        return answer(start_response, b"read")


READS = {
    "read": lambda source: source.read(),
    "read in parts": lambda source: b"".join(iter(lambda: source.read(7), b"")),
    "read1": lambda source: b"".join(iter(lambda: source.read1(100_000), b"")),
    "iterate": lambda source: b"".join(source),
    "readlines": lambda source: b"".join(source.readlines()),
    "readline": lambda source: b"".join(iter(lambda: source.readline(1000), b"")),
}


@pytest.mark.parametrize("way", READS)
@on_both_loops
async def test_body_is_read_in_every_way(way: str) -> None:
    """With a length and in chunks, short and long, in one segment and in many: the same bytes, and an end."""
    app = Reader(READS[way])
    bodies = [b"", b"one\ntwo", b"line\n" * 20_000 + b"rest"]
    async with serving(app) as room:
        client = await room.connect()
        for body in bodies:
            assert (await client.ask(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body))[2] == b"read"
            client.send(CHUNKED)
            for start in range(0, len(body), 30_011):
                piece = body[start : start + 30_011]
                client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert (await client.ask(b"0\r\n\r\n"))[2] == b"read"
    assert app.got == [body for body in bodies for _ in range(2)]


@on_both_loops
async def test_short_body_takes_up_no_thread_while_it_comes() -> None:
    """A body that fits into memory is waited for by the loop: slow clients are not in the way of others."""
    app = Reader(lambda source: source.read())
    async with serving(app, threads=1) as room:
        slow = [await room.connect() for _ in range(5)]
        for client in slow:
            client.send(POST + b"Content-Length: 10\r\n\r\n01234")
        quick = await room.connect()
        assert (await quick.ask(GET))[0] == 200
        assert app.began == 1
        for client in slow:
            client.send(b"56789")
            assert (await client.response())[0] == 200
    assert app.got == [b"", *[b"0123456789"] * 5]


@on_both_loops
async def test_client_that_expects_100_gets_it_when_the_body_is_read() -> None:
    """Not before, and not at all if nobody reads; then the connection ends, for a body may come or not."""
    gate = Gate()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/unread":
            return answer(start_response, b"unread")
        gate.pass_through()
        return answer(start_response, environ["wsgi.input"].read())

    async with serving(app) as room:
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        client = await room.connect()
        client.send(head % b"/read")
        await gate.wait_reached()
        gate.open()
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"body"))[2] == b"body"
        said = await room.ask(head % b"/unread")
        assert said.startswith(b"HTTP/1.1 200 ") and b"connection: close" in said


@on_both_loops
async def test_upload_that_nobody_reads_waits_in_the_kernel() -> None:
    """The application has not asked for more: the client cannot send for ever, and what came is whole in the end."""
    gate = Gate()
    size = 64 << 20

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        gate.pass_through()
        count = 0
        while piece := environ["wsgi.input"].read(PIECE_BYTES):
            count += len(piece)
        return answer(start_response, b"%d" % count)

    async with serving(app) as room:
        client = await room.connect()
        client.send(POST + b"Content-Length: %d\r\n\r\n" % size)

        async def send() -> None:
            for _ in range(size // len(PIECE)):
                client.writer.write(PIECE)
                await client.writer.drain()

        sending = asyncio.ensure_future(send())
        await gate.wait_reached()
        done, _ = await asyncio.wait([sending], timeout=0.3)
        assert not done
        (connection,) = room.door.open
        assert connection._buffer == b"" and len(connection._exchange.chunks) < 8  # type: ignore[attr-defined]
        gate.open()
        await sending
        assert (await asyncio.wait_for(client.response(), 20))[2] == b"%d" % size


PIECE_BYTES = 100_000


@on_both_loops
async def test_slow_reader_holds_the_application_up() -> None:
    """No block is asked for while the client takes nothing: a response of any length costs little memory."""
    made: list[Blocks] = []

    def app(environ: Environ, start_response: StartResponse) -> Blocks:
        start_response("200 OK", [])
        made.append(Blocks(PIECE for _ in range(1000)))
        return made[0]

    async with serving(app) as room:
        peer = await room.peer(receive_buffer_bytes=4096)
        await peer.send(GET)
        await eventually_async(lambda: bool(made) and made[0].taken > 2)
        before = -1
        while before != made[0].taken:  # until the kernel's buffers are full
            before = made[0].taken
            await asyncio.sleep(0.1)
        assert before < 200
        while made[0].taken < before + 5:
            await peer.receive(1 << 20)
    assert made[0].closed == 1


@on_both_loops
async def test_write_blocks_too() -> None:
    """What start_response returns waits for a slow client as well, and fails when it leaves."""
    written: list[int] = []
    raised: list[Exception] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [])
        try:
            for number in range(1000):
                write(PIECE)
                written.append(number)
        except Exception as error:
            raised.append(error)
            raise
        return []

    async with serving(app) as room:
        peer = await room.peer(receive_buffer_bytes=4096)
        await peer.send(GET)
        await eventually_async(lambda: len(written) > 2)
        await peer.receive(100)
        peer.sock.close()
        await eventually_async(lambda: bool(raised))
        await room.empty()
    assert isinstance(raised[0], OSError) and len(written) < 1000


async def leave_in_the_body(room: HttpRoom, app: Reader) -> None:
    peer = await room.peer()
    await peer.send(POST + b"Content-Length: 1000000\r\n\r\n" + PIECE)
    await eventually_async(lambda: app.began == 1)
    peer.sock.close()


async def half_close_in_the_body(room: HttpRoom, app: Reader) -> None:
    client = await room.connect()
    client.send(CHUNKED + b"3\r\nabc\r\n")
    await eventually_async(lambda: app.began == 1)
    client.writer.write_eof()
    assert await client.rest() == b""


@pytest.mark.parametrize("leave", [leave_in_the_body, half_close_in_the_body])
@on_both_loops
async def test_client_that_leaves_in_its_body(
    leave: Callable[[HttpRoom, Reader], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Reading raises an OSError; nobody is blamed for it."""
    app = Reader(lambda source: source.read())
    async with serving(app) as room:
        await leave(room, app)
        await room.empty()
    assert len(app.raised) == 1 and isinstance(app.raised[0], OSError)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING] and room.door.lost == 0


@on_both_loops
async def test_client_that_leaves_before_its_short_body_is_whole() -> None:
    """Half a request never becomes a whole one: the application is not called."""
    app = Reader(lambda source: source.read())
    async with serving(app) as room:
        for half in (True, False):
            client = await room.connect()
            client.send(POST + b"Content-Length: 10\r\n\r\n01234")
            await eventually_async(lambda: len(room.door.open) == 1)
            client.writer.write_eof() if half else client.close()
            await room.empty()
    assert app.began == 0


@on_both_loops
async def test_client_that_leaves_while_its_request_waits() -> None:
    """Nothing is begun for a client that is gone."""
    gate = Gate()
    begun: list[str] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        begun.append(environ["PATH_INFO"])
        gate.pass_through()
        return answer(start_response, b"")

    async with serving(app, threads=1) as room:
        first = await room.connect()
        first.send(GET)
        await gate.wait_reached()
        second = await room.peer()
        await second.send(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually_async(lambda: len(room.door.open) == 2)
        second.reset()
        await eventually_async(lambda: len(room.door.open) == 1)
        gate.open()
        assert (await first.response())[0] == 200
    assert begun == ["/"]


@on_both_loops
async def test_half_closed_client_is_answered() -> None:
    """A client that sends no more still gets the answer to what it has sent whole."""
    app = Reader(lambda source: source.read())
    async with serving(app) as room:
        client = await room.connect()
        client.send(POST + b"Content-Length: 4\r\n\r\nbody")
        client.writer.write_eof()
        assert (await client.rest()).endswith(b"read")
    assert app.got == [b"body"]


@on_both_loops
async def test_body_that_breaks_a_rule_or_a_limit() -> None:
    """The client gets the status at once, the application an OSError that says why."""
    app = Reader(lambda source: source.read())
    async with serving(app, limit_body_bytes=200_000) as room:
        said = await room.ask(CHUNKED + b"2\r\nab\r\nnonsense\r\n")
        assert said.startswith(b"HTTP/1.1 400 ")
        piece = b"186a0\r\n%b\r\n" % (b"x" * 100_000)
        said = await room.ask(CHUNKED + piece * 3)
        assert said.startswith(b"HTTP/1.1 413 ")
        said = await room.ask(POST + b"Content-Length: 200001\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 413 ")
        await room.empty()
    assert len(app.raised) == app.began
    assert all(isinstance(error, OSError) for error in app.raised)


@on_both_loops
async def test_slow_body_is_given_up() -> None:
    """--body-timeout holds while the loop waits for a short body, and while a thread waits for a long one."""
    app = Reader(lambda source: source.read())
    async with serving(app, body_s=0.5) as room:
        for length in (10, 1_000_000):
            assert (await room.ask(POST + b"Content-Length: %d\r\n\r\nabc" % length)).startswith(b"HTTP/1.1 408 ")
        client = await room.connect()
        client.send(POST + b"Content-Length: 10\r\n\r\n")
        async with Drip(client, b"0123456789", 0.08):
            assert (await client.response())[0] == 200
        await eventually_async(lambda: bool(app.raised))
    assert len(app.raised) == 1 and isinstance(app.raised[0], OSError)


@on_both_loops
async def test_request_that_takes_too_long(caplog: pytest.LogCaptureFixture) -> None:
    """--request-timeout: 504, also for one that waits for a thread, which is then never begun; the thread runs on."""
    gate = Gate()
    begun: list[str] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        begun.append(environ["PATH_INFO"])
        gate.pass_through()
        return answer(start_response, b"too late")

    async with serving(app, threads=1, request_s=0.5) as room:
        first, second = await room.connect(), await room.connect()
        first.send(GET)
        await gate.wait_reached()
        second.send(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        for client in (first, second):
            said = await client.rest()
            assert said.startswith(b"HTTP/1.1 504 ") and b"too late" not in said
        gate.open()
        await room.empty()
        third = await room.connect()
        assert (await third.ask(GET))[2] == b"too late"
    assert begun == ["/", "/"]
    first_said, second_said = sorted(record.getMessage() for record in caplog.records)
    assert "its thread runs on" in first_said and "GET /second" in second_said and "no thread had begun" in second_said


@on_both_loops
async def test_more_requests_than_allowed_get_503() -> None:
    """--limit-concurrency counts those that wait for a thread, too; there is room again when they have ended."""
    gate = Gate()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        gate.pass_through()
        return answer(start_response, b"")

    async with serving(app, threads=1, limit_concurrency=2) as room:
        busy = [await room.connect() for _ in range(2)]
        for client in busy:
            client.send(GET)
        await gate.wait_reached()
        await eventually_async(lambda: len(room.door.open) == 2)
        other = await room.connect()
        statuses = [(await other.ask(GET))[0]]
        gate.open()
        for client in busy:
            assert (await client.response())[0] == 200
        statuses.append((await other.ask(GET))[0])
    assert statuses == [503, 200]


@on_both_loops
async def test_end_of_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    """What is not answered gets 503, what is in the middle is cut; reading and writing raise from then on."""
    gate = Gate()
    raised: list[BaseException] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        write = start_response("200 OK", [])
        try:
            if environ["PATH_INFO"] == "/begun":
                write(b"begun")
            gate.pass_through()
            write(b"more")
        except OSError as error:
            raised.append(error)
            raise
        yield b""

    async with serving(app) as room:
        unsent, begun = await room.connect(), await room.connect()
        unsent.send(GET)
        begun.send(b"GET /begun HTTP/1.1\r\nHost: a\r\n\r\n")
        await begun.until(b"begun\r\n")
        await gate.wait_reached(2)
        for connection in tuple(room.door.open):
            connection.cancel()
        assert (await unsent.rest()).startswith(b"HTTP/1.1 503 ")
        assert await begun.rest() == b""  # and no last chunk
        assert len(room.door.open) == 2  # their threads have not returned
        gate.open()
        await room.empty()
    assert len(raised) == 2


@on_both_loops
async def test_event_stream_ends_with_the_drain() -> None:
    """It would go on for ever; it ends whole, and its generator is closed."""
    made: list[Blocks] = []

    def app(environ: Environ, start_response: StartResponse) -> Blocks:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        made.append(Blocks(iter(lambda: b"data: x\n\n", b"")))
        return made[0]

    async with serving(app) as room:
        client = await room.connect()
        client.send(GET)
        await client.until(b"data: x\n\n")
        for connection in tuple(room.door.open):
            connection.start_draining()
        assert (await client.rest()).endswith(b"\r\n0\r\n\r\n")
        await room.empty()
    assert made[0].closed == 1


@pytest.mark.parametrize("how", ["leaves", "stalls", "is cancelled"])
@on_both_loops
async def test_file_to_a_client_that_takes_nothing(how: str, tmp_path: Path) -> None:
    """A file is closed and its thread free, whether the client leaves, takes nothing for too long, or time is over."""
    with (tmp_path / "file").open("wb") as large:
        large.truncate(1 << 30)
    opened: list[Any] = []

    def app(environ: Environ, start_response: StartResponse) -> Any:
        opened.append((tmp_path / "file").open("rb"))
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](opened[-1])

    async with serving(app, write_s=0.2 if how == "stalls" else 30.0) as room:
        peer = await room.peer(receive_buffer_bytes=4096)
        await peer.send(GET)
        assert (await peer.receive(15)) == b"HTTP/1.1 200 OK"
        if how == "leaves":
            peer.sock.close()
        elif how == "is cancelled":
            for connection in tuple(room.door.open):
                connection.cancel()
        await room.empty()
        assert opened[0].closed
    assert room.door.lost == 0


@on_both_loops
async def test_threads_end_though_one_never_returns() -> None:
    """What is in a thread for ever keeps neither the loop nor the others."""
    gate = Gate()
    shared = HttpShared.of(HttpSettings())

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        gate.pass_through()
        return answer(start_response, b"")

    async with serving(app, shared=shared) as room:
        client = await room.connect()
        client.send(GET)
        await gate.wait_reached()
        client.close()
        assert shared.threads is not None
        shared.threads.end()
        await asyncio.wait_for(asyncio.sleep(0), PATIENCE_S)
        gate.open()
