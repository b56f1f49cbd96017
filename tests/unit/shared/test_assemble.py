"""Aliases of --bind, absolute paths, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.assemble import assemble, resolve_bind
from hybrid.shared.options import Level, Origin, Value
from hybrid.shared.settings import Launch, Settings

CLI, ENV, FOREIGN, FILE = Level.COMMAND_LINE, Level.ENVIRONMENT, Level.FOREIGN, Level.FILE


def given(**levels: tuple[Level, Any]) -> dict[str, Value]:
    """Return values by flag: ``given(port=(CLI, 80))``."""
    return {f"--{name}": Value(value, Origin(level, f"--{name}")) for name, (level, value) in levels.items()}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ("127.0.0.1:8000",)),
        ({"bind": (FILE, ("[::1]:1", "fd://4"))}, ("[::1]:1", "fd://4")),
        ({"port": (CLI, 9)}, ("127.0.0.1:9",)),
        ({"port": (ENV, 9)}, ("127.0.0.1:9",)),
        ({"port": (CLI, 0)}, ("127.0.0.1:0",)),
        ({"host": (CLI, "localhost")}, ("localhost:8000",)),
        ({"host": (CLI, "::1"), "port": (CLI, 9)}, ("[::1]:9",)),
        ({"uds": (CLI, "/a")}, ("unix:/a",)),
        # PORT is set by a platform: it reaches us from outside
        ({"port": (FOREIGN, 9)}, ("0.0.0.0:9",)),
        ({"port": (FOREIGN, 9), "host": (CLI, "::")}, ("[::]:9",)),
        ({"port": (FOREIGN, 9), "host": (FILE, "localhost")}, ("localhost:9",)),
        # a higher level wins over a lower one
        ({"bind": (CLI, ("a:1",)), "port": (FOREIGN, 9)}, ("a:1",)),
        ({"bind": (ENV, ("a:1",)), "port": (FOREIGN, 9)}, ("a:1",)),
        ({"bind": (FILE, ("a:1",)), "port": (FOREIGN, 9)}, ("0.0.0.0:9",)),
        ({"bind": (FILE, ("a:1",)), "port": (CLI, 9)}, ("127.0.0.1:9",)),
        ({"bind": (FILE, ("a:1",)), "uds": (ENV, "/a")}, ("unix:/a",)),
        ({"uds": (FILE, "/a"), "port": (ENV, 9)}, ("127.0.0.1:9",)),
        ({"uds": (CLI, "/a"), "port": (FOREIGN, 9)}, ("unix:/a",)),
        ({"bind": (CLI, ("a:1",)), "uds": (CLI, "")}, ("a:1",)),
        # a form between two levels cuts the lower one off
        ({"host": (CLI, "h"), "bind": (ENV, ("a:1",)), "port": (FILE, 9)}, ("h:8000",)),
        ({"host": (CLI, "h"), "uds": (ENV, "/a"), "port": (FOREIGN, 9), "bind": (FILE, ("a:1",))}, ("h:8000",)),
    ],
)
def test_aliases_become_addresses(values: dict[str, tuple[Level, Any]], expected: tuple[str, ...]) -> None:
    """The highest level that says where to listen decides, and ``bind`` holds the result."""
    assert resolve_bind(given(**values))[0] == expected


def test_origin_of_an_address_is_what_it_was_made_from() -> None:
    """``--print-config`` can say through which alias an address came."""
    values = given(host=(CLI, "h"), port=(FOREIGN, 9))
    assert resolve_bind(values)[1] == (values["--host"].origin, values["--port"].origin)
    assert resolve_bind({})[1] == ()


@pytest.mark.parametrize("level", [CLI, ENV, FILE, Level.KEYWORD])
@pytest.mark.parametrize(
    ("one", "other"), [("bind", "host"), ("bind", "port"), ("bind", "uds"), ("uds", "host"), ("uds", "port")]
)
def test_two_forms_on_one_level_are_refused(level: Level, one: str, other: str) -> None:
    """Nobody can know which was meant; the error names both and says which to drop."""
    samples: dict[str, Any] = {"bind": ("a:1",), "host": "h", "port": 0, "uds": "/a"}
    with pytest.raises(UsageError) as caught:
        resolve_bind(given(**{name: (level, samples[name]) for name in (one, other)}))
    assert f"cannot use --{one} " in str(caught.value) and f"together with --{other} " in str(caught.value)
    assert f"Drop --{other}, or drop --{one}." in str(caught.value)


def test_inherited_sockets_replace_the_default_address() -> None:
    """Started by a service manager without any address, the server serves what it was handed."""
    assert resolve_bind({}, (3, 4))[0] == ("fd://3", "fd://4")


def test_inherited_sockets_are_served_beside_explicit_addresses() -> None:
    """No handed-over socket is left with clients that wait for ever; one that is named is not taken twice."""
    assert resolve_bind(given(bind=(CLI, ("a:1",))), (3,))[0] == ("a:1", "fd://3")
    assert resolve_bind(given(bind=(CLI, ("fd://4", "a:1"))), (3, 4))[0] == ("fd://4", "a:1", "fd://3")


def made(values: dict[str, Value], directory: str) -> Settings:
    """Return the assembled settings."""
    return assemble(values, directory, Launch())[0]


def test_defaults_are_the_declared_ones() -> None:
    """With nothing given only app_dir differs from the declarations: it is absolute."""
    settings = made({}, "/")
    assert settings.app.app_dir == "/"
    assert (settings.bind, settings.worker, settings.timeout, settings.log, settings.process) == (
        Settings().bind,
        Settings().worker,
        Settings().timeout,
        Settings().log,
        Settings().process,
    )


def test_every_path_becomes_absolute(tmp_path: Path) -> None:
    """The parent may be anywhere: no relative path reaches it."""
    (tmp_path / "log.ini").touch()
    (tmp_path / "src").mkdir()
    texts = {
        "TARGET": "pkg/../app.py:make.it",
        "--app-dir": "src",
        "--lifespan": "life.py:span",
        "--log-file": "x.log",
        "--log-config": "log.ini",
        "--pid": "run/pid",
        "--uds": "./x.sock",
    }
    settings = made({flag: Value(text, Origin(CLI, flag)) for flag, text in texts.items()}, str(tmp_path))
    assert settings.app.target == f"{tmp_path}/app.py:make.it"
    assert settings.app.app_dir == f"{tmp_path}/src"
    assert settings.app.lifespan == f"{tmp_path}/life.py:span"
    assert settings.log.file == f"{tmp_path}/x.log"
    assert settings.log.config == f"{tmp_path}/log.ini"
    assert settings.process.pid_file == f"{tmp_path}/run/pid"
    assert settings.bind.bind == (f"unix:{tmp_path}/x.sock",)
    assert settings.bind.uds == f"{tmp_path}/x.sock"


@pytest.mark.parametrize("target", ["package.module:attr", "nonsense", "a/b:c", ""])
def test_what_is_no_file_target_is_left_to_the_loader(target: str) -> None:
    """Only a path that ends in .py is a path."""
    assert made({"TARGET": Value(target, Origin(CLI, "TARGET"))}, "/srv").app.target == target


def test_abstract_socket_name_is_no_path() -> None:
    """``unix:@name`` is not moved into a directory."""
    assert made(given(bind=(CLI, ("unix:@name", "unix:x"))), "/srv").bind.bind == ("unix:@name", "unix:/srv/x")


@pytest.mark.parametrize(("flag", "kind"), [("--app-dir", "directory"), ("--log-config", "file")])
def test_path_that_must_exist_is_looked_at(flag: str, kind: str, tmp_path: Path) -> None:
    """A slip in a path is told at once, not by the first worker."""
    with pytest.raises(UsageError, match=rf"{flag}, from the command line: there is no .*/nope\. Give a {kind} that"):
        made({flag: Value("nope", Origin(CLI, flag))}, str(tmp_path))
    (tmp_path / "file").touch()
    wrong = "file" if kind == "directory" else "."
    with pytest.raises(UsageError, match=f"is not a {kind}"):
        made({flag: Value(wrong, Origin(CLI, flag))}, str(tmp_path))


@pytest.mark.parametrize("bind", ["unix:/run/app.sock", "fd://3"])
def test_port_that_cannot_be_shared_is_refused_by_the_resolver(bind: str) -> None:
    """``--accept reuseport`` on a unix socket: said before anything is started, with the way out."""
    with pytest.raises(UsageError, match=r"together with --accept reuseport.*Bind HOST:PORT"):
        assemble(given(accept=(CLI, "reuseport"), bind=(CLI, (bind,))), "/", Launch())
    assemble(given(accept=(CLI, "shared"), bind=(CLI, (bind,))), "/", Launch())
