"""The control socket: who may ask, what a line may be, and how much is kept for whom."""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial

import pytest

from hybrid.control import commands, server
from hybrid.control.commands import OPS
from hybrid.shared.notices import Logged, WorkerReady
from tests.support.eventually import eventually_async
from tests.unit.control.room import LINE_BYTES, Op, door, parent


@pytest.mark.parametrize(("uid", "may"), [(0, True), (os.getuid(), True), (4711, True), (4712, False)])
async def test_root_the_parents_user_and_our_own_may(uid: int, may: bool) -> None:
    """Everybody else is told that he may not, and closed."""
    async with parent() as their:
        their.state.owner = 4711
        async with door(their.state, uid=uid) as control:
            client = await control.client()
            if may:
                assert (await client.ask("config"))["ok"]
                return
            said = await client.hear()
            assert said is not None and f"uid {uid} may not control" in said["error"]
            assert await client.hear() is None


async def test_requests_of_one_connection_run_side_by_side() -> None:
    """A reload does not keep its client from asking how it goes."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        client.send("reload", 1)
        record = await their.hears()
        assert (await client.ask("config", "two"))["id"] == "two"
        client.send("status", 3)
        assert record.op is Op.CONTROL_RELOAD


async def test_too_many_at_a_time_are_refused() -> None:
    """Of one connection; the others go on."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        for number in range(server.MOST_REQUESTS):
            client.send("reload", number)
        answer = await client.ask("config", 99)
        assert "requests of this connection" in answer["error"]


async def test_longest_line_is_taken_and_a_longer_one_is_not() -> None:
    """64 KiB with the newline."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        request = json.dumps({"id": 1, "op": "config"}).encode()
        client.writer.write(request + b" " * (LINE_BYTES - len(request) - 1) + b"\n")
        said = await client.hear()
        assert said is not None and said["ok"]
        client.writer.write(b" " * (LINE_BYTES + 1))
        said = await client.hear()
        assert said is not None and "longer than" in said["error"]
        assert await client.hear() is None


async def test_last_line_needs_no_end() -> None:
    """A client that says one thing and shuts its side is answered."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        client.writer.write(b'{"id": 1, "op": "config"}')
        client.writer.write_eof()
        said = await client.hear()
        assert said is not None and said["ok"]
        assert await client.hear() is None


async def test_who_left_while_he_followed_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if nothing happens that he could be told."""
    monkeypatch.setattr(server, "GONE_EVERY_S", 0.01)
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        client.send("events", follow=True)
        await eventually_async(lambda: len(their.state._subscriptions) == 1)
        client.close()
        await eventually_async(lambda: not their.state._subscriptions)


async def test_who_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a word, if he reads that."""
    monkeypatch.setattr(server, "UNREAD_BYTES", 10_000)
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # the reader's own way to stop
        client.send("events", follow=True)
        await eventually_async(lambda: len(their.state._subscriptions) == 1)

        def is_settled(number: int) -> bool:
            return len(their.state.history) >= number or not their.state._subscriptions

        number = 0
        while their.state._subscriptions:  # fewer than are kept
            number += 1
            their.tell(WorkerReady(1, number, number=number))
            await eventually_async(partial(is_settled, number))
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]  # as above
        last: dict[str, object] = {}
        while (said := await client.hear()) is not None:
            last = said
        assert "is not read" in str(last["error"])


@pytest.mark.parametrize("follow", [False, True])
async def test_who_reads_gets_more_than_may_lie_unread(monkeypatch: pytest.MonkeyPatch, follow: bool) -> None:
    """A history of long boot logs is sent as it is read, and its reader not taken for one who does not read."""
    monkeypatch.setattr(server, "UNREAD_BYTES", 1 << 17)
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        for number in range(500):
            their.state.history.append(Logged("error", "parent", "no", detail="x" * 5000, number=number))
        client.send("events", last=500, follow=follow)
        for number in range(500):
            said = await client.hear()
            assert said is not None and said["notice"]["number"] == number


async def test_who_never_reads_his_events_gets_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """And after a while he is no longer waited for."""
    monkeypatch.setattr(commands, "BEHIND_S", 0.01)
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # the reader's own way to stop
        for number in range(500):
            their.state.history.append(Logged("error", "parent", "no", detail="x" * 5000, number=number))
        client.send("events", follow=True, last=500)
        await eventually_async(lambda: len(their.state._subscriptions) == 1)
        await eventually_async(lambda: not their.state._subscriptions)
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]  # as above
        last: dict[str, object] = {}
        while "ok" not in last:
            said = await client.hear()
            assert said is not None
            last = said
        assert "are not read" in str(last["error"])


async def test_idle_server_leaves_and_one_that_is_asked_does_not() -> None:
    """Idle is without a client; one who says nothing is a client."""
    async with parent() as their, door(their.state, idle_s=0.05) as control:
        client = await control.client()
        assert (await client.ask("config"))["ok"]
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(asyncio.shield(control.serving), 0.3)
        client.close()
        await asyncio.wait_for(control.serving, 20)


async def test_fault_of_ours_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request is not all of them."""

    async def fails(call: object) -> object:
        raise RuntimeError("a bug")

    monkeypatch.setitem(OPS, "config", fails)
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        assert (await client.ask("config"))["error"] == "control cannot answer: RuntimeError: a bug"
        assert (await client.ask("events"))["ok"]


async def test_answers_on_their_way_are_sent_at_the_end() -> None:
    """Who asked for the end of the server hears that it comes, and then the end."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        client.send("shutdown")
        await their.grants("stopping")
        their.leave()
        await their.state.is_over.wait()
        await asyncio.sleep(0)
        control.serving.cancel()
        said = await client.hear()
        assert said is not None and said["result"] == {"text": "stopping"}
        assert await client.hear() is None
