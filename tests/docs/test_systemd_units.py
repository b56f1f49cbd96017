"""The unit files are such as systemd takes, and such as the server needs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from hybrid.cli.serve import main
from tests.docs.pages import ROOT

UNITS = ROOT / "examples" / "systemd"
NOTIFY_RELOAD = 253
"""The first version of systemd with it."""


def setting(name: str, unit: str = "hybrid.service") -> str:
    """Return what a unit sets ``name`` to."""
    (value,) = re.findall(rf"^{name}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
    return str(value)


def version() -> int:
    """Return systemd's; skip where there is no systemd-analyze."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (package systemd)")
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True, timeout=30)
    return int(said.stdout.split()[1])


def verified(service: str, folder: Path) -> str:
    """Return what systemd has to say about the units, ``service`` being the text of the one."""
    (folder / "hybrid.service").write_text(
        re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", service, flags=re.MULTILINE)
    )
    shutil.copy(UNITS / "hybrid.socket", folder)
    command = ("systemd-analyze", "verify", "--man=no", str(folder / "hybrid.service"), str(folder / "hybrid.socket"))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return str(done.stdout)


def test_systemd_knows_every_setting(tmp_path: Path) -> None:
    """One that it does not know is ignored with a line that nobody reads."""
    service = (UNITS / "hybrid.service").read_text()
    if version() < NOTIFY_RELOAD:
        service = service.replace("Type=notify-reload", "Type=notify")  # as the file says
    assert verified(service, tmp_path) == ""


def test_guard_sees_a_setting_that_is_none(tmp_path: Path) -> None:
    """The check above says no where it should."""
    version()
    service = (UNITS / "hybrid.service").read_text().replace("LimitCORE", "LimitKORE")
    assert "LimitKORE" in verified(service, tmp_path)


def test_command_of_the_unit_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the time to stop is more than the command gives its connections."""
    monkeypatch.chdir(tmp_path)
    _program, *arguments = shlex.split(setting("ExecStart"))
    assert main([*arguments, "--print-config"]) == 0
    assert capsys.readouterr().err == ""
    grace_s = float(arguments[arguments.index("--graceful-timeout") + 1])
    assert float(setting("TimeoutStopSec")) >= grace_s + 10


def test_page_shows_the_same() -> None:
    """The unit in the how-to is the file's, without its comments."""
    page = (ROOT / "docs/how-to/systemd.md").read_text()
    shown = page.partition("```ini\n[Service]\n")[2].partition("```")[0].splitlines()
    assert len(shown) > 9
    assert set(shown) <= set((UNITS / "hybrid.service").read_text().splitlines())
