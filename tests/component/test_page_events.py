"""The events of the status page, as a stream that a client reads."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator

import pytest

from hybrid.control.broadcast import Broadcast
from hybrid.control.past import EVERY_S, SPAN_S, Past
from hybrid.control.sampler import Sampler
from hybrid.control.status_page import stream
from hybrid.shared.notices import Logged, PoolState
from tests.support.fake_pool import FakePool

HOSTILE = '</script><img src=x onerror=alert(1)>\n\ndata: {}\r"\u2028'


@pytest.fixture
def pool() -> Iterator[FakePool]:
    """A worker, and an app whose name is no name."""
    pool = FakePool(1, app=HOSTILE)
    yield pool
    pool.close()


@pytest.fixture
def parts(pool: FakePool) -> tuple[Broadcast, Past]:
    """What the stream needs beside the state."""
    sampler = Sampler(pool.scoreboard, pool.clock_ns, memory=lambda pid: 0)
    return Broadcast(pool, sampler), Past(pool, sampler)


async def heard(events: AsyncIterator[bytes], count: int) -> list[tuple[str, object]]:
    """Return the first events, each as its name and what its data is."""
    found: list[tuple[str, object]] = []
    while len(found) < count:
        for block in (await asyncio.wait_for(events.__anext__(), 20)).decode().split("\n\n"):
            match = re.fullmatch(r"event: (\w+)\ndata: (.*)", block)
            if match:
                found.append((match[1], json.loads(match[2])))
            else:
                assert block == "" or block.startswith("retry: "), block
    return found


async def test_events_come_in_order(pool: FakePool, parts: tuple[Broadcast, Past]) -> None:
    """What has been, what was said, what is; then what is said anew, once."""
    pool.notice(Logged(text="hello", number=1))
    pool.notice(PoolState(number=2))
    parts[1].look()
    events = stream(pool, *parts)
    (_, past), (_, first), _ = found = await heard(events, 3)
    assert [name for name, _ in found] == ["past", "notices", "snapshot"]
    assert isinstance(past, dict) and len(past["rows"]) == 1
    assert isinstance(first, list) and [each["text"] for each in first] == ["hello"]
    pool.notice(Logged(text="again", number=3))
    found = await heard(events, 2)
    assert [name for name, _ in found] == ["notices", "snapshot"]
    assert isinstance(found[0][1], list) and [each["text"] for each in found[0][1]] == ["again"]
    await events.aclose()  # type: ignore[attr-defined]  # a generator
    assert not parts[0].is_running


def test_no_more_is_kept_than_the_page_shows(parts: tuple[Broadcast, Past]) -> None:
    """Ten minutes: a server that runs for months must not grow by it."""
    for _ in range(round(SPAN_S / EVERY_S) + 5):
        parts[1].look()
    rows = parts[1].table()["rows"]
    assert isinstance(rows, list) and len(rows) == SPAN_S / EVERY_S


async def test_another_parent_counts_anew(pool: FakePool, parts: tuple[Broadcast, Past]) -> None:
    """Its first notices have numbers that were there before."""
    pool.notice(Logged(text="old", number=90))
    events = stream(pool, *parts)
    await heard(events, 3)
    pool.history.clear()
    pool.notice(Logged(text="new", number=1))
    found = await heard(events, 2)
    assert isinstance(found[0][1], list) and found[0][1][0]["text"] == "new"
    await events.aclose()  # type: ignore[attr-defined]  # a generator


async def test_hostile_text_stays_inside_its_event(pool: FakePool, parts: tuple[Broadcast, Past]) -> None:
    """No line end in a name or a log line ends the event, or begins another."""
    pool.notice(Logged(text=HOSTILE, detail=HOSTILE, number=1))
    events = stream(pool, *parts)
    (_, _), (_, said), (_, shown) = await heard(events, 3)
    assert isinstance(said, list) and said[0]["text"] == HOSTILE
    assert isinstance(shown, dict) and shown["pool"]["app"] == HOSTILE
    await events.aclose()  # type: ignore[attr-defined]  # a generator
