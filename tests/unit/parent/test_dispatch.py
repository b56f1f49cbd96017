"""Who gets the next connection, with ``--accept passing``: every rule, in tables."""

from __future__ import annotations

from collections import Counter

import pytest

from hybrid.ground.errors import IllegalTransition
from hybrid.parent.dispatch import BRIMFUL, GIVEN, STAGES, STALL_S, Dispatch, Sign, Stage
from hybrid.shared.machine import advance
from hybrid.shared.scoreboard import CELLS_PER_ROW, NOT_ACCEPTING, Cell

AWAY, TAKING, FULL, STUCK, CLOGGED = Stage
SAY = (Sign.TAKES, Sign.TAKES_NONE)


class Shop:
    """Some workers that take connections, a clock, and what the scoreboard says of them."""

    def __init__(self, *active: int, stages: tuple[Stage, ...] = ()) -> None:
        self.now = 100.0
        self.dispatch = Dispatch()
        self.rows: dict[int, list[int]] = {}
        for slot, count in enumerate(active):
            self.joins(slot, count, stages[slot] if stages else TAKING)

    def joins(self, slot: int, active: int = 0, stage: Stage = TAKING) -> None:
        row = self.rows[slot] = [0] * CELLS_PER_ROW
        row[Cell.ACTIVE], row[Cell.HEARTBEAT_NS] = active, 7
        self.dispatch.join(slot, row)
        self.dispatch.takers[slot].stage = stage
        self.dispatch.takers[slot].heartbeat_ns = 7 if stage in (STUCK, CLOGGED) else 0

    def gives(self, count: int) -> list[int]:
        """Hand out ``count`` connections, one after another, all of which are sent; return who got them."""
        got = []
        for _ in range(count):
            self.dispatch.look(self.now)
            for slot, share in self.dispatch.line().share([0]).items():
                self.dispatch.sent(slot, len(share), self.now)
                got.append(slot)
        return got

    def takes(self, slot: int, count: int) -> None:
        """Let a worker take ``count`` off its channel, and hold them."""
        self.rows[slot][Cell.RECEIVED] += count
        self.rows[slot][Cell.ACTIVE] += count

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.dispatch.look(self.now)

    @property
    def due(self) -> float | None:
        """In how many seconds the next look is due."""
        deadline = self.dispatch.deadline
        return None if deadline is None else deadline - self.now

    def stages(self) -> list[Stage]:
        return [taker.stage for taker in self.dispatch.takers.values()]


# ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("sign", Sign)
def test_every_pair_is_a_decision(stage: Stage, sign: Sign) -> None:
    """What is not listed cannot happen, and says so; whatever a worker says may come at any time."""
    if (stage, sign) in STAGES:
        assert advance(STAGES, stage, sign) in Stage
    else:
        assert sign not in SAY
        with pytest.raises(IllegalTransition):
            advance(STAGES, stage, sign)


@pytest.mark.parametrize("stage", Stage)
def test_word_of_a_worker_counts_in_every_stage(stage: Stage) -> None:
    """``-`` always sends it away; ``+`` always makes it one that moves, and never gives its channel room."""
    assert advance(STAGES, stage, Sign.TAKES_NONE) is AWAY
    assert advance(STAGES, stage, Sign.TAKES) is (FULL if stage in BRIMFUL else TAKING)


def test_change_of_a_stage_is_noted() -> None:
    """The shell looks again at who gets what only when something has changed."""
    dispatch = Shop(0).dispatch

    def changes(sign: Sign) -> bool:
        dispatch.changed = False
        dispatch.note(0, sign)
        return dispatch.changed

    signs = (Sign.TAKES, Sign.REFUSED, Sign.TAKES, Sign.ROOM)
    assert [changes(sign) for sign in signs] == [False, True, False, True]
    dispatch.changed = False
    dispatch.leave(0)
    assert dispatch.changed


