"""The status page in a browser: what it shows of pools that do not exist, large and small, and of a server that goes.

Pictures are left where ``HYBRID_ARTIFACTS`` says.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.control.broadcast import Broadcast
from hybrid.control.past import Past
from hybrid.control.sampler import SECOND, Sampler
from hybrid.control.status_page import routes
from hybrid.control.web import Opened, open_site
from hybrid.ground.states import Life, Readiness
from hybrid.shared.notices import Logged, ReloadEnded, Resized, WorkerExited
from hybrid.shared.scoreboard import Cell
from tests.support.artifacts import artifacts
from tests.support.browser import Page, browser
from tests.support.eventually import eventually
from tests.support.fake_pool import FakePool

HOSTILE = '</h1><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
WIDE, PHONE, NARROW = (1440, 900), (390, 844), (320, 640)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all. Skips: Chromium is not installed."""
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


class Stage:
    """A fake pool behind the real page, on a port that stays the same when the site is closed and opened again."""

    def __init__(self, pool: FakePool) -> None:
        self.pool = pool
        self.port = 0
        sampler = Sampler(pool.scoreboard, pool.clock_ns, memory=lambda pid: 50 << 20)
        self._past = Past(pool, sampler)
        self._past.look()
        self._routes = routes(pool, Broadcast(pool, sampler), self._past)
        self._site: Opened | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def open(self) -> None:
        """Listen."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self.port = listener.getsockname()[1]
        self._site = await open_site(self._routes, listener)

    async def close(self) -> None:
        """Be gone. May be called twice."""
        if self._site is not None:
            await self._site.close()
            self._site = None

    async def live(self) -> None:
        """Let the workers work, for ever."""
        while True:
            self.pool.now_ns += SECOND // 4
            for row in self.pool.scoreboard.rows():
                if row[Cell.LIFE] == Life.READY:
                    held = 10 + row.slot % 5
                    self.pool.work(row.slot, requests=25, accepted=2, busy_ns=SECOND // 10, active=held)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def staged(workers: int, **pool: object) -> AsyncIterator[Stage]:
    """Show a pool for the length of a block."""
    stage = Stage(FakePool(workers, **pool))
    await stage.open()
    living = asyncio.create_task(stage.live())
    try:
        yield stage
    finally:
        living.cancel()
        await stage.close()
        stage.pool.close()


async def see(check: Callable[[], object]) -> None:
    """Wait until ``check`` of the browser is true; the loop goes on."""
    await asyncio.to_thread(eventually, check)


def opened(page: Page, url: str, size: tuple[int, int], scheme: str = "light") -> None:
    """Show the page, and wait until it shows a rate."""
    page.open("about:blank")  # a page that is open still has to say that its server is gone
    eventually(lambda: page.value("document.URL") == "about:blank")
    page.said.clear()
    page.asked.clear()
    page.look(*size, scheme)
    page.open(url)
    eventually(lambda: page.text("#seen") == "live")
    eventually(lambda: any(c.isdigit() for c in page.text("#f-rate .big")))


def quiet(page: Page, url: str) -> None:
    """Assert that nothing went wrong, no other host was asked, nothing is wider than the window."""
    assert page.said == []
    assert all(asked.startswith((url, "data:")) for asked in page.asked), page.asked
    assert page.value("document.documentElement.scrollWidth <= innerWidth"), page.value(WIDEST)


WIDEST = "[...document.querySelectorAll('*')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.id || e.className || e.tagName).slice(0, 9).join(' ')"  # noqa: E501  # a program


@pytest.mark.parametrize("workers", [1, 3, 64])
async def test_every_worker_has_a_row(page: Page, tmp_path: Path, workers: int) -> None:
    """One or 64; wide and narrow, light and dark: nothing overlaps the edge, nothing is said in the console."""
    async with staged(workers) as stage:
        for size, scheme in ((WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (NARROW, "dark")):
            await asyncio.to_thread(opened, page, stage.url, size, scheme)
            await see(lambda: page.value("document.querySelectorAll('#rows tr').length") == workers)
            await see(lambda: page.text("#ready") == str(workers))
            await see(lambda: page.text("#rows .c-use .n") not in ("", "–"))
            name = f"page-{workers}-{size[0]}-{scheme}.png"
            await asyncio.to_thread(page.save, artifacts(tmp_path) / name)
            await asyncio.to_thread(quiet, page, stage.url)


async def test_scheme_of_the_system_is_followed(page: Page) -> None:
    """Dark where the system is dark, also when that changes while the page is open."""
    async with staged(2) as stage:
        await asyncio.to_thread(opened, page, stage.url, WIDE, "light")
        light = await asyncio.to_thread(page.value, GROUND)
        await asyncio.to_thread(page.look, *WIDE, "dark")
        await see(lambda: page.value(GROUND) != light)


GROUND = "getComputedStyle(document.body).backgroundColor"


async def test_hostile_names_are_text(page: Page) -> None:
    """An app's name, an address, a log line, a reason: shown as they are, and no script of theirs runs."""
    async with staged(1, app=HOSTILE, kind=HOSTILE, addresses=(HOSTILE,), size_reason=HOSTILE) as stage:
        stage.pool.notice(Logged(level="error", who=HOSTILE, text=HOSTILE, detail=HOSTILE, at=1.0, number=1))
        inputs = {HOSTILE: 1.0}
        stage.pool.notice(Resized(before=1, target=2, reason=HOSTILE, inputs=inputs, at=2.0, number=2))
        await asyncio.to_thread(opened, page, stage.url, WIDE)
        await see(lambda: page.text("#app") == HOSTILE)
        await see(lambda: HOSTILE in page.text("#events"))
        await see(lambda: HOSTILE in page.text("#why"))
        assert await asyncio.to_thread(page.value, "window.pwned ?? 0") == 0
        assert await asyncio.to_thread(page.value, "document.querySelectorAll('body img, body script').length") == 0
        await asyncio.to_thread(quiet, page, stage.url)


