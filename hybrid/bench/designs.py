"""The designs that are compared: the textbook's nine with blocking handlers, and the same ideas around an event loop.

Source: W. R. Stevens, UNIX Network Programming, vol. 1, 2nd ed., ch. 27 (3rd ed., ch. 30).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hybrid.shared.models import MODELS

LOOP = "loop"
BLOCKING = "blocking"
ITERATIVE = "iterative"
ONE_LOOP = "one-loop"
NAMES = (*MODELS, ITERATIVE, ONE_LOOP)
"""What ``--models`` takes."""


@dataclass(frozen=True, slots=True)
class Design:
    """One row of the comparison: a way of accepting, for one kind of handler.

    ``number``: the textbook's, or empty. ``threads``: per worker, 0 where the number says nothing. ``workers``: 0 for
    as many as are asked for.
    """

    name: str
    number: str
    accept: str
    kind: str
    term: str
    threads: int = 0
    workers: int = 0

    @property
    def is_baseline(self) -> bool:
        """Whether it has nobody to share the accepting with, so that the others are compared with it."""
        return self.workers == 1

    @property
    def key(self) -> str:
        """What tells it from every other row."""
        return f"{self.kind} {self.shown}"

    @property
    def shown(self) -> str:
        """Its name in tables and sentences: with the number of threads, where there is a number."""
        if not self.threads or self.name == ITERATIVE:
            return self.name
        return f"{self.name}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def loses_count_of_switches(self) -> bool:
        """Whether it starts a thread or a process for each connection, whose context switches nobody is told of."""
        return self.accept in ("thread", "fork")

    def slots(self, workers: int) -> int:
        """Return how many connections can be served at a time; 0: as many as come."""
        return (self.workers or workers) * self.threads if self.kind == BLOCKING else 0


_PREFORKED = (("2", "threads"), ("3", "locked=fcntl"), ("4", "locked=robust"), ("5", "passing"), ("", "reuseport"))
_PRETHREADED = (("", "threads"), ("7", "threads=mutex"), ("8", "threads=main"))
_LOOP = ("shared=plain", "shared", "locked=fcntl", "locked=robust", "passing", "reuseport")
REFERENCE = {LOOP: "shared=plain", BLOCKING: "threads"}
"""By kind, the first row of this name is what the others' ratios are formed with: prefork, no locking, no more."""


def designs(kinds: Iterable[str], threads: int) -> list[Design]:
    """Return all rows for these kinds of handler, in the textbook's order. ``threads``: of the prethreaded ones."""
    rows: list[Design] = []
    if BLOCKING in kinds:
        rows.append(Design(ITERATIVE, "0", "threads", BLOCKING, "iterative server", threads=1, workers=1))
        rows.append(Design("fork", "1", "fork", BLOCKING, MODELS["fork"].term))
        rows += [Design(name, number, name, BLOCKING, _preforked_term(name), threads=1) for number, name in _PREFORKED]
        rows.append(Design("thread", "6", "thread", BLOCKING, MODELS["thread"].term))
        rows += [
            Design(name, number, name, BLOCKING, MODELS[name].term, threads=threads)
            for number, name in _PRETHREADED
            if name != "threads" or threads > 1
        ]
    if LOOP in kinds:
        rows.append(Design(ONE_LOOP, "0", "shared=plain", LOOP, "one process, one event loop", workers=1))
        rows += [Design(name, _LOOP_NUMBERS.get(name, ""), name, LOOP, MODELS[name].term) for name in _LOOP]
    return rows


_LOOP_NUMBERS = {"shared=plain": "2", "shared": "2", "locked=fcntl": "3", "locked=robust": "4", "passing": "5"}


def _preforked_term(name: str) -> str:
    """Return the textbook's term; with one thread per worker, "each thread calls accept" is plain preforking."""
    return MODELS["shared"].term if name == "threads" else MODELS[name].term


def chosen(rows: Sequence[Design], models: Sequence[str]) -> list[Design]:
    """Return the rows that ``models`` names, and the baseline of each kind that has such a row; all, if it is empty."""
    if not models:
        return list(rows)
    kinds = {row.kind for row in rows if row.name in models}
    return [row for row in rows if row.name in models or (row.is_baseline and row.kind in kinds)]


def unfit(rows: Sequence[Design], models: Sequence[str]) -> list[str]:
    """Return the names in ``models`` (empty: all) that no row has: they cannot serve this kind of handler."""
    there = {row.name for row in rows}
    return [name for name in models or MODELS if name not in there]
