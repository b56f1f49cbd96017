"""The ops: their arguments, their wishes, their results."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid.control.commands import OPS, shown
from hybrid.control.state import PENDING
from hybrid.shared.messages import Op
from hybrid.shared.notices import Answered, ReloadStep, WorkerReady
from hybrid.shared.settings import Settings
from hybrid.shared.tls_settings import TlsSettings
from tests.support.eventually import eventually_async
from tests.unit.control.room import door, parent

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "control-protocol.md"


@pytest.mark.parametrize(
    ("op", "args", "wish", "numbers"),
    [
        ("reload", {}, Op.CONTROL_RELOAD, (0, 0, 0)),
        ("scale", {"workers": 3}, Op.CONTROL_SCALE, (0, 3, 3)),
        ("scale", {"least": 2, "most": 5}, Op.CONTROL_SCALE, (0, 2, 5)),
        ("scale", {"most": 5}, Op.CONTROL_SCALE, (0, 0, 5)),
        ("park", {"slot": 3}, Op.CONTROL_PARK, (3, 0, 0)),
        ("unpark", {"slot": 3}, Op.CONTROL_UNPARK, (3, 0, 0)),
        ("drain", {"slot": 3}, Op.CONTROL_DRAIN, (3, 0, 0)),
        ("kill", {"slot": 3}, Op.CONTROL_KILL, (3, 0, 0)),
        ("set", {"key": "log-level", "value": "debug"}, Op.CONTROL_SET, (1, 10, 0)),
        ("shutdown", {}, Op.CONTROL_STOP, (0, 0, 0)),
        ("shutdown", {"now": True}, Op.CONTROL_STOP, (0, 1, 0)),
        ("reopen-logs", {}, Op.CONTROL_REOPEN_LOGS, (0, 0, 0)),
        ("upgrade", {}, Op.CONTROL_UPGRADE, (0, 0, 0)),
    ],
)
async def test_wish_becomes_a_record(op: str, args: dict[str, Any], wish: Op, numbers: tuple[int, ...]) -> None:
    """And its answer the result."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        client.send(op, **args)
        record = await their.grants("done")
        assert (record.op, (record.slot, record.b, record.c)) == (wish, numbers)
        said = await client.hear()
        assert said == {"id": 1, "ok": True, "result": {"text": "done"}}


async def test_no_is_an_error_with_its_detail() -> None:
    """A boot log, perhaps; the steps came before."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        client.send("reload")
        record = await their.hears()
        their.tell(ReloadStep("import", "importing", at=1.0, number=2))
        assert await client.hear() == {
            "id": 1, "ev": "step", "at": 1.0, "number": 2, "stage": "import", "text": "importing"
        }  # fmt: skip
        their.tell(Answered(record.a, False, "reload failed", "Traceback"))
        assert await client.hear() == {"id": 1, "ok": False, "error": "reload failed", "detail": "Traceback"}


@pytest.mark.parametrize(
    ("op", "args", "words"),
    [
        ("status", {"x": 1}, "no argument 'x' here. It takes none"),
        ("park", {}, "slot is missing"),
        ("park", {"slot": "1"}, "slot is '1'"),
        ("park", {"slot": True}, "slot is True"),
        ("park", {"slot": 1.5}, "Give a whole number"),
        ("park", {"slot": 1e400}, "Give a number from 0"),
        ("kill", {"slot": 1, "pid": 2}, "It takes slot"),
        ("scale", {}, "nothing says how many"),
        ("scale", {"workers": 2, "most": 3}, "workers goes without"),
        ("scale", {"workers": 0}, "Give a number from 1"),
        ("scale", {"least": 3, "most": 2}, "least is 3 and most is 2"),
        ("set", {"key": "bind"}, "nothing that changes at once"),
        ("set", {"key": ["log-level"]}, "nothing that changes at once"),
        ("shutdown", {"now": 1}, "Give true or false"),
        ("watch", {"every_s": 0}, "Give a number from 0.1"),
        ("events", {"last": 100_000}, "Give a number from 0 to 1000"),
    ],
)
async def test_wrong_arguments_are_refused(op: str, args: dict[str, Any], words: str) -> None:
    """With the remedy, and without asking the parent."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        answer = await client.ask(op, **args)
        assert not answer["ok"] and words in answer["error"]


async def test_events_are_the_last_ones_then_those_that_come() -> None:
    """Without follow it ends."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        for number in (1, 2, 3):
            their.tell(WorkerReady(0, 0, number=number))
        client.send("events", last=2, follow=True)
        numbers = [(await client.hear() or {})["notice"]["number"] for _ in range(2)]
        their.tell(WorkerReady(0, 0, number=4))
        numbers.append((await client.hear() or {})["notice"]["number"])
        assert numbers == [2, 3, 4]
        other = await control.client()
        other.send("events")
        said = [await other.hear() for _ in range(5)]
        assert said[-1] == {"id": 1, "ok": True, "result": {"events": 4}}


async def test_who_does_not_keep_up_with_events_is_told() -> None:
    """Else a gap would look like the end of the server."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        client.send("events", follow=True)
        await eventually_async(lambda: their.state._subscriptions)
        (subscription,) = their.state._subscriptions
        for number in range(PENDING + 1):
            subscription.put(WorkerReady(0, 0, number=number))
        said = await client.hear()
        assert said is not None and not said["ok"] and "Read faster" in said["error"]


async def test_watch_ends_with_the_server() -> None:
    """Who looks on is told how many it were."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        client.send("watch", every_s=3600)
        said = await client.hear()
        assert said is not None and said["snapshot"]["pool"]["target"] == 2
        their.leave()
        assert await client.hear() == {"id": 1, "ok": True, "result": {"snapshots": 1}}


async def test_status_waits_for_the_parents_first_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for ever: a parent that is stopped has left its scoreboard."""
    monkeypatch.setattr("hybrid.control.commands.PATIENCE_S", 0.01)
    async with parent() as their, door(their.state) as control:
        their.state.is_known.clear()
        client = await control.client()
        assert (await client.ask("status"))["ok"]


def test_secrets_are_masked() -> None:
    """That there is one is shown, not which."""
    settings = replace(Settings(), tls=TlsSettings(keyfile_password="sesame"))
    assert "sesame" not in str(shown(settings))
    assert shown(settings)["tls"]["ssl-keyfile-password"] == "***"
    assert shown(Settings())["tls"]["ssl-keyfile-password"] == ""


def test_settings_are_shown_as_they_are_written() -> None:
    """Nobody reads 438 as 0666, or -1 as "not given"."""
    found = shown(Settings())
    assert found["bind"]["uds-mode"] == "666" and found["bind"]["backlog"] == 4096
    assert found["process"]["umask"] is None and found["process"]["ready-fd"] is None
    assert found["app"]["factory"] is False and found["recycling"]["max-requests-jitter"] is None


def test_every_op_is_described() -> None:
    """In the reference."""
    text = PAGE.read_text()
    assert [op for op in OPS if f"`{op}`" not in text] == []


async def test_slow_dump_is_the_stacks() -> None:
    """The text, where it is, and of which slot."""
    async with parent() as their, door(their.state) as control:
        client = await control.client()
        task = asyncio.create_task(client.ask("dump", slot=1))
        await their.grants("worker 1 is at app.py:7 in f", detail="stacks")
        assert (await task)["result"] == {"text": "worker 1 is at app.py:7 in f", "slot": 1, "stacks": "stacks"}
