"""The environment and the configuration file, as sources of options."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.cli.sources import ConfigurationFile, Environment
from hybrid.ground.errors import UsageError
from hybrid.shared.options import Level, Origin, Value

CLI = Level.COMMAND_LINE


def config(path: object) -> dict[str, Value]:
    """Return what a command line with ``--config path`` gives."""
    return {"--config": Value(str(path), Origin(CLI, "--config"))}


def test_variable_is_the_flag_in_capitals() -> None:
    """HYBRID_ and underscores for dashes."""
    found = Environment({"HYBRID_GRACEFUL_TIMEOUT": "5", "HYBRID_TARGET": "a:b"}).find({})
    assert found["--graceful-timeout"] == (["5"], Origin(Level.ENVIRONMENT, "HYBRID_GRACEFUL_TIMEOUT"))
    assert found["TARGET"][0] == ["a:b"]
    assert len(found) == 2


def test_our_variable_wins_over_a_foreign_one() -> None:
    """PORT and WEB_CONCURRENCY are respected, but not against HYBRID_."""
    found = Environment({"PORT": "1", "HYBRID_PORT": "2", "WEB_CONCURRENCY": "3"}).find({})
    assert found["--port"] == (["2"], Origin(Level.ENVIRONMENT, "HYBRID_PORT"))
    assert found["--workers"] == (["3"], Origin(Level.FOREIGN, "WEB_CONCURRENCY"))


def test_empty_variable_is_not_set() -> None:
    """``PORT=`` in a compose file means: no port."""
    assert Environment({"PORT": "", "HYBRID_PORT": "", "HYBRID_LOG_FILE": ""}).find({}) == {}
    assert Environment({"PORT": "1", "HYBRID_PORT": ""}).find({})["--port"][1].name == "PORT"


def test_several_addresses_are_separated_by_commas() -> None:
    """One variable can hold what ``--bind`` says twice."""
    assert Environment({"HYBRID_BIND": "a:1, unix:/b"}).find({})["--bind"][0] == ["a:1", "unix:/b"]


def test_misspelt_variable_is_noticed_and_strangers_are_not() -> None:
    """Other programs may use the prefix; what looks like one of ours is worth a warning."""
    environ = {"HYBRID_WORKRES": "3", "HYBRID_CAR": "x", "HYBRID_WORKERS": "1", "HYBRID_SERVICE_HOST": "10.0.0.1"}
    assert Environment(environ).misspelt() == [
        "HYBRID_WORKRES in the environment is no option. Did you mean HYBRID_WORKERS?"
    ]


def test_time_that_the_platform_leaves_is_no_misspelt_option() -> None:
    """HYBRID_GRACE is known, though it is no option; and it can be misspelt."""
    assert Environment({"HYBRID_GRACE": "45"}).misspelt() == []
    (warning,) = Environment({"HYBRID_GRACES": "45"}).misspelt()
    assert "Did you mean HYBRID_GRACE?" in warning


def test_file_gives_texts_and_names_itself(tmp_path: Path) -> None:
    """Every type that an option can have comes through, and the origin holds key and path."""
    path = tmp_path / "hybrid.toml"
    path.write_text('workers = 4\nbind = ["a:1", "b:2"]\nfactory = true\ngraceful_timeout = 1.5\nuds-mode = "660"\n')
    file = ConfigurationFile("/")
    found = file.find(config(path))
    assert {flag: texts for flag, (texts, _) in found.items()} == {
        "--workers": ["4"],
        "--bind": ["a:1", "b:2"],
        "--factory": ["true"],
        "--graceful-timeout": ["1.5"],
        "--uds-mode": ["660"],
    }
    assert found["--workers"][1] == Origin(Level.FILE, "workers", str(path))
    assert file.path == str(path)


def test_pyproject_is_read_where_nothing_else_is_named(tmp_path: Path) -> None:
    """Only its table, only from the working directory, and not beside ``--config``."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.hybrid]\nworkers = 2\n')
    (tmp_path / "other.toml").write_text("backlog = 5\n")
    assert ConfigurationFile(str(tmp_path)).find({})["--workers"][0] == ["2"]
    assert list(ConfigurationFile(str(tmp_path)).find(config("other.toml"))) == ["--backlog"]
    (tmp_path / "below").mkdir()
    assert ConfigurationFile(str(tmp_path / "below")).find({}) == {}