# ── the least load, and turns ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("active", "count", "expected"),
    [
        ((0, 0, 0), 3, {0: 1, 1: 1, 2: 1}),
        ((5, 0, 0), 4, {1: 2, 2: 2}),
        ((5, 1, 3), 7, {1: 4, 2: 2, 0: 1}),
        ((0,), 3, {0: 3}),
        ((), 3, {}),
    ],
)
def test_least_load_wins(active: tuple[int, ...], count: int, expected: dict[int, int]) -> None:
    """Open connections and those on their way count; after any number all are even."""
    assert Counter(Shop(*active).gives(count)) == expected


@pytest.mark.parametrize("active", [(0, 0, 0), (5, 1, 3), (2, 2, 9, 0)])
def test_handful_is_shared_as_if_it_came_one_by_one(active: tuple[int, ...]) -> None:
    """A handful is one look at the numbers, and as many messages as there are workers; the outcome is the same."""
    together = Shop(*active).dispatch.line().share([0] * 13)
    assert Counter({slot: len(share) for slot, share in together.items()}) == Counter(Shop(*active).gives(13))


def test_equals_have_turns() -> None:
    """Connections that come and go one at a time are spread evenly, not all the first worker's."""
    shop = Shop(0, 0, 0)
    got = []
    for _ in range(9):
        (slot,) = shop.gives(1)
        got.append(slot)
        shop.takes(slot, 1)
        shop.rows[slot][Cell.ACTIVE] = 0
    assert got == [0, 1, 2] * 3


def test_new_worker_is_filled_first() -> None:
    """A replacement gets what comes until it holds as many as the others."""
    shop = Shop(10, 10)
    shop.dispatch.leave(1)
    shop.joins(1)
    assert shop.gives(10) == [1] * 10


def test_what_a_worker_has_taken_is_counted_once() -> None:
    """On its way, then open: the load is the same; closed: it is less."""
    shop = Shop(0, 0)
    assert shop.gives(2) == [0, 1]
    shop.takes(0, 1)
    assert shop.gives(2) == [0, 1]  # two each
    shop.takes(0, 1)
    shop.rows[0][Cell.ACTIVE] = 0
    assert shop.gives(2) == [0, 0]


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage not in GIVEN])
def test_nobody_is_given_more_than_he_takes(stage: Stage) -> None:
    """Away, or a channel that is full: however small the load."""
    shop = Shop(0, 50, stages=(stage, TAKING))
    assert shop.gives(2) == [1, 1]
    assert not Shop(0, stages=(stage,)).dispatch.open


def test_worker_that_is_about_to_say_no_is_the_last_to_be_asked() -> None:
    """NOT_ACCEPTING is in its cell before its word is in the channel."""
    shop = Shop(NOT_ACCEPTING, 50)
    assert shop.gives(2) == [1, 1]


@pytest.mark.parametrize(
    ("limit", "active", "on_way", "expected"),
    [
        (100, 0, 0, [[7, 8, 9]]),
        (100, 97, 0, [[7, 8, 9]]),
        (100, 98, 0, [[7], [8], [9]]),
        (100, 90, 8, [[7], [8], [9]]),
        (100, 90, 7, [[7, 8, 9]]),
        (0, 0, 0, [[7], [8], [9]]),
        (100, NOT_ACCEPTING, 0, [[7], [8], [9]]),
        (2**64 - 1, 0, 0, [[7, 8, 9]]),
    ],
)
def test_limit_can_be_reached_in_no_message_of_many(
    limit: int, active: int, on_way: int, expected: list[list[int]]
) -> None:
    """A worker takes a message whole: where that could be one too many, or nothing is known, each has its own."""
    shop = Shop(active)
    shop.rows[0][Cell.LIMIT] = limit
    shop.dispatch.takers[0].sent = on_way
    assert shop.dispatch.messages(0, [7, 8, 9]) == expected


