"""Whether the server is alive, and whether it is ready."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from unittest.mock import patch

import pytest

from hybrid.control import health
from hybrid.control.state import GONE
from hybrid.control.web import Answer, Request
from hybrid.ground.states import Life, Readiness
from hybrid.shared.notices import Answered
from tests.support.control_state import FakeState, fake_state


async def ask(state: FakeState, path: str) -> tuple[int, str]:
    """Return status and body of a page."""
    answer: Answer = await health.routes(state)[path](Request(path))
    assert isinstance(answer.body, bytes)
    return answer.status, answer.body.decode().strip()


@pytest.mark.parametrize(
    ("readiness", "lives", "said"),
    [
        (Readiness.READY, [Life.READY, Life.READY], (200, "ready")),
        (Readiness.READY, [Life.READY, Life.STARTING], (200, "ready")),
        (Readiness.READY, [Life.PARKED, Life.STARTING], (503, "too few workers: 0 accept, 1 must")),
        (Readiness.READY, [], (503, "too few workers: 0 accept, 1 must")),
        (Readiness.BOOTING, [Life.READY, Life.READY], (503, "booting: no worker has accepted yet")),
        (Readiness.LEAVING, [Life.READY, Life.READY], (503, "draining: the server was told to stop")),
    ],
)
async def test_readyz(readiness: Readiness, lives: list[Life], said: tuple[int, str]) -> None:
    """200 while enough workers accept and the server stays; else 503, with the reason."""
    with fake_state() as state:
        for slot, life in enumerate(lives):
            state.worker(slot, life)
        state.scoreboard.readiness = readiness
        assert await ask(state, "/readyz") == said


@pytest.mark.parametrize(
    ("target", "least", "needed"),
    [(0, 0, 1), (1, 1, 1), (2, 2, 1), (3, 3, 2), (8, 8, 4), (5, 2, 1), (1, 4, 1), (9, 0, 5)],
)
def test_half_of_the_least_is_enough(target: int, least: int, needed: int) -> None:
    """And one always is needed, however few are wanted."""
    with fake_state() as state:
        assert health.needed(replace(state.pool, target=target, least=least)) == needed


async def test_a_parent_that_answers_is_alive() -> None:
    """200, though no worker is ready: a restart of the server would help nobody."""
    with fake_state() as state:
        state.turns.set()
        assert await ask(state, "/healthz") == (200, "alive")


async def test_a_parent_that_does_not_answer_is_not() -> None:
    """503, after the time that it has; its process may still be there."""
    with fake_state() as state, patch.object(health, "ANSWER_WITHIN_S", 0.05):
        status, said = await ask(state, "/healthz")
        assert status == 503 and "has not answered" in said


async def test_a_parent_that_cannot_even_be_asked_is_not() -> None:
    """One that is stopped for so long that the channel to it is full gives a no at once, and that is no yes."""
    with fake_state() as state:
        state.turns.set()
        state.answer = Answered(1, False, "the parent does not listen")
        assert await ask(state, "/healthz") == (503, "the parent does not listen")


async def test_many_who_ask_cost_the_parent_one_answer() -> None:
    """They share it, and it is believed for a second."""
    now = [100.0]
    with fake_state() as state:
        pulse = health.Pulse(state, lambda: now[0])
        asking = [asyncio.create_task(pulse.why_not_alive()) for _ in range(5)]
        await asyncio.sleep(0)
        state.turns.set()
        assert await asyncio.gather(*asking) == [""] * 5
        assert await pulse.why_not_alive() == "" and len(state.asked) == 1
        now[0] += 1.5
        assert await pulse.why_not_alive() == "" and len(state.asked) == 2


async def test_a_server_that_is_gone_is_neither() -> None:
    """Its channel has ended, and control is about to leave, too."""
    with fake_state() as state:
        state.worker(0)
        state.turns.set()
        state.is_over.set()
        state.answer = Answered(ok=False, text=GONE)
        assert (await ask(state, "/healthz"))[0] == 503
        assert (await ask(state, "/readyz"))[0] == 503