@pytest.mark.parametrize("text", ["", "[tool.other]\nx = 1\n", "[tool]\n", "[tool.hybrid]\n"])
def test_pyproject_without_our_table_says_nothing(text: str, tmp_path: Path) -> None:
    """Most projects have one, and it is none of our business."""
    (tmp_path / "pyproject.toml").write_text(text)
    file = ConfigurationFile(str(tmp_path))
    assert file.find({}) == {} and file.path == ""


def test_files_are_looked_for_after_chdir(tmp_path: Path) -> None:
    """``--chdir DIR --config x.toml`` reads DIR/x.toml."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.toml").write_text("workers = 1\n")
    given = {**config("x.toml"), "--chdir": Value("in", Origin(CLI, "--chdir"))}
    assert ConfigurationFile(str(tmp_path)).find(given)["--workers"][1].path == str(tmp_path / "in" / "x.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers = \n", ", line 1, column 11: Invalid value. Correct the file"),
        ("a = 1\nworkers 4\n", ", line 2, column 9: Expected '=' after a key in a key/value pair. Correct the file"),
        ("workers = 4\nworkers = 5\n", ", line 2, column 12: Cannot overwrite a value. Correct the file"),
        ("x", ", end of document: Expected '='"),
    ],
)
def test_broken_toml_names_file_line_and_cause(text: str, message: str, tmp_path: Path) -> None:
    """An editor can jump to the place."""
    path = tmp_path / "hybrid.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        ConfigurationFile("/").find(config(path))
    assert str(caught.value).startswith(f"cannot read {path}{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workres = 3", "unknown option 'workres' in {path}. Did you mean workers? Correct or remove it."),
        ("zzz = 3", "unknown option 'zzz' in {path}. Correct or remove it."),
        ("chdir = 'x'", "unknown option 'chdir' in {path}. A file cannot set it. Use --chdir on the command line."),
        ("print-config = true", "unknown option 'print-config' in {path}. A file cannot set it. Use --print-config on"),
        ("[log]\nlevel = 'x'", "unknown option 'log' in {path}. There are no tables here"),
        ("umask = 22", "cannot use 22 for umask, from {path}: a number does not show its base. Write octal digits"),
        ("bind = []", "cannot use [] for bind, from {path}: it is empty. "),
        ("workers = [1]", "cannot use [1] for workers, from {path}: an array is no value of this option. "),
        ("workers = {}", "cannot use {{}} for workers, from {path}: a table is no value of this option. "),
        (
            "backlog = 1979-05-27",
            "cannot use datetime.date(1979, 5, 27) for backlog, from {path}: a date or time is no",
        ),
        ("uds-mode = '1'\nuds_mode = '2'", "cannot use uds_mode in {path}: uds-mode is there too. Remove one"),
    ],
)
def test_wrong_key_or_value_names_the_remedy(text: str, message: str, tmp_path: Path) -> None:
    """Nothing in the file is ignored silently."""
    path = tmp_path / "hybrid.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        ConfigurationFile("/").find(config(path))
    assert str(caught.value).startswith(message.format(path=path))


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\nhybrid = 3"])
def test_pyproject_of_another_shape_is_refused(text: str, tmp_path: Path) -> None:
    """``tool.hybrid`` is a table."""
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match=r"tool\.hybrid is not a table"):
        ConfigurationFile(str(tmp_path)).find({})


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """TOML is UTF-8."""
    path = tmp_path / "hybrid.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"it is not UTF-8, byte 0\. Save it as UTF-8"):
        ConfigurationFile("/").find(config(path))


def test_missing_file_says_who_named_it(tmp_path: Path) -> None:
    """A named file has to exist; the error says where the name stands."""
    given = {"--config": Value("no.toml", Origin(Level.ENVIRONMENT, "HYBRID_CONFIG"))}
    message = rf"cannot use 'no\.toml' for --config, from HYBRID_CONFIG in the environment: there is no {tmp_path}/no"
    with pytest.raises(UsageError, match=message):
        ConfigurationFile(str(tmp_path)).find(given)
