"""What the pages point to exists: other pages, headings, files, functions, options; diagrams are the code's."""

from __future__ import annotations

import re

import pytest

import hybrid
from hybrid.cli.bench_options import COMMANDS
from hybrid.cli.ctl_options import GRAMMAR
from hybrid.cli.foreign import FOREIGN, instead
from hybrid.connection.connection import Connection
from hybrid.ground.errors import ExitCode
from hybrid.parent.main import INTENTS
from hybrid.shared.options import all_options
from hybrid.shared.scoreboard import CELLS_PER_LINE, PARENTS_LINES, Cell, Header
from tests.docs import generate
from tests.docs.pages import ROOT, Page, pages
from tests.support.sources import names, sources

PAGES = pages()
MIGRATION = "docs/how-to/move-from-uvicorn-or-gunicorn.md"
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.path for page in PAGES])

_PLACE = re.compile(r"(hybrid/[\w/]+\.py):([A-Za-z_][\w.]*)")
_PATH = re.compile(r"(?:hybrid|tests|examples|docs|\.ci)/[\w./-]*")


def page(path: str) -> Page:
    return next(each for each in PAGES if each.path == path)


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of every table row on a page."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


# ── links and names ──────────────────────────────────────────────────────────────────────────────────────────


@each_page
def test_links_resolve(page: Page) -> None:
    """A relative link leads to a file of the repository, and its anchor to a heading."""
    broken = []
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue  # the network is not ours to test
        path, _, anchor = link.partition("#")
        target = ((ROOT / page.path).parent / path).resolve() if path else ROOT / page.path
        known = Page(str(target.relative_to(ROOT))).anchors if target.suffix == ".md" and target.exists() else {anchor}
        if not target.exists() or (anchor and anchor not in known):
            broken.append(link)
    assert not broken


@each_page
def test_named_code_exists(page: Page) -> None:
    """``hybrid/room/file.py:Class.function`` names something that is there."""
    defined = {source.path: names(source.tree) for source in sources()}
    missing = [
        f"{file}:{name}"
        for code in page.inline_code
        for file, name in _PLACE.findall(code)
        if name not in defined.get(file, set())
    ]
    assert not missing


@each_page
def test_named_files_exist(page: Page) -> None:
    """A path in inline code is a path in the repository."""
    codes = [code.partition(":")[0] for code in page.inline_code]
    assert not [code for code in codes if _PATH.fullmatch(code) and not (ROOT / code).exists()]


@each_page
def test_named_options_exist(page: Page) -> None:
    """``--option`` in inline code is an option of ours."""
    known = {"--help", "--version", "-h", *(flag for each in all_options() for flag in (each.flag, *each.aliases))}
    known |= {each.flag for _help, options in [*COMMANDS.values(), *GRAMMAR.commands.values()] for each in options}
    known |= {each.flag.replace("--", "--no-", 1) for each in all_options() if each.is_switch}
    codes = [code for code in page.inline_code if code.startswith("--")]
    if page.path == MIGRATION:
        codes = [code for code in codes if not instead(code.rstrip("…"))]
    named = {flag for code in codes for flag in re.findall(r"--[a-z-]+", code)}
    assert named <= known


def test_every_foreign_option_is_on_the_page_for_those_who_move() -> None:
    """What the command answers, the page explains; and what the page calls foreign, the command answers."""
    foreign = [row[0] for row in table_rows(page(MIGRATION).text.partition("## What bites")[0])][2:]
    named = {flag.replace("_", "-") for cell in foreign for flag in re.findall(r"`(--?[A-Za-z][\w-]*)…?`", cell)}
    assert {flag.rstrip("-") for flag in FOREIGN} <= {flag.rstrip("-") for flag in named}
    ours = {flag for each in all_options() for flag in (each.flag, *each.aliases)}
    assert not [flag for flag in named - ours if not instead(flag)]


