"""``async with hybrid.serve(...)``: a pool inside an asyncio service, and a server in its own loop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

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
        return await asyncio.wait_for(reader.readexactly(len(payload)), 20)
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
        async with hybrid.serve(ECHO, bind="127.0.0.1:0", workers=workers):
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
        return await asyncio.wait_for(reader.read(), 20)
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
    for nameless in (make_handler(b"hi"), [].append):
        with pytest.raises(UsageError, match=r"workers=0"):
            hybrid.serve(nameless, bind="127.0.0.1:0", workers=1)


async def test_lambda_is_sent_to_a_coroutine_function_and_nowhere_else() -> None:
    """A lambda is no stream handler with ``workers=0`` either, so its error does not send the caller there."""
    nameless = lambda conn: echo(conn)  # noqa: E731  (the point)
    with pytest.raises(UsageError, match="async def") as caught:
        hybrid.serve(nameless, bind="127.0.0.1:0", workers=1)
    assert "workers=0" not in str(caught.value)
    with pytest.raises(LoadError, match="async def"):
        async with hybrid.serve(nameless, bind="127.0.0.1:0", workers=0):
            raise AssertionError("it came up")


@asynccontextmanager
async def named_lifespan(worker: hybrid.Worker) -> AsyncIterator[bytes]:
    yield b"state of worker %d" % worker.slot


async def send_state(conn: hybrid.Connection) -> None:
    await conn.send(conn.state)


@pytest.mark.parametrize("workers", [0, 1])
async def test_lifespan_may_be_a_function(workers: int) -> None:
    """As the handler may: for a pool it is found by its name."""
    async with hybrid.serve(send_state, bind="127.0.0.1:0", workers=workers, lifespan=named_lifespan) as server:
        assert await read_all(server.addresses[0]) == b"state of worker 0"


async def test_lifespan_may_be_a_closure_in_the_callers_loop() -> None:
    """``workers=0`` needs no name of it; it sees its worker, and is left at the end."""
    seen: list[object] = []

    async def lifespan(worker: hybrid.Worker) -> AsyncIterator[bytes]:
        seen.append(worker)
        yield b"mine"
        seen.append("left")

    async with hybrid.serve(send_state, bind="127.0.0.1:0", workers=0, lifespan=lifespan) as server:
        assert await read_all(server.addresses[0]) == b"mine"
        (worker,) = seen
        assert isinstance(worker, hybrid.Worker) and worker.addresses == server.addresses
    assert seen == [worker, "left"]


@pytest.mark.parametrize(
    ("lifespan", "workers", "says"),
    [
        (7, 0, "cannot use 7 for lifespan=: it is an int"),
        (7, 1, "cannot use 7 for lifespan=: it is an int"),
        (lambda worker: None, 1, "for lifespan=: a lambda has no name"),
        (echo, 0, "cannot use 'echo' as lifespan: it is a coroutine function without a yield"),
    ],
)
async def test_lifespan_that_is_none_is_refused(lifespan: object, workers: int, says: str) -> None:
    """The error names the option; with a pool, what has no name gets the remedies of a handler."""
    with pytest.raises(HybridError, match=re.escape(says)):
        async with hybrid.serve(echo, bind="127.0.0.1:0", workers=workers, lifespan=lifespan):
            raise AssertionError("it came up")


async def test_factory_is_called_in_the_callers_loop_too() -> None:
    """``factory=True`` means the same without a pool, for a plain function and an async one."""

    async def make() -> Callable[[hybrid.Connection], Awaitable[None]]:
        return make_handler(b"async")

    for factory, said in ((make, b"async"), (lambda: make_handler(b"plain"), b"plain")):
        async with hybrid.serve(factory, bind="127.0.0.1:0", workers="0", factory=True) as server:
            assert await read_all(server.addresses[0]) == said


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


async def test_in_loop_boot_that_never_ends_is_raised_and_undone() -> None:
    """``boot_timeout`` holds in the caller's loop too; the lifespan is cancelled, nothing listens."""
    cancelled = asyncio.Event()

    async def lifespan(worker: hybrid.Worker) -> AsyncIterator[None]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        yield

    server = hybrid.serve(echo, bind="127.0.0.1:0", workers=0, lifespan=lifespan, boot_timeout=0.05)
    with pytest.raises(BootError, match=r"not ready within 0\.05 s \(step: lifespan\).*boot_timeout="):
        await server.__aenter__()
    assert cancelled.is_set()
    with pytest.raises(ConnectionRefusedError):
        await say(server.addresses[0])


