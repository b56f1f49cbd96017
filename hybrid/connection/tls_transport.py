"""TLS on a transport: a protocol to the socket's transport below, a transport to the application's protocol above.

The same code on both loops. Rejected: asyncio's ``SSLProtocol`` and uvloop's, which cut an answer that a slow client
has not taken within 30 s of the close, know no half-close, lose the alert that tells a client why it was turned away,
tell nobody of a handshake that failed, and, asyncio's, cannot be aborted any more once they were closed twice
(CPython 3.11 to 3.13). It costs no more than they do: CPU per echo of 60 bytes 42 to 47 µs here, 44 µs and more with
uvloop's; 65 µs here, 85 µs with asyncio's (CPython 3.11, TLS 1.3).

Ciphertext is decrypted as it comes, and written as it is made, so the flow control is that of the transport below:
its buffer, its marks, its ``pause_reading``. An end of the stream that no close_notify came before is an end like any:
many clients send none.

Source: RFC 8446 §6.1 (close_notify), §4.6 (what comes behind a handshake); CPython ``ssl.MemoryBIO``.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Protocol, cast

from hybrid.connection.tls_stages import AFTER, CLOSING, ENDED, HANDSHAKE, LOST, OPEN, StageEvent

_RECORD_BYTES = 16384
"""What one read returns at most: a record. Source: RFC 8446 §5.1."""
_ALERT_S = 1.0
"""For the alert that says why a connection is cut: then it is cut all the same."""
_ANSWERS_BYTES = 65536
"""Of answers to changes of keys that a peer may leave unread: some 2,400. A peer asks once in 2²⁴ records at most."""


class Owner(Protocol):
    """Whoever waits for the handshake. None of the calls raises."""

    def made(self) -> None:
        """The transport below is there; the handshake begins."""
        ...

    def secured(self) -> None:
        """The handshake is complete: give the transport its protocol."""
        ...

    def unsecured(self, error: Exception | None) -> None:
        """The connection ended within its handshake."""
        ...


class TlsTransport(asyncio.Transport):
    """The server's end of one TLS connection.

    Runs in: worker, in its loop. Closes: the transport below. Survives: anything a peer sends.
    """

    __slots__ = (
        "_answers_bytes", "_below", "_error", "_handshake_s", "_incoming", "_is_buffered", "_is_last", "_is_over",
        "_is_paused", "_loop", "_outgoing", "_owner", "_protocol", "_stage", "_timer", "context", "session",
    )  # fmt: skip
    _below: asyncio.Transport

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext, handshake_s: float, owner: Owner
    ) -> None:
        """Make the session. Raises: ssl.SSLError: the context is no server's."""
        super().__init__()
        self.context = context
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        """What ``ssl`` knows of the connection: cipher, version, the peer's certificate."""
        self._loop = loop
        self._handshake_s = handshake_s
        self._owner: Owner | None = owner
        """Until the handshake is complete."""
        self._stage = HANDSHAKE
        self._protocol: asyncio.BaseProtocol | None = None
        self._is_buffered = False
        self._is_paused = False
        self._is_last = False
        """Whether nothing comes behind what is in ``_incoming``."""
        self._is_over = False
        """Whether the protocol knows that the peer sends no more."""
        self._answers_bytes = 0
        """Sent on our own account since the transport below was last empty."""
        self._error: Exception | None = None
        """What ended it, when that was TLS or the application."""
        self._timer: asyncio.TimerHandle | None = None

    # ── a protocol: what the transport below calls ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the peer's hello. Raises: nothing; a raise here would wedge a uvloop listener."""
        self._below = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(self._handshake_s, self._time_out)
        if self._owner is not None:
            self._owner.made()

    def data_received(self, data: bytes) -> None:
        """Decrypt what came."""
        if self._stage is OPEN or self._stage is ENDED:
            self._incoming.write(data)
            self._read()
        elif self._stage is HANDSHAKE:
            self._incoming.write(data)
            self._shake_hands()

    def eof_received(self) -> bool:
        """The peer sends no more; True: we still may."""
        if self._stage is HANDSHAKE:
            self._break(ConnectionResetError("the peer left before the handshake was complete"))
        elif self._stage is OPEN or self._stage is ENDED:
            self._is_last = True
            self._read()
        return self._stage is OPEN or self._stage is ENDED

    def pause_writing(self) -> None:
        """Tell the application's protocol; there is none in the handshake."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Likewise."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the application's protocol; or, if there was none yet, whoever waits for one."""
        self._advance(StageEvent.LOST)
        self._stop_timer()
        protocol, self._protocol = self._protocol, None
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.unsecured(self._error or error)
        elif protocol is not None:
            protocol.connection_lost(self._error or error)

    # ── a transport: what the application calls ──

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to ``protocol`` from now on."""
        self._protocol = protocol
        self._is_buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return whom it delivers to; None when it is closed, as both loops do."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the session, or what the transport below says."""
        if name == "ssl_object":
            return self.session
        if name == "sslcontext":
            return self.context
        if name in ("peercert", "cipher", "compression"):
            return getattr(self.session, "getpeercert" if name == "peercert" else name)()
        return self._below.get_extra_info(name, default)

    @property
    def _sendfile_compatible(self) -> Any:
        raise NotImplementedError("no sendfile on TLS")  # what uvloop always says, so that callers know what to do

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send. Raises: RuntimeError: in the handshake, or after :meth:`write_eof`."""
        if self._stage is not OPEN:
            if self._stage is HANDSHAKE or self._stage is ENDED:
                raise RuntimeError(f"cannot write: {self._stage.name.lower()}")
            return
        if not data:
            return
        try:
            written = self.session.write(data)
            if written < len(data):
                rest = memoryview(data).cast("B")[written:]
                while rest:
                    rest = rest[self.session.write(rest) :]
        except OSError as error:
            self._break(error)
            return
        self._below.write(self._outgoing.read())

    def writelines(self, list_of_data: Any) -> None:
        """Encrypt and send all of them."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return True: TLS has a half-close, and so does the transport below."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more comes; receiving goes on. A second time changes nothing."""
        if self._stage is OPEN:
            self._notify()
            self._advance(StageEvent.END)
            self._below.write_eof()

    def close(self) -> None:
        """Say so to the peer, send what is unsent, and close; in a handshake, at once. Idempotent."""
        if self._stage is HANDSHAKE:
            self.abort()
        elif self._stage is OPEN or self._stage is ENDED:
            if self._stage is OPEN:
                self._notify()
            self._advance(StageEvent.CLOSE)
            self._below.close()

    def abort(self) -> None:
        """Close at once; what is unsent is lost. Idempotent, and possible after :meth:`close`."""
        self._advance(StageEvent.CLOSE)
        self._below.abort()

    def is_closing(self) -> bool:
        """Return whether it is closed, or being closed."""
        return self._stage is CLOSING or self._stage is LOST

    def is_reading(self) -> bool:
        """Return whether what comes is delivered."""
        return not self._is_paused and not self.is_closing()

    def pause_reading(self) -> None:
        """Leave what comes in the kernel."""
        if not self._is_paused and not self.is_closing():
            self._is_paused = True
            self._below.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again."""
        if self._is_paused and not self.is_closing():
            self._is_paused = False
            self._below.resume_reading()
            self._loop.call_soon(self._read)  # what the last read left, if anything

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks of the transport below, which count ciphertext."""
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return those marks."""
        return self._below.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Return the unsent bytes, as ciphertext."""
        return self._below.get_write_buffer_size()

    # ── inside ──

    def _shake_hands(self) -> None:
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except OSError as error:  # ssl.SSLError is one
            self._break(error)
            return
        self._stop_timer()
        self._flush()
        self._advance(StageEvent.SECURED)
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.secured()
        self._read()  # what came with the last of the handshake

    def _time_out(self) -> None:
        self._error = TimeoutError(f"the handshake took longer than {self._handshake_s:g} s")
        self.abort()

    def _read(self) -> None:
        """Deliver what can be decrypted."""
        protocol = self._protocol
        if protocol is None or self._is_over:
            return
        try:
            if self._is_buffered:
                self._read_into(cast(asyncio.BufferedProtocol, protocol))
            else:
                self._read_out(cast(asyncio.Protocol, protocol))
        except ssl.SSLError as error:
            self._break(error)
        if self._outgoing.pending:
            self._answer()
        if self._is_last and not (self._is_paused and self._incoming.pending):
            self._peer_ended()

    def _read_out(self, protocol: asyncio.Protocol) -> None:
        """Deliver all of it in one piece. Raises: ssl.SSLError."""
        while self._incoming.pending and not self._is_paused and self._stage in (OPEN, ENDED):
            data = self._decrypted()
            if not data:
                break
            if self._incoming.pending:
                pieces = [data]
                while data := self._decrypted():
                    pieces.append(data)
                data = b"".join(pieces)
            try:
                protocol.data_received(data)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001  (the application's code)
                self._failed("data_received", error)

    def _read_into(self, protocol: asyncio.BufferedProtocol) -> None:
        """Deliver a record at a time, into the protocol's buffers. Raises: ssl.SSLError."""
        while self._incoming.pending and not self._is_paused and self._stage in (OPEN, ENDED):
            data = self._decrypted()
            if not data:
                break
            rest = memoryview(data)
            try:
                while rest:
                    room = memoryview(protocol.get_buffer(len(rest))).cast("B")
                    if not room:
                        raise RuntimeError("get_buffer() returned an empty buffer")
                    count = min(len(room), len(rest))
                    room[:count] = rest[:count]
                    protocol.buffer_updated(count)
                    rest = rest[count:]
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001  (the application's code)
                self._failed("get_buffer or buffer_updated", error)

    def _decrypted(self) -> bytes:
        """Return what is in the next record; b"": there is none, or the peer said that it sends no more.

        Raises: ssl.SSLError: what came is no TLS of this session.
        """
        try:
            data: bytes = self.session.read(_RECORD_BYTES)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLZeroReturnError:
            data = b""
        if not data:
            self._loop.call_soon(self._peer_ended)  # behind what was read before
        return data

    def _peer_ended(self) -> None:
        """Tell the protocol; close, unless it still has something to say."""
        protocol = self._protocol
        if self._is_over or protocol is None or self.is_closing():
            return
        self._is_over = True
        keep = False
        try:
            keep = bool(cast(asyncio.Protocol, protocol).eof_received())
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  (the application's code)
            self._failed("eof_received", error)
        if not keep:
            self.close()

    def _failed(self, event: str, error: BaseException) -> None:
        """Report what the application raised, as the loops do, and cut the connection."""
        if not isinstance(error, OSError):
            context = {"message": f"Fatal error: protocol.{event}() call failed.", "exception": error}
            self._loop.call_exception_handler({**context, "transport": self, "protocol": self._protocol})
        if isinstance(error, Exception):
            self._error = error
        self.abort()

    def _break(self, error: Exception) -> None:
        """End what is no TLS, or not ours; the peer gets the alert that says why, if it takes it."""
        self._error = error
        self._flush()
        self._advance(StageEvent.CLOSE)
        self._below.close()
        self._stop_timer()
        self._timer = self._loop.call_later(_ALERT_S, self._below.abort)

    def _answer(self) -> None:
        """Send the answer to a change of keys; cut a peer that has many and takes none: they would fill the memory."""
        self._answers_bytes = self._answers_bytes + self._outgoing.pending if self.get_write_buffer_size() else 0
        if self._answers_bytes > _ANSWERS_BYTES:
            self._error = ConnectionAbortedError("the peer asks for new keys and does not read the answers")
            self.abort()
        else:
            self._flush()

    def _notify(self) -> None:
        """Send close_notify."""
        unread = self._incoming.read()  # or OpenSSL looks there for the peer's, and trips over data
        try:
            self.session.unwrap()
        except OSError:
            pass  # SSLWantReadError: it is out, the peer's is not in. Another: it is of no use any more
        self._incoming.write(unread)
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and self._stage in (HANDSHAKE, OPEN):
            self._below.write(self._outgoing.read())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _advance(self, event: StageEvent) -> None:
        self._stage = AFTER[self._stage][event]
