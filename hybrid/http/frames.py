"""WebSocket frames: a client's bytes in, whole messages and control frames out; and a server's frames, as bytes.

However the bytes are cut, the outcome is the same: what was whole before a fault is returned, then the fault is in
``error``. A fault is seen with the first byte that no further byte can mend: bad UTF-8 in the middle of a frame, a
length above the limit in its header.

Stricter than some: a length that is not in its shortest form is a fault. RFC 6455 §5.2 says that the minimal number of
bytes MUST be used, and whoever does not is broken, or hopes that somebody before us read another length.

Memory: the payload of an unfinished message is kept in one array, unmasked and inflated, never above its limit; a
message costs twice its size for the moment in which it becomes whole. Fragments leave nothing but their payload, so
that many small ones cost no more than few large ones; there may be no more than :data:`FRAGMENTS_MOST` of them.

Sources: RFC 6455 §5, §7.4, §8.1; RFC 7692 §6, §7.2.
"""

from __future__ import annotations

from codecs import utf_8_decode
from enum import IntEnum
from struct import Struct
from typing import Final

from hybrid.http.deflate import Inflater
from hybrid.http.errors import MessageTooBig
from hybrid.http.errors import WebSocketError as WebSocketError
from hybrid.http.mask import apply_mask
from hybrid.http.opcodes import BINARY as BINARY
from hybrid.http.opcodes import CLOSE as CLOSE
from hybrid.http.opcodes import CONTINUATION, CONTROL_BYTES, FAULTS, FIN, RSV1, CloseCode, may_be_sent
from hybrid.http.opcodes import PING as PING
from hybrid.http.opcodes import PONG as PONG
from hybrid.http.opcodes import TEXT as TEXT

FRAGMENTS_MOST: Final = 131_072
"""Frames of one message: 16 MiB in pieces of 128 bytes. Above: 1008."""

_MASKED: Final = 0x80
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_HEAD_16: Final = Struct("!BBH")
_HEAD_64: Final = Struct("!BBQ")
_SMALL_HEADS: Final = {
    opcode: tuple(bytes((FIN | opcode, size)) for size in range(CONTROL_BYTES + 1))
    for opcode in (TEXT, BINARY, CLOSE, PING, PONG)
}

Event = tuple[int, object]
"""(TEXT, str), (BINARY, bytes), (PING, bytes), (PONG, bytes) or (CLOSE, (code, reason))."""


class _Stage(IntEnum):
    """Whether frames are read; there is no way back."""

    OPEN = 0
    CLOSED = 1
    """The peer sent its close frame: what follows is ignored, §5.5.1."""
    FAILED = 2
    """The peer broke the protocol: ``error`` says how."""


_OPEN, _CLOSED, _FAILED = _Stage


