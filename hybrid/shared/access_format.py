"""The grammar of ``--access-log-format``: literal text and atoms, as gunicorn writes them.

``%(h)s`` is a plain atom; ``%({name}i)s`` has an argument, and the letter behind it says what it names. ``%%`` is a
percent sign. What an atom stands for is known to :mod:`hybrid.connection.access_line`; here is only what may be asked.

Source: gunicorn's setting ``access_log_format``; Apache's ``LogFormat`` for the combined one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

COMBINED = "combined"
JSON = "json"
COMBINED_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
"""What ``combined`` is short for."""


class Source(Enum):
    """Where an atom's value is from: the letter in front of ``)s``."""

    PLAIN = ""
    """The atom is the letter."""
    REQUEST = "i"
    """A header of the request."""
    RESPONSE = "o"
    """A header of the response."""
    ENVIRONMENT = "e"
    """A variable of the worker's environment."""
    OWN = "x"
    """What gunicorn has no atom for: :data:`OWN_ATOMS`."""


PLAIN_ATOMS = ("h", "l", "u", "t", "r", "m", "U", "q", "H", "s", "B", "b", "f", "a", "T", "D", "M", "L", "p")
OWN_ATOMS = ("request_id", "scheme", "host", "worker", "time")
KNOWN = ", ".join(
    (
        *(f"%({name})s" for name in PLAIN_ATOMS),
        "%({header}i)s, %({header}o)s, %({variable}e)s",
        *(f"%({{{name}}}x)s" for name in OWN_ATOMS),
    )
)
"""Every atom, as an error message lists them."""

_ATOM = re.compile(r"%(?:(?P<percent>%)|\((?:\{(?P<argument>[^{}]+)\})?(?P<letter>[A-Za-z])\)s)")


@dataclass(frozen=True, slots=True)
class Atom:
    """A place in a line. ``name``: the letter, or the argument; a header's is in lower case."""

    source: Source
    name: str


def parse(text: str) -> tuple[str | Atom, ...]:
    """Return the literal text and the atoms of a format, in order. ``combined`` is one; ``json`` is none.

    Raises: ValueError: ``cause. Remedy.``, the first thing in it that is no format.
    """
    if text == COMBINED:
        text = COMBINED_FORMAT
    if not all(character.isprintable() or character == "\t" for character in text):
        raise ValueError("it holds a control character, which would break the line. Remove it; a tab is fine.")
    pieces: list[str | Atom] = []
    literal, at = "", 0
    for percent in re.finditer("%", text):
        if percent.start() < at:
            continue  # the second one of %%
        found = _ATOM.match(text, percent.start())
        if found is None:
            raise ValueError(_unknown(text[percent.start() :]))
        literal += text[at : found.start()]
        at = found.end()
        if found["percent"]:
            literal += "%"
            continue
        if literal:
            pieces.append(literal)
        literal = ""
        pieces.append(_atom(found))
    if not any(isinstance(piece, Atom) for piece in pieces):
        raise ValueError(f"it is neither {COMBINED} nor {JSON}, and no atom is in it. Atoms: {KNOWN}.")
    return (*pieces, literal + text[at:]) if literal + text[at:] else tuple(pieces)


def _atom(found: re.Match[str]) -> Atom:
    argument, letter = found["argument"], found["letter"]
    if argument is None and letter in PLAIN_ATOMS:
        return Atom(Source.PLAIN, letter)
    if argument is not None and letter in "ioex":
        source = Source(letter)
        if source is not Source.OWN or argument in OWN_ATOMS:
            return Atom(source, argument.lower() if source in (Source.REQUEST, Source.RESPONSE) else argument)
    raise ValueError(_unknown(found[0]))


def _unknown(text: str) -> str:
    """Return what to say of the text from a percent sign on."""
    end = text.find(")")
    what = text[: end + 2] if end >= 0 else text[:20]
    return f"{what} is no atom. Give one of {KNOWN}; or %% for a percent sign."
