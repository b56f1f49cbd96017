"""``--accept passing``: the parent accepts, and passes each connection to the worker with the least load.

Each worker has a *pass channel*, a socketpair of which the parent keeps both ends:

==================  ===============================================================================================
parent → worker     ``c`` with 1 to n descriptors, each an accepted connection
worker → parent     ``+`` it takes connections; ``-`` it takes none any more. Anything else is passed over
==================  ===============================================================================================

Nothing is dropped on the way. What a worker has not taken lies in its channel, and because the parent has the worker's
end too, it can read it back: when the worker is gone, takes none, or is stuck (:mod:`hybrid.parent.dispatch`). It is
read back only when somebody else can have it, one message at a time, so that the parent never holds more than a handful
of descriptors. Little fits into a channel, so little is ever on its way; when all are full, the parent does not accept,
and connections wait in the kernel's queue.

Source: unix(7) SCM_RIGHTS, ETOOMANYREFS; W. R. Stevens, UNIX Network Programming, vol. 1, ch. 30, "TCP Preforked
Server, Descriptor Passing".
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
from dataclasses import dataclass
from functools import partial

from hybrid.ground.clock import Clock, monotonic
from hybrid.parent.dispatch import BRIMFUL, Dispatch, Sign, Stage
from hybrid.parent.handover import HeldChannel, HeldQueues
from hybrid.parent.porter import Porter, Premises
from hybrid.parent.watch import Watch, has_news, sooner
from hybrid.shared import messages
from hybrid.shared.accept4 import EXHAUSTED, accept4

HANDFUL = 16
"""Connections accepted at a time, and passed on in one message at most."""
CHANNEL_BYTES = 6144
"""SO_SNDBUF of the parent's end: 16 messages, whatever their size (the kernel doubles it and counts some 770 bytes
for each)."""
WORDS = 32
"""Heard of one worker in a turn. A worker with one thread says two for each connection."""
LAST_CHANNEL_BYTES = 1 << 20
"""The same at a stop, when what waits in the kernel's queue would be lost; ``net.core.wmem_max`` limits it."""
LAST_HANDFULS = 256
"""Taken from each listener at a stop, should more and more come."""
PAUSE_S = 0.1
"""Without accepting, when descriptors or memory run short."""
WARN_S = 60.0
"""Between two warnings."""
RESERVE = 128
"""Descriptors that accepting leaves free: a connection that is read back without one would be lost."""
_SHORT = EXHAUSTED | {errno.ETOOMANYREFS}
_REMEDY = {
    errno.EMFILE: "Raise RLIMIT_NOFILE (ulimit -n).",
    errno.ENFILE: "Raise fs.file-max.",
    errno.ETOOMANYREFS: "Raise RLIMIT_NOFILE (ulimit -n): it limits descriptors on their way, too.",
}


@dataclass(frozen=True, slots=True)
class Channel:
    """Both ends of one worker's pass channel. Closes: them, on :meth:`close`."""

    ours: socket.socket
    theirs: socket.socket

    @classmethod
    def make(cls) -> Channel:
        """Return a channel into which little fits. Raises: OSError: no descriptor is left."""
        ours, theirs = messages.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHANNEL_BYTES)
        return cls(ours, theirs)

    def send(self, connections: list[int]) -> None:
        """Pass connections on. Closes: our copies, once they are sent. Raises: OSError: they are not sent."""
        messages.send_bytes(self.ours, b"c", tuple(connections))
        for fd in connections:
            os.close(fd)

    def take_back(self) -> list[int]:
        """Return the connections of the oldest message that the worker has not read; none: it has read them all."""
        try:
            # O_NONBLOCK of this end is the worker's too, to clear.
            data, connections = messages.receive_bytes(self.theirs, 16, socket.MSG_DONTWAIT)
            while data and not connections:  # no number was free for them: the kernel has closed them
                data, connections = messages.receive_bytes(self.theirs, 16, socket.MSG_DONTWAIT)
        except OSError:
            return []
        return connections

    def hear(self) -> bytes | None:
        """Return the worker's last word; empty: it has closed its end, or so it looks; None: it has said nothing."""
        said = None
        for _ in range(WORDS):
            try:
                heard = self.ours.recv(2)
            except BlockingIOError:
                break
            except OSError:
                return b""
            if not heard:
                return b""
            if said is None or heard in (b"+", b"-"):
                said = heard
        return said

    def close(self) -> None:
        """Close both ends; what is in it is lost."""
        self.ours.close()
        self.theirs.close()