def test_worker_that_refused_is_left_out() -> None:
    """The rest of the handful goes to the others; to nobody, if there are none."""
    shop = Shop(0, 0, 0)
    line = shop.dispatch.line()
    assert line.share([7, 8, 9]) == {0: [7], 1: [8], 2: [9]}
    line.leave_out(1)
    assert line.share([8]) == {0: [8]}
    line.leave_out(0)
    line.leave_out(2)
    assert line.share([8]) == {}


# ── numbers that cannot be ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lie", [1, 10**6, 2**64 - 1])
def test_more_received_than_sent_is_corrected(lie: int) -> None:
    """A worker that says it received what nobody sent has no negative load, now or after the next lie."""
    shop = Shop(3, 3)
    shop.rows[0][Cell.RECEIVED] = lie
    assert Counter(shop.gives(4)) == {0: 2, 1: 2}
    shop.rows[0][Cell.RECEIVED] = 0
    shop.passes(0)
    assert shop.dispatch.takers[0].sent >= shop.dispatch.takers[0].received


@pytest.mark.parametrize("lie", [2**62, 2**64 - 1])
def test_load_that_cannot_be_costs_only_the_liar(lie: int) -> None:
    """Whoever claims a huge load gets nothing."""
    shop = Shop(0, 0)
    shop.rows[0][Cell.ACTIVE] = lie
    assert shop.gives(3) == [1, 1, 1]


def test_more_taken_back_than_sent_is_no_negative_load() -> None:
    """RECEIVED ran ahead of the truth, and then everything was read back."""
    shop = Shop(3, 3)
    shop.gives(4)
    shop.rows[0][Cell.RECEIVED] = 2
    shop.passes(0)
    shop.dispatch.taken_back(0, 2)
    assert shop.dispatch.takers[0].sent == 2
    assert Counter(shop.gives(4)) == {0: 3, 1: 1}


def test_channel_that_was_found_empty_counts_as_empty() -> None:
    """What was sent and is not there was received, whatever the cell says; when it says so later, it is right again."""
    shop = Shop(0)
    shop.gives(4)
    shop.dispatch.taken_back(0, 1)
    shop.dispatch.emptied(0)  # three were read already, but RECEIVED was not written yet
    assert shop.dispatch.takers[0].sent == 0
    shop.takes(0, 3)
    shop.passes(0)
    assert shop.dispatch.takers[0].sent == shop.dispatch.takers[0].received == 3


# ── stuck ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_worker_that_does_not_move_is_stuck() -> None:
    """Not before STALL_S has passed, and only while something is on its way."""
    shop = Shop(0, 9)
    assert shop.due is None
    shop.gives(2)
    assert shop.due == pytest.approx(STALL_S)
    shop.passes(STALL_S / 2)
    assert shop.stages() == [TAKING, TAKING]
    assert shop.due == pytest.approx(STALL_S / 2)
    shop.passes(STALL_S / 2)
    assert shop.stages() == [STUCK, TAKING]


def test_worker_that_takes_something_is_not_stuck() -> None:
    """Its time begins anew with each move; with nothing on its way there is no deadline."""
    shop = Shop(0)
    shop.gives(2)
    for _ in range(2):
        shop.takes(0, 1)
        shop.passes(STALL_S)
        assert shop.stages() == [TAKING]
    assert shop.due is None
    shop.passes(100.0)
    shop.gives(1)
    assert shop.stages() == [TAKING]
    assert shop.due == pytest.approx(STALL_S)


def test_worker_that_is_sent_more_and_more_is_stuck_as_soon() -> None:
    """What was sent first counts: a busy server would never find out else."""
    shop = Shop(0)
    shop.gives(1)
    for _ in range(9):
        shop.passes(STALL_S / 10)
        shop.gives(1)
        assert shop.stages() == [TAKING]
    assert shop.due == pytest.approx(STALL_S / 10)
    shop.passes(STALL_S / 9)
    assert shop.stages() == [STUCK]


