"""How an HTTP connection ends: its deadlines, the drain, the last answer; and the applications that run for it.

:class:`~hybrid.connection.http_connection.HttpConnection` is the rest: how requests come and are answered.

Source: RFC 9112 §9.6 (tear-down).
"""

from __future__ import annotations

from hybrid.connection.farewell import Farewell
from hybrid.connection.http_endpoint import Exchange, HttpEndpoint, Upgraded
from hybrid.connection.http_phases import AFTER_FINISH, ANSWERING, CLOSED, HEAD, IDLE, LINGERING, UPGRADED
from hybrid.connection.http_wire import NEVER, Wire
from hybrid.http.body import Body
from hybrid.http.errors import HttpError

_LINGER_S = 2.0
"""For the peer to close, after we said that nothing more comes: what is still on its way must not reset our answer."""


class Ending(Wire):
    """An HTTP connection, as far as it is about its end. Runs in: worker, in its loop. Closes: its transport."""

    __slots__ = (
        "_awaits_body",
        "_body",
        "_buffer",
        "_earlier",
        "_exchange",
        "_has_failed",
        "_is_last",
        "_latest",
        "_peer_is_done",
        "_upgraded",
        "_upgraded_s",
        "draining",
    )

    def __init__(self, endpoint: HttpEndpoint) -> None:
        Wire.__init__(self, endpoint)
        self._buffer: bytes | bytearray = b""
        """Came, and is not used yet: a part of a head, which grows in place, or pipelined requests."""
        self._body: Body | None = None
        """Of the request that is being answered, while more of it is to come."""
        self._awaits_body = False
        """Whether somebody waits for more of it."""
        self._exchange: Exchange | None = None
        """Of the request that is being answered."""
        self._latest: Exchange | None = None
        self._earlier: tuple[Exchange, ...] = ()
        """Whose application runs: the last one begun, and those that ran on behind their answers when it began."""
        self._peer_is_done = False
        """Whether it has shut its sending side."""
        self._is_last = False
        """Whether it said that no request follows this one, and nothing of this one is to come."""
        self._upgraded: Upgraded | None = None
        """What has taken the connection over from HTTP."""
        self._upgraded_s = 0.0
        """How long that waits before it wants to look; 0: it does not."""
        self.draining = False
        """Whether the worker drains, and it was this connection's turn: the next answer says that it is the last."""
        self._has_failed = False

    @property
    def farewell(self) -> Farewell:
        """The end of the worker."""
        return self._endpoint.farewell

    def _refuse(self, error: HttpError) -> None:
        """Answer what is no request."""
        raise NotImplementedError

    # ── applications ──

    def ended(self, exchange: Exchange) -> None:
        """An application has returned."""
        self._endpoint.load.ceiling += 1
        if exchange is self._latest:
            self._latest = None
        else:
            self._earlier = tuple(each for each in self._earlier if each is not exchange)
        if self._phase is CLOSED and self._latest is None and not self._earlier:
            self._endpoint.closed(self)

    def went_wrong(self, status: int) -> None:
        """Count a response that is an error, 400 and above."""
        self._endpoint.load.went_wrong(status)

    def fail(self) -> None:
        """Count the connection as one that the application failed, once."""
        if not self._has_failed:
            self._has_failed = True
            self._endpoint.door.failed(self)

    # ── the drain ──

    def start_draining(self) -> None:
        """Say with an answer that it is the last; close, if nobody asks for one."""
        self.draining = True
        if self._phase is IDLE:
            self._call_last()
        elif self._exchange is not None:
            self._exchange.drain()

    def cancel(self) -> None:
        """End the applications' tasks, also of one that runs on behind its answer; close, if no answer is owed."""
        for exchange in (*self._earlier, self._latest):
            if exchange is not None:
                exchange.cancel()
        if self._exchange is None or self._exchange is not self._latest:  # what ends it is no application's any more
            self.abort()

    @property
    def has_next(self) -> bool:
        """Whether the next request is here already, or a part of it: then no answer says yet that it is the last."""
        return bool(self._buffer)

    def _call_last(self) -> None:
        """Close soon. A request that is on its way to us is still answered: its client knows nothing of the drain."""
        self._loop.call_later(self._endpoint.farewell.last_call_s, self._finish_if_idle, context=self._context)

    def _finish_if_idle(self) -> None:
        """Close, unless a request is here, read or unread: to it no answer could be given any more."""
        if self._phase is IDLE and not self._buffer and not self._is_put_off(self._finish_if_idle):
            self._finish()

    # ── time ──

    def look_in(self, seconds: float) -> None:
        """Call :meth:`Upgraded.expire <hybrid.connection.http_endpoint.Upgraded.expire>` in so long; 0: never."""
        self._upgraded_s = seconds
        if self._phase is UPGRADED:
            self._set_deadline()

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = self._answer_by
        if self._answer_by <= self._loop.time():
            self._time_out()
        elif self._waiters is not None or (self._phase is LINGERING and self.transport.get_write_buffer_size()):
            if self._has_stalled():
                self.abort()
        elif self._phase is UPGRADED:
            assert self._upgraded is not None
            self._upgraded.expire()
        elif self._phase is HEAD:
            self._refuse(HttpError(408, "the head of the request took too long"))
        elif self._phase is ANSWERING and self._body is not None:
            self._finish()
            if self._exchange is not None:
                self._exchange.refuse(HttpError(408, "the body of the request took too long"))
        else:
            self._finish_if_idle() if self._phase is IDLE else self.abort()

    def _time_out(self) -> None:
        """The whole request took too long, whatever it waits for."""
        self._answer_by = self.deadline = NEVER
        self._finish()
        if self._exchange is not None:
            self._exchange.refuse(HttpError(504, "the application took too long"))
        if self._latest is not None:
            self._latest.cancel()

    def _set_deadline(self) -> None:
        """Set the deadline that the connection's state asks for."""
        times = self._endpoint.times
        body_s = times.body_s if self._awaits_body and self._body is not None else 0.0
        self._wait((times.keep_alive_s, times.head_s, body_s, _LINGER_S, 0.0, self._upgraded_s)[self._phase])

    # ── the end ──

    def _finish(self) -> None:
        """Say no more; close when the peer has, or has had time to."""
        if self._phase is CLOSED:
            return
        self._phase = AFTER_FINISH[self._phase]
        # hot: connections; what need not be called is not, here and when lost: 115,129 instructions, 111,685 so.
        if self._corked:
            self._flush()
        if self._body is not None or self._buffer:
            self._is_last = False  # more is on its way, whatever was said
        self._body, self._buffer = None, b""
        if self._exchange is not None:
            return  # its answer is still to come
        if not self._is_reading:
            self.resume_reading()
        if self._peer_is_done or self._is_last or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self._shut()
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent:
            self._wait(self._endpoint.times.write_s or _LINGER_S)
        else:
            self.deadline = self._endpoint.horizon + _LINGER_S