class FrameReader:
    """Reads what one client sends, after the handshake.

    ``error``: why the connection must be failed, once it must be; nothing is read any more.
    """

    __slots__ = (
        "_at_once",
        "_checked",
        "_compressed",
        "_control",
        "_fin",
        "_fragments",
        "_inflater",
        "_kept",
        "_left",
        "_limit",
        "_limit_frame",
        "_mask",
        "_message",
        "_opcode",
        "_room",
        "_stage",
        "_type",
        "_wire",
        "error",
    )

    def __init__(
        self,
        limit_message_bytes: int = 16 * 1024 * 1024,
        limit_frame_bytes: int = 0,
        inflater: Inflater | None = None,
    ) -> None:
        """``limit_frame_bytes``: of one frame as it is sent; 0: no other limit than the message's. ``inflater``: None
        if no compression was agreed on; of this connection alone.
        """
        self.error: WebSocketError | None = None
        self._limit = limit_message_bytes
        self._limit_frame = limit_frame_bytes
        self._at_once = min(limit_message_bytes, limit_frame_bytes or limit_message_bytes)
        self._inflater = inflater
        self._stage = _OPEN
        self._kept = b""
        """The begin of a frame's header; or all that follows when there was no room."""
        self._room = 0
        """Bytes that may still be inflated in this call."""
        # The frame whose payload is not whole.
        self._left = 0
        self._mask = b""
        self._opcode = 0
        self._fin = False
        self._control = b""
        # The message that is not whole.
        self._type = 0
        """TEXT or BINARY; 0 between messages."""
        self._compressed = False
        self._message = bytearray()
        self._checked = 0
        """Bytes of a text that are known to be UTF-8."""
        self._wire = 0
        """Bytes of payload as they were sent."""
        self._fragments = 0

    @property
    def is_between(self) -> bool:
        """Whether no message and no frame has begun that is not whole; also after a close frame or a fault."""
        return self._stage is not _OPEN or not (self._type or self._left or self._kept)

    @property
    def has_more(self) -> bool:
        """Whether ``feed(b"")`` may return more: :meth:`feed` stopped because much was inflated."""
        return self._room <= 0 and bool(self._kept)

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes; return what became whole, in order. After a close frame or a fault: nothing.

        When messages inflate to more than ``limit_message_bytes`` in one call, the rest is kept: a kilobyte can be a
        megabyte. Once these are consumed, and before new bytes are taken, call ``feed(b"")`` while :attr:`has_more`.
        Raises: nothing; see ``error``.
        """
        found: list[Event] = []
        if self._stage is not _OPEN:
            return found
        if self._kept:
            data = self._kept + data
            self._kept = b""
        self._room = self._limit or 1
        try:
            self._read(data, found)
        except WebSocketError as error:
            # Another one: this one's traceback and causes hold what was read.
            self.error = WebSocketError(error.code, error.reason)
            self._stop(_FAILED)
        return found

    def _read(self, data: bytes, found: list[Event]) -> None:
        """Add what is whole in ``data`` to ``found``, keep the rest. Raises: WebSocketError."""
        at = 0
        end = len(data)
        while at < end:
            if not self._left:
                if end - at < 2:
                    break
                # hot: WebSocket echo, a whole message in one frame; 32 B: 0.9 µs, below 3.0 (CPython 3.11).
                first = data[at]
                if (first == 0x82 or first == 0x81) and not self._type:
                    size = data[at + 1] - _MASKED
                    body = at + 6
                    if size > CONTROL_BYTES:
                        if size == _LENGTH_16 and body + 2 <= end:
                            size = data[at + 2] << 8 | data[at + 3]
                            body += 2
                        if size <= _LENGTH_64:
                            size = -1  # longer, or not the shortest form: below
                    if 0 <= size <= self._at_once and body + size <= end:
                        payload = apply_mask(data[body : body + size], data[body - 4 : body])
                        found.append((BINARY, payload) if first == 0x82 else (TEXT, _text(payload)))
                        at = body + size
                        continue
                body = self._begin(data, at)
                if not body:
                    break
                at = body
            stop = min(at + self._left, end)
            piece = self._unmask(data[at:stop])
            at = stop
            if self._opcode >= CLOSE:
                self._take_control(piece, found)
                if self._stage is not _OPEN:
                    return
            else:
                self._take_data(piece, found)
                if self._room <= 0:
                    break
        if at < end:
            self._kept = data[at:]

    def _begin(self, data: bytes, at: int) -> int:
        """Read a frame's header; return where its payload begins, or 0: it is not whole. Raises: WebSocketError."""
        first = data[at]
        second = data[at + 1]
        opcode = first & 0x0F
        fault = FAULTS[first] or self._misfit(first, opcode)
        if fault:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, fault)
        if not second & _MASKED:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "a frame without a mask")
        size = second & 0x7F
        if size > CONTROL_BYTES and opcode >= CLOSE:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "a control frame above 125 bytes")
        body = at + 6
        if size > CONTROL_BYTES:
            least = _LENGTH_16 if size == _LENGTH_16 else 65536
            body += 2 if size == _LENGTH_16 else 8
            if len(data) < body - 4:
                return 0
            size = int.from_bytes(data[at + 2 : body - 4], "big")
            if size >> 63:
                raise WebSocketError(CloseCode.PROTOCOL_ERROR, "a length with its highest bit set")
            if size < least:
                raise WebSocketError(CloseCode.PROTOCOL_ERROR, "a length that is not in its shortest form")
        if opcode < CLOSE:
            self._check_size(first, size)
        if len(data) < body:
            return 0
        self._opcode = opcode
        self._fin = first >= FIN
        if opcode < CLOSE:
            if opcode:
                self._type = opcode
                self._compressed = first & RSV1 != 0
                self._wire = self._fragments = 0
            self._wire += size
            self._fragments += 1
        self._left = size
        self._mask = data[body - 4 : body]
        return body

    def _misfit(self, first: int, opcode: int) -> str:
        """Return why a frame that may be sent does not fit here, or nothing."""
        if opcode == CONTINUATION:
            return "" if self._type else "a continuation of nothing"
        if opcode < CLOSE and self._type:
            return "a new message inside of a message"
        if first & RSV1 and self._inflater is None:
            return "RSV1 without an extension that uses it"
        return ""

    def _check_size(self, first: int, size: int) -> None:
        """Look at what a data frame adds to its message, or begins one with. Raises: WebSocketError 1008, 1009."""
        wire = size
        compressed = first & RSV1 != 0
        if not first & 0x0F:
            wire += self._wire
            compressed = self._compressed
            if self._fragments >= FRAGMENTS_MOST:
                raise WebSocketError(CloseCode.POLICY_VIOLATION, "too many fragments in a message")
        limit = self._limit
        if compressed:  # what does not compress grows: fixed codes have up to 9 bits
            limit += (limit >> 3) + 64
        if wire > limit or (self._limit_frame and size > self._limit_frame):
            raise MessageTooBig("a message or a frame above its limit")

    def _unmask(self, piece: bytes) -> bytes:
        """Return a piece of payload without its mask, and turn the mask to where the next piece begins."""
        size = len(piece)
        if not size:
            return piece
        mask = self._mask
        self._left -= size
        turn = size & 3
        if turn and self._left:
            self._mask = mask[turn:] + mask[:turn]
        return apply_mask(piece, mask)

    def _take_control(self, piece: bytes, found: list[Event]) -> None:
        """Take payload of a control frame. It may stand between the fragments of a message: §5.4."""
        if self._left:
            self._control += piece
            return
        payload = self._control + piece
        self._control = b""
        if self._opcode == CLOSE:
            found.append((CLOSE, _read_close(payload)))
            self._stop(_CLOSED)
        else:
            found.append((self._opcode, payload))

    def _take_data(self, piece: bytes, found: list[Event]) -> None:
        """Take payload of a message. Raises: WebSocketError 1007, 1008, 1009."""
        message = self._message
        is_last = self._fin and not self._left
        too_big = ""
        if self._compressed and self._inflater is not None:
            try:
                piece = self._inflater.inflate(piece, self._limit - len(message), is_last)
            except MessageTooBig as error:
                piece, too_big, is_last = error.begin, error.reason, False
            self._room -= len(piece)
        if is_last:
            whole: bytes | bytearray = piece
            if message:
                message += piece
                whole = message
                self._message = bytearray()
            found.append((TEXT, _text(whole)) if self._type == TEXT else (BINARY, bytes(whole)))
            self._type = self._checked = 0
            return
        message += piece
        if self._type == TEXT:
            self._check_text()
        if too_big:
            raise MessageTooBig(too_big)

    def _check_text(self) -> None:
        """Look at what was added to a text; a character that has begun is left for the next time. Raises: 1007."""
        fresh = self._message[self._checked :]
        try:
            done = utf_8_decode(fresh, "strict", False)[1]
        except UnicodeDecodeError as error:
            raise _not_utf8() from error
        self._checked += done
        # Python waits for the third byte of a surrogate, for those to whom it is one; the second says it: RFC 3629 §4.
        if len(fresh) - done == 2 and fresh[done] == 0xED and fresh[done + 1] >= 0xA0:
            raise _not_utf8()

    def _stop(self, stage: _Stage) -> None:
        """Read nothing any more, and hold nothing."""
        self._stage = stage
        self._kept = self._control = b""
        self._message = bytearray()
        self._inflater = None


