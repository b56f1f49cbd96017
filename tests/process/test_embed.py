"""``async with hybrid.serve(...)``: a pool inside an asyncio service, and a server in its own loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import pytest

import hybrid
from hybrid.ground.errors import BootError, HybridError, ListenError, LoadError, UsageError
from tests.support.eventually import eventually_async
from tests.support.server import children, is_alive, session_members

ECHO = "tests.apps.embedded:echo"


async def say(address: str, payload: bytes = b"hello\n") -> bytes:
    """Return what an echo service answers."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(payload)
        return await asyncio.wait_for(reader.readexactly(len(payload)), 5)
    finally:
        writer.close()
        await writer.wait_closed()


async def echo(conn: hybrid.Connection) -> None:
    async for chunk in conn:
        await conn.send(chunk)


async def test_pool_serves_and_leaves_nothing_behind() -> None:
    """Entered: workers serve; left: every process is gone, and the address is free."""
    async with hybrid.serve(ECHO, bind="127.0.0.1:0", workers=2, log_level="warning") as server:
        assert len(server.addresses) == 1
        assert await say(server.addresses[0]) == b"hello\n"
        assert [worker.state for worker in server.workers] == ["ready", "ready"]
        pids = [server.pid, *(worker.pid for worker in server.workers)]
        assert len(set(pids)) == 3 and os.getpid() not in pids
        address = server.addresses[0]
    assert not any(is_alive(pid) for pid in pids)
    assert server.workers == ()
    with pytest.raises(ConnectionRefusedError):
        await say(address)


async def test_several_pools_live_in_one_process() -> None:
    """Two servers do not know of each other."""
    async with (
        hybrid.serve(ECHO, bind="127.0.0.1:0", workers=1, log_level="warning") as one,
        hybrid.serve(ECHO, bind="127.0.0.1:0", workers=1, log_level="warning") as two,
    ):
        assert one.addresses != two.addresses
        await one.drain(0)
        assert await say(two.addresses[0]) == b"hello\n"


async def test_module_function_is_served_by_its_name() -> None:
    """A function with an importable name needs no string."""
    async with hybrid.serve(echo, bind="127.0.0.1:0", workers=1, log_level="warning") as server:
        assert await say(server.addresses[0]) == b"hello\n"


