"""The pages about ``hybrid-bench``: every option with its default, commands that parse, figures that are kept."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hybrid.bench.scenarios import SCENARIOS
from hybrid.cli.bench_options import COMMANDS, parse
from hybrid.cli.command_line import Asked
from hybrid.cli.subcommands import CommandOption
from hybrid.ground.errors import UsageError
from tests.docs import accepting
from tests.docs.pages import ROOT, Page, pages

REFERENCE = Page("docs/reference/hybrid-bench.md")
_CALL = re.compile(r"^(?:\$ )?(?:\S*/)?hybrid-bench(?P<arguments> .*)?$")
_CELL = re.compile(r"(?<!\\)\|")

CALLS = [
    (f"{block.place}#{number}", match["arguments"] or "")
    for page in pages()
    for block in page.blocks
    if block.language in ("sh", "console")
    for number, line in enumerate(block.text.replace("\\\n", " ").splitlines())
    if (match := _CALL.match(line.strip()))
]


def rows_of(command: str) -> dict[str, list[str]]:
    """Return the reference's table of a command's options, by flag."""
    section = REFERENCE.text.partition(f"## hybrid-bench {command}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in _CELL.split(line)[1:-1]] for line in section.splitlines() if line[:2] == "| "]
    return {row[0].strip("`").split()[0]: row for row in rows if row[0].startswith("`-") or row[0] == "`TARGET`"}


@pytest.mark.parametrize("command", COMMANDS)
def test_reference_has_every_option_with_its_default(command: str) -> None:
    """And no other; with the same values in the same order."""
    rows = rows_of(command)
    options: dict[str, CommandOption] = {option.flag: option for option in COMMANDS[command][1]}
    assert list(rows) == list(options)
    for flag, option in options.items():
        usage, default = rows[flag][0].strip("`").replace("\\|", "|"), rows[flag][1]
        assert usage == f"{flag} {option.metavar}".strip() or flag == "TARGET"
        shown = "" if option.is_switch else option.default
        assert default == (f"`{shown}`" if shown else "all that fit" if flag == "--models" else ""), flag


def test_reference_has_every_scenario() -> None:
    """In order."""
    section = REFERENCE.text.partition("### Scenarios\n")[2].partition("\n#")[0]
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == list(SCENARIOS)


@pytest.mark.parametrize(("place", "arguments"), CALLS, ids=[place for place, _ in CALLS])
def test_shown_command_is_accepted(place: str, arguments: str) -> None:
    """Every ``hybrid-bench`` line of the documentation parses."""
    try:
        parse(shlex.split(arguments, comments=True))
    except Asked:
        pass


def test_wrong_command_would_be_seen() -> None:
    """The check above says no to an option that does not exist."""
    with pytest.raises(UsageError):
        parse(shlex.split("accept --wokers 2"))
    assert len(CALLS) >= 6


def test_accepting_page_is_what_the_kept_figures_give() -> None:
    """No table is edited by hand."""
    text = accepting.PAGE.read_text(encoding="utf-8")
    assert text == accepting.with_sections(text, accepting.kept()), "run: python -m tests.docs.accepting --keep"


def test_accepting_page_has_every_part() -> None:
    """Each table, and each picture as a file that is not too big for a repository."""
    text = accepting.PAGE.read_text(encoding="utf-8")
    assert accepting.sections_in(text) == list(accepting.SECTIONS)
    for file in accepting.PICTURES.values():
        assert f"]({file})" in text
        assert 1000 < Path(accepting.PAGE.with_name(file)).stat().st_size < 60_000


def test_kept_figures_are_of_all_designs() -> None:
    """None was skipped when the page was made, and the load generator was not what was measured."""
    whole = accepting.kept()
    assert not whole.problems
    assert not [line for line in whole.bottlenecks if "ports" in line]


def test_stale_table_would_be_seen() -> None:
    """The check above says no to a figure that was changed."""
    text = accepting.PAGE.read_text(encoding="utf-8")
    stale = re.sub(r"\| 2 \| shared \| loop \| [\d.]+", "| 2 | shared | loop | 1.0", text)
    assert stale != text and accepting.with_sections(stale, accepting.kept()) == text


def test_makefile_has_the_command() -> None:
    """``make accepting`` is what the page promises."""
    assert "\naccepting: " in (ROOT / "Makefile").read_text(encoding="utf-8")
