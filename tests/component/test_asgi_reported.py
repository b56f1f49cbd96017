"""What real frameworks and real clients met, as small as it gets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.component.http_room import serving
from tests.support.eventually import eventually_async

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


async def test_stream_given_up_by_its_client_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A client leaves an endless stream; the application hears of it and returns, as Django and Litestar do."""
    returned = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        await send(START)
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        assert await receive() == {"type": "http.disconnect"}
        returned.set()

    with caplog.at_level(logging.INFO):
        async with serving(app) as room:
            client = await room.connect()
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.until(b"data: 1\n\n")
            client.close()
            await asyncio.wait_for(returned.wait(), 5)
            await eventually_async(lambda: not room.door.open)
    assert caplog.messages == []
    assert room.door.lost == 0
