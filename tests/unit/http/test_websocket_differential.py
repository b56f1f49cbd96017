"""Our reading of a client's frames against that of the package ``websockets``, without I/O as well.

Where both read to the end they must have read the same messages, where both fail, with the same code; else
:data:`DISAGREEMENTS` has the reason, or a test fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.deflate import DeflateParameters, Deflater
from hybrid.http.frames import BINARY, CLOSE, PING, PONG, TEXT, Event, close_frame, frame, text_frame
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
from websockets.frames import Close, Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri


class Watched(PerMessageDeflate):
    """Theirs; ``ended``: a stream was ended by a final block."""

    ended = False

    def __setattr__(self, name: str, value: object) -> None:
        """Look at the last stream, before there is a new one."""
        self.look()
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        """Look at the last stream, before there is none."""
        self.look()
        super().__delattr__(name)

    def look(self) -> None:
        """Note whether the present stream has ended."""
        stream = self.__dict__.get("decoder")
        if stream is not None and stream.eof:
            self.__dict__["ended"] = True


@dataclass
class Seen:
    """What was read. ``code``: of the fault, 0: none; ``why``: in their words; ``final``: with a final block."""

    events: list[Event] = field(default_factory=list)
    code: int = 0
    why: str = ""
    final: bool = False


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
        protocol.extensions = [Watched(agreed.client_no_context_takeover, True, agreed.client_max_window_bits, 12)]
    protocol.receive_data(case.data)
    seen = Seen()
    for each in protocol.extensions:
        assert isinstance(each, Watched)
        each.look()
        seen.final = each.ended
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
            opcode = int(event.opcode) or opcode
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
    if (us.events, us.code) == (them.events, them.code):
        return ""
    count = len(us.events) - len(them.events)
    same = us.events[: len(them.events)] == them.events[: len(us.events)]
    end = ("alike" if same else "unlike") + " final" * them.final
    return f"{us.code} {us.why} | {them.code} {them.why} | {count:+} {end}"


FAULT = r"1002 (RSV|a reserved opcode|a control frame|a continuation|a new message|a length)[^|]*\| "

DISAGREEMENTS: dict[str, Disagreement] = {
    "seen in the header": Disagreement(
        FAULT + r"0  \| \+0 alike",
        "they look at most of a header once the whole frame is there; nothing that follows could mend it",
    ),
    "several faults in a header": Disagreement(
        FAULT + r"1009 .*\| \+0 alike", "both are right: we ask first whether a frame may be, then how long it is"
    ),
    "shortest form": Disagreement(
        r"1002 (a length that is not in its shortest form|a control frame above 125 bytes) \| .*alike",
        "RFC 6455 §5.2: the minimal number of bytes MUST be used; they do not look",
        rb"[\xfe\xff]\0",
    ),
    "bad text at once": Disagreement(
        r"1007 text that is not UTF-8 \| (0|1002|1009) .*\| [-+]\d+ alike",
        "RFC 6455 §8.1: fail on a byte stream that is not UTF-8; they decode whole messages, and may never have one",
    ),
    "code before reason": Disagreement(
        r"1002 a close code that is not for the wire \| 1007 .*\| \+0 alike",
        "RFC 6455 §7.4, §8.1: both are wrong; we read from left to right",
    ),
    "close inside of a message": Disagreement(
        r"0  \| 1002 incomplete fragmented message \| \+1 alike",
        "RFC 6455 §5.4: a control frame may come in the middle of a message, and a close frame is one",
    ),
    "control frame above the limit": Disagreement(
        r".*\| 1009 frame with \d+ bytes .*\| \+\d+ alike",
        "RFC 6455 §5.5: it is no part of a message, and has a limit of its own, 125 bytes",
        rb"[\x88-\x8a]",
    ),
    "more bytes sent than meant": Disagreement(
        r".*\| 1009 frame with \d+ bytes .*\| \+\d+ alike",
        "RFC 7692 §7.2.1: what does not compress grows, so a message at the limit may be longer when it is sent",
        rb"[\x41\x42\xc1\xc2]",
    ),
    "bad deflate": Disagreement(
        r"1007 the message is not deflated as agreed \| (0|1002|1009) .*\| \+0 alike",
        "RFC 7692 names no code: 1007 says that data is not what it should be, as of text; they inflate whole frames",
    ),
    "too much at once": Disagreement(
        r"1009 the message inflates to more than is allowed \| 0  \| \+0 alike", "they inflate whole frames"
    ),
    "no byte at all": Disagreement(
        r".*like",
        "RFC 7692 §7.2.3.6: nothing is one byte; of no byte the tail would be read as half a block, and spoil the next",
        rb"[\x41\x42\xc1\xc2]\x80",
    ),
    "BFINAL": Disagreement(r".*like final", "RFC 7692 §7.2.3.4: what follows a final block is read anew; they drop it"),
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


@settings(max_examples=300, deadline=None, derandomize=True)  # a new class is found on purpose, not on somebody's CI
@given(STREAMS, st.just([]) | CHANGES, st.sampled_from([None, DeflateParameters(), DeflateParameters(True, True)]))
def test_frames_are_read_alike(data: bytes, changes: list[bytes], agreed: DeflateParameters | None) -> None:
    """Frames after each other, right and wrong, some of their bytes changed."""
    case = Case("random", changed(data, changes, BITS), deflate=agreed, limit=300, limit_frame=250)
    assert unexplained(case) == ""


@pytest.mark.parametrize(
    "text",
    [
        "0  | 0  | +0 unlike",
        "0  | 0  | -1 alike",
        "0  | 1002 incorrect masking | +0 alike",
        "0  | 1007 text is not UTF-8 | +1 alike",
        "1002 a frame without a mask | 0  | -1 alike",
        "1009 a message or a frame above its limit | 0  | -1 alike",
    ],
)
def test_table_does_not_cover_what_it_does_not_name(text: str) -> None:
    """Another message, a missing one, a fault that one side does not see: no class excuses these."""
    assert not classes(DISAGREEMENTS, text, b"\x81\x85\x89\x80\xc1\x85")


# ── what we send ───────────────────────────────────────────────────────────────────────────────────────────────────


def received(data: bytes, agreed: DeflateParameters | None = None) -> list[Frame]:
    """Return what a client of ``websockets`` reads of what we send."""
    client = ClientProtocol(parse_uri("ws://a.example/"), state=OPEN, max_size=None)
    if agreed is not None:
        client.extensions = [
            PerMessageDeflate(agreed.server_no_context_takeover, True, agreed.server_max_window_bits, 12)
        ]
    client.receive_data(data)
    assert client.parser_exc is None
    events = client.events_received()
    assert all(isinstance(event, Frame) for event in events)
    return [event for event in events if isinstance(event, Frame)]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from([TEXT, BINARY, PING, PONG]), st.binary(max_size=125), st.sampled_from([1, 2, 600]))
def test_frame_is_read_by_their_client(opcode: int, payload: bytes, times: int) -> None:
    """Each opcode, each form of a length."""
    payload *= times if opcode < CLOSE else 1
    assert [(each.opcode, each.data, each.fin) for each in received(frame(opcode, payload))] == [
        (opcode, payload, True)
    ]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(max_size=70), st.sampled_from([1000, 1003, 1007, 1014, 3000, 4999]))
def test_text_and_close_are_read_by_their_client(text: str, code: int) -> None:
    """Text as it is, a reason from its beginning, as far as it fits."""
    first, second = received(text_frame(text) + close_frame(code, text))
    assert bytes(first.data).decode() == text
    close = Close.parse(second.data)
    assert close.code == code
    assert text.startswith(close.reason)
    assert close.reason == text or len(close.reason.encode()) > 119


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.binary(max_size=300), max_size=6),
    st.builds(DeflateParameters, st.booleans(), st.just(True), st.integers(9, 15), st.just(15)),
)
def test_deflated_messages_are_read_by_their_client(messages: list[bytes], agreed: DeflateParameters) -> None:
    """Under each of the parameters that concern a server's messages."""
    deflater = Deflater(agreed)
    data = b"".join(frame(BINARY, deflater.deflate(message), True) for message in messages)
    assert [bytes(each.data) for each in received(data, agreed)] == messages
