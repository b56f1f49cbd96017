"""An application runs as in a task of its own: what asyncio and anyio promise of tasks holds, eager ones included.

Also for requests that are begun from within the end of the one before: pipelined ones, and those behind a body.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.component.http_room import ask_for, respond, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

GET = ask_for(b"/")
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


class Variables:
    """Remembers what the variable is when a request begins, then sets it for itself."""

    def __init__(self, turns: int) -> None:
        self.seen: list[str] = []
        self._turns = turns

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        self.seen.append(variable.get())
        variable.set(scope["path"])
        size = 0
        more = True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
            for _ in range(self._turns):
                await asyncio.sleep(0)
        assert variable.get() == scope["path"]
        await respond(send, b"%d" % size)
        assert variable.get() == scope["path"]


@pytest.mark.parametrize("turns", [0, 2])
@on_both_loops
async def test_variables_do_not_leak_along_a_pipeline(turns: int) -> None:
    """A user, or a request's id, that one request set in its context is not the next one's."""
    app = Variables(turns)
    async with serving(app) as room:
        client = await room.connect()
        client.send(b"".join(ask_for(b"/%d" % number) for number in range(5)))
        for _ in range(5):
            assert (await client.response())[0] == 200
        client.send(ask_for(b"/again"))
        await client.response()
    assert app.seen == ["none"] * 6


@pytest.mark.parametrize("turns", [0, 2])
@on_both_loops
async def test_variables_do_not_leak_behind_a_body(turns: int) -> None:
    """Nor when it was the application's receive() that made the connection read again."""
    app = Variables(turns)
    size = 2_000_000
    async with serving(app) as room:
        client = await room.connect()
        for _ in range(3):
            post = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
            assert (await client.ask(post + b"x" * size))[2] == b"%d" % size
            assert (await client.ask(GET))[0] == 200
    assert app.seen == ["none"] * 6


@on_both_loops
async def test_variables_do_not_leak_behind_an_unread_body() -> None:
    """Nor when the answer came first."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get())
        variable.set("set")
        await asyncio.sleep(0)
        await respond(send, b"")

    async with serving(app) as room:
        client = await room.connect()
        for _ in range(3):
            await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)
            await client.ask(GET)
    assert seen == ["none"] * 6


async def in_task(check: Callable[[], Any]) -> None:
    """Serve a request with ``check``, alone and in a pipeline; nothing of it may fail."""
    done = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal done
        await check()
        done += 1
        await respond(send, b"done")

    async with serving(app) as room:
        client = await room.connect()
        assert (await client.ask(GET))[2] == b"done"
        client.send(GET * 3)
        for _ in range(3):
            assert (await client.response())[2] == b"done"
        assert room.door.lost == 0
    assert done == 4


@on_both_loops
async def test_current_task_is_its_own() -> None:
    """From the first step to the last; it is one of all tasks, and no other request's."""
    tasks: list[Any] = []

    async def check() -> None:
        task = asyncio.current_task()
        assert task is not None and task in asyncio.all_tasks() and not task.done()
        await asyncio.sleep(0)
        assert asyncio.current_task() is task
        assert await asyncio.ensure_future(other()) is not task
        tasks.append(task)

    async def other() -> Any:
        return asyncio.current_task()

    await in_task(check)
    assert len(set(map(id, tasks))) == 4
    await eventually_async(lambda: all(task.done() for task in tasks))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in CPython 3.11")
@on_both_loops
async def test_asyncio_timeout() -> None:
    """In the first step and later; the task is not cancelled afterwards."""

    async def check() -> None:
        for seconds in (0, 0.01):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):  # type: ignore[attr-defined, unused-ignore]  # new in 3.11
                    await asyncio.Event().wait()
        async with asyncio.timeout(5):  # type: ignore[attr-defined, unused-ignore]
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0  # type: ignore[attr-defined, unused-ignore]

    await in_task(check)


@on_both_loops
async def test_asyncio_wait_for() -> None:
    """Its inner future is cancelled, and that is seen."""

    async def check() -> None:
        for seconds in (0, 0.01):
            waiting = asyncio.ensure_future(asyncio.Event().wait())
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(waiting, seconds)
            assert waiting.cancelled()

    await in_task(check)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup is new in CPython 3.11")
