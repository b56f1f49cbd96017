"""The numbers of WebSocket frames: opcodes, what a first byte may say, close codes. Source: RFC 6455 §5.2, §7.4."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
"""The opcodes: RFC 6455 §11.8. The others are reserved."""

CONTROL_BYTES: Final = 125
"""The payload of a control frame is no longer: §5.5."""

FIN: Final = 0x80
RSV1: Final = 0x40
"""Bits of the first byte: this is the message's last frame; the message is deflated (RFC 7692 §6)."""


class CloseCode(IntEnum):
    """Why a WebSocket is closed: RFC 6455 §7.4.1 and what IANA added to it."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    """The close frame said none. Never on the wire."""
    ABNORMAL = 1006
    """There was no close frame. Never on the wire."""
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015
    """TLS could not be agreed on. Never on the wire."""


_ON_THE_WIRE: Final = frozenset(CloseCode) - {CloseCode.NO_STATUS, CloseCode.ABNORMAL, CloseCode.TLS_HANDSHAKE}


def may_be_sent(code: int) -> bool:
    """Whether a close frame may say ``code``: RFC 6455 §7.4, and what IANA registered since."""
    return code in _ON_THE_WIRE or 3000 <= code <= 4999


def _first_bytes() -> list[str]:
    """Return, for each first byte of a frame, why nobody may send it, or nothing."""
    faults = []
    for first in range(256):
        opcode = first & 0x0F
        fault = ""
        if first & 0x30:
            fault = "RSV2 or RSV3 without an extension that uses it"
        elif opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            fault = "a reserved opcode"
        elif first & RSV1 and opcode not in (TEXT, BINARY):
            fault = "RSV1 in a frame that begins no message"
        elif opcode >= CLOSE and first < FIN:
            fault = "a control frame in fragments"
        faults.append(fault)
    return faults


FAULTS: Final = _first_bytes()
"""By first byte: why nobody may send it."""
