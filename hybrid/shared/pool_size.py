"""How many workers: a number, ``auto``, or a range within which the pool sizes itself. The grammar of ``--workers``.

::

    4        always four               auto     as many as the machine allows
    2..8     from two to eight         2..      from two to what auto means
    auto..   from one to what auto     auto..8  from one to eight
             means, and one more

The one more is for the worker that waits while the others compute: a loop that holds a CPU gains nothing by more of
them than there are CPUs, and loses little by one.
"""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.ground.errors import UsageError

AUTO = "auto"
BETWEEN = ".."


@dataclass(frozen=True, slots=True)
class PoolSize:
    """What was asked for. None: what the machine says, which is known once the app is imported."""

    least: int | None
    most: int | None
    is_range: bool = False

    def bounds(self, auto: int, limit: int) -> tuple[int, int]:
        """Return the fewest and the most workers, none above ``limit``. ``auto``: what the machine allows."""
        if not self.is_range:
            count = min(limit, auto if self.least is None else self.least)
            return count, count
        least = min(limit, 1 if self.least is None else self.least)
        most = auto + (self.least is None) if self.most is None else self.most
        return least, max(least, min(limit, most))

    @property
    def asks_the_machine(self) -> bool:
        """Whether it takes what ``auto`` means to know the bounds."""
        return self.most is None


def parse(workers: int | str) -> PoolSize:
    """Return what the checked value of ``--workers`` says. Raises: ValueError: it was not checked."""
    text = str(workers)
    if BETWEEN not in text:
        count = None if text == AUTO else int(text)
        return PoolSize(count, count)
    least, _between, most = text.partition(BETWEEN)
    return PoolSize(None if least == AUTO else int(least), int(most) if most else None, is_range=True)


def is_range(workers: int | str) -> bool:
    """Return whether the value of ``--workers`` is a range."""
    return BETWEEN in str(workers)


def check_size(workers: int | str, standby: int, accept: str) -> None:
    """Raises: UsageError: there is nothing that could be sized, or nobody who could stand by."""
    if workers == 0 and standby:
        raise UsageError(
            f"cannot use --standby {standby} with --workers 0: this process serves alone, and nobody can stand by. "
            "Use --workers 1 or more, or leave out --standby."
        )
    if accept == "fork" and is_range(workers):
        raise UsageError(
            f"cannot use --workers {workers} with --accept fork: it starts a process for each connection, and a worker "
            "only forks them, so more workers would carry no more. Give a number of workers, or leave out --accept."
        )
