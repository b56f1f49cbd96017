"""HYBRID_GRACE: what the platform leaves a stop, and what is said of a stop that is longer."""

from __future__ import annotations

import os

import pytest

from hybrid.ground.errors import UsageError
from hybrid.parent.grace import check_grace, longest_stop_s, platform_grace_s
from hybrid.shared.log_line import LogWriter, Style
from hybrid.shared.settings import TimeoutSettings


def said(given_s: int | None, *, grace_s: float = 30.0, drain_delay_s: float = 0.0) -> str:
    """Return what the log gets."""
    fd = os.memfd_create("log")
    try:
        timeout = TimeoutSettings(grace_s=grace_s, drain_delay_s=drain_delay_s)
        check_grace(timeout, given_s, LogWriter(fd, Style.TEXT, "debug", "parent"))
        return os.pread(fd, 65536, 0).decode()
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [({}, None), ({"HYBRID_GRACE": ""}, None), ({"HYBRID_GRACE": "45"}, 45), ({"HYBRID_GRACE": " 0 "}, 0)],
)
def test_number_is_read(environ: dict[str, str], seconds: int | None) -> None:
    """An empty variable is not set."""
    assert platform_grace_s(environ) == seconds


@pytest.mark.parametrize("text", ["45s", "4.5", "-1", "٤٥", "1_0", "inf", "9" * 10])
def test_what_is_no_number_is_refused(text: str) -> None:
    """With the value and what to write."""
    with pytest.raises(
        UsageError, match=r"not a whole number of seconds. Give it the pod's terminationGracePeriod"
    ) as e:
        platform_grace_s({"HYBRID_GRACE": text})
    assert repr(text) in str(e.value) and e.value.exit_code == 2


def test_longest_stop_is_the_sum_of_its_steps() -> None:
    """Delay, drain, a second for cancelled handlers, four to leave."""
    assert longest_stop_s(TimeoutSettings(grace_s=25.0, drain_delay_s=10.0)) == 40.0


@pytest.mark.parametrize("given_s", [None, 35, 36, 10**6])
def test_what_fits_is_not_mentioned(given_s: int | None) -> None:
    """Nor is anything where nobody says how long there is."""
    assert said(given_s) == ""


def test_what_does_not_fit_is_reckoned_up() -> None:
    """The sum, what comes of it, and the two numbers that would mend it."""
    line = said(30, drain_delay_s=2.5)
    assert "warning" in line and "\n" not in line.rstrip("\n")
    assert (
        "a stop may take 37.5 s (2.5 of --drain-delay + 30 of --graceful-timeout + 1 for cancelled handlers + 4 to "
        "leave), but HYBRID_GRACE=30: who is still served then is killed. Set terminationGracePeriodSeconds and "
        "HYBRID_GRACE to 38 at least, or --graceful-timeout to 22.5 at most."
    ) in line


def test_remedy_that_is_none_is_not_given() -> None:
    """No --graceful-timeout is short enough when the delay alone is too long."""
    line = said(10, drain_delay_s=20.0)
    assert line.rstrip().endswith("HYBRID_GRACE to 55 at least.")
    assert said(5).rstrip().endswith("or --graceful-timeout to 0 at most.")