@pytest.mark.parametrize("how", ["cancel", "drain"])
async def test_in_loop_entry_that_nobody_wants_any_more_is_undone(how: str) -> None:
    """A host that gives up while it boots, by cancelling or by ``drain``, gets its loop and its address back."""
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def lifespan(worker: hybrid.Worker) -> AsyncIterator[None]:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        yield

    server = hybrid.serve(echo, bind="127.0.0.1:0", workers=0, lifespan=lifespan)
    task = asyncio.ensure_future(server.__aenter__())
    await entered.wait()
    if how == "cancel":
        task.cancel()
    else:
        await server.drain(0)
    with pytest.raises(asyncio.CancelledError if how == "cancel" else BootError):
        await task
    assert cancelled.is_set()
    with pytest.raises(ConnectionRefusedError):
        await say(server.addresses[0])


@pytest.mark.parametrize("workers", [0, 1])
async def test_server_that_was_not_entered_says_so(workers: int) -> None:
    """No empty answers and no waiting for nothing: the error says what to write."""
    server = hybrid.serve(ECHO, bind="127.0.0.1:0", workers=workers)
    for read in ("addresses", "pid", "workers"):
        with pytest.raises(UsageError, match=f"cannot read {read}: the server has not been entered. Write: async with"):
            getattr(server, read)
    for call in (server.drain, server.wait_closed):
        with pytest.raises(UsageError, match="the server has not been entered"):
            await call()


@pytest.mark.parametrize("workers", [0, 1])
async def test_server_is_entered_once(workers: int) -> None:
    """Neither while it serves nor after: the second entry would mix up two servers."""
    server = hybrid.serve(ECHO, bind="127.0.0.1:0", workers=workers)
    async with server:
        with pytest.raises(UsageError, match="cannot enter this server again"):
            await server.__aenter__()
        assert await say(server.addresses[0]) == b"hello\n"
    with pytest.raises(UsageError, match="cannot enter this server again"):
        await server.__aenter__()


GUESTS_NEVER: dict[str, object] = {
    "user": "0", "group": "0", "umask": 0o22, "pid": "/nonexistent/pid", "loop": "asyncio", "preload": "off",
    "boot_attempts": 1, "app_dir": ".", "log_level": "info", "log_file": "x.log", "log_format": "json",
    "log_colour": "never", "max_requests": 9, "max_requests_jitter": 9, "max_lifetime": 9, "max_memory": "64M",
    "recycle_jitter": 9, "stall_dump": 1, "worker_timeout": 60,
}  # fmt: skip


@pytest.mark.parametrize("name", GUESTS_NEVER)
async def test_option_that_means_nothing_to_a_guest_is_refused(name: str) -> None:
    """What ``workers=0`` would have to change in its host is refused by name, not ignored; None is "not given"."""
    with pytest.raises(UsageError, match=rf"cannot use {name}= with workers=0: .*\. .*workers=1\."):
        hybrid.serve(echo, bind="127.0.0.1:0", workers=0, **{name: GUESTS_NEVER[name]})
    hybrid.serve(echo, bind="127.0.0.1:0", workers=0, **{name: None})


@pytest.mark.parametrize("options", [{"wokers": 2}, {"bind": "nonsense"}, {"workers": -1}, {"log_level": "loud"}])
async def test_bad_keyword_is_refused_by_name(options: dict[str, object]) -> None:
    """A misspelt or wrong option names itself."""
    (name,) = options
    with pytest.raises(UsageError, match=name):
        async with hybrid.serve(ECHO, **{"bind": "127.0.0.1:0", **options}):
            raise AssertionError("it came up")
