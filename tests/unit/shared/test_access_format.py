"""The grammar of ``--access-log-format``."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hybrid.ground.errors import UsageError
from hybrid.shared.access_format import COMBINED_FORMAT, KNOWN, OWN_ATOMS, PLAIN_ATOMS, Atom, Source, parse
from hybrid.shared.keywords import settings_from_keywords


def test_combined_is_apaches() -> None:
    """``combined`` is a name for a format."""
    assert parse("combined") == parse(COMBINED_FORMAT)


def test_literal_text_and_atoms_come_in_order() -> None:
    """Also a percent sign, and text at both ends."""
    assert parse('100%% "%(h)s" (%%(s)s%({X-A}i)s)') == (
        *('100% "', Atom(Source.PLAIN, "h"), '" (%(s)s', Atom(Source.REQUEST, "x-a"), ")"),
    )


@pytest.mark.parametrize(
    ("text", "atom"),
    [
        *((f"%({name})s", Atom(Source.PLAIN, name)) for name in PLAIN_ATOMS),
        *((f"%({{{name}}}x)s", Atom(Source.OWN, name)) for name in OWN_ATOMS),
        ("%({Cookie}i)s", Atom(Source.REQUEST, "cookie")),
        ("%({Content-Type}o)s", Atom(Source.RESPONSE, "content-type")),
        ("%({HOME}e)s", Atom(Source.ENVIRONMENT, "HOME")),
    ],
)
def test_atom_is_known(text: str, atom: Atom) -> None:
    """Header names have no case; variables have."""
    assert parse(text) == (atom,)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("%(h)s %(z)s", "%(z)s is no atom"),
        ("%(i)s", "%(i)s is no atom"),
        ("%({a}h)s", "%({a}h)s is no atom"),
        ("%({none}x)s", "%({none}x)s is no atom"),
        ("%({}i)s", "%({}i)s is no atom"),
        ("%(h)d", "%(h)d is no atom"),
        ("%h %l", "%h %l is no atom"),
        ("100%", "% is no atom"),
        ("", "neither combined nor json"),
        ("common", "neither combined nor json"),
        ("100%%", "no atom is in it"),
        ("%(h)s\n", "control character"),
        ("%(h)s\x1b[31m", "control character"),
        ("%(h)s\udcff", "control character"),
    ],
)
def test_what_is_no_format_is_refused(text: str, named: str) -> None:
    """The error says what is wrong, and which atoms there are; it has the shape of every option's error."""
    with pytest.raises(ValueError) as refused:
        parse(text)
    message = str(refused.value)
    assert named in message and message.endswith(".")
    assert "control" in named or KNOWN in message


def test_unknown_atom_is_a_usage_error() -> None:
    """It names the option, the atom, and what may be written instead."""
    with pytest.raises(UsageError, match=r"cannot use '%\(z\)s' for access_log_format=: %\(z\)s is no atom\. Give one"):
        settings_from_keywords("a:b", {"access_log_format": "%(z)s"})


@given(st.text(alphabet='%(){}shiox \t"\\é\n', max_size=30))
@example("%%%(h)s%%")
def test_any_text_is_a_format_or_refused(text: str) -> None:
    """Never another error; and what was read can be written again."""
    try:
        pieces = parse(text)
    except ValueError:
        return
    written = "".join(
        piece.replace("%", "%%")
        if isinstance(piece, str)
        else f"%({piece.name})s"
        if piece.source is Source.PLAIN
        else f"%({{{piece.name}}}{piece.source.value})s"
        for piece in pieces
    )
    assert parse(written) == pieces
