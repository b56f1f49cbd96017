"""The order of the sources, and what a whole command line comes to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from hybrid.cli.command_line import Asked
from hybrid.cli.resolve import Resolved, facts_of_this_process, resolve
from hybrid.ground.errors import UsageError
from hybrid.shared.keywords import settings_from_keywords
from hybrid.shared.options import Level, all_options
from hybrid.shared.settings import Launch, Settings, from_json, to_json
from tests.support.option_cases import subsets

OPTIONS = {option.flag: option for option in all_options()}


def resolved(
    *argv: str, environ: Mapping[str, str] | None = None, cwd: object = "/", facts: Launch | None = None
) -> Resolved:
    """Return what ``hybrid-serve app:handle …`` comes to."""
    return resolve(["app:handle", *argv], environ or {}, str(cwd), facts or Launch())


def refusal(*argv: str, environ: Mapping[str, str] | None = None, cwd: object = "/") -> str:
    """Return the error that the command line ends with."""
    with pytest.raises(UsageError) as caught:
        resolved(*argv, environ=environ, cwd=cwd)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_given_means_the_defaults() -> None:
    """The declarations are the only place where a default is written."""
    result = resolved()
    assert result.settings.worker == Settings().worker
    assert result.settings.bind == Settings().bind
    assert list(result.sources) == ["TARGET"]
    assert result.settings.launch.workers_source == "default"


def test_each_level_wins_over_the_next(tmp_path: Path) -> None:
    """Command line, HYBRID_, foreign variable, file, default."""
    (tmp_path / "pyproject.toml").write_text("[tool.hybrid]\nworkers = 1\n")
    seen: list[tuple[int | str, str]] = []
    environ = {"WEB_CONCURRENCY": "2", "HYBRID_WORKERS": "3"}
    for argv, names in [(["-w", "4"], environ), ([], environ), ([], ["WEB_CONCURRENCY"]), ([], [])]:
        result = resolved(*argv, environ={name: environ[name] for name in names}, cwd=tmp_path)
        seen.append((result.settings.worker.workers, result.settings.launch.workers_source))
    assert seen == [
        (4, "-w"),
        (3, "HYBRID_WORKERS"),
        (2, "WEB_CONCURRENCY"),
        (1, f"workers in {tmp_path}/pyproject.toml"),
    ]


def test_command_line_can_take_back_what_a_file_says(tmp_path: Path) -> None:
    """--no-factory, an empty path, and a whole new list of addresses."""
    (tmp_path / "pyproject.toml").write_text('[tool.hybrid]\nfactory = true\nlog-file = "x"\nbind = ["a:1", "b:2"]\n')
    assert resolved(cwd=tmp_path).settings.app.factory is True
    settings = resolved("--no-factory", "--log-file", "", "--bind", "c:3", cwd=tmp_path).settings
    assert (settings.app.factory, settings.log.file, settings.bind.bind) == (False, "", ("c:3",))


@pytest.mark.parametrize(
    "argv", [("--access-log-file", "-"), ("--access-log-file=-",), ("--access-log-file", "x", "--access-log-file", "-")]
)
def test_lone_hyphen_is_a_value(argv: tuple[str, ...]) -> None:
    """stdout, as every tool writes it; no file of that name, and no option."""
    assert resolved(*argv).settings.access.file == "-"


def test_lone_hyphen_for_the_log_is_stderr(tmp_path: Path) -> None:
    """As gunicorn has it; not a file of that name, which nobody would find. It can take back what a file says."""
    (tmp_path / "pyproject.toml").write_text('[tool.hybrid]\nlog-file = "x"\n')
    for argv in (("--log-file", "-"), ("--log-file=-",)):
        assert resolved(*argv, cwd=tmp_path).settings.log.file == ""
    assert resolved(environ={"HYBRID_LOG_FILE": "-"}, cwd=tmp_path).settings.log.file == ""
    assert settings_from_keywords("a:b", {"log_file": "-"}).log.file == ""


def test_hyphen_that_belongs_to_no_option_is_refused() -> None:
    """A switch takes none; an option that lacks its value does not take the next option for it."""
    assert "neither true nor false" in refusal("--access-log", "-")
    assert "cannot use --access-log-file without a value" in refusal("--access-log-file", "--access-log")


def test_last_of_a_repeated_option_wins_and_bind_collects() -> None:
    """A wrapper's options can be overridden behind it."""
    settings = resolved("--workers", "1", "--workers=2", "-b", "a:1", "--bind", "b:2").settings
    assert settings.worker.workers == 2
    assert settings.bind.bind == ("a:1", "b:2")


