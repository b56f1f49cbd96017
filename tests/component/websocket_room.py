"""Clients of WebSockets: one that writes its own bytes, right or wrong."""

from __future__ import annotations

import asyncio
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from tests.component.http_room import Client, HttpRoom
from tests.support.eventually import eventually_async

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
"""The key of RFC 6455 §1.3."""
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MASK = b"\x01\x02\x03\x04"
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def handshake(path: bytes = b"/", *lines: bytes, version: bytes = b"13", key: bytes = KEY) -> bytes:
    """Return a client's request for a WebSocket."""
    fields = (
        b"GET %b HTTP/1.1" % path,
        b"Host: a",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: %b" % key,
        b"Sec-WebSocket-Version: %b" % version,
        *lines,
    )
    return b"\r\n".join(fields) + b"\r\n\r\n"


def masked(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a client's frame."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if len(payload) < 126:
        head = struct.pack("!BB", first, 0x80 | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, 0xFE, len(payload))
    else:
        head = struct.pack("!BBQ", first, 0xFF, len(payload))
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


def closing(code: int, reason: bytes = b"") -> bytes:
    """Return a client's Close."""
    return masked(CLOSE, struct.pack("!H", code) + reason)


@dataclass
class Frames:
    """A client that has its own idea of frames. ``head``: of the answer to its handshake."""

    client: Client
    status: int = 0
    head: dict[str, str] = field(default_factory=dict)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.client.send(data)

    async def frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame; it is whole and not masked."""
        first, second = await asyncio.wait_for(self.client.reader.readexactly(2), 20)
        assert first & 0x80 and not second & 0x80
        length = second
        if length == 126:
            (length,) = struct.unpack("!H", await self.client.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.client.reader.readexactly(8))
        return first & 0x0F, await asyncio.wait_for(self.client.reader.readexactly(length), 20)

    async def close(self) -> tuple[int, bytes]:
        """Return code and reason of a Close, passing over whatever comes before it; 1005: it has none."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                return (struct.unpack("!H", payload[:2])[0], payload[2:]) if payload else (1005, b"")

    async def end(self) -> bytes:
        """Return what comes until the server closes the connection."""
        return await self.client.rest()


async def dial(room: HttpRoom, path: bytes = b"/", *lines: bytes, behind: bytes = b"") -> Frames:
    """Return a client that has asked for a WebSocket, and was answered. ``behind``: sent with the request."""
    client = await room.connect()
    client.send(handshake(path, *lines) + behind)
    status, head, _ = await client.response()
    return Frames(client, status, head)


def deflated(payload: bytes) -> bytes:
    """Return a client's compressed message."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    return masked(BINARY, data[:-4], rsv=4)


async def asked(room: HttpRoom) -> Any:
    """Return the connection of the one client, as soon as its application runs."""
    await eventually_async(lambda: room.door.open and next(iter(room.door.open))._exchange)  # type: ignore[attr-defined]
    return next(iter(room.door.open))


async def accept(send: Any) -> None:
    """Accept."""
    await send({"type": "websocket.accept"})


async def close(send: Any) -> None:
    """Deny with a 403."""
    await send({"type": "websocket.close"})


async def deny(send: Any) -> None:
    """Deny with a response."""
    await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b"no"})


async def nothing(send: Any) -> None:
    """Just return."""
