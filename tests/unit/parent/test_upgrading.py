"""When an upgrade may be carried out, without a process."""

from __future__ import annotations

import pytest

from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pace
from hybrid.parent.pool import UpgradeStage
from hybrid.shared.boot_report import Report
from tests.unit.parent.world import World

ASKED = ev.Asked(ev.Intent.UPGRADE, "SIGUSR2")
FINE = ev.UpgradeChecked(Report())


@pytest.fixture
def world() -> World:
    """Two workers, all ready, for a while already."""
    world = World()
    world.boots()
    world.now += 10 * pace.STABLE_S
    return world


def test_tried_first_then_done(world: World) -> None:
    """And a second wish meanwhile is the same wish."""
    assert world.happens(ASKED) == [act.CheckUpgrade()]
    assert world.happens(ASKED) == []
    world.happens(FINE)
    assert world.of(act.CarryOutUpgrade) == [act.CarryOutUpgrade()]
    assert world.pool.upgrade is UpgradeStage.DUE
    assert world.happens(FINE) == []


def test_exec_that_fails(world: World) -> None:
    """It is as if the trial had failed, and can be asked for again."""
    world.happens(ASKED, FINE)
    world.happens(ev.UpgradeChecked(Report(error="cannot become the new program: no such file")))
    assert "upgrade failed: cannot become the new program" in world.log()
    assert world.happens(ASKED) == [act.CheckUpgrade()]


def test_reload_waits_for_it(world: World) -> None:
    """The workers of another version are the new parent's, or the old one's if it cannot be replaced."""
    world.happens(ASKED)
    world.asks()
    assert "reloading as soon as the upgrade is through" in world.log()
    world.happens(FINE, ev.TimePassed())
    assert world.of(act.CarryOutUpgrade) and not world.of(act.Resolve)
    world.happens(ev.UpgradeChecked(Report(error="no")))
    assert world.of(act.Resolve)


def test_program_that_cannot_take_over(world: World) -> None:
    """Nothing has changed, and the log says why."""
    world.happens(ASKED)
    world.happens(ev.UpgradeChecked(Report(error="no such format")))
    assert "upgrade failed: no such format" in world.log()
    assert world.pool.upgrade is UpgradeStage.NONE and not world.of(act.CarryOutUpgrade)
    assert world.happens(ASKED) == [act.CheckUpgrade()]


def test_waits_for_a_reload(world: World) -> None:
    """And whoever wants one more reload waits for the upgrade."""
    world.asks()
    assert not world.happens(ASKED)[1:]
    world.asks()  # another one, which waits in turn
    world.happens(ev.ResolveFailed(2, Report(error="no")))
    assert world.of(act.CheckUpgrade) and not world.of(act.Resolve)
    world.happens(FINE)
    assert world.of(act.CarryOutUpgrade) and not world.of(act.Resolve)


def test_waits_for_the_boot_and_never_comes_at_a_stop(world: World) -> None:
    """Somebody waits for "ready"; and who stops needs no new program."""
    young = World()
    young.happens(ev.Started(), ASKED)
    assert not young.of(act.CheckUpgrade)
    world.happens(ev.Asked(ev.Intent.STOP, "SIGTERM"))
    world.happens(ASKED, FINE)
    assert not world.of(act.CheckUpgrade) and not world.of(act.CarryOutUpgrade)