def test_platform_port_is_served_on_all_interfaces() -> None:
    """PORT alone is 0.0.0.0:PORT; --port alone stays on this machine."""
    assert resolved(environ={"PORT": "5000"}).settings.bind.bind == ("0.0.0.0:5000",)
    assert resolved("--port", "5000").settings.bind.bind == ("127.0.0.1:5000",)
    assert resolved("--bind", "a:1", environ={"PORT": "5000"}).settings.bind.bind == ("a:1",)


def test_target_may_come_from_anywhere(tmp_path: Path) -> None:
    """An image can be configured by its environment alone."""
    assert resolve([], {"HYBRID_TARGET": "a:b"}, "/", Launch()).settings.app.target == "a:b"
    (tmp_path / "pyproject.toml").write_text('[tool.hybrid]\ntarget = "c:d"\n')
    assert resolve([], {}, str(tmp_path), Launch()).settings.app.target == "c:d"


def test_chdir_moves_every_relative_path(tmp_path: Path) -> None:
    """Files are looked for in the new directory; the process itself is not moved by the resolver."""
    (tmp_path / "in" / "src").mkdir(parents=True)
    (tmp_path / "in" / "pyproject.toml").write_text('[tool.hybrid]\nworkers = 5\napp-dir = "src"\n')
    before = os.getcwd()
    result = resolve(["a.py:b", "--chdir", "in"], {}, str(tmp_path), Launch(sys_path=("/lib",)))
    assert os.getcwd() == before
    settings = result.settings
    assert settings.process.chdir == str(tmp_path / "in")
    assert settings.worker.workers == 5
    assert settings.app.target == str(tmp_path / "in" / "a.py:b")
    assert settings.launch.sys_path == (str(tmp_path / "in" / "src"), "/lib")
    assert settings.launch.cwd == str(tmp_path)


def test_a_reload_resolves_to_the_same_settings(tmp_path: Path) -> None:
    """Arguments, directory and facts that travel in the settings are all that the resolver needs again."""
    (tmp_path / "in").mkdir()
    facts = Launch(sys_path=("/lib",), interpreter_flags=("-O",), listen_fds=(3,))
    first = resolve(["a:b", "--chdir", "in", "-w", "2"], {}, str(tmp_path), facts).settings
    launch = from_json(to_json(first)).launch
    assert resolve(launch.command, {}, launch.cwd, launch).settings == first


def test_inherited_sockets_are_what_is_served() -> None:
    """LISTEN_FDS without any address."""
    assert resolved(facts=Launch(listen_fds=(3, 4))).settings.bind.bind == ("fd://3", "fd://4")


def test_facts_are_read_from_the_environment_given() -> None:
    """LISTEN_FDS counts only for the process it names."""
    assert facts_of_this_process({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}).listen_fds == (3,)
    assert facts_of_this_process({"LISTEN_PID": "1", "LISTEN_FDS": "1"}).listen_fds == ()


