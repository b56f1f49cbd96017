"""The rows of the comparison are the textbook's, and every name of --accept is one of them."""

from __future__ import annotations

from hybrid.bench.designs import BLOCKING, ITERATIVE, LOOP, ONE_LOOP, REFERENCE, chosen, designs, unfit
from hybrid.shared.models import MODELS

BOTH = designs((BLOCKING, LOOP), 8)


def test_textbooks_nine_designs_are_there_in_order() -> None:
    """0 to 8, with blocking handlers."""
    assert [row.number for row in designs((BLOCKING,), 8) if row.number] == list("012345678")


def test_every_model_is_compared_for_each_kind_that_it_serves() -> None:
    """One is never dropped because somebody forgot it here."""
    for name, model in MODELS.items():
        kinds = {row.kind for row in BOTH if row.name == name}
        assert kinds == {kind for kind, fits in ((LOOP, model.loop), (BLOCKING, model.threaded)) if fits}, name


def test_rows_are_told_apart() -> None:
    """By kind and name."""
    assert len({row.key for row in BOTH}) == len(BOTH)


def test_baselines_have_nobody_to_share_with() -> None:
    """One for each kind, one worker; the reference of each kind is a row."""
    assert {row.name: row.kind for row in BOTH if row.is_baseline} == {ITERATIVE: BLOCKING, ONE_LOOP: LOOP}
    assert all(any((row.kind, row.name) == pair for row in BOTH) for pair in REFERENCE.items())


def test_chosen_models_bring_their_baseline() -> None:
    """CPU minus the baseline needs it."""
    assert [row.name for row in chosen(BOTH, ("shared",))] == [ONE_LOOP, "shared"]
    assert [row.key for row in chosen(BOTH, ("thread",))] == ["blocking iterative", "blocking thread"]
    assert chosen(BOTH, ()) == BOTH


def test_default_for_blocking_handlers_is_a_row() -> None:
    """``threads`` with as many threads as are asked for, beside the textbook's one; with one they are the same."""
    rows = [row for row in designs((BLOCKING,), 16) if row.name == "threads"]
    assert [(row.number, row.threads, row.shown) for row in rows] == [
        ("2", 1, "threads, 1 thread"),
        ("", 16, "threads, 16 threads"),
    ]
    assert [row.threads for row in chosen(designs((BLOCKING,), 16), ("threads",))] == [1, 1, 16]
    assert [row.threads for row in designs((BLOCKING,), 1) if row.name == "threads"] == [1]


def test_model_that_cannot_serve_is_reported() -> None:
    """Not silently dropped, whether it was named or not."""
    loop = designs((LOOP,), 8)
    assert unfit(loop, ("shared", "fork")) == ["fork"]
    assert "fork" in unfit(loop, ()) and "shared" not in unfit(loop, ())


def test_slots_bound_what_blocking_handlers_can_hold() -> None:
    """Workers times threads; a thread or a child for each connection has no bound; a loop has none."""
    rows = {row.key: row for row in BOTH}
    assert rows["blocking threads=main, 8 threads"].slots(4) == 32
    assert rows["blocking threads, 1 thread"].slots(4) == 4
    assert rows["blocking threads, 8 threads"].slots(4) == 32
    assert rows["blocking iterative"].slots(4) == 1
    assert rows["blocking thread"].slots(4) == 0
    assert rows["loop shared"].slots(4) == 0
