"""Lines of code that a stack is made of, and which of them is to blame: the user's, not the library's it calls.

``time.sleep`` has no frame of its own, but a blocking query does: the innermost frame is then deep in the standard
library or in a driver, and what one looks for is the line that called it.

Source: CPython's faulthandler, whose lines read ``File "…", line 7 in function``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_LINE = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d{1,9}) in (?P<function>[^\n]*)$')
_HEADS = ("Current thread 0x", "Thread 0x")
_ALONE = "Stack (most recent"
_TOO_MANY = "..."
_PART = re.compile(r"\n\n|\n(?=Stack \(most recent)")


@dataclass(frozen=True, slots=True)
class Place:
    """A line that was being run, or waited in."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


def to_blame(places: Sequence[Place]) -> Place | None:
    """Return the line that a reader looks for, of a stack that begins with the innermost frame; None: an empty stack.

    The innermost line of the user's own; else one of an installed package; else whatever is innermost.
    """
    return min(places, key=_distance, default=None)


def _distance(place: Place) -> int:
    """Return how far from the user's code a place is; the innermost of the nearest ones is to blame."""
    file = place.file
    if file.startswith(("<", _OURS)):
        return 2
    if any(part in file for part in _INSTALLED):
        return 1
    return 2 if file.startswith(_STANDARD) else 0


def read_stacks(text: str) -> tuple[list[Place], str]:
    """Return the stack of the main thread in a faulthandler dump, the innermost frame first; and the dump.

    What is returned begins with that thread. faulthandler tells of the newest first, so it is the last one; where
    there are too many it is missing, unless it was asked alone. Takes whatever it is given: what fits nothing is
    passed over.
    """
    parts = _PART.split(text.strip("\n"))
    main = next((part for part in parts if part.startswith(_ALONE)), "")
    if not main and _TOO_MANY not in parts:
        main = next((part for part in reversed(parts) if part.startswith(_HEADS)), "")
    matches = [_LINE.match(line) for line in main.split("\n")]
    found = [Place(each["file"], int(each["line"]), each["function"]) for each in matches if each]
    return found, "\n".join(sorted(parts, key=lambda part: part is not main))
