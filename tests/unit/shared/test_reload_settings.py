"""The options of --reload: what contradicts itself, what has no effect, what the machine cannot do."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.cli.resolve import Resolved, resolve
from hybrid.cli.serve import fit_platform, main
from hybrid.ground.errors import ExitCode, UsageError
from hybrid.shared.keywords import settings_from_keywords
from hybrid.shared.reload_settings import ReloadSettings, check_reload
from hybrid.shared.settings import Launch, Settings


def resolved(argv: Sequence[str], cwd: Path, environ: Mapping[str, str] | None = None) -> Resolved:
    """Return what ``hybrid-serve app:handle …`` comes to."""
    return resolve(["app:handle", *argv], environ or {}, str(cwd), Launch())


def test_pool_is_needed() -> None:
    """The error says which number of workers does what was meant."""
    check_reload(ReloadSettings(enabled=True), "auto")
    check_reload(ReloadSettings(enabled=True), 1)
    check_reload(ReloadSettings(), 0)
    with pytest.raises(UsageError, match=r"cannot use --reload with --workers 0: .* Use --workers 1, which serves"):
        check_reload(ReloadSettings(enabled=True), 0)


def test_command_line_is_checked(tmp_path: Path) -> None:
    """Where every door ends."""
    with pytest.raises(UsageError, match="cannot use --reload with --workers 0"):
        resolved(["--reload", "-w", "0"], tmp_path)


def test_directories_are_absolute_and_exist(tmp_path: Path) -> None:
    """Each of them, from the working directory on."""
    (tmp_path / "a").mkdir()
    argv = ["--reload", "--reload-dir", "a", "--reload-dir", "."]
    assert resolved(argv, tmp_path).settings.reload.dirs == (str(tmp_path / "a"), str(tmp_path))
    with pytest.raises(UsageError, match=rf"cannot use 'b' for --reload-dir, .* there is no {tmp_path}/b\."):
        resolved([*argv, "--reload-dir", "b"], tmp_path)


@pytest.mark.parametrize("text", ["", "/", "./", "."])
def test_pattern_that_names_nothing_is_refused(text: str, tmp_path: Path) -> None:
    """An empty one would exclude nothing, silently."""
    with pytest.raises(UsageError, match="it names no file"):
        resolved(["--reload", f"--reload-exclude={text}"], tmp_path)


def test_refinements_without_reload_are_warned_of(tmp_path: Path) -> None:
    """By the name that was written."""
    argv = ["--reload-include", "*.html", "--reload-exclude", "gen"]
    environ = {"HYBRID_RELOAD_DIR": "."}
    assert resolved(argv, tmp_path, environ).warnings == (
        "HYBRID_RELOAD_DIR has no effect without --reload",
        "--reload-include has no effect without --reload",
        "--reload-exclude has no effect without --reload",
    )
    assert resolved([*argv, "--reload"], tmp_path, environ).warnings == ()


def test_refinements_in_a_file_wait_for_reload(tmp_path: Path) -> None:
    """pyproject.toml says what to watch; whoever develops says that it is to be watched."""
    (tmp_path / "pyproject.toml").write_text('[tool.hybrid]\nreload-include = ["*.html"]\n')
    result = resolved([], tmp_path)
    assert (result.warnings, result.settings.reload) == ((), ReloadSettings(includes=("*.html",)))


def test_reload_is_no_keyword() -> None:
    """The embedding program's own code would stay as it is."""
    with pytest.raises(UsageError, match="reload= is an option of the command line"):
        settings_from_keywords("app:handle", {"reload": True})


def test_without_linux_reload_is_refused() -> None:
    """There is no pool; auto would become --workers 0."""
    settings = replace(Settings(), reload=ReloadSettings(enabled=True))
    with pytest.raises(UsageError, match=r"cannot use --reload on darwin: it needs the pool, .* Leave it out\."):
        fit_platform(settings, "darwin")


def test_missing_library_is_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is started."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["app:handle", "--reload", "--workers", "1"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "watchfiles is not installed. Install it with pip install watchfiles" in said


def test_whole_machine_is_not_watched(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a container has no working directory, that is /."""
    monkeypatch.chdir(os.sep)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert main(["app:handle", "--reload", "--workers", "1"]) == ExitCode.USAGE
    assert "cannot use --reload on /: all files of the machine would be watched" in capsys.readouterr().err
