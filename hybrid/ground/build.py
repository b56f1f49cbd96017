"""Which of its two builds runs: the same source, compiled by mypyc or as it is.

Why both: docs/decisions/0015-compiled-by-mypyc.md.
"""

from __future__ import annotations

from importlib.machinery import SOURCE_SUFFIXES
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr  # what the compiler looks for; nothing needs it to run
else:

    def mypyc_attr(**_):
        """Return a decorator that leaves a class as it is: for the compiler only."""
        return lambda decorated: decorated


def kind() -> Literal["compiled", "pure"]:
    """Return how the hot path runs here. Runs in: any process. Nothing of it is imported for that."""
    spec = find_spec("hybrid.http.head")
    origin = "" if spec is None else spec.origin or ""
    return "pure" if origin.endswith(tuple(SOURCE_SUFFIXES)) else "compiled"
