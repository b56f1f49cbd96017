"""One sampling loop for any number of readers, and none without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from hybrid.control import broadcast as broadcast_room
from hybrid.control.broadcast import Broadcast, Frame, Reader
from hybrid.control.past import COLUMNS, SPAN_S, Past
from hybrid.control.sampler import SECOND, Sampler
from tests.support.eventually import eventually_async
from tests.support.fake_pool import FakePool


@pytest.fixture
def pool() -> Iterator[FakePool]:
    """Two workers."""
    pool = FakePool(2)
    yield pool
    pool.close()


@pytest.fixture
def cast(pool: FakePool) -> Broadcast:
    """A broadcast that nobody reads yet."""
    return Broadcast(pool, Sampler(pool.scoreboard, pool.clock_ns, memory=lambda pid: 0))


async def test_readers_share_frames(cast: Broadcast) -> None:
    """The very same object, and its text is made once."""
    readers = [cast.read(0.25) for _ in range(3)]
    first = [await reader.__anext__() for reader in readers]
    assert first[0] is first[1] is first[2]
    assert first[0].json is first[1].json
    assert json.loads(first[0].json)["totals"]["workers"] == 2
    second = [await reader.__anext__() for reader in readers]
    assert second[0] is second[1] is second[2] is not first[0]
    for reader in readers:
        reader.close()


async def test_nothing_runs_while_nobody_reads(cast: Broadcast) -> None:
    """Not before the first reader, not after the last; and again with the next."""
    runs = [cast.is_running]
    for _ in range(2):
        one, two = cast.read(), cast.read()
        await one.__anext__()
        one.close()
        runs.append(cast.is_running)
        two.close()
        two.close()
        runs.append(cast.is_running)
    assert runs == [False, True, False, True, False]
    await eventually_async(lambda: len(asyncio.all_tasks()) == 1)


async def test_newcomer_does_not_wait(cast: Broadcast) -> None:
    """It gets a frame at once, while another waits an hour for its next."""
    slow = cast.read(3600)
    await slow.__anext__()
    quick = cast.read(3600)
    await asyncio.wait_for(quick.__anext__(), 20)
    for reader in (slow, quick):
        reader.close()


async def test_slow_reader_is_given_the_latest(cast: Broadcast) -> None:
    """What it missed is not kept for it."""
    slow, quick = cast.read(0.25), cast.read(0.25)
    frames = [await quick.__anext__() for _ in range(3)]
    assert await slow.__anext__() is frames[-1]
    for reader in (slow, quick):
        reader.close()


async def test_reader_that_is_closed_ends(cast: Broadcast) -> None:
    """Whoever waits for a frame is let go."""
    reader = cast.read(3600)
    await reader.__anext__()
    waiting = asyncio.ensure_future(collect(reader))
    await asyncio.sleep(0)
    reader.close()
    assert await waiting == []


async def collect(reader: Reader) -> list[Frame]:
    """Return all frames until the reader is closed."""
    return [frame async for frame in reader]


async def test_failure_reaches_every_reader(cast: Broadcast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for frames that do not come; the next reader starts anew."""

    def fail(*_args: object) -> dict[str, object]:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(broadcast_room, "snapshot", fail)
        readers = [cast.read(), cast.read()]
        for reader in readers:
            with pytest.raises(ZeroDivisionError):
                await reader.__anext__()
            reader.close()
    assert not cast.is_running
    reader = cast.read()
    assert (await reader.__anext__()).snapshot
    reader.close()


@pytest.mark.parametrize(("asked", "given"), [(0.0, 0.25), (0.01, 0.25), (2.0, 2.0), (1e9, 3600.0)])
async def test_period_has_bounds(cast: Broadcast, asked: float, given: float) -> None:
    """Nobody makes control spin."""
    reader = cast.read(asked)
    assert reader.every_s == given
    reader.close()


async def test_past_is_a_table_of_the_last_minutes(pool: FakePool) -> None:
    """The oldest points make room; no memory is read for it."""

    def never(_pid: int) -> int:
        raise AssertionError

    past = Past(pool, Sampler(pool.scoreboard, pool.clock_ns, memory=never))
    for _ in range(round(SPAN_S)):
        pool.now_ns += SECOND
        pool.work(0, requests=10)
        past.look()
    table = past.table()
    rows = table["rows"]
    assert isinstance(rows, list) and len(rows) == SPAN_S / 2
    last = dict(zip(COLUMNS, rows[-1], strict=True))
    assert (last["target"], last["ready"], last["requests_per_s"]) == (2, 2, 10)
    json.dumps(table, allow_nan=False)


async def test_past_is_kept_until_it_is_closed(pool: FakePool) -> None:
    """A point comes at once; no task is left behind."""
    past = Past(pool, Sampler(pool.scoreboard, pool.clock_ns, memory=lambda pid: 0))
    past.start()
    past.start()
    await eventually_async(lambda: past.table()["rows"])
    past.close()
    past.close()
    await eventually_async(lambda: len(asyncio.all_tasks()) == 1)
