"""What HAProxy's agent-check is told, over real sockets, out of a real scoreboard that the test writes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hybrid.control import agent
from hybrid.control.agent import DOWN, DRAIN, MOST_BYTES, MOST_PEERS, Agent, serve
from hybrid.control.sampler import Sampler
from hybrid.ground.clock import monotonic_ns
from hybrid.ground.states import Life, Readiness
from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell, Scoreboard
from hybrid.shared.settings import Settings
from tests.support.connections import Client
from tests.support.eventually import eventually_async

PATIENCE_S = 10.0


@dataclass(frozen=True)
class Pool:
    """What the parent told."""

    target: int


@dataclass
class State:
    """A pool without processes."""

    scoreboard: Scoreboard
    pool: Pool
    settings: Settings = field(default_factory=Settings)

    def live(self, *lives: Life) -> None:
        """Have one worker in each of these lives, and nobody else."""
        for slot in range(self.scoreboard.slots):
            row = self.scoreboard.use_slot(slot)
            if slot < len(lives):
                row[Cell.LIFE], row[Cell.PID], row[Cell.SPAWNED_NS] = lives[slot], 1000 + slot, 1
                row[Cell.ACTIVE] = 0 if lives[slot] is Life.READY else NOT_ACCEPTING
                row[Cell.LIMIT] = 100


@pytest.fixture
def state() -> Iterator[State]:
    """Two workers that serve and have nothing to do."""
    state = State(Scoreboard.create(4, monotonic_ns()), Pool(target=2))
    state.live(Life.READY, Life.READY)
    state.scoreboard.readiness = Readiness.READY
    yield state
    state.scoreboard.close()


@asynccontextmanager
async def answering(state: State, path: str = "") -> AsyncIterator[str | tuple[str, int]]:
    """Answer for the length of a block; yield where."""
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listener.bind(path or ("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    where: str | tuple[str, int] = listener.getsockname()
    task = asyncio.ensure_future(serve(state, Sampler(state.scoreboard), listener))
    try:
        yield where
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert listener.fileno() == -1


@asynccontextmanager
async def connected(where: str | tuple[str, int]) -> AsyncIterator[Client]:
    """Be connected for the length of a block."""
    with socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET) as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
        yield Client(sock)


async def ask(where: str | tuple[str, int], said: bytes = b"") -> bytes:
    """Return everything that is answered; it ends."""
    async with connected(where) as client:
        await client.send(said)
        return await asyncio.wait_for(client.receive_all(), PATIENCE_S)


async def hear(client: Client) -> bytes:
    """Return the line."""
    return await asyncio.wait_for(client.receive(), PATIENCE_S)


@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_one_line_and_the_end(state: State, tmp_path: Path, family: str) -> None:
    """Whether the peer says something (``agent-send``) or not, each time anew."""
    async with answering(state, str(tmp_path / "agent") if family == "unix" else "") as where:
        for said in (b"", b"backend app\n", b"x" * MOST_BYTES):
            assert await ask(where, said) == b"up ready 100%\n"


@pytest.mark.parametrize("readiness", [Readiness.BOOTING, Readiness.LEAVING])
async def test_pool_that_is_not_ready_is_drained(state: State, readiness: Readiness) -> None:
    """During ``--drain-delay`` its workers serve on; the balancer hears of it first."""
    async with answering(state) as where:
        state.scoreboard.readiness = readiness
        assert await ask(where) == DRAIN
        state.scoreboard.readiness = Readiness.READY
        assert await ask(where) == b"up ready 100%\n"


@pytest.mark.parametrize(
    ("lives", "line"),
    [
        ((Life.PARKED, Life.PARKED), DRAIN),
        ((Life.STARTING,), DRAIN),
        ((Life.DRAINING, Life.KILLING), DRAIN),
        ((Life.DRAINING, Life.READY, Life.READY), b"up ready 100%\n"),
        ((Life.READY,), b"up ready 50%\n"),
        ((Life.EXITED,), DOWN),
        ((), DOWN),
    ],
)
def test_who_is_there_decides(state: State, lives: tuple[Life, ...], line: bytes) -> None:
    """Somebody accepts: up; somebody is there: drain; nobody is: down. Two are wanted."""
    state.live(*lives)
    agent = Agent(state, Sampler(state.scoreboard))
    agent.look()
    assert agent.line() == line


def test_first_worker_is_seen_at_once(state: State) -> None:
    """At the last look nobody was ready; that is not the weight of whoever is now."""
    state.live(Life.STARTING, Life.STARTING)
    agent = Agent(state, Sampler(state.scoreboard))
    agent.look()
    state.live(Life.READY, Life.READY)
    assert agent.line() == b"up ready 100%\n"


def test_weight_follows_the_load_slowly(state: State) -> None:
    """All at once the pool holds all it can: the weight goes from all to a quarter, in steps."""
    seconds = iter(range(1000))
    agent = Agent(state, Sampler(state.scoreboard), clock=lambda: float(next(seconds)))
    agent.look()
    for row in (state.scoreboard.row(0), state.scoreboard.row(1)):
        row[Cell.ACTIVE] = 100
    weights = []
    for _ in range(60):
        agent.look()
        weights.append(int(agent.line().split()[2][:-1].decode()))
    assert 80 <= weights[0] <= 85
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] in (25, 26)


def test_garbage_is_answered(state: State) -> None:
    """A worker's code can write anything anywhere in the scoreboard."""
    garbage = (1 << 64) - 1
    agent = Agent(state, Sampler(state.scoreboard))
    for cell in range(64):
        state.scoreboard.row(0)[cell] = garbage
    agent.look()
    assert agent.line().startswith(b"up ready ")
    for slot in range(4):
        for cell in range(64):
            state.scoreboard.row(slot)[cell] = garbage
    agent.look()
    assert agent.line() == DRAIN


# ── peers ──


async def test_peer_that_stays_is_cut(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its line; after a moment the connection is gone, though the peer has not left."""
    monkeypatch.setattr(agent, "PATIENCE_S", 0.05)
    async with answering(state) as where, connected(where) as client:
        assert await hear(client) == b"up ready 100%\n"
        await eventually_async(lambda: is_refused(client.sock))


def is_refused(sock: socket.socket) -> bool:
    """Say something; return whether nobody is there to hear it: an end alone would be only that the line is over."""
    try:
        sock.send(b"x")
    except ConnectionError:
        return True
    return False


async def test_peer_that_talks_is_cut(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before its time is over."""
    monkeypatch.setattr(agent, "PATIENCE_S", 3600.0)
    async with answering(state) as where, connected(where) as client:
        await hear(client)
        await client.send(b"x" * (MOST_BYTES + 1))
        await eventually_async(lambda: is_refused(client.sock))


async def test_crowd_is_kept_small(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is too many gets nothing; when one has left, the next is answered."""
    monkeypatch.setattr(agent, "PATIENCE_S", 3600.0)
    async with answering(state) as where, AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(connected(where)) for _ in range(MOST_PEERS)]
        for client in crowd:
            assert await hear(client) == b"up ready 100%\n"
        async with connected(where) as client:
            assert await hear(client) == b""
        crowd[0].sock.close()
        while await ask(where) == b"":  # the server may see the newcomer before it sees that there is room
            pass


async def test_peer_that_resets_harms_nobody(state: State) -> None:
    """Before it is answered, or after."""
    async with answering(state) as where:
        for turn in range(20):
            async with connected(where) as client:
                if turn % 2:
                    await hear(client)
                client.reset()
        assert await ask(where) == b"up ready 100%\n"
