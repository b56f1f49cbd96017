"""Promises of :mod:`hybrid.handlers.lifespan`."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from hybrid.ground.errors import BootError, ExitCode, LoadError
from hybrid.handlers.lifespan import Lifespan, Worker

seen: list[object] = []


def fail(error: BaseException) -> None:
    raise error


@pytest.fixture(autouse=True)
def forget() -> None:
    seen.clear()


async def generator(worker: Worker) -> AsyncIterator[str]:
    seen.append(worker)
    yield f"state of {worker.slot}"
    seen.append("left")


class AsClass:
    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    async def __aenter__(self) -> str:
        seen.append(self.worker)
        return f"state of {self.worker.slot}"

    async def __aexit__(self, *error: object) -> None:
        seen.append("left")


@pytest.mark.parametrize("target", [generator, asynccontextmanager(generator), AsClass])
async def test_lifespan_is_entered_with_the_worker_and_left(target: object) -> None:
    """The three ways to write one."""
    worker = Worker(slot=3)
    async with Lifespan(target, worker) as state:
        assert state == "state of 3"
        assert seen == [worker]
    assert seen == [worker, "left"]


async def test_without_lifespan_the_state_is_none() -> None:
    """Nothing given, nothing done."""
    async with Lifespan(None, Worker()) as state:
        assert state is None


def test_worker_knows_its_process() -> None:
    """What a lifespan may ask of its worker."""
    worker = Worker(slot=1, generation=2, addresses=("127.0.0.1:80",))
    assert (worker.pid, worker.draining) == (os.getpid(), False)


async def test_error_at_start_is_a_boot_error_from_the_users_frame_on() -> None:
    """The traceback begins in the lifespan, not in ours."""

    async def fails(worker: Worker) -> AsyncIterator[None]:
        fail(OSError("no database"))
        yield

    with pytest.raises(BootError, match="app:lifespan failed: OSError: no database") as caught:
        async with Lifespan(fails, Worker(), "app:lifespan"):
            pass
    assert caught.value.exit_code is ExitCode.BOOT_FAILED
    assert caught.value.detail.splitlines()[1].endswith("in fails")
    assert "contextlib" not in caught.value.detail


@pytest.mark.parametrize("failure", ["never yields", "returns nothing", "exits"])
async def test_odd_starts_are_boot_errors(failure: str) -> None:
    """Each says what happened."""

    async def never(worker: Worker) -> AsyncIterator[None]:
        if seen:
            yield

    async def coroutine() -> None: ...

    def returns(worker: Worker) -> Any:
        return coroutine()

    async def exits(worker: Worker) -> AsyncIterator[None]:
        fail(SystemExit(4))
        yield

    target, says = {
        "never yields": (never, "it ended without a yield"),
        "returns nothing": (returns, "no async context manager"),
        "exits": (exits, "SystemExit: 4"),
    }[failure]
    with pytest.raises(BootError, match=says):
        async with Lifespan(target, Worker()):
            pass


async def test_error_at_shutdown_is_logged_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    """The worker leaves all the same."""

    async def fails(worker: Worker) -> AsyncIterator[int]:
        yield 1
        raise ValueError("too late")

    with caplog.at_level(logging.ERROR, "hybrid.error"):
        async with Lifespan(fails, Worker(), "app:lifespan"):
            pass
    (record,) = caplog.records
    assert record.getMessage() == "app:lifespan raised while shutting down"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "too late"


async def test_error_of_the_service_passes_through() -> None:
    """The lifespan sees it, and cannot swallow it."""

    @asynccontextmanager
    async def swallows(worker: Worker) -> AsyncIterator[None]:
        try:
            yield
        except KeyError as error:
            seen.append(error)

    with pytest.raises(KeyError):
        async with Lifespan(swallows, Worker()):
            raise KeyError("x")
    assert len(seen) == 1


async def _coroutine(worker: Worker) -> None: ...


def _generator(worker: Worker) -> Iterator[None]:
    yield


class _Plain: ...


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (_coroutine, "a coroutine function without a yield"),
        (_generator, "a plain generator function"),
        (contextmanager(_generator), "a plain generator function"),
        (_Plain, "class _Plain has no __aenter__"),
        (7, "a int object, which cannot be called"),
        (lambda: None, "does not take one argument, the worker"),
    ],
)
def test_wrong_shape_is_refused_at_once(target: object, says: str) -> None:
    """Before anything is entered."""
    with pytest.raises(LoadError, match=says):
        Lifespan(target, Worker(), "app:lifespan")
