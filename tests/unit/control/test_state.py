"""What control knows, and how its wishes are answered."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from hybrid.control.state import GONE, HISTORY, PENDING
from hybrid.shared.messages import Op, Record, send
from hybrid.shared.notices import Answered, Logged, Notice, PoolState, ReloadStep, WorkerReady
from hybrid.shared.settings import LogSettings, Settings
from hybrid.shared.start import settings_memfd
from tests.support.eventually import eventually_async
from tests.unit.control.room import parent


async def test_wish_is_answered_by_its_token() -> None:
    """Answers come in any order."""
    async with parent() as their:
        one, other = (asyncio.create_task(their.state.ask(Op.CONTROL_PARK, slot)) for slot in (1, 2))
        first, second = await their.hears(), await their.hears()
        their.tell(Answered(second.a, text="second"))
        their.tell(Answered(first.a, text="first"))
        assert [(await one).text, (await other).text] == ["first", "second"]
        assert (first.op, first.slot, second.slot) == (Op.CONTROL_PARK, 1, 2)


async def test_wish_carries_its_numbers_behind_the_token() -> None:
    """As the record of the op says."""
    async with parent() as their:
        task = asyncio.create_task(their.state.ask(Op.CONTROL_SCALE, a=3, b=5))
        record = await their.grants("scaled")
        assert (record.b, record.c) == (3, 5)
        assert await task == Answered(record.a, True, "scaled")


async def test_steps_are_told_to_who_waits_for_them() -> None:
    """And to nobody afterwards."""
    async with parent() as their:
        steps: list[Notice] = []
        task = asyncio.create_task(their.state.ask(Op.CONTROL_RELOAD, on_step=steps.append))
        record = await their.hears()
        their.tell(ReloadStep("import", "importing"))
        their.tell(WorkerReady(1, 2))
        their.tell(Answered(record.a))
        await task
        their.tell(ReloadStep("later", "later"))
        their.tell(PoolState(target=9))
        await eventually_async(lambda: their.state.pool.target == 9)
        assert steps == [ReloadStep("import", "importing")]


async def test_wish_that_nobody_waits_for_is_forgotten() -> None:
    """A client that has left takes nothing with it; its answer is passed over."""
    async with parent() as their:
        task = asyncio.create_task(their.state.ask(Op.CONTROL_RELOAD))
        record = await their.hears()
        task.cancel()
        await asyncio.wait({task})
        assert their.state._wishes == {}
        their.tell(Answered(record.a))
        their.tell(PoolState(target=9))
        await eventually_async(lambda: their.state.pool.target == 9)


async def test_answer_to_a_control_that_is_gone_is_none_to_the_next() -> None:
    """The parent may still answer what another process asked for: no two have the same tokens."""
    tokens = []
    for _ in range(2):
        async with parent() as their:
            task = asyncio.create_task(their.state.ask(Op.CONTROL_DUMP))
            tokens.append((await their.grants()).a)
            await task
    assert tokens[0] < tokens[1]


async def test_end_of_the_channel_answers_everybody() -> None:
    """Who waits, who asks from now on, and who follows."""
    async with parent() as their:
        task = asyncio.create_task(their.state.ask(Op.CONTROL_RELOAD))
        subscription = their.state.subscribe()
        await their.hears()
        their.tell(WorkerReady(1, 2))
        their.leave()
        assert (await task).text == GONE
        assert [each async for each in subscription] == [WorkerReady(1, 2)]
        assert their.state.is_over.is_set()
        assert not (await their.state.ask(Op.CONTROL_RELOAD)).ok
        assert [each async for each in their.state.subscribe()] == []


async def test_parent_that_does_not_listen_is_an_answer() -> None:
    """Nobody waits for a channel that is full."""
    async with parent() as their:
        tasks = [asyncio.create_task(their.state.ask(Op.CONTROL_RELOAD)) for _ in range(2000)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert "does not listen" in done.pop().result().text
        for task in pending:
            task.cancel()
        await asyncio.wait(tasks)


async def test_who_cannot_be_told_a_step_costs_nobody_else_one() -> None:
    """Whoever asked for that reload learns what happened; those who subscribed, and who asked, too, hear of it."""

    def breaks(_step: Notice) -> None:
        raise ConnectionResetError("it left")

    steps: list[Notice] = []
    async with parent() as their:
        subscription = their.state.subscribe()
        asked = [
            asyncio.create_task(their.state.ask(Op.CONTROL_RELOAD, on_step=take)) for take in (breaks, steps.append)
        ]
        tokens = [(await their.hears()).a for _ in asked]
        for number in (1, 2):
            their.tell(ReloadStep("import", "importing", number=number))
            assert (await subscription.__anext__()).number == number
        for token in tokens:
            their.tell(Answered(token, True, "done"))
        with pytest.raises(ConnectionResetError):
            await asked[0]
        assert (await asked[1]).ok and [step.number for step in steps] == [1, 2]
        subscription.close()


async def test_reader_that_does_not_keep_up_is_ended() -> None:
    """It learns that it was; the others hear everything."""
    async with parent() as their:
        slow, quick = their.state.subscribe(), their.state.subscribe()
        count = PENDING + 10
        heard = 0
        for number in range(1, count + 1):
            their.tell(WorkerReady(1, number, number=number))
            assert (await quick.__anext__()).number == number
            heard += 1
        assert heard == count
        assert slow.is_lost and [each async for each in slow] == []
        assert len(their.state.history) == HISTORY
        quick.close()
        quick.close()
        assert not their.state._subscriptions


async def test_settings_come_with_the_state() -> None:
    """A reload replaces them; what is no settings leaves them as they are."""
    async with parent() as their:
        fresh = replace(Settings(), log=LogSettings(level="debug"))
        for fd, level in ((settings_memfd(fresh), "debug"), (os.open("/dev/null", os.O_RDONLY), "debug")):
            their.tell(PoolState(target=fd), fd)
            await eventually_async(lambda fd=fd: their.state.pool.target == fd)  # type: ignore[misc]  # bound now
            os.close(fd)
            assert their.state.settings.log.level == level


async def test_records_are_obeyed() -> None:
    """The log's level, as every child is told it."""
    async with parent() as their:
        send(their.channel, Record(Op.LEVEL, a=10))
        await eventually_async(lambda: their.state.log.least == 10)


async def test_what_is_no_notice_is_passed_over() -> None:
    """Another version may tell what we do not know."""
    async with parent() as their:
        for data in (b"{", b'{"notice": "novel"}', b"x" * 32, b"{}"):
            their.channel.send(data)
        their.tell(Logged(text="after"))
        await eventually_async(lambda: [each.text for each in their.state.history if isinstance(each, Logged)])
