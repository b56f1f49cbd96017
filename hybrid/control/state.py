"""What control knows, and how it asks the parent: one channel, on which notices come in and wishes go out.

Runs in: control. A notice is JSON in one message; a wish is a fixed record, because the parent parses no text.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from hybrid.ground.clock import monotonic_ns
from hybrid.ground.errors import HybridError
from hybrid.shared import messages
from hybrid.shared import settings as declared
from hybrid.shared.log_line import LEVELS, LogWriter
from hybrid.shared.messages import Log, Op, Record
from hybrid.shared.notices import Answered, Notice, PoolState, ReloadStep, from_json
from hybrid.shared.scoreboard import Scoreboard
from hybrid.shared.settings import Settings

HISTORY = 1000
"""Notices that are kept for whoever asks later."""
PENDING = 1000
"""Notices that a subscriber may leave unread."""
MESSAGE_BYTES = 1 << 18
"""Of one notice, at most. A boot log and the stacks of a worker are cut before."""
AT_ONCE = 64
"""Messages that are heard before somebody else's turn comes."""
GONE = "the server is gone, or another program took its place meanwhile"

StepTaker = Callable[[Notice], None]


class Subscription:
    """Notices as they come. Iterate over it; :meth:`close` it in the end.

    One that does not keep up is ended: ``is_lost`` says so.
    """

    def __init__(self, leave: Callable[[Subscription], None]) -> None:
        self.is_lost = False
        self._leave = leave
        self._waiting: deque[Notice] = deque()
        self._news = asyncio.Event()
        self._is_over = False

    def put(self, notice: Notice) -> None:
        """Hand over a notice; never waits."""
        if self._is_over:
            return
        if len(self._waiting) >= PENDING:
            self.is_lost = True
            self.close()
            return
        self._waiting.append(notice)
        self._news.set()

    def close(self) -> None:
        """End it; what was not read is forgotten. May be called twice."""
        self._is_over = True
        self._waiting.clear()
        self._news.set()
        self._leave(self)

    def end(self) -> None:
        """End it once everything was read: no more comes."""
        self._is_over = True
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Notice]:
        """Return itself."""
        return self

    async def __anext__(self) -> Notice:
        """Wait for the next notice. Raises: StopAsyncIteration: it was closed, lost, or the server is gone."""
        while not self._waiting:
            if self._is_over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()


@dataclass(slots=True)
class _Wish:
    """Something that the parent was asked for, and has not answered."""

    answer: asyncio.Future[Answered]
    on_step: StepTaker | None


class State:
    """What control knows of the server.

    Runs in: control. Closes: descriptors that came through the channel; the channel and the scoreboard are main's.
    """

    def __init__(
        self, settings: Settings, scoreboard: Scoreboard, channel: socket.socket, log: LogWriter, owner: int = 0
    ) -> None:
        self.owner = owner
        """Uid of the parent."""
        self.settings = settings
        """Those in force: a reload replaces them."""
        self.scoreboard = scoreboard
        self.pool = PoolState()
        """What the parent said last."""
        self.history: deque[Notice] = deque(maxlen=HISTORY)
        self.log = log
        self.is_known = asyncio.Event()
        """The parent has said what the pool is like."""
        self.is_over = asyncio.Event()
        """The channel has ended: the parent is gone, or wants no control any more."""
        self._channel = channel
        self._subscriptions: set[Subscription] = set()
        self._wishes: dict[int, _Wish] = {}
        self._token = monotonic_ns()  # an answer to a control that is gone is none to us

    # ── what others use ──

    def subscribe(self) -> Subscription:
        """Return every notice from now on. The caller closes it."""
        subscription = Subscription(self._subscriptions.discard)
        if self.is_over.is_set():
            subscription.end()
        else:
            self._subscriptions.add(subscription)
        return subscription

    async def ask(self, op: Op, slot: int = 0, a: int = 0, b: int = 0, on_step: StepTaker | None = None) -> Answered:
        """Ask the parent, and wait for what comes of it; raises what ``on_step`` raises, and nothing else.

        Args: a, b: the record's second and third number, after the token. on_step: called with every step of a reload
        meanwhile.
        """
        if self.is_over.is_set():
            return Answered(ok=False, text=GONE)
        self._token += 1
        token = self._token
        try:
            messages.send(self._channel, Record(op, slot, a=token, b=a, c=b))
        except BlockingIOError:
            return Answered(token, False, "the parent does not listen: it is stopped, or the machine is overloaded")
        except OSError:
            return Answered(token, False, GONE)
        wish = self._wishes[token] = _Wish(asyncio.get_running_loop().create_future(), on_step)
        try:
            return await wish.answer
        finally:
            del self._wishes[token]

    # ── the channel ──

    def listen(self) -> None:
        """Hear the parent from now on. Runs in: the loop."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._on_channel)

    def _on_channel(self) -> None:
        """Hear some of what is there: whoever has a lot to tell does not keep us from those who ask."""
        for _ in range(AT_ONCE):
            if self.is_over.is_set() or not self._hear_one():
                return

    def _hear_one(self) -> bool:
        """Hear one message; False: there is none."""
        try:
            data, descriptors = messages.receive_bytes(self._channel, MESSAGE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data, descriptors = b"", []
        try:
            if not data:
                self._end()
            elif data[:1] == b"{":
                self._hear(data, descriptors)
            elif (record := messages.unpack(data)) is not None:
                self._obey(record, descriptors)
        finally:
            for fd in descriptors:
                os.close(fd)
        return True

    def _hear(self, data: bytes, descriptors: list[int]) -> None:
        """Take in a notice, and the settings that may come with it."""
        try:
            notice = from_json(data)
        except (ValueError, TypeError) as error:
            self.log.debug(f"the parent said what is no notice: {error}")
            return
        if descriptors:
            self._read_settings(descriptors[0])
        if isinstance(notice, Answered):
            wish = self._wishes.get(notice.token)
            if wish is not None and not wish.answer.done():
                wish.answer.set_result(notice)
        elif isinstance(notice, PoolState):
            self.pool = notice
            self.is_known.set()
        elif notice is not None:
            self.history.append(notice)
            self._hand_on(notice)

    def _hand_on(self, notice: Notice) -> None:
        if isinstance(notice, ReloadStep):
            for wish in self._wishes.values():
                if wish.on_step is not None and not wish.answer.done():
                    try:
                        wish.on_step(notice)
                    except Exception as error:  # noqa: BLE001  # who cannot be told learns it; the others are told
                        wish.answer.set_exception(error)
        for subscription in tuple(self._subscriptions):
            subscription.put(notice)

    def _read_settings(self, fd: int) -> None:
        try:
            self.settings = declared.from_json(os.pread(fd, 1 << 24, 0).decode())
            self.log.least = LEVELS[self.settings.log.level]
        except (OSError, HybridError) as error:
            self.log.warning(f"control keeps the settings that it has: {error}")

    def _obey(self, record: Record, descriptors: list[int]) -> None:
        if record.op is Op.REOPEN_LOGS and record.a == Log.ERROR and descriptors:
            self.log.reopen(descriptors[0])
        elif record.op is Op.LEVEL:
            self.log.least = record.a

    def _end(self) -> None:
        """Take note that nothing comes any more."""
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self.is_over.set()
        for wish in self._wishes.values():
            if not wish.answer.done():
                wish.answer.set_result(Answered(ok=False, text=GONE))
        for subscription in tuple(self._subscriptions):
            subscription.end()