class Passing(Porter):
    """Accepts for all workers.

    Runs in: parent. Closes: the listeners, on :meth:`stop_listening`; every pass channel and what it holds itself,
    on :meth:`close`.
    """

    def __init__(self, house: Premises, watch: Watch, clock: Clock = monotonic) -> None:
        super().__init__(house)
        self._watch = watch
        self._clock = clock
        self._dispatch = Dispatch()
        self._channels: dict[int, Channel] = {}
        self._ended: list[Channel] = []
        """Of workers that are gone: what they have not taken is in them."""
        self._held: list[int] = []
        """Connections in our hands, because nobody took them."""
        self._listeners = [listener.fileno() for listener in house.listeners]
        self._queues = {listener: select.poll() for listener in self._listeners}
        for listener, queue in self._queues.items():
            queue.register(listener, select.POLLIN)
        self._listening = False
        self._short_until: float | None = None
        self._warned_at = -WARN_S
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._ceiling = soft - min(RESERVE, soft // 4)

    # ── what the shell asks ──

    def for_new_mold(self) -> list[socket.socket]:
        """Return nothing: whoever is forked has no listener to inherit."""
        return []

    def ends_for(self, slot: int) -> tuple[int, ...]:
        """Make the pass channel of the worker of ``slot``; return the worker's end. Raises: OSError."""
        channel = self._channels[slot] = Channel.make()
        self._dispatch.join(slot, self._house.scoreboard.row(slot).cells)
        return (channel.theirs.fileno(),)

    def adopted(self, slot: int) -> None:
        """Listen to the worker, which may have spoken already."""
        self._watch.add(self._channels[slot].ours.fileno(), partial(self._on_channel, slot))

    def gone(self, slot: int) -> None:
        """Give what the worker has not taken to others. May come twice."""
        if slot in self._channels:
            self._end(slot)
            self._settle()

    def on_the_way(self) -> int:
        """Return how many wait here, and in the workers' channels."""
        return len(self._held) + self._dispatch.untaken

    def held(self) -> HeldQueues:
        """Return every pass channel, with what is known of its worker, and the connections in our hands."""
        takers = self._dispatch.takers
        channels = [
            HeldChannel(slot, each.ours.fileno(), each.theirs.fileno(), takers[slot].sent, takers[slot].stage > 0)
            for slot, each in self._channels.items()
        ]
        channels += [HeldChannel(-1, each.ours.fileno(), each.theirs.fileno()) for each in self._ended]
        return HeldQueues(channels=tuple(channels), connections=tuple(self._held))

    def take_over(self, held: HeldQueues) -> None:
        """Go on with them. Who was full or stuck will show it again."""
        for each in held.channels:
            channel = Channel(socket.socket(fileno=each.ours), socket.socket(fileno=each.theirs))
            if each.slot < 0:
                self._ended.append(channel)
                continue
            self._channels[each.slot] = channel
            self._dispatch.join(each.slot, self._house.scoreboard.row(each.slot).cells)
            self._dispatch.takers[each.slot].sent = each.sent
            if each.takes:
                self._dispatch.note(each.slot, Sign.TAKES)
        self._held = list(held.connections)

    @property
    def deadline(self) -> float | None:
        """When somebody may be stuck, or what ran short may be there again."""
        return sooner(self._dispatch.deadline, self._short_until)

    def time_passed(self) -> None:
        """Look who is stuck, or no longer; accept again after a pause."""
        if self._short_until is not None and self._short_until <= self._clock():
            self._short_until = None
        self._settle()

    def stop_listening(self) -> None:
        """Pass on what waits in the kernel's queue, as much as the channels hold; then close the listeners."""
        for slot, channel in self._channels.items():
            channel.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LAST_CHANNEL_BYTES)
            stage = self._dispatch.takers[slot].stage
            if stage in BRIMFUL:
                self._note(slot, Sign.ROOM)
            elif stage is Stage.AWAY:  # full, mostly: it takes all there is now, for nobody else will
                self._note(slot, Sign.TAKES)
        self._settle()
        for listener in self._listeners:
            for _ in range(LAST_HANDFULS):
                if self._held or not self._dispatch.open or not self._queues[listener].poll(0):
                    break
                self._hand_out(self._accept(listener, messages.MAX_DESCRIPTORS))
            self._watch.drop(listener)
        self._listeners = []
        super().stop_listening()
        self._settle()

    def close(self) -> None:
        """Close every pass channel. Nobody is left who could take what is in them."""
        for slot in tuple(self._channels):
            self._end(slot)
        for channel in self._ended:
            channel.close()
        for fd in self._held:
            os.close(fd)
        self._ended, self._held = [], []

    @property
    def _stopping(self) -> bool:
        """Whether the listeners are closed: nobody new comes, and each worker takes all it is given."""
        return not self._listeners

    # ── what comes in ──

    def _on_listener(self, listener: int) -> None:
        """Pass a handful on; then it is others' turn to be heard."""
        self._hand_out(self._accept(listener, HANDFUL))
        if self._dispatch.changed:
            self._settle()

    def _accept(self, listener: int, most: int) -> list[int]:
        connections: list[int] = []
        try:
            while len(connections) < most:
                if len(connections) == 1 and not self._queues[listener].poll(0):
                    break  # hot: most come alone; an accept4 that finds nothing takes 5 µs, this 1 µs
                fd = accept4(listener)
                if fd < 0:
                    break
                connections.append(fd)
                if fd >= self._ceiling:  # the kernel gives the lowest number that is free
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        except OSError as error:
            self._pause(error)
        return connections

    def _on_channel(self, slot: int) -> None:
        """Hear a worker; its last word counts. One that never stops talking does not keep the parent from others."""
        channel = self._channels[slot]
        said = channel.hear()
        if said is None:
            if self._dispatch.takers[slot].stage in BRIMFUL:
                self._note(slot, Sign.ROOM)
                self._settle()
            return
        if said == b"-" and self._stopping:
            return  # it was full a moment ago; now it takes all there is, and nobody else would
        if said == b"+" or said == b"-":
            self._note(slot, Sign.TAKES if said == b"+" else Sign.TAKES_NONE)
            self._settle()
        elif not said and messages.is_over(channel.ours):
            self._give_up(slot)
            self._settle()

    # ── what goes out ──

    def _hand_out(self, connections: list[int]) -> None:
        """Send each to the worker whose turn it is; keep in our hands what nobody took."""
        now = self._clock()
        self._dispatch.look(now)
        line = self._dispatch.line()
        while connections and (shares := line.share(connections)):
            connections = []
            for slot, share in shares.items():
                if refused := self._send_all(slot, share, now):
                    line.leave_out(slot)
                    connections += refused
        self._held += connections

    def _send_all(self, slot: int, share: list[int], now: float) -> list[int]:
        """Send a worker its share; return what its channel did not take."""
        dispatch, refused = self._dispatch, list[int]()
        for message in dispatch.messages(slot, share):
            if not refused and self._send(slot, message):
                dispatch.sent(slot, len(message), now)
            else:
                refused += message
        return refused

    def _send(self, slot: int, connections: list[int]) -> bool:
        """Return whether the worker's channel took the connections."""
        try:
            self._channels[slot].send(connections)
        except BlockingIOError:
            self._note(slot, Sign.REFUSED)
            return False
        except OSError as error:
            if error.errno in _SHORT:
                self._pause(error)
            else:
                self._give_up(slot)
            return False
        return True

    def _settle(self) -> None:
        """Let what nobody has go to whoever takes it; then accept, or leave connections in the queue."""
        dispatch = self._dispatch
        dispatch.look(self._clock())
        while dispatch.open and self._short_until is None:
            connections = self._held or self._take_back()
            if not connections:
                break
            self._held = []
            self._hand_out(connections)
        self._ended = [channel for channel in self._ended if not self._is_empty(channel)]
        dispatch.changed = False
        self._listen(dispatch.open and self._short_until is None)  # then nothing is in our hands, either

    def _listen(self, wanted: bool) -> None:
        """Watch the listeners, or leave connections in the kernel's queue."""
        if wanted is not self._listening:
            self._listening = wanted
            for listener in self._listeners:
                if wanted:
                    self._watch.add(listener, partial(self._on_listener, listener))
                else:
                    self._watch.drop(listener)

    def _take_back(self) -> list[int]:
        """Return what somebody who is gone, away or stuck has not taken: one message of it."""
        while self._ended:
            if connections := self._ended[0].take_back():
                return connections
            self._ended.pop(0).close()
        while not self._stopping and (slot := self._dispatch.source()) is not None:
            if connections := self._channels[slot].take_back():
                self._dispatch.taken_back(slot, len(connections))
                return connections
            self._dispatch.emptied(slot)
        return []

    def _is_empty(self, channel: Channel) -> bool:
        """Return whether nothing is left in a channel that nobody reads, and close it then."""
        if has_news(channel.theirs.fileno()):
            return False
        channel.close()
        return True

    def _note(self, slot: int, sign: Sign) -> None:
        """Advance a worker's stage; while its channel is full, wait for room in it."""
        taker = self._dispatch.takers[slot]
        was_full = taker.stage in BRIMFUL
        self._dispatch.note(slot, sign)
        if (taker.stage in BRIMFUL) is not was_full:
            events = select.POLLIN if was_full else select.POLLIN | select.POLLOUT
            self._watch.change(self._channels[slot].ours.fileno(), events)

    def _end(self, slot: int) -> None:
        """Send nothing to a worker any more; what lies in its channel is for others."""
        channel = self._channels.pop(slot)
        self._watch.drop(channel.ours.fileno())
        self._dispatch.leave(slot)
        self._ended.append(channel)

    def _give_up(self, slot: int) -> None:
        """Do so because it has broken its channel; it may live on without."""
        self._house.log.warning(f"worker {slot} has closed its pass channel: it gets no more connections")
        self._end(slot)

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a moment, and say why, now and then."""
        now = self._clock()
        self._short_until = now + PAUSE_S
        self._dispatch.changed = True
        if now - self._warned_at >= WARN_S:
            self._warned_at = now
            remedy = _REMEDY.get(error.errno or 0, "Look what uses the machine's memory.")
            self._house.log.warning(f"cannot pass connections on: {error.strerror}; they wait in the queue. {remedy}")
