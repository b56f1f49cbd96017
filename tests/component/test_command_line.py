"""The command as a process: exit codes, streams, and the exec that makes it the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid import __version__
from hybrid.shared.settings import from_json

ROOT = Path(__file__).parents[2]
_OURS = ("HYBRID_", "PORT", "WEB_", "LISTEN_", "PYTHON")
CLEAN = {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
ENVIRON = {**CLEAN, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}

# Stands in for the parent: says what it was started with.
STAND_IN = """
import json, os, sys
fd = int(sys.argv[1])
print(json.dumps({
    "settings": os.pread(fd, 1 << 20, 0).decode(), "offset": os.lseek(fd, 0, os.SEEK_CUR), "pid": os.getpid(),
    "environ": dict(os.environ), "cwd": os.getcwd(), "loaded": sorted(sys.modules), "optimize": sys.flags.optimize,
    "safe_path": getattr(sys.flags, "safe_path", None), "fds": sorted(map(int, os.listdir("/proc/self/fd"))),
}))
"""
DOOR = """
import sys
from hybrid.cli.serve import main
from hybrid.shared import start
start._PACKAGE = sys.argv.pop(1)
print("before the exec", end=" ")
sys.exit(main())
"""


def stand_in_package(directory: Path) -> Path:
    """Make a package directory whose parent is the stand-in."""
    package = directory / "stand_in"
    (package / "parent").mkdir(parents=True)
    (package / "parent" / "__main__.py").write_text(STAND_IN)
    return package


def command(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m hybrid`` to its end."""
    argv = [sys.executable, "-m", "hybrid", *arguments]
    return subprocess.run(argv, cwd=cwd, env={**ENVIRON, **environ}, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["app:handle", "--workers", "-1"],
        ["app:handle", "--wrokers", "1"],
        ["app:handle", "--bind", "a:1", "--port", "1"],
        ["app:handle", "--log-level", "loud"],
    ],
)
def test_usage_error_is_one_line_on_stderr_and_code_2(arguments: list[str], tmp_path: Path) -> None:
    """No traceback, nothing on stdout."""
    done = command(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("hybrid-serve: error: ") and done.stderr.count("\n") == 1


def test_broken_toml_is_a_usage_error(tmp_path: Path) -> None:
    """File, line and cause."""
    (tmp_path / "pyproject.toml").write_text("[tool.hybrid]\nworkers = \n")
    done = command("app:handle", cwd=tmp_path)
    assert done.returncode == 2
    assert f"cannot read {tmp_path}/pyproject.toml, line 2, column 11: Invalid value." in done.stderr


def test_help_names_every_option_and_fits_the_terminal(tmp_path: Path) -> None:
    """On stdout, with code 0."""
    from hybrid.shared.options import all_options

    done = command("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for option in all_options():
        assert option.flag in done.stdout and option.title in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_version_is_ours(tmp_path: Path) -> None:
    """The package's version first."""
    done = command("--version", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith(f"hybrid {__version__} (CPython ")


def test_print_config_prints_and_exits(tmp_path: Path) -> None:
    """Nothing is bound and nothing imported, the app included."""
    done = command("no_such_app:handle", "--print-config", cwd=tmp_path, PORT="5000")
    assert (done.returncode, done.stderr) == (0, "")
    assert "env PORT" in done.stdout and "0.0.0.0:5000" in done.stdout


def test_misspelt_variable_is_a_warning_only(tmp_path: Path) -> None:
    """The command goes on."""
    done = command("--print-config", cwd=tmp_path, HYBRID_WORKRES="1")
    assert done.returncode == 0
    assert done.stderr.startswith(
        "hybrid-serve: warning: HYBRID_WORKRES in the environment is no option. Did you mean "
    )


def test_users_files_do_not_shadow_the_library(tmp_path: Path) -> None:
    """``python -m hybrid`` beside a file called rich.py or attrs.py works."""
    for name in ("rich", "attrs", "cyclopts", "json", "inspect"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user has such a file')\n")
    done = command("--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_command_becomes_the_parent(tmp_path: Path) -> None:
    """Same process, same environment, the settings in a descriptor at its start, and nothing of the CLI left."""
    (tmp_path / "in").mkdir()
    stand_in = stand_in_package(tmp_path)
    argv = [sys.executable, "-O", "-c", DOOR, str(stand_in), "app:handle", "--workers", "2", "--chdir", "in"]
    child = subprocess.Popen(argv, cwd=tmp_path, env={**ENVIRON, "MARK": "kept"}, stdout=subprocess.PIPE)
    output = child.communicate(timeout=30)[0].decode()
    assert child.returncode == 0
    assert output.startswith("before the exec ")  # what was buffered is not lost with the old image
    said = json.loads(output.removeprefix("before the exec "))
    settings = from_json(said["settings"])
    assert said["pid"] == child.pid and said["offset"] == 0
    coerced = {name: said["environ"][name] for name in ("LC_CTYPE",) if name in said["environ"]}  # PEP 538
    assert said["environ"] == {**ENVIRON, "MARK": "kept", **coerced}
    assert said["cwd"] == settings.process.chdir == str(tmp_path / "in")
    assert settings.worker.workers == 2 and settings.launch.workers_source == "--workers"
    assert settings.launch.command == ("app:handle", "--workers", "2", "--chdir", "in")
    assert settings.launch.cwd == str(tmp_path)
    assert settings.launch.sys_path[0] == str(tmp_path / "in")
    assert "cyclopts" not in said["loaded"] and "hybrid.cli.serve" not in said["loaded"]
    assert said["optimize"] == 1 and said["safe_path"] in (True, None)
    assert len(said["fds"]) == 5  # three streams, the settings, and the listing itself


def test_installed_command_gives_the_app_no_directory_of_its_own(tmp_path: Path) -> None:
    """The app's path begins with --app-dir; the directory of the script is not on it."""
    script = tmp_path / "bin" / "hybrid-serve"
    script.parent.mkdir()
    script.write_text(DOOR)
    stand_in = stand_in_package(tmp_path)
    argv = [sys.executable, str(script), str(stand_in), "app:handle"]
    done = subprocess.run(argv, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    settings = from_json(json.loads(done.stdout.removeprefix("before the exec "))["settings"])
    assert settings.launch.sys_path[:2] == (str(tmp_path), str(ROOT))
    assert str(script.parent) not in settings.launch.sys_path
