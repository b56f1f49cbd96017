"""Our reading of a client's frames against that of the package ``websockets``, without I/O as well.

Where both read to the end they must have read the same messages, where both fail, with the same code; else
:data:`DISAGREEMENTS` has the reason, or a test fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.deflate import DeflateParameters, Inflater
from hybrid.http.frames import BINARY, CLOSE, TEXT, Event, FrameReader, close_frame, frame, text_frame
from tests.unit.http.cuts import CHANGES, changed
from tests.unit.http.disagreements import Disagreement, classes
from tests.unit.http.test_websocket_splits import BITS, STREAMS
from tests.unit.http.ws_corpus import CORPUS
from tests.unit.http.ws_deflate_corpus import CORPUS as DEFLATED
from tests.unit.http.ws_frames import Case, drain
from tests.unit.http.ws_utf8 import CORPUS as UTF8

pytest.importorskip("websockets")
from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import OP_CONT, Close, Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri


@dataclass
class Seen:
    """What was read. ``code``: of the fault, 0: none; ``why``: in their words."""

    events: list[Event] = field(default_factory=list)
    code: int = 0
    why: str = ""


def ours(case: Case) -> Seen:
    """Return what we read."""
    reader = case.reader()
    events = drain(reader, case.data)
    return Seen(events) if reader.error is None else Seen(events, reader.error.code, reader.error.reason)


def theirs(case: Case) -> Seen:
    """Return what ``websockets`` reads. Text is decoded as its connections do, whole."""
    protocol = ServerProtocol(state=OPEN, max_size=(case.limit, case.limit_frame or None))
    if case.deflate is not None:
        agreed = case.deflate
        protocol.extensions = [
            PerMessageDeflate(agreed.client_no_context_takeover, True, agreed.client_max_window_bits, 12)
        ]
    protocol.receive_data(case.data)
    seen = Seen()
    opcode, message = 0, b""
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        data = bytes(event.data)
        if event.opcode == CLOSE:
            close = Close.parse(data)
            seen.events.append((CLOSE, (int(close.code), close.reason)))
        elif event.opcode > CLOSE:
            seen.events.append((int(event.opcode), data))
        else:
            message += data
            opcode = opcode if event.opcode is OP_CONT else int(event.opcode)
            if event.fin:
                try:
                    seen.events.append((BINARY, message) if opcode == BINARY else (TEXT, message.decode()))
                except UnicodeDecodeError:
                    seen.code, seen.why = 1007, "text is not UTF-8"
                    return seen
                message = b""
    error = protocol.parser_exc
    if error is not None:
        assert protocol.close_sent is not None
        seen.code = 1009 if isinstance(error, PayloadTooBig) else int(protocol.close_sent.code)
        seen.why = str(error)
    return seen


def disagreement(case: Case) -> str:
    """Return how we differ; empty: not at all."""
    us, them = ours(case), theirs(case)
    if us == Seen(them.events, them.code, us.why):
        return ""
    count = len(us.events) - len(them.events)
    same = us.events[: len(them.events)] == them.events[: len(us.events)]
    return f"{us.code} {us.why} | {them.code} {them.why} | {count:+} {'alike' if same else 'unlike'}"


FAULT = "1002 (RSV|a reserved opcode|a control frame|a frame without|a continuation|a new message|a length)[^|]*"

DISAGREEMENTS: dict[str, Disagreement] = {
    "seen in the header": Disagreement(
        FAULT + r"\| 0  \| \+0 alike",
        "they look at most of a header once the whole frame is there; nothing that follows could mend it",
    ),
    "several faults in a header": Disagreement(
        FAULT + r"\| 1009 .*\| \+0 alike", "both are right: we ask first whether a frame may be, then how long it is"
    ),
    "shortest form": Disagreement(
        r"1002 a length that is not in its shortest form \| .* alike",
        "RFC 6455 §5.2: the minimal number of bytes MUST be used; they do not look",
    ),
    "bad text at once": Disagreement(
        r"1007 text that is not UTF-8 \| (0|1002|1009) .*\| [-+]\d+ alike",
        "RFC 6455 §8.1: fail on a byte stream that is not UTF-8; they decode whole messages, and may never have one",
    ),
    "close inside of a message": Disagreement(
        r"0  \| 1002 incomplete fragmented message \| \+1 alike",
        "RFC 6455 §5.4: a control frame may come in the middle of a message, and a close frame is one",
    ),
    "bad deflate": Disagreement(
        r"1007 the message is not deflated as agreed \| 1002 decompression failed \| \+0 alike",
        "RFC 7692 names no code; 1007 is for data that is not consistent with its type, and the same as for bad text",
    ),
    "bad deflate at once": Disagreement(
        r"1007 the message is not deflated as agreed \| (0|1002|1009) .*\| \+0 alike",
        "as bad text: they inflate whole frames",
    ),
    "bomb at once": Disagreement(
        r"1009 the message inflates to more than is allowed \| (0|1002|1007) .*\| \+0 alike",
        "they inflate whole frames; or see the other fault first",
    ),
    "BFINAL": Disagreement(
        r".*\| .*\| [-+]\d+ (un)?alike",
        "RFC 7692 §7.2.3.4: what follows a final block is read anew; they drop it",
        rb"(?s)[\xc1\xc2\x41\x42][\x80-\xfe]",
    ),
}
"""Every way in which we differ on purpose."""


def unexplained(case: Case) -> str:
    """Return the disagreement over ``case``, unless a class of the table covers it."""
    text = disagreement(case)
    return "" if text and classes(DISAGREEMENTS, text, case.data) else text


ALL = [*CORPUS, *UTF8, *DEFLATED]


def test_corpus_is_read_alike() -> None:
    """Every case: the same messages and code, or a class of the table."""
    found = {case.name: text for case in ALL if (text := unexplained(case))}
    assert found == {}


def test_every_class_of_disagreement_is_met() -> None:
    """A class that no case shows is one too many."""
    met = {name for case in ALL for name in classes(DISAGREEMENTS, disagreement(case), case.data)}
    assert DISAGREEMENTS.keys() - met == set()