async def test_drain_lets_an_open_connection_finish() -> None:
    """``drain(grace_s)`` waits for who is there, refuses who comes."""
    async with hybrid.serve(ECHO, bind="127.0.0.1:0", workers=1, log_level="warning") as server:
        host, _, port = server.addresses[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        draining = asyncio.create_task(server.drain(20))
        await eventually_async(lambda: server.workers[0].state == "draining")
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        assert not draining.done()
        writer.close()
        await asyncio.wait_for(draining, 10)
        assert server.workers == ()


@pytest.mark.parametrize(
    ("target", "error", "says"),
    [
        ("tests.apps.embedded:ecko", LoadError, "Did you mean echo"),
        ("tests.apps.nothing_here:echo", LoadError, "nothing_here"),
        ("tests.apps.embedded:echo", BootError, "no database"),
    ],
)
async def test_boot_failure_is_raised(target: str, error: type[HybridError], says: str) -> None:
    """A worker that cannot boot is an exception where the server is entered, and no process is left."""
    options: dict[str, object] = {"lifespan": "tests.apps.embedded:failing"} if error is BootError else {}
    before = set(children(os.getpid()))
    with pytest.raises(error, match=says):
        async with hybrid.serve(
            "tests.apps.embedded:echo" if options else target,
            bind="127.0.0.1:0", workers=1, boot_attempts=1, log_level="critical", **options,
        ):  # fmt: skip
            raise AssertionError("it came up")
    assert set(children(os.getpid())) == before


async def test_address_in_use_is_raised() -> None:
    """The port of another server is a ListenError that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}"):
            async with hybrid.serve(ECHO, bind=f"127.0.0.1:{port}", workers=1, log_level="critical"):
                raise AssertionError("it came up")


async def test_killed_parent_is_noticed() -> None:
    """SIGKILL of the parent ends ``wait_closed`` and is an error on leaving; the workers go too."""
    with pytest.raises(HybridError, match="ended by itself"):
        async with hybrid.serve(
            ECHO, bind="127.0.0.1:0", workers=1, log_level="critical", graceful_timeout=0.1
        ) as server:
            session = server.pid
            os.kill(server.pid, signal.SIGKILL)
            assert await asyncio.wait_for(server.wait_closed(), 10) == -signal.SIGKILL
    await eventually_async(lambda: not session_members(session))


async def test_host_signals_are_untouched() -> None:
    """No handler of the host changes while servers come and go."""
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1]
    before = [signal.getsignal(number) for number in numbers]
    for workers in (1, 0):
        async with hybrid.serve(ECHO, bind="127.0.0.1:0", workers=workers, log_level="warning"):
            assert [signal.getsignal(number) for number in numbers] == before
    assert [signal.getsignal(number) for number in numbers] == before


async def test_cancelled_entry_leaves_nothing_behind() -> None:
    """A host that gives up while the pool boots gets its processes back."""
    before = set(children(os.getpid()))

    async def enter() -> None:
        async with hybrid.serve(
            ECHO, bind="127.0.0.1:0", workers=1, lifespan="tests.apps.embedded:endless", log_level="critical"
        ):
            raise AssertionError("it came up")

    task = asyncio.create_task(enter())
    await eventually_async(lambda: len(set(children(os.getpid())) - before) == 1)
    (parent,) = set(children(os.getpid())) - before
    await eventually_async(lambda: len(session_members(parent)) == 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not session_members(parent)


# ── in the caller's loop ─────────────────────────────────────────────────────────────────────────────────────


def make_handler(greeting: bytes) -> Callable[[hybrid.Connection], Awaitable[None]]:
    async def handle(conn: hybrid.Connection) -> None:
        await conn.send(greeting)

    return handle


async def read_all(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def test_closure_is_served_in_the_callers_loop() -> None:
    """``workers=0`` needs no importable name."""
    async with hybrid.serve(make_handler(b"hi"), bind="127.0.0.1:0", workers=0) as server:
        assert await read_all(server.addresses[0]) == b"hi"
        assert [worker.pid for worker in server.workers] == [os.getpid()]
        await eventually_async(lambda: server.workers[0].active == 0)
        assert server.workers[0].accepted == 1
    assert server.workers == ()


async def test_closure_with_workers_is_refused_with_the_remedy() -> None:
    """What other processes cannot import gets an error that says what to write."""
    nameless: object
    for nameless in (make_handler(b"hi"), lambda conn: None, [].append):
        with pytest.raises(UsageError, match=r"workers=0"):
            hybrid.serve(nameless, bind="127.0.0.1:0", workers=1)


async def test_in_loop_lifespan_surrounds_the_service() -> None:
    """The lifespan is entered before the first connection and left after the last, by one task."""
    from tests.apps import lifespans

    lifespans.events.clear()
    async with hybrid.serve(
        lifespans.handle, bind="127.0.0.1:0", workers=0, lifespan="tests.apps.lifespans:task_group"
    ) as server:
        assert await read_all(server.addresses[0]) == b"state of worker 0"
    assert lifespans.events == ["start", "stop"]


async def test_in_loop_boot_failure_is_raised_and_undone() -> None:
    """A lifespan that fails is an exception; the address is free again."""
    with pytest.raises(BootError, match="no database"):
        async with hybrid.serve(echo, bind="127.0.0.1:0", workers=0, lifespan="tests.apps.embedded:failing"):
            raise AssertionError("it came up")


async def test_in_loop_drain_cancels_after_the_grace() -> None:
    """A handler that does not finish is cancelled, then the server ends."""
    cancelled = asyncio.Event()

    async def stubborn(conn: hybrid.Connection) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with hybrid.serve(stubborn, bind="127.0.0.1:0", workers=0) as server:
        host, _, port = server.addresses[0].rpartition(":")
        _reader, writer = await asyncio.open_connection(host, int(port))
        await eventually_async(lambda: server.workers[0].active == 1)
        await server.drain(0)
        assert cancelled.is_set()
        writer.close()


@pytest.mark.parametrize("options", [{"wokers": 2}, {"bind": "nonsense"}, {"workers": -1}, {"log_level": "loud"}])
async def test_bad_keyword_is_refused_by_name(options: dict[str, object]) -> None:
    """A misspelt or wrong option names itself."""
    (name,) = options
    with pytest.raises(UsageError, match=name):
        async with hybrid.serve(ECHO, **{"bind": "127.0.0.1:0", **options}):
            raise AssertionError("it came up")
