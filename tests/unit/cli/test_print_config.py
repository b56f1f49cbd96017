"""``--print-config`` tells the truth about each value and its origin."""

from __future__ import annotations

from pathlib import Path

from hybrid.cli.print_config import table
from hybrid.cli.resolve import resolve
from hybrid.shared.options import COMMAND, all_options
from hybrid.shared.settings import Launch


def rows(*argv: str, cwd: object = "/", facts: Launch | None = None, **environ: str) -> dict[str, list[str]]:
    """Return the table's rows, by key: value and origin."""
    text = table(resolve(["app:handle", "--print-config", *argv], environ, str(cwd), facts or Launch()))
    return {line.split()[0]: line.split(maxsplit=2)[1:] for line in text.splitlines() if line.startswith("  ")}


def test_every_option_has_a_row() -> None:
    """Except the aliases that nobody gave: ``bind`` holds what they say."""
    expected = {option.key for option in all_options() if option.group != COMMAND} - {"host", "port", "uds"}
    assert rows().keys() == expected


def test_origin_is_shown_for_each_level(tmp_path: Path) -> None:
    """cli, env NAME, file PATH, default."""
    (tmp_path / "pyproject.toml").write_text("[tool.hybrid]\nbacklog = 9\n")
    shown = rows("--loop", "asyncio", cwd=tmp_path, HYBRID_LOG_LEVEL="debug", WEB_CONCURRENCY="3")
    assert shown["loop"] == ["asyncio", "cli --loop"]
    assert shown["log-level"] == ["debug", "env HYBRID_LOG_LEVEL"]
    assert shown["workers"] == ["3", "env WEB_CONCURRENCY"]
    assert shown["backlog"] == ["9", f"file {tmp_path}/pyproject.toml"]
    assert shown["graceful-timeout"] == ["30", "default"]
    assert shown["pid"] == ["-", "default"]
    assert shown["uds-mode"] == ["666", "default"]


def test_address_made_from_aliases_says_so() -> None:
    """``bind`` names the aliases that it was made from, and from where."""
    shown = rows("--host", "::1", PORT="5000")
    assert shown["bind"] == ["[::1]:5000", "cli --host and env PORT"]
    assert shown["host"] == ["::1", "cli --host"] and shown["port"] == ["5000", "env PORT"]


def test_alias_that_lost_is_shown_as_unused() -> None:
    """A PORT that --bind overrides does not look as if it counted."""
    shown = rows("--bind", "a:1", PORT="5000")
    assert shown["bind"] == ["a:1", "cli --bind"]
    assert shown["port"] == ["5000", "env PORT (not used: bind has another origin)"]


def test_inherited_sockets_are_named() -> None:
    """The address comes from the service manager."""
    assert rows(facts=Launch(listen_fds=(3,)))["bind"] == ["fd://3", "env LISTEN_FDS"]
    assert rows(facts=Launch(listen_fds=(3,), listen_names=("hybrid/x",)))["bind"] == ["127.0.0.1:8000", "default"]


def test_file_that_was_read_is_named(tmp_path: Path) -> None:
    """Or that there was none."""
    (tmp_path / "x.toml").write_text("")
    text = table(resolve(["a:b", "--config", "x.toml"], {}, str(tmp_path), Launch()))
    assert text.splitlines()[0] == f"Configuration file: {tmp_path}/x.toml"
    assert table(resolve(["a:b"], {}, "/", Launch())).splitlines()[0] == "Configuration file: none"
