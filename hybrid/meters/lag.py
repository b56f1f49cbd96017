"""How late a timer comes: what everybody in the same loop waits when something holds it up."""

from __future__ import annotations

HALF_NS = 10_000_000_000
"""The highest lateness is that of the running half and of the one before it: of the last 10 to 20 s."""


class Lag:
    """The lateness of one timer that is set again and again.

    Two figures, because nobody knows how often a reader looks. ``max_ns`` is exact for one that looks at least every
    10 s. ``total_ns`` only grows, so for one that looks seldom, the difference of two readings is at least the peak in
    between: it misses none.

    A block that is shorter than the timer's period is seen if the timer falls due in it.
    """

    def __init__(self) -> None:
        self.total_ns = 0
        """Lateness of all ticks, added up."""
        self._due_ns: int | None = None
        self._half = 0
        self._highest = [0, 0]

    @property
    def max_ns(self) -> int:
        """The highest lateness of the last 10 to 20 s."""
        return max(self._highest)

    def expect(self, due_ns: int) -> None:
        """Note when the timer is due that was just set."""
        self._due_ns = due_ns

    def tick(self, now_ns: int) -> None:
        """Note that the timer has come. Without :meth:`expect` before it only the window moves on."""
        half = now_ns // HALF_NS
        if half != self._half:
            self._highest = [0, self._highest[0] if half == self._half + 1 else 0]
            self._half = half
        if self._due_ns is None:
            return
        late_ns = max(0, now_ns - self._due_ns)
        self._due_ns = None
        self.total_ns += late_ns
        self._highest[0] = max(self._highest[0], late_ns)
