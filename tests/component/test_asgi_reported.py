"""What real frameworks and real clients met, as small as it gets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.component.http_room import serving
from tests.support.eventually import eventually_async

EVENTS = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


async def give_up_stream(receive: Any, send: Any) -> None:
    """Return when the client has left an endless stream, as Django, Litestar and Quart do."""
    await send(EVENTS)
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    assert await receive() == {"type": "http.disconnect"}


async def give_up_answer(receive: Any, send: Any) -> None:
    """Return when the client has left before there was an answer, as Django and Quart do."""
    assert await receive() == {"type": "http.disconnect"}


async def raise_within_upload(receive: Any, send: Any) -> None:
    """Raise when the client has left within its body, as Starlette's ClientDisconnect does."""
    assert await receive() == {"type": "http.disconnect"}
    raise RuntimeError("the client has left")


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234"


@pytest.mark.parametrize(
    ("act", "request_head"),
    [(give_up_stream, GET), (give_up_answer, GET), (raise_within_upload, HALF)],
    ids=["stream", "answer", "upload"],
)
async def test_client_that_leaves_is_no_error(act: Any, request_head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Who was told http.disconnect may end as it likes: nobody is there, nothing is logged, nothing is counted."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        begun.set()
        try:
            await act(receive, send)
        finally:
            ended.set()

    with caplog.at_level(logging.INFO):
        async with serving(app) as room:
            client = await room.connect()
            client.send(request_head)
            await asyncio.wait_for(begun.wait(), 5)
            if act is give_up_stream:
                await client.until(b"data: 1\n\n")
            client.close()
            await asyncio.wait_for(ended.wait(), 5)
            await eventually_async(lambda: not room.door.open)
            assert room.door.lost == 0
    assert caplog.messages == []
