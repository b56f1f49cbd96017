"""Settings of an embedded server: keywords, the whole keywords, and nothing but the keywords."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.keywords import refuse_what_needs_a_pool, settings_from_keywords
from hybrid.shared.options import options_for
from hybrid.shared.settings import Settings


def test_keywords_are_flags_with_underscores() -> None:
    """What one knows from the command line works in a call, with Python's own types."""
    settings = settings_from_keywords(
        "app:handle", {"bind": "127.0.0.1:0", "workers": 2, "graceful_timeout": 1.5, "log_level": "debug",
                       "uds_mode": 0o660, "factory": True, "limit_connections": "auto"}
    )  # fmt: skip
    assert settings.app.target == "app:handle" and settings.app.factory is True
    assert settings.bind.bind == ("127.0.0.1:0",) and settings.bind.uds_mode == 0o660
    assert settings.worker.workers == 2 and settings.worker.limit_connections == "auto"
    assert settings.timeout.grace_s == 1.5 and settings.log.level == "debug"
    assert settings.launch.workers_source == "workers="


@pytest.mark.parametrize("binds", [["127.0.0.1:0", "unix:/a"], ("127.0.0.1:0", "unix:/a")])
def test_several_addresses_are_a_sequence(binds: object) -> None:
    """A list and a tuple are both sequences of addresses."""
    assert settings_from_keywords("app:handle", {"bind": binds}).bind.bind == ("127.0.0.1:0", "unix:/a")


def test_none_means_not_given() -> None:
    """A program can pass its own optional arguments through."""
    settings = settings_from_keywords("app:handle", {"bind": None, "workers": None})
    assert settings.bind.bind == Settings().bind.bind and settings.worker.workers == "auto"
    assert settings.launch.workers_source == "default"


def test_aliases_work_in_a_call() -> None:
    """host= and port= are as good as bind=."""
    assert settings_from_keywords("a:b", {"host": "::1", "port": 0}).bind.bind == ("[::1]:0",)


def test_paths_may_be_path_objects_and_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones start at the working directory of the program."""
    monkeypatch.chdir(tmp_path)
    settings = settings_from_keywords("app.py:handle", {"uds": Path("x.sock"), "log_file": Path("x.log")})
    assert settings.bind.bind == (f"unix:{tmp_path}/x.sock",)
    assert settings.log.file == f"{tmp_path}/x.log"
    assert settings.app.target == f"{tmp_path}/app.py:handle"


def test_environment_and_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded server is what its program says, wherever the program is started."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.hybrid]\nworkers = 7\n")
    for name in ("PORT", "WEB_CONCURRENCY", "HYBRID_WORKERS", "HYBRID_PORT"):
        monkeypatch.setenv(name, "9")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    settings = settings_from_keywords("a:b", {})
    assert settings.worker.workers == "auto"
    assert settings.bind.bind == ("127.0.0.1:8000",)
    assert settings.launch.listen_fds == ()


def test_import_path_is_the_callers(tmp_path: Path) -> None:
    """The pool imports what the program would; app_dir goes first when it is given."""
    path = settings_from_keywords("a:b", {}).launch.sys_path
    assert all(os.path.isabs(entry) for entry in path)
    assert path[0] == os.path.join(os.getcwd(), sys.path[0])
    assert settings_from_keywords("a:b", {"app_dir": tmp_path}).launch.sys_path[0] == str(tmp_path)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"wrokers": 2}, "unknown keyword wrokers=. Did you mean workers? Correct or remove it."),
        ({"config": "x"}, "config= is an option of the command line, not of an embedded server. Remove it."),
        ({"workers": "x"}, "cannot use 'x' for workers=: not a whole number. "),
        ({"workers": -1}, "cannot use '-1' for workers=: less than 0. "),
        ({"workers": True}, "cannot use 'true' for workers=: not a whole number. "),
        ({"workers": 1.5}, "cannot use '1.5' for workers=: not a whole number. "),
        ({"workers": [1]}, "cannot use [1] for workers=: a list is no value of an option. "),
        ({"bind": []}, "cannot use [] for bind=: it is empty. "),
        ({"bind": 8000}, "cannot use '8000' for bind=: no host. "),
        ({"bind": b"a:1"}, "cannot use b'a:1' for bind=: a bytes is no value of an option. "),
        ({"bind": "a:1", "port": 2}, "cannot use bind= a:1 together with port= 2: both say where to listen. "),
        ({"uds_mode": 0o7777}, "cannot use '7777' for uds_mode=: not an octal mode. "),
        ({"log_level": "loud"}, "cannot use 'loud' for log_level=: not one of its values. "),
        ({"log_config": "/no/such"}, "cannot use '/no/such' for log_config=: there is no /no/such. "),
    ],
)
def test_wrong_keyword_says_what_to_write(keywords: dict[str, object], message: str) -> None:
    """The command line's errors, with the keyword's name."""
    with pytest.raises(UsageError) as caught:
        settings_from_keywords("a:b", keywords)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("guest", [True, False])
def test_nobody_replaces_a_process_without_a_pool(guest: bool) -> None:
    """Neither in a loop of the caller's nor in a process that is the server's."""
    refuse_what_needs_a_pool({"max_requests": None, "workers": 0}, guest=guest)
    with pytest.raises(UsageError, match=r"cannot use max_memory= with workers=0: nobody would replace this process\."):
        refuse_what_needs_a_pool({"max_memory": "64M"}, guest=guest)


def test_what_needs_a_process_of_its_own_is_no_keyword() -> None:
    """A call cannot move its program to another directory or speak for a service manager."""
    names = {option.keyword for option in options_for("k")}
    assert names.isdisjoint({"chdir", "ready_fd", "config", "print_config", "target"})
