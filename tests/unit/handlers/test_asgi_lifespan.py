"""The ASGI lifespan protocol: start, state, stop, and applications that do not know it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from hybrid.ground.errors import BootError
from hybrid.handlers.asgi_lifespan import AsgiLifespan


class App:
    """Speaks the protocol, as told, and remembers what happened."""

    def __init__(self, startup: str = "complete", shutdown: str = "complete", crash: str = "") -> None:
        self.seen: list[str] = []
        self.startup, self.shutdown, self.crash = startup, shutdown, crash
        self.scope: dict[str, Any] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scope = scope
        if self.crash == "at once":
            raise ValueError("no lifespan here")
        self.seen.append((await receive())["type"])
        if self.crash == "while starting":
            raise ValueError("no database")
        scope["state"]["pool"] = "a pool"
        await send({"type": f"lifespan.startup.{self.startup}", "message": "no disk"})
        self.seen.append((await receive())["type"])
        if self.crash == "while stopping":
            raise ValueError("pool in use")
        await send({"type": f"lifespan.shutdown.{self.shutdown}", "message": "two left"})


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_application_is_started_and_stopped(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """Both events reach it, in one call; what it put into the state is what requests get."""
    app = App()
    lifespan = AsgiLifespan(app, mode, "app")
    async with lifespan as state:
        assert state == {"pool": "a pool"}
        assert app.seen == ["lifespan.startup"]
    assert app.seen == ["lifespan.startup", "lifespan.shutdown"]
    assert caplog.text == ""
    assert app.scope["type"] == "lifespan" and app.scope["asgi"]["version"] == "3.0"


async def test_off_does_not_ask() -> None:
    """The application is not called at all."""
    app = App()
    async with AsgiLifespan(app, "off", "app") as state:
        assert state is None
    assert app.scope == {}


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise KeyError("path")


async def returns(scope: Any, receive: Any, send: Any) -> None:
    return


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize("app", [raises, returns, answers])
async def test_application_without_lifespan_is_served(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    """auto: one that does not know the protocol; a line in the log says so."""
    caplog.set_level(logging.INFO, "hybrid.error")
    async with AsgiLifespan(app, "auto", "app") as state:
        assert state is None
    assert "app has no lifespan" in caplog.text


@pytest.mark.parametrize("app", [raises, returns, answers])
async def test_lifespan_on_refuses_application_without(app: Any) -> None:
    """on: the same is a failed boot."""
    with pytest.raises(BootError, match=r"app did not start: it (raised|returned)"):
        await AsgiLifespan(app, "on", "app").__aenter__()


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_error_while_starting_is_a_failed_boot(mode: str) -> None:
    """Raised after it took the event, it is no sign of ignorance: auto does not hide it either."""
    with pytest.raises(BootError, match=r"it raised ValueError: no database") as caught:
        await AsgiLifespan(App(crash="while starting"), mode, "app").__aenter__()
    assert "Traceback" in caught.value.detail


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_failed_startup_gives_its_reason(mode: str) -> None:
    """startup.failed: the application's own words. One that goes on waiting afterwards does not hold the boot up."""
    with pytest.raises(BootError, match=r"app did not start: no disk\."):
        await AsgiLifespan(App(startup="failed"), mode, "app").__aenter__()


async def test_start_that_is_cancelled_leaves_no_task() -> None:
    """The worker stops while the application starts."""

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    entering = asyncio.create_task(AsgiLifespan(slow, "auto", "app").__aenter__())
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert asyncio.all_tasks() <= before | {entering}


@pytest.mark.parametrize(
    ("app", "says"), [(App(shutdown="failed"), "did not shut down: two left"), (App(crash="while stopping"), "raised")]
)
async def test_bad_end_is_logged(app: App, says: str, caplog: pytest.LogCaptureFixture) -> None:
    """The worker goes anyway, but not without a word."""
    async with AsgiLifespan(app, "auto", "app"):
        pass
    assert says in caplog.text


async def test_application_that_ended_early_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Started and returned: nothing to stop."""

    async def brief(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    async with AsgiLifespan(brief, "on", "app") as state:
        assert state == {}
    assert caplog.text == ""


async def test_reason_is_the_last_line_of_a_traceback() -> None:
    """Starlette says its whole traceback as the reason: one line for the log, the rest below it, once."""
    said = "Traceback (most recent call last):\n  File x\nConnectionError: db at 10.0.0.1 is down\n"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": said})

    with pytest.raises(BootError, match=r"^app did not start: ConnectionError: db at 10\.0\.0\.1 is down\.$") as caught:
        await AsgiLifespan(app, "auto", "app").__aenter__()
    assert caught.value.detail.startswith("Traceback")