def _text(payload: bytes | bytearray) -> str:
    """Return a whole text. Raises: WebSocketError 1007."""
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8() from error


def _not_utf8() -> WebSocketError:
    return WebSocketError(CloseCode.INVALID_DATA, "text that is not UTF-8")


def _read_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a close frame; 1005 if it says none. Raises: WebSocketError 1002, 1007."""
    if not payload:
        return CloseCode.NO_STATUS, ""
    code = int.from_bytes(payload[:2], "big")  # half of a code is a number below 256
    if not may_be_sent(code):
        raise WebSocketError(CloseCode.PROTOCOL_ERROR, "a close code that is not for the wire")
    return code, _text(payload[2:])


def frame(opcode: int, payload: bytes, rsv1: bool = False) -> bytes:
    """Return a whole message or control frame as a server sends it: one frame, without a mask (§5.1).

    Args: rsv1: the payload is deflated. Raises: ValueError: a control frame above 125 bytes.
    """
    size = len(payload)
    if size <= CONTROL_BYTES and not rsv1:
        return _SMALL_HEADS[opcode][size] + payload
    if opcode >= CLOSE:
        raise ValueError(f"cannot send {size} bytes in a control frame: {CONTROL_BYTES} fit")
    first = (FIN | RSV1 if rsv1 else FIN) | opcode
    if size <= CONTROL_BYTES:
        return bytes((first, size)) + payload
    if size < 65536:
        return _HEAD_16.pack(first, _LENGTH_16, size) + payload
    return _HEAD_64.pack(first, _LENGTH_64, size) + payload


def text_frame(text: str) -> bytes:
    """Return a whole text message. Raises: ValueError: it holds half of a surrogate pair, which UTF-8 cannot say."""
    return frame(TEXT, text.encode())


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame; 1005 says nothing, and is the answer to a close frame that said nothing.

    ``reason`` is cut to the 123 bytes that fit; a half surrogate pair in it becomes ``?``.
    Raises: ValueError: ``code`` is not for the wire.
    """
    if code == CloseCode.NO_STATUS and not reason:
        return frame(CLOSE, b"")
    if not may_be_sent(code):
        raise ValueError(f"cannot close with {code!r}: 1000 to 1003, 1007 to 1014 and 3000 to 4999 may be sent")
    text = reason.encode("utf-8", "replace")
    if len(text) > CONTROL_BYTES - 2:
        text = text[: CONTROL_BYTES - 2].decode("utf-8", "ignore").encode()
    return frame(CLOSE, code.to_bytes(2, "big") + text)