@on_both_loops
async def test_asyncio_task_group() -> None:
    """A child that fails cancels its siblings, and the parent sees a group."""

    async def check() -> None:
        with pytest.raises(Exception, match="unhandled errors") as raised:
            async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined, unused-ignore]  # new in 3.11
                group.create_task(asyncio.Event().wait())
                group.create_task(fail())
        (error,) = raised.value.exceptions  # type: ignore[attr-defined]  # of a group, which 3.10 has not
        assert isinstance(error, ZeroDivisionError)

    async def fail() -> None:
        raise ZeroDivisionError

    await in_task(check)


@on_both_loops
async def test_anyio() -> None:
    """Task groups, cancel scopes, timeouts and shields, in the first step and later."""

    async def check() -> None:
        for seconds in (0, 0.01):
            with anyio.move_on_after(seconds) as scope:
                await anyio.sleep_forever()
            assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await anyio.sleep_forever()
        results: list[int] = []
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(note, results, number)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                results.append(99)
        assert sorted(results) == [0, 1, 2, 99]
        with anyio.move_on_after(1):
            assert await anyio.to_thread.run_sync(lambda: variable.get()) == "none"

    async def note(results: list[int], number: int) -> None:
        results.append(number)
        await anyio.sleep_forever()

    await in_task(check)


@on_both_loops
async def test_anyio_timeout_around_receive_and_send() -> None:
    """A cancelled receive() or send() loses nothing: the next call goes on where it was."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with anyio.move_on_after(0.02) as timed:
            await receive()
        assert timed.cancelled_caught
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(receive(), 0.02)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"now", "more_body": True})
        first = await receive()
        await send({"type": "http.response.body", "body": first["body"]})

    async with serving(app) as room:
        client = await room.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        await client.until(b"now\r\n")
        client.send(b"ok")
        assert await client.until(b"0\r\n\r\n") == b"2\r\nok\r\n0\r\n\r\n"


@on_both_loops
async def test_application_that_cancels_itself() -> None:
    """As a task may; the client is told, and the loop has nothing to complain of."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with serving(app) as room:
        assert (await room.ask(GET))[9:12] in (b"500", b"503")
        await room.empty()


class Odd(BaseException):
    """No Exception: a library's own, as pytest's outcomes, or trio's Cancelled, are."""


@pytest.mark.parametrize("error", [Odd, GeneratorExit, SystemExit, KeyboardInterrupt, StopAsyncIteration])
@on_both_loops
async def test_whatever_an_application_raises_its_client_is_told(error: type[BaseException]) -> None:
    """A 500, once, and nothing else suffers: the connection ends, the next one is served."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/raises":
            await asyncio.sleep(0)
            raise error
        await respond(send, b"served")

    async with serving(app) as room:
        assert (await room.ask(ask_for(b"/raises"))).startswith(b"HTTP/1.1 500 ")
        await room.empty()
        assert room.door.lost == 1
        assert (await room.ask(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"served")


@on_both_loops
async def test_send_from_another_task() -> None:
    """A task of the application's answers, the application waits for it; and one that outlives it harms nobody."""
    late: list[BaseException] = []
    tasks: list[asyncio.Future[None]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.ensure_future(respond(send, b"by another"))
        tasks.append(asyncio.ensure_future(too_late(send)))

    async def too_late(send: Any) -> None:
        await asyncio.sleep(0.02)
        with pytest.raises((RuntimeError, OSError)) as raised:
            await send({"type": "http.response.body", "body": b"late"})
        late.append(raised.value)

    async with serving(app) as room:
        client = await room.connect()
        for _ in range(2):
            assert (await client.ask(GET))[2] == b"by another"
        await eventually_async(lambda: len(late) == 2)
        assert (await client.ask(GET))[2] == b"by another"
        await eventually_async(lambda: len(late) == 3)


@on_both_loops
async def test_scope_of_one_request_is_its_own() -> None:
    """What an application changes in its scope is not seen by the next request, however equal their heads are."""
    seen: list[tuple[object, ...]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["path"], tuple(scope["headers"]), *scope["extensions"], *scope["state"]))
        scope["headers"].append((b"x-added", b"1"))
        scope["extensions"]["added"] = {}
        scope["state"]["added"] = 1
        scope["path"] = "/changed"
        await respond(send, b"")

    async with serving(app, {}) as room:
        client = await room.connect()
        for _ in range(3):
            assert (await client.ask(GET))[0] == 200
    assert seen[0] == seen[1] == seen[2]
