"""Whatever workers and clients do, in any order: in the end each client is with one worker, and with one only."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.parent.dispatch import STALL_S
from tests.unit.parent.pass_world import PassWorld, passing

OFTEN = ("client", "clients", "takes one", "takes all")
SOMETIMES = ("yes", "no", "beats", "time", "long time", "dies", "hired", "lies", "garbage")
MOST_WORKERS = 4


def happen(world: PassWorld, what: str, pick: int) -> None:
    """Let one thing happen, to a worker that ``pick`` chooses."""
    if what in ("client", "clients"):
        world.comes(1 if what == "client" else 20)
    elif what in ("time", "long time"):
        world.passes(STALL_S / 2 if what == "time" else 1.0)
    elif what == "hired":
        if len(world.workers) < MOST_WORKERS:
            world.hires()
    elif world.workers:
        to_worker(world, what, sorted(world.workers)[pick % len(world.workers)])
    world.turns()


def to_worker(world: PassWorld, what: str, slot: int) -> None:
    worker = world.workers[slot]
    if what == "dies":
        world.dies(slot)
    elif what in ("yes", "no", "garbage"):
        worker.says({"yes": b"+", "no": b"-", "garbage": b"?!"}[what])
    elif what == "beats":
        worker.beats()
    elif what == "lies":
        worker.row[17] = (worker.row[17] * 7 + 3) % 1000
    else:
        worker.takes(1 if what == "takes one" else 1 << 30)


@settings(max_examples=60, deadline=None)
@given(
    choices=st.lists(
        st.tuples(st.sampled_from((*OFTEN * 3, *SOMETIMES)), st.integers(0, MOST_WORKERS)), min_size=10, max_size=60
    )
)
def test_nobody_is_lost_in_any_order(choices: list[tuple[str, int]]) -> None:
    """Nobody is lost, nobody is served twice, and the parent's loop always comes to rest."""
    with passing() as world:
        world.hires(2)
        for what, pick in choices:
            happen(world, what, pick)
        while len(world.workers) > 0:
            world.dies(min(world.workers))
        (last,) = world.hires()
        took_nothing = 0
        while took_nothing < 2:
            took_nothing = 0 if last.takes() else took_nothing + 1
            world.turns()
        assert world.everybody_is_served()
