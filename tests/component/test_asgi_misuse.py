"""ASGI applications that fail badly: who else pays for it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from hybrid.connection.failures import log
from tests.component.http_room import respond, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Unspeakable(Exception):
    """What the record of a failure would say of it cannot be had."""

    def __str__(self) -> str:
        raise SystemExit("on purpose")


@on_both_loops
async def test_error_that_raises_when_shown_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It has its record, and the loop goes on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails":
            raise Unspeakable
        await respond(send, b"hello")

    async with serving(app) as room:
        assert (await room.ask(b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
        assert b"hello" in await room.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert "Unspeakable: (its text cannot be had: SystemExit)" in caplog.records[0].getMessage()


class Held:
    """What an application holds while it runs."""


@on_both_loops
async def test_what_a_failed_request_held_is_free_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the garbage collector: its error is in no cycle with who caught it."""
    seen: list[weakref.ref[Held]] = []
    said: list[str] = []
    monkeypatch.setattr(log, "filter", lambda record: said.append(record.levelname))  # pytest would keep the record

    async def app(scope: Any, receive: Any, send: Any) -> None:
        held = Held()
        seen.append(weakref.ref(held))
        raise ValueError("on purpose")

    async with serving(app) as room:
        gc.collect()
        gc.disable()
        try:
            await room.ask(GET)
            await eventually_async(lambda: said == ["ERROR"] and not seen[0]())
        finally:
            gc.enable()
