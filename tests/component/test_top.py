"""``hybrid-ctl top`` with a server that is not there: what is shown, what each key asks for, what a lost server does.

With ``HYBRID_ARTIFACTS`` set to a directory, pictures of it are left there.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("textual")

from textual.pilot import Pilot
from textual.widgets import DataTable, Input, RichLog, Static

from hybrid.cli.ctl_client import Refused
from hybrid.cli.top import TopApp
from hybrid.cli.top_panels import MeterPanel
from hybrid.cli.top_screens import Pages, Question, SizeAsked
from tests.support.eventually import eventually_async
from tests.support.fake_control import BUSY_ROWS, GREW, notices, past, snapshot, worker
from tests.support.fake_link import FakeLink

SIZES = {"80x24": (80, 24), "120x36": (120, 36), "200x50": (200, 50)}
Top = Pilot[None]


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("hybrid.cli.top.RETRY_S", 0.01)
    yield


@asynccontextmanager
async def shown(
    link: FakeLink, size: tuple[int, int] = (120, 36), theme: str = "hybrid-dark", **pool: Any
) -> AsyncIterator[Top]:
    """Show a server with four workers, or what ``pool`` changes of it."""
    app = TopApp(link, 1.0, theme)
    async with app.run_test(size=size) as pilot:
        await eventually_async(lambda: link.is_watched)
        link.show(snapshot(**pool))
        await pilot.pause()
        yield pilot


def text_of(pilot: Top, name: str) -> str:
    """Return what a line of the upper part says."""
    return seen(pilot.app.screen_stack[0].query_one(f"#{name}", Static))


def seen(widget: Static) -> str:
    """Return the text that a widget shows."""
    return "\n".join(widget.render_line(row).text.strip() for row in range(widget.size.height))


def cell(pilot: Top, slot: int, column: str) -> str:
    return str(table(pilot).get_cell(str(slot), column)).strip()


def table(pilot: Top) -> DataTable[object]:
    found: DataTable[object] = pilot.app.screen_stack[0].query_one(DataTable)
    return found


def slots(pilot: Top) -> list[str | None]:
    """Return the slots from the top."""
    return [row.key.value for row in table(pilot).ordered_rows]


def log_of(pilot: Top) -> str:
    return "\n".join(strip.text for strip in pilot.app.screen_stack[0].query_one("#log", RichLog).lines)


def keep(pilot: Top, name: str) -> None:
    """Leave a picture, if somebody wants it."""
    if folder := os.environ.get("HYBRID_ARTIFACTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        pilot.app.save_screenshot(str(Path(folder) / f"{name}.svg"))


# ── what is shown ──


async def test_upper_part_says_who_how_large_and_why() -> None:
    """Target, addresses, pid, generation, uptime, phase; the size, its bounds and the reason."""
    async with shown(FakeLink()) as pilot:
        assert "shop.api:app ASGI application  0.0.0.0:8000" in text_of(pilot, "title")
        assert "pid 40990   generation 3   up 3 h 12 min" in text_of(pilot, "identity")
        assert text_of(pilot, "phase") == "running"
        assert f"4 of 4 workers  within 2..8, 1 on standby  {GREW}" in text_of(pilot, "size-line")
        assert "balance 0.99" in text_of(pilot, "sums") and "replaced 2 memory, 1 died" in text_of(pilot, "sums")


async def test_each_worker_has_a_row() -> None:
    """With its state, its share of the loop, lag, connections, requests a second, memory and age."""
    link = FakeLink()
    async with shown(link) as pilot:
        link.show(snapshot(BUSY_ROWS))
        await pilot.pause()
        assert slots(pilot) == [str(row["slot"]) for row in BUSY_ROWS]
        assert cell(pilot, 0, "loop use").endswith("97%") and cell(pilot, 0, "loop use").startswith("━━━━")
        assert [cell(pilot, slot, "state") for slot in (1, 2, 4, 5, 6)] == [
            "ready", "blocked", "starting", "parked", "draining",
        ]  # fmt: skip
        assert (cell(pilot, 0, "lag"), cell(pilot, 0, "conn"), cell(pilot, 0, "req/s")) == ("210ms", "214", "1 312")
        assert (cell(pilot, 3, "memory"), cell(pilot, 3, "age")) == ("48 MB", "3m")
        assert (cell(pilot, 4, "pid"), cell(pilot, 4, "lag")) == ("–", "–")


async def test_worker_that_leaves_and_one_that_comes_change_the_rows() -> None:
    """The cursor stays on its worker."""
    link = FakeLink()
    async with shown(link) as pilot:
        await pilot.press("down", "down")
        link.show(snapshot([worker(1), worker(2), worker(7)]))
        await pilot.pause()
        assert slots(pilot) == ["1", "2", "7"]
        assert table(pilot).cursor_row == 1


@pytest.mark.parametrize("theme", ["hybrid-dark", "hybrid-light"])
@pytest.mark.parametrize("size", SIZES)
async def test_everything_fits(size: str, theme: str) -> None:
    """No column is cut off, and no line of the upper part is wrapped, at the sizes that terminals have."""
    link = FakeLink()
    link.notices = notices()
    async with shown(link, SIZES[size], theme) as pilot:
        link.show(*past())
        await pilot.pause()
        await pilot.pause()
        columns = table(pilot).ordered_columns
        assert sum(column.get_render_width(table(pilot)) for column in columns) <= SIZES[size][0]
        assert columns[-1].label.plain == "age"
        screen = pilot.app.screen_stack[0]
        meters = [panel.region for panel in screen.query(MeterPanel)]
        assert all(region.x >= 0 and region.right <= SIZES[size][0] and region.height >= 3 for region in meters)
        figures = text_of(pilot, "sums").strip()
        assert len(figures) <= SIZES[size][0] - 2 and re.search(r"CPU wait \d+ ?%   errors/s \d", figures), figures
        assert re.search(r" ([\d.–]+|[\d.]+ ?[km]?[sB%]|[\d.]+ [kMG]B|1 died)$", figures), figures
        assert screen.query_one("#log").region.height >= 5 and table(pilot).region.height >= 6
        keep(pilot, f"top-{size}-{theme}")


async def test_meters_draw_the_past() -> None:
    """The newest figure is at the right; a queue is seen however short it is."""
    link = FakeLink()
    async with shown(link) as pilot:
        link.show(*past())
        await pilot.pause()
        picture = pilot.app.export_screenshot()
        assert "requests/s" in picture and "accept" in picture
        assert "12&#160;/&#160;4&#160;096" in picture


async def test_protocol_server_shows_accepted_connections() -> None:
    """Where there are no requests, the first meter counts connections."""
    async with shown(FakeLink(), kind="protocol") as pilot:
        assert "accepted/s" in pilot.app.export_screenshot().replace("&#160;", " ")


async def test_events_are_told_in_the_lower_pane() -> None:
    """The past ones first, in words."""
    link = FakeLink()
    link.notices = notices()
    async with shown(link) as pilot:
        assert "worker 1 has left, pid 40411 (memory): 212 MB of its own" in log_of(pilot)
        assert "pool grows, 4 → 5 workers (queue): 3.4 loops busy" in log_of(pilot)


async def test_failed_reload_and_reload_under_way_are_seen_in_the_phase() -> None:
    """The corner says what the server does."""
    reload = {"stage": "canary", "source": "control", "failure": ""}
    async with shown(FakeLink(), reload=reload) as pilot:
        assert text_of(pilot, "phase") == "reload: canary"


# ── keys ──


async def test_reload_is_asked_first_and_shows_its_steps() -> None:
    """Nothing is done before the answer is yes."""
    link = FakeLink({"reload": {"text": "generation 4 serves"}})
    link.steps = [{"at": 1.0, "stage": "import", "text": "the mold imports the app"}]
    async with shown(link) as pilot:
        await pilot.press("r")
        assert isinstance(pilot.app.screen, Question)
        keep(pilot, "top-question")
        await pilot.press("n")
        assert not link.asked
        await pilot.press("r", "y")
        await eventually_async(lambda: link.asked == [("reload", {})])
        await eventually_async(lambda: isinstance(pilot.app.screen, Pages) and "imports" in pilot.app.screen.text)
        keep(pilot, "top-reload")
        await pilot.press("escape")
        assert not isinstance(pilot.app.screen, Pages)


async def test_failed_reload_shows_the_boot_log() -> None:
    """With the last line saying what failed."""
    log = "Traceback (most recent call last):\nNameError: name 'shop' is not defined"
    link = FakeLink({"reload": Refused("the app cannot be imported", detail=log)})
    async with shown(link) as pilot:
        await pilot.press("r", "y")
        await eventually_async(lambda: isinstance(pilot.app.screen, Pages) and "NameError" in pilot.app.screen.text)
        await pilot.pause()
        assert "The reload failed" in seen(pilot.app.screen.query_one(".heading", Static))
        keep(pilot, "top-reload-failed")


@pytest.mark.parametrize(("key", "wanted"), [("plus", 5), ("equals_sign", 5), ("minus", 3)])
async def test_plus_and_minus_change_a_fixed_size_at_once(key: str, wanted: int) -> None:
    """By one."""
    link = FakeLink()
    async with shown(link, least=4, most=4) as pilot:
        await pilot.press(key)
        await eventually_async(lambda: link.asked == [("scale", {"workers": wanted})])


async def test_plus_asks_before_it_turns_the_sizing_off() -> None:
    """A fixed number in place of bounds is a choice, not a slip of the finger."""
    link = FakeLink()
    async with shown(link) as pilot:
        await pilot.press("plus")
        assert isinstance(pilot.app.screen, Question) and not link.asked
        await pilot.press("y")
        await eventually_async(lambda: link.asked == [("scale", {"workers": 5})])


async def test_one_worker_is_the_least() -> None:
    """Minus asks for nothing there."""
    link = FakeLink()
    async with shown(link, target=1, least=1, most=1) as pilot:
        await pilot.press("minus")
        await pilot.pause()
        assert not link.asked


async def test_bounds_can_be_typed() -> None:
    """What is no size is refused in the window, which stays."""
    link = FakeLink()
    async with shown(link) as pilot:
        await pilot.press("n")
        assert isinstance(pilot.app.screen, SizeAsked)
        await pilot.press(*"9..3", "enter")
        assert "the first number is the greater one" in seen(pilot.app.screen.query_one("#size-note", Static))
        pilot.app.screen.query_one(Input).value = ""
        await pilot.press(*"3..9", "enter")
        await eventually_async(lambda: link.asked == [("scale", {"least": 3, "most": 9})])


async def test_p_parks_a_worker_and_lets_a_parked_one_accept_again() -> None:
    """The one under the cursor."""
    link = FakeLink()
    async with shown(link) as pilot:
        link.show(snapshot([worker(0), worker(1, life="parked")]))
        await pilot.pause()
        await pilot.press("p", "down", "p")
        await eventually_async(lambda: link.asked == [("park", {"slot": 0}), ("unpark", {"slot": 1})])


async def test_drain_is_asked_first() -> None:
    """And says how many connections it is about."""
    link = FakeLink()
    async with shown(link) as pilot:
        await pilot.press("down", "d")
        assert "32 connections" in pilot.app.export_screenshot().replace("&#160;", " ")
        await pilot.press("y")
        await eventually_async(lambda: link.asked == [("drain", {"slot": 1})])


async def test_stacks_are_shown_in_a_window() -> None:
    """Those of the worker under the cursor."""
    link = FakeLink({"dump": {"slot": 0, "stacks": "Thread main:\n  shop/api.py:12 in buy\n    time.sleep(9)"}})
    async with shown(link) as pilot:
        await pilot.press("D")
        await eventually_async(lambda: isinstance(pilot.app.screen, Pages) and "in buy" in pilot.app.screen.text)
        assert link.asked == [("dump", {"slot": 0})]
        await pilot.pause()
        keep(pilot, "top-stacks")


async def test_refusal_of_the_server_is_told() -> None:
    """In its own words."""
    link = FakeLink({"park": Refused("worker 0 is the last that accepts")})
    async with shown(link) as pilot:
        await pilot.press("p")
        await eventually_async(lambda: bool(pilot.app._notifications))
        assert [each.message for each in pilot.app._notifications] == ["worker 0 is the last that accepts"]


async def test_s_sorts_by_the_next_column() -> None:
    """The greatest first, what is unknown last; the head says by what."""
    link = FakeLink()
    async with shown(link) as pilot:
        link.show(snapshot(BUSY_ROWS))
        await pilot.press("s", "s")
        assert slots(pilot)[:3] == ["0", "1", "3"] and slots(pilot)[-2:] == ["2", "4"]
        assert "underline" in str(next(c for c in table(pilot).ordered_columns if c.key == "loop use").label.spans)


async def test_t_goes_from_dark_to_light() -> None:
    """And back."""
    async with shown(FakeLink()) as pilot:
        await pilot.press("t")
        assert pilot.app.theme == "hybrid-light"
        await pilot.press("t")
        assert pilot.app.theme == "hybrid-dark"
        assert slots(pilot) == ["0", "1", "2", "3"]


async def test_keys_do_nothing_before_there_is_a_server() -> None:
    """Nor does anything fail."""
    app = TopApp(FakeLink())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("p", "d", "D", "s", "plus", "minus", "n", "t")
        assert len(pilot.app.screen_stack) == 1


# ── a server that goes away ──


async def test_lost_server_is_said_and_found_again() -> None:
    """What was seen last stays, pale; with the next snapshot all is as before."""
    link = FakeLink()
    async with shown(link) as pilot:
        link.go_down()
        await eventually_async(lambda: "no answer" in text_of(pilot, "phase"))
        await eventually_async(lambda: "cannot connect" in text_of(pilot, "sums"))
        await pilot.pause()
        keep(pilot, "top-lost")
        assert slots(pilot) == ["0", "1", "2", "3"]
        link.come_up()
        await eventually_async(lambda: link.is_watched)
        link.show(snapshot([worker(0)], generation=1))
        await pilot.pause()
        assert text_of(pilot, "phase") == "running" and slots(pilot) == ["0"]
        assert not pilot.app.screen_stack[0].has_class("lost")


async def test_server_that_is_lost_while_a_window_is_open_does_no_harm() -> None:
    """The view below takes note."""
    link = FakeLink()
    async with shown(link) as pilot:
        await pilot.press("r")
        link.go_down()
        await eventually_async(lambda: "no answer" in text_of(pilot, "phase"))
        await pilot.press("escape", "q")


async def test_watch_is_asked_at_the_wished_pace() -> None:
    """``--every``."""
    link = FakeLink()
    app = TopApp(link, 0.25)
    async with app.run_test() as _pilot:
        await eventually_async(lambda: link.is_watched)
        assert link.every_s == 0.25
