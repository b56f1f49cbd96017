"""What a table of disagreements between parsers is made of, and how it is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

BOTH = "(llhttp|h11) accepts: "


@dataclass(frozen=True)
class Disagreement:
    """Why a difference is meant. ``text``: what the test's ``disagreement`` says, from its beginning, as an expression.

    ``shown_by``: what the bytes must look like besides.
    """

    text: str
    reason: str
    shown_by: bytes = b""


def classes(table: Mapping[str, Disagreement], text: str, data: bytes) -> list[str]:
    """Return the classes of ``table`` that cover a disagreement."""
    return [
        name
        for name, known in table.items()
        if re.match(known.text, text, re.DOTALL) and re.search(known.shown_by, data)
    ]
