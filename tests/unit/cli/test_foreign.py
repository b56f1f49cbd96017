"""What other servers' users type: each such name is answered with ours, or with why it is not needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hybrid.cli.foreign import FOREIGN, instead
from hybrid.cli.resolve import resolve
from hybrid.ground.errors import UsageError
from hybrid.shared.options import options_for
from hybrid.shared.settings import Launch

FLAGS = {flag for option in options_for("c") for flag in (option.flag, *option.aliases)}


def refusal(*argv: str, cwd: object = "/") -> str:
    """Return the error that ``hybrid-serve app:handle …`` ends with."""
    with pytest.raises(UsageError) as caught:
        resolve(["app:handle", *argv], {}, str(cwd), Launch())
    return str(caught.value)


def test_what_is_to_be_used_exists_and_what_is_foreign_does_not() -> None:
    """The table is data that nothing else checks: an option that is renamed would stay in it."""
    for name in FOREIGN:
        assert name not in FLAGS, f"{name} is an option of ours by now"
        said = instead(name)
        assert said.startswith(" ") and said.endswith("."), said
        named = set(re.findall(r"(?<!\w)--[a-z][a-z-]+", said))
        assert named <= FLAGS, said


@pytest.mark.parametrize(
    ("argv", "remedy"),
    [
        (("--timeout", "30"), "Use --worker-timeout."),
        (("-t30",), "Use --worker-timeout."),
        (("-k", "uvicorn.workers.UvicornWorker"), "There is one kind of worker"),
        (("-D",), "A service manager"),
        (("--statsd-host=localhost:8125",), "No metrics"),
        (("--limit-request-field_size", "8190"), "Use --limit-request-headers,"),
        (("-p", "x.pid"), "Use --pid."),
        (("--wrokers", "3"), "Did you mean --workers?"),
    ],
)
def test_habit_is_answered(argv: tuple[str, ...], remedy: str) -> None:
    """By the name here, and not by the one of ours that happens to look like it."""
    message = refusal(*argv)
    assert f"from the command line. {remedy}" in message
    assert message.count("Did you mean") == remedy.count("Did you mean")


def test_option_without_a_value_says_which_there_are() -> None:
    """gunicorn's --preload is a switch."""
    assert "cannot use --preload without a value, from the command line. Give one of auto, on, off." in refusal(
        "--preload"
    )


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("timeout = 30", "'timeout' in %s. Use worker-timeout."),
        ("loglevel = 'info'", "'loglevel' in %s. Use log-level."),
        ("worker_class = 'gthread'", "'worker_class' in %s. There is one kind of worker"),
        ("post_fork = 1", "'post_fork' in %s. No code runs in the parent."),
        ("wrokers = 3", "'wrokers' in %s. Did you mean workers? Correct or remove it."),
        ("def post_fork(server, worker): ...", "Write a TOML file instead"),
    ],
)
def test_habit_in_a_file_is_answered(tmp_path: Path, line: str, remedy: str) -> None:
    """Many of gunicorn's files are TOML by chance."""
    path = tmp_path / "gunicorn.conf.py"
    path.write_text(line)
    assert remedy.replace("%s", str(path)) in refusal("--config", str(path))


def test_variables_of_other_servers_are_warned_about_and_not_heeded() -> None:
    """Not those that mean nothing here, and not where ours is set as well."""
    environ = {
        "FORWARDED_ALLOW_IPS": "*",
        "GUNICORN_CMD_ARGS": "-w 3",
        "UVICORN_PORT": "81",
        "UVICORN_LIMIT_MAX_REQUESTS": "3",
        "UVICORN_WORKERS": "3",
        "HYBRID_WORKERS": "2",
        "UVICORN_NOTHING": "1",
    }
    result = resolve(["app:handle"], environ, "/", Launch())
    assert result.warnings == (
        "FORWARDED_ALLOW_IPS in the environment is no option. Use HYBRID_FORWARDED_ALLOW_IPS.",
        "GUNICORN_CMD_ARGS in the environment is no option. Give options on the command line, or as HYBRID_ variables.",
        "UVICORN_LIMIT_MAX_REQUESTS in the environment is no option. Use --max-requests.",
        "UVICORN_PORT in the environment is no option. Use HYBRID_PORT.",
    )
    assert result.settings.worker.workers == 2 and result.settings.bind.bind == ("127.0.0.1:8000",)