def test_every_page_can_be_reached() -> None:
    """From README.md, by links, one comes to every page of docs/ and examples/."""
    seen: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.endswith(".md"):
            continue
        seen.add(path)
        for link in page(path).links:
            target = ((ROOT / path).parent / link.partition("#")[0]).resolve()
            if target.is_relative_to(ROOT) and target.is_file():
                waiting.append(str(target.relative_to(ROOT)))
    assert {each.path for each in PAGES if not each.path.startswith("hybrid/")} <= seen


# ── what is generated ────────────────────────────────────────────────────────────────────────────────────────


@each_page
def test_diagrams_are_the_tables_of_the_code(page: Page) -> None:
    """A state diagram is what ``make docs`` writes."""
    assert page.text == generate.up_to_date(page.text), "run: make docs"


def test_every_table_of_states_is_drawn() -> None:
    """No state machine is without its picture."""
    drawn = [name for each in PAGES for name in generate.diagrams_in(each.text)]
    assert sorted(drawn) == sorted(generate.DIAGRAMS)


def test_outdated_diagram_would_be_seen() -> None:
    """The check above says no to a picture that lacks a line."""
    stale = "<!-- diagram: worker -->\n```mermaid\nstateDiagram-v2\n```\n<!-- end -->\n"
    fresh = generate.with_diagrams(stale)
    assert fresh != stale and "STARTING --> READY: booted" in fresh
    assert generate.with_diagrams(fresh) == fresh


# ── reference pages are complete ─────────────────────────────────────────────────────────────────────────────


def test_exit_codes_are_all_explained() -> None:
    """The table of exit codes has every code, and no other."""
    rows = table_rows(page("docs/reference/signals-and-exit-codes.md").text)
    shown = {int(row[0].strip("`")) for row in rows if row[0].strip("`").isdigit()}
    assert shown == {int(code) for code in ExitCode}


def test_signals_are_all_explained() -> None:
    """The table of signals has every signal that the parent listens to."""
    text = page("docs/reference/signals-and-exit-codes.md").text
    assert not [number.name for number in INTENTS if f"`{number.name}`" not in text]


def test_scoreboard_cells_are_all_explained() -> None:
    """The tables have every cell, with its number and who writes it."""
    rows = table_rows(page("docs/reference/scoreboard.md").text)
    shown = {(int(row[0]), row[1].strip("`"), row[2]) for row in rows if row[0].isdigit()}
    header = {(number, name, "parent") for name, number in vars(Header).items() if name.isupper()}
    cells = {
        (number, name, "parent" if number // CELLS_PER_LINE in PARENTS_LINES else "worker")
        for name, number in vars(Cell).items()
        if name.isupper()
    }
    assert shown == header | cells


def test_public_names_are_all_explained() -> None:
    """Each name of ``hybrid`` has a heading in the reference."""
    headings = page("docs/reference/python-api.md").anchors | page("docs/reference/connection.md").anchors
    missing = [
        name
        for name in hybrid.__all__
        if not name.startswith("_") and not any(each.startswith(f"hybrid{name.lower()}") for each in headings)
    ]
    assert not missing


def test_connection_is_explained_whole() -> None:
    """Each public name of a connection is in its reference, but for what the event loop and the drain call."""
    not_for_handlers = {
        *("connection_made", "connection_lost", "data_received", "eof_received", "pause_writing", "resume_writing"),
        *("start_draining", "cancel"),
    }
    text = page("docs/reference/connection.md").text
    public = {name for name in dir(Connection) if not name.startswith("_")} - not_for_handlers
    assert not [name for name in sorted(public) if not re.search(rf"`(?:await )?{name}\b", text)]


def test_life_of_a_connection_names_its_hops() -> None:
    """The page that follows a connection names file and function at each hop."""
    hops = [line for line in page("docs/explanation/life-of-a-connection.md").text.splitlines() if _PLACE.search(line)]
    assert len(hops) >= 15