def test_worker_that_moves_again_has_its_time_again() -> None:
    """A heartbeat makes it one that takes, for another STALL_S at least."""
    shop = Shop(0)
    shop.gives(1)
    shop.passes(STALL_S)
    shop.rows[0][Cell.HEARTBEAT_NS] += 1
    for _ in range(3):
        shop.passes(0)
        assert shop.stages() == [TAKING]
    assert shop.due == pytest.approx(STALL_S)


@pytest.mark.parametrize("cell", [Cell.HEARTBEAT_NS, Cell.RECEIVED])
@pytest.mark.parametrize(("before", "stuck"), [(TAKING, STUCK), (FULL, CLOGGED)])
def test_stuck_until_it_moves(cell: int, before: Stage, stuck: Stage) -> None:
    """Its loop turns, or it takes something: only then is it as before; with a full channel, too."""
    shop = Shop(0)
    shop.gives(2)
    shop.dispatch.takers[0].stage = before
    shop.passes(STALL_S)
    shop.passes(STALL_S)
    assert shop.stages() == [stuck]
    shop.rows[0][cell] += 1
    shop.passes(STALL_S)
    assert shop.stages() == [before]


def test_heartbeat_alone_is_no_progress() -> None:
    """A loop that turns and leaves its channel alone does not serve what lies in it."""
    shop = Shop(0)
    shop.gives(1)
    shop.rows[0][Cell.HEARTBEAT_NS] += 1
    shop.passes(STALL_S)
    assert shop.stages() == [STUCK]


def test_stuck_worker_is_given_nothing_while_another_is_not() -> None:
    """However many connections the other one holds."""
    shop = Shop(0, 1000, stages=(STUCK, TAKING))
    assert shop.gives(3) == [1, 1, 1]


def test_stuck_workers_are_given_connections_when_all_are() -> None:
    """The channel of the one that moves first is the shortest way; the least load among them still counts."""
    shop = Shop(1, 0, stages=(STUCK, STUCK))
    assert Counter(shop.gives(3)) == {0: 1, 1: 2}
    assert shop.due == pytest.approx(STALL_S)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ((TAKING, TAKING), None),
        ((FULL, TAKING), None),
        ((STUCK, TAKING), 0),
        ((CLOGGED, TAKING), 0),
        ((AWAY, TAKING), 0),
        ((AWAY, STUCK), 0),
        ((STUCK, STUCK), None),
        ((STUCK, CLOGGED), None),
        ((STUCK, FULL), None),
        ((STUCK, AWAY), None),
    ],
)
def test_who_is_taken_from(stages: tuple[Stage, ...], expected: int | None) -> None:
    """Who takes none loses what lies in his channel to anybody; who is stuck, only to one that is not."""
    shop = Shop(0, 0, stages=stages)
    shop.dispatch.takers[0].sent = 3
    assert shop.dispatch.source() == expected
    shop.dispatch.emptied(0)
    assert shop.dispatch.source() is None


def test_who_is_away_has_no_deadline() -> None:
    """What he has not taken waits until somebody takes any: that is an event."""
    shop = Shop(0)
    shop.gives(1)
    shop.dispatch.note(0, Sign.TAKES_NONE)
    shop.passes(STALL_S)
    assert shop.stages() == [AWAY]
    assert shop.due is None


def test_all_stuck_is_no_reason_to_move_anything() -> None:
    """No ping-pong: as long as nobody moves, connections stay where they are."""
    shop = Shop(0, 0)
    shop.gives(6)
    for _ in range(5):
        shop.passes(STALL_S)
        assert shop.stages() == [STUCK, STUCK]
        assert shop.dispatch.source() is None
    shop.rows[1][Cell.HEARTBEAT_NS] += 1
    shop.passes(STALL_S)
    assert shop.stages() == [STUCK, TAKING]
    assert shop.dispatch.source() == 0