def test_names_of_inherited_sockets_are_facts_of_this_process() -> None:
    """LISTEN_FDNAMES belongs to LISTEN_FDS."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:hybrid/x"}
    assert facts_of_this_process(environ).listen_names == ("web", "hybrid/x")


def test_stored_sockets_are_no_bind() -> None:
    """What an earlier run listened on says nothing of what is wanted now."""
    facts = Launch(listen_fds=(3, 4), listen_names=("web", "hybrid/127.0.0.1_1"))
    assert resolved(facts=facts).settings.bind.bind == ("fd://3",)
    facts = Launch(listen_fds=(3,), listen_names=("hybrid/127.0.0.1_1",))
    assert resolved(facts=facts).settings.bind.bind == ("127.0.0.1:8000",)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--workers", "-1"],
            "cannot use '-1' for --workers, from the command line: less than 0. Give 1 to 1024, auto",
        ),
        (["--workers", "x"], "cannot use 'x' for --workers, from the command line: not a whole number. Give 1"),
        (["--workers", ""], "cannot use '' for --workers, from the command line: not a whole number. Give 1"),
        (["-w", "x"], "cannot use 'x' for --workers, from the command line: "),
        (["--port", "99999"], "cannot use '99999' for --port, from the command line: more than 65535. Give 0 to 65535"),
        (["--log-level", "loud"], "cannot use 'loud' for --log-level, from the command line: not one of its values. "),
        (["--wrokers", "3"], "unknown option '--wrokers', from the command line. Did you mean --workers? See "),
        (["--wrokers=3"], "unknown option '--wrokers', from the command line. Did you mean --workers? See "),
        (["-x"], "unknown option '-x', from the command line. See hybrid-serve --help."),
        (["another:one"], "unexpected argument 'another:one': there is one TARGET"),
        (["--bind"], "cannot use --bind without a value, from the command line. Give it one."),
        (["--bind", "--workers", "3"], "cannot use --bind without a value, from the command line. Give it one."),
        (["--factory=perhaps"], "cannot use 'perhaps' for --factory, from the command line: neither true nor false. "),
        (["--no-print-config"], "unknown option '--no-print-config', from the command line. Did you mean --print-"),
        (["--chdir", "/no/such"], "cannot use '/no/such' for --chdir, from the command line: there is no /no/such. "),
        (["--config", "/no/such"], "cannot use '/no/such' for --config, from the command line: there is no /no/such. "),
        (
            ["--bind", "a:1", "--port", "80"],
            "cannot use --bind a:1 together with --port 80, from the command line: both say where to listen. "
            "Drop --port, or drop --bind.",
        ),
        (["--uds", "/a", "--host", "h"], "cannot use --uds /a together with --host h, from the command line: a unix "),
    ],
)
def test_wrong_command_line_says_what_to_write(argv: Sequence[str], message: str) -> None:
    """Option, value, where it came from, and the remedy, in one line."""
    assert refusal(*argv).startswith(message)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"WEB_CONCURRENCY": "lots"},
            "cannot use 'lots' for --workers, from WEB_CONCURRENCY in the environment: not a ",
        ),
        ({"HYBRID_WORKERS": "-1"}, "cannot use '-1' for --workers, from HYBRID_WORKERS in the environment: less than "),
        ({"PORT": "web"}, "cannot use 'web' for --port, from PORT in the environment: not a whole number. "),
        ({"HYBRID_PORT": "tcp://10.0.0.1:80"}, "cannot use 'tcp://10.0.0.1:80' for --port, from HYBRID_PORT in the "),
        ({"HYBRID_FACTORY": "maybe"}, "cannot use 'maybe' for --factory, from HYBRID_FACTORY in the environment: neit"),
        ({"HYBRID_BIND": ","}, "cannot use ',' for --bind, from HYBRID_BIND in the environment: "),
        (
            {"HYBRID_BIND": "a:1", "HYBRID_PORT": "2"},
            "cannot use HYBRID_BIND a:1 together with HYBRID_PORT 2, from the environment: both say where to listen. ",
        ),
        ({"HYBRID_CONFIG": "no.toml"}, "cannot use 'no.toml' for --config, from HYBRID_CONFIG in the environment: "),
    ],
)
def test_wrong_variable_is_named(environ: dict[str, str], message: str) -> None:
    """The same words as for the command line, with the variable's name."""
    assert refusal(environ=environ).startswith(message)


