"""The pages about ``hybrid-ctl``: tables from the declarations, commands that parse."""

from __future__ import annotations

import re
import shlex

import pytest

from hybrid.cli.command_line import Asked
from hybrid.cli.ctl_options import parse
from hybrid.cli.top import TopApp
from hybrid.ground.errors import UsageError
from tests.docs import ctl_tables
from tests.docs.pages import Page, pages

REFERENCE = Page("docs/reference/hybrid-ctl.md")
_CALL = re.compile(r"(?:^|&& |\$\()(?:\S*/)?hybrid-ctl(?P<arguments> [^|&;>#)]*)?")

CALLS = [
    (f"{block.place}#{number}", match["arguments"] or "")
    for page in pages()
    for block in page.blocks
    if block.language in ("sh", "console", "ini")
    for number, line in enumerate(block.text.replace("\\\n", " ").splitlines())
    for match in _CALL.finditer(line.strip().removeprefix("$ "))
]


def test_tables_are_those_of_the_code() -> None:
    """No row is edited by hand, and no table is missing."""
    assert ctl_tables.with_tables(REFERENCE.text) == REFERENCE.text, "run: make docs"
    assert ctl_tables.sections_in(REFERENCE.text) == ["commands", "own-options", "common-options", "exits"]


def test_stale_table_would_be_seen() -> None:
    """The check above says no to a row that was changed."""
    stale = REFERENCE.text.replace("| `4` | RELOAD_FAILED |", "| `5` | RELOAD_FAILED |")
    assert stale != REFERENCE.text and ctl_tables.with_tables(stale) == REFERENCE.text


@pytest.mark.parametrize(("place", "arguments"), CALLS, ids=[place for place, _ in CALLS])
def test_shown_command_is_accepted(place: str, arguments: str) -> None:
    """Every ``hybrid-ctl`` line of the documentation parses."""
    try:
        parse(shlex.split(arguments.replace("$MAINPID", "7"), comments=True))
    except Asked:
        pass


def test_wrong_command_would_be_seen() -> None:
    """The check above says no to what does not exist."""
    with pytest.raises(UsageError):
        parse(["relaod"])
    assert len(CALLS) >= 10


def test_every_key_of_top_is_on_the_page() -> None:
    """And no other."""
    section = REFERENCE.text.partition("## hybrid-ctl top\n")[2]
    shown = {key for row in re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE) for key in re.findall(r"`(.)`", row)}
    names = {"plus": "+", "minus": "-"}
    keys = {names.get(key, key) for binding in TopApp.BINDINGS for key in binding.key.split(",")}  # type: ignore[union-attr]  # all are Bindings
    assert shown - {"↑", "↓"} == keys - {"equals_sign"}