async def test_decision_is_shown_with_its_reason(page: Page) -> None:
    """Above, with the inputs that say most, and among the events."""
    async with staged(3, least=1, most=6, target=3) as stage:
        inputs = {"demand": 2.4, "queue": 17.0, "lag_s": 0.031, "waiting_share": 0.15, "memory_free": 2e9}
        reason = "2 → 3 workers (demand): 2.40 loops busy"
        now_s = 1.7e9
        stage.pool.notice(Resized(before=2, target=3, reason=reason, inputs=inputs, at=now_s, number=1))
        await asyncio.to_thread(opened, page, stage.url, WIDE)
        await see(lambda: page.text("#bounds") == "workers; allowed: 1 to 6")
        await see(lambda: page.text("#why") == "2.40 loops busy")
        assert (await asyncio.to_thread(page.text, "#why-head")).startswith("Grew 2 → 3 (demand), ")
        chips = await asyncio.to_thread(page.text, "#inputs")
        for chip in ("demand 2.4", "queue 17", "lag 31 ms", "waiting share 15 %"):
            assert chip in chips
        said = await asyncio.to_thread(page.text, "#events")
        assert "size 2 → 3: demand" in said and "2.40 loops busy" in said
        assert await asyncio.to_thread(page.value, "document.querySelectorAll('#cells .cell').length") == 6


async def test_events_can_be_chosen(page: Page) -> None:
    """By kind; the log's information is not among all, its warnings are."""
    async with staged(1) as stage:
        stage.pool.notice(Logged(text="by the way", number=1, at=1.0))
        stage.pool.notice(Logged(level="warning", text="beware", number=2, at=2.0))
        stage.pool.notice(Logged(text="sizing: more would be wanted: 2 workers", number=3, at=2.5))
        stage.pool.notice(WorkerExited(slot=0, pid=7, cause="died", text="signal 9", number=4, at=3.0))
        stage.pool.notice(ReloadEnded(ok=False, text="no module", detail="Traceback", number=5, at=4.0))
        await asyncio.to_thread(opened, page, stage.url, WIDE)
        await see(lambda: "no module" in page.text("#events"))
        seen = {}
        for name in ("all", "size", "worker", "reload", "log"):
            await asyncio.to_thread(page.value, f"document.querySelector('[data-show={name}]').click()")
            seen[name] = await asyncio.to_thread(page.text, "#events")
        assert "by the way" not in seen["all"] and "beware" in seen["all"] and "signal 9" in seen["all"]
        assert "by the way" in seen["log"] and "signal 9" not in seen["log"]
        assert "signal 9" in seen["worker"] and "no module" in seen["reload"] and "more would be" in seen["size"]


async def test_server_that_goes_away_is_said_to_be(page: Page, tmp_path: Path) -> None:
    """Loudly, with the time of what is seen; when it is back, the page goes on by itself."""
    async with staged(2) as stage:
        await asyncio.to_thread(opened, page, stage.url, WIDE)
        await stage.close()
        await see(lambda: "does not answer" in page.text("#banner:not([hidden])"))
        assert await asyncio.to_thread(page.text, "#seen") == "no answer"
        await asyncio.to_thread(page.save, artifacts(tmp_path) / "page-lost.png")
        await stage.open()
        await see(lambda: page.text("#seen") == "live")
        assert await asyncio.to_thread(page.value, "document.querySelector('#banner').hidden")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"phase": "booting"}, "booting"),
        ({"stance": "parked"}, "parked"),
        ({"reload_stage": "canary"}, "reloading: canary"),
        ({"reload_failure": "no module"}, "serving; the last reload failed"),
        ({"target": 9}, "serving, not complete"),
        ({"phase": "stopping"}, "stopping"),
    ],
)
async def test_state_is_said_in_words(page: Page, change: dict[str, object], words: str) -> None:
    """With a sign before it: colour says nothing that the words do not."""
    async with staged(2) as stage:
        stage.pool.pool = replace(stage.pool.pool, **change)  # type: ignore[arg-type]  # fields by name
        await asyncio.to_thread(opened, page, stage.url, WIDE)
        await see(lambda: page.text("#state")[2:] == words)


async def test_worker_that_does_not_turn_is_seen(page: Page) -> None:
    """Blocked, with for how long; the others serve."""
    async with staged(2) as stage:
        stage.pool.scoreboard.row(1)[Cell.LIFE] = Life.PARKED  # lives no more here
        stage.pool.scoreboard.readiness = Readiness.READY
        await asyncio.to_thread(opened, page, stage.url, WIDE)
        await see(lambda: "blocked for" in page.text("#rows tr:nth-child(2) .c-state"))
        assert "serving" in await asyncio.to_thread(page.text, "#rows tr:first-child .c-state")