def test_wrong_value_in_a_file_is_named(tmp_path: Path) -> None:
    """The same words again, with the key and the file."""
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.hybrid]\nworkers = -1\n")
    assert refusal(cwd=tmp_path).startswith(f"cannot use '-1' for workers, from {path}: less than 0. Give 1 to 1024")


def test_overridden_wrong_value_does_no_harm() -> None:
    """A platform's odd variable can be overridden without removing it."""
    assert resolved("--workers", "1", environ={"WEB_CONCURRENCY": "lots"}).settings.worker.workers == 1


def test_missing_target_says_how_to_name_one() -> None:
    """The first thing a newcomer gets wrong."""
    with pytest.raises(
        UsageError, match=r"^no TARGET: .* for example hybrid-serve app\.py:handle, or see hybrid-serve"
    ):
        resolve([], {}, "/", Launch())


def test_print_config_needs_no_target() -> None:
    """One may look at a configuration without an app."""
    assert resolve(["--print-config"], {}, "/", Launch()).print_config is True


def test_target_may_follow_a_double_dash() -> None:
    """POSIX: after -- nothing is an option."""
    assert resolve(["--workers", "1", "--", "a:b"], {}, "/", Launch()).settings.app.target == "a:b"


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["--version"], ["app:handle", "--workers", "x", "--help"]])
def test_help_is_given_whatever_else_is_wrong(argv: list[str], tmp_path: Path) -> None:
    """A broken file or a bad value does not stand between the user and the help."""
    (tmp_path / "pyproject.toml").write_text("[broken")
    with pytest.raises(Asked):
        resolve(argv, {}, str(tmp_path), Launch())


def test_misspelt_variable_is_a_warning() -> None:
    """It is no error: the prefix is not ours alone."""
    assert "Did you mean HYBRID_WORKERS?" in resolved(environ={"HYBRID_WORKRES": "1"}).warnings[0]


def as_argv(texts: Mapping[str, list[str]]) -> list[str]:
    """Return the command line that says ``texts``."""
    argv = list(texts["TARGET"])
    for flag, values in texts.items():
        if OPTIONS[flag].is_switch:
            argv.append(flag if values[0] == "true" else flag.replace("--", "--no-", 1))
        elif flag != "TARGET":
            argv += [part for text in values for part in (flag, text)]
    return argv


def as_toml(texts: Mapping[str, list[str]]) -> str:
    """Return the file that says ``texts``, with TOML's own types where they are plain."""
    lines = []
    for flag, values in texts.items():
        option = OPTIONS[flag]
        plain = option.is_switch or option.parse in ("seconds", "positive", "port")
        value = values[0] if plain else json.dumps(values if option.repeatable else values[0])
        lines.append(f"{option.key} = {value}")
    return "\n".join(lines) + "\n"


@given(texts=subsets("f"))
@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_sources_speak_alike(texts: dict[str, list[str]], tmp_path: Path) -> None:
    """The same options come to the same settings from the command line, the environment and a file."""
    path = tmp_path / "hybrid.toml"
    path.write_text(as_toml(texts))
    environ = {OPTIONS[flag].env_name: ",".join(values) for flag, values in texts.items()}
    from_argv = resolve(as_argv(texts), {}, "/", Launch())
    from_environ = resolve([], environ, "/", Launch())
    from_file = resolve(["--config", str(path)], {}, "/", Launch())
    assert without_launch(from_argv) == without_launch(from_environ) == without_launch(from_file)
    for result, level in [
        (from_argv, Level.COMMAND_LINE),
        (from_environ, Level.ENVIRONMENT),
        (from_file, Level.FILE),
    ]:
        assert {origin.level for flag, origin in result.sources.items() if flag != "--config"} == {level}
        assert result.sources.keys() - {"--config"} == texts.keys()


def without_launch(result: Resolved) -> Settings:
    """Return the settings without what differs by nature: the command and where --workers came from."""
    return replace(result.settings, launch=Launch())
