"""The load generator tells when it was the bottleneck."""

from __future__ import annotations

from array import array

from hybrid.bench.jobs import Outcome
from hybrid.bench.load import Honesty, honesty


def test_idle_clients_are_no_problem() -> None:
    """Half of the time asleep, never late."""
    found = honesty([Outcome(lags_s=array("d", [0.0001] * 200), busiest=0.4, waiting=0.1)])
    assert found.problem == "" and not found.is_crowded
    assert honesty([]) == Honesty()


def test_busy_client_is_named() -> None:
    """It could not have done more."""
    assert honesty([Outcome(busiest=0.97)]).problem == "a client process was 97% busy"


def test_late_schedule_is_named_before_the_load() -> None:
    """One slot in a hundred later than 10 ms."""
    found = honesty([Outcome(lags_s=array("d", [0.0] * 97 + [0.05, 0.06, 0.07]), busiest=0.99)])
    assert found.problem == "clients fell 60 ms behind their schedule"


def test_one_bad_round_of_several_is_not_held_against_it() -> None:
    """The median of the rounds decides."""
    rounds = [Outcome(busiest=share) for share in (0.5, 0.99, 0.6)]
    assert honesty(rounds).problem == ""


def test_ports_that_ran_out_are_always_named() -> None:
    """Once is enough: the server did not see those connections at all."""
    assert "ran out of ports 3 times" in honesty([Outcome(), Outcome(no_port=3)]).problem


def test_clients_that_wait_for_a_cpu_make_a_crowd() -> None:
    """Not the client's fault, but connections/s are the machine's."""
    found = honesty([Outcome(busiest=0.5, waiting=0.45)])
    assert found.is_crowded and not found.problem
