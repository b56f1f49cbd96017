"""What the options of control may say together, and what becomes of their text."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.assemble import assemble
from hybrid.shared.control_settings import ControlSettings, check_control
from hybrid.shared.keywords import settings_from_keywords
from hybrid.shared.options import Value
from hybrid.shared.settings import Launch


@pytest.mark.parametrize(
    ("control", "workers"),
    [
        (ControlSettings(), 0),
        (ControlSettings("off"), 0),
        (ControlSettings("/run/x.sock", "127.0.0.1:9100", "127.0.0.1:9101"), 2),
        (ControlSettings(metrics_bind="127.0.0.1:0", agent_bind="127.0.0.1:0"), "auto"),
    ],
)
def test_these_go_together(control: ControlSettings, workers: int | str) -> None:
    """Nothing is refused that can work."""
    check_control(control, workers)


@pytest.mark.parametrize(
    ("control", "workers", "words"),
    [
        (ControlSettings("/run/x.sock"), 0, "--control /run/x.sock with --workers 0"),
        (ControlSettings(metrics_bind=":9100"), 0, "--metrics-bind :9100 with --workers 0"),
        (ControlSettings(agent_bind=":9100"), 0, "--agent-bind :9100 with --workers 0"),
        (ControlSettings(metrics_bind=":9100", agent_bind=":9100"), 2, "Give each its own port"),
    ],
)
def test_these_do_not(control: ControlSettings, workers: int | str, words: str) -> None:
    """What cannot be meant is refused with what to do instead."""
    with pytest.raises(UsageError, match=words):
        check_control(control, workers)


@pytest.mark.parametrize("flag", ["metrics_bind", "agent_bind"])
def test_what_is_served_has_an_address_of_its_own(flag: str) -> None:
    """Else the port would be called in use, by another server that nobody finds."""
    control = ControlSettings(**{flag: "127.0.0.1:8000"})
    with pytest.raises(UsageError, match=f"8000 for --bind and for --{flag.replace('_', '-')}: one socket"):
        check_control(control, 2, ("127.0.0.1:7000", "127.0.0.1:8000"))
    check_control(control, 2, ("127.0.0.1:7000", "127.0.0.1:0"))


def test_a_path_becomes_absolute(tmp_path: Path) -> None:
    """The socket is where the command was started, wherever its server goes; words stay words."""
    given = {flag: Value(value) for flag, value in (("--control", "x.sock"), ("--metrics-bind", "unix:m.sock"))}
    control = assemble(given, str(tmp_path), Launch())[0].control
    assert (control.socket, control.metrics_bind) == (f"{tmp_path}/x.sock", f"unix:{tmp_path}/m.sock")
    given = {"--control": Value("unix:x.sock")}  # as addresses are written, and hybrid-ctl takes them
    assert assemble(given, str(tmp_path), Launch())[0].control.socket == f"{tmp_path}/x.sock"
    for word in ("auto", "off"):
        assert assemble({"--control": Value(word)}, str(tmp_path), Launch())[0].control.socket == word


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("control", "", "Give a path, auto, or off"),
        ("control", "unix:", "Give a path, auto, or off"),
        ("metrics_bind", "9100", "no host"),
        ("agent_bind", "x", "no port"),
    ],
)
def test_bad_values_are_refused(keyword: str, value: str, words: str) -> None:
    """An address is one of --bind's grammar; the socket is named."""
    with pytest.raises(UsageError, match=words):
        settings_from_keywords("app:app", {keyword: value})
