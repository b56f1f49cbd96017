"""The file watcher alone, as a process of its own, heard over its channel as the parent hears it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.shared import messages, start
from hybrid.shared.messages import Log, Op, Record
from hybrid.shared.reload_settings import ReloadSettings
from hybrid.shared.settings import Settings
from hybrid.watcher import main as watcher
from tests.support.eventually import eventually
from tests.support.server import ROOT

WITHIN_S = 20.0


class Watched:
    """A running watcher of one directory. Closes: everything, on :meth:`end`."""

    def __init__(self, project: Path, log: Path, reload: ReloadSettings, **environ: str) -> None:
        self.project = project
        self.log_path = log
        self.channel, theirs = messages.socketpair()
        settings_fd = start.settings_memfd(replace(Settings(), reload=reload))
        report, log_fd = os.memfd_create("report"), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        fds = {"settings": settings_fd, "log": log_fd, "channel": theirs.fileno(), "report": report}
        orders = "{" + ", ".join(f'"{name}": {fd}' for name, fd in fds.items()) + "}"
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **environ,
        }
        self.process = subprocess.Popen(
            start.watcher_command(Settings(), orders),
            pass_fds=tuple(fds.values()),
            cwd=project,
            env=environ,
            stderr=log_fd,
        )
        theirs.close()
        for fd in (settings_fd, report, log_fd):
            os.close(fd)
        self._poll = select.poll()
        self._poll.register(self.channel, select.POLLIN)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def begun(self) -> Watched:
        """Wait until every change is seen."""
        eventually(lambda: f"watching {self.project}" in self.log, WITHIN_S)
        return self

    def write(self, place: str, text: str = "") -> Path:
        """Write a file of the project."""
        path = self.project / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def hears(self, within_s: float = WITHIN_S) -> int:
        """Return how many files the next record is about; fail with the log when none comes."""
        assert self._poll.poll(within_s * 1000), self.log
        record, _descriptors, is_open = messages.receive(self.channel)
        assert is_open and record is not None and record.op is Op.CHANGED, self.log
        return record.a

    def hears_of(self, name: str) -> str:
        """Read records until the log names ``name``; return the log. For one save may come as two batches."""
        deadline = time.monotonic() + WITHIN_S
        while f"{name} changed" not in self.log and f"{name}, " not in self.log:
            self.hears(max(0.0, deadline - time.monotonic()))
        return self.log

    def end(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait(10)


Watch = Callable[..., Watched]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Start watchers of ``tmp_path/project``, which has an app.py; they end with the test."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "app.py").write_text("old\n")
    os.utime(project / "app.py", (10**9, 10**9))  # polling compares whole seconds
    running: list[Watched] = []

    def begin(reload: ReloadSettings | None = None, **environ: str) -> Watched:
        running.append(Watched(project, tmp_path / "log", reload or ReloadSettings(), **environ))
        return running[-1]

    yield begin
    for each in running:
        each.end()


def test_changed_file_is_one_record(watch: Watch) -> None:
    """A save is told of once, and named in the log by the watcher: the parent is given no text."""
    watched = watch().begun()
    watched.write("app.py", "new\n")
    assert watched.hears() == 1
    assert watched.log.count("app.py changed: reloading") == 1
    watched.write("second.py")
    watched.hears_of("second.py")
    assert watched.log.count("app.py changed") <= 1 + watched.log.count("app.py, second.py changed")


def test_what_does_not_count_is_not_told(watch: Watch) -> None:
    """Excluded and other files change first, a Python file last: the first record is about that one."""
    watched = watch().begun()
    for place in ("note.txt", ".#app.py", ".git/hook.py", "__pycache__/app.pyc", "venv/lib/x.py"):
        watched.write(place)
    assert "changed" not in watched.log
    watched.write("last.py")
    assert watched.hears() == 1
    assert "[watcher] info    last.py changed: reloading\n" in watched.log


def test_patterns_of_the_options_hold(watch: Watch) -> None:
    """Included besides *.py; excluded wins."""
    watched = watch(ReloadSettings(includes=("*.html",), excludes=("gen/",))).begun()
    watched.write("gen/a.py")
    watched.write("templates/a.html")
    assert "gen/" not in watched.hears_of("templates/a.html")


def test_file_renamed_over_another_is_a_change(watch: Watch) -> None:
    """As most editors save: the temporary file is not named, the real one is."""
    watched = watch().begun()
    watched.write("app.py.tmp", "new\n").rename(watched.project / "app.py")
    assert watched.hears() == 1
    assert "[watcher] info    app.py changed: reloading\n" in watched.log


def test_deleted_file_is_a_change(watch: Watch) -> None:
    """What is imported from it is gone."""
    watched = watch().begun()
    (watched.project / "app.py").unlink()
    assert watched.hears() == 1


@pytest.mark.parametrize("polling", ["", "true"])
def test_new_directory_is_watched(watch: Watch, polling: str) -> None:
    """Both what was put into it before it was watched, and what comes later; and so is one below it."""
    watched = watch(WATCHFILES_FORCE_POLLING=polling).begun()
    watched.write("pkg/sub/first.py")
    watched.hears_of("pkg/sub/first.py")
    watched.write("pkg/sub/second.py")
    watched.hears_of("pkg/sub/second.py")
    watched.write("pkg/third.py")
    watched.hears_of("pkg/third.py")


def test_directory_moved_away_and_back_is_a_change_both_times(watch: Watch, tmp_path: Path) -> None:
    """No file in it was touched, yet all of them went, and came; and it is watched again."""
    watched = watch()
    watched.write("pkg/a.py")
    watched.begun()
    (watched.project / "pkg").rename(tmp_path / "pkg")
    watched.hears_of("pkg/a.py")
    (tmp_path / "pkg").rename(watched.project / "pkg")
    eventually(lambda: watched.log.count("pkg/a.py changed") == 2, WITHIN_S)
    watched.write("pkg/b.py")
    watched.hears_of("pkg/b.py")


def test_directory_replaced_by_another_of_its_name_is_watched(watch: Watch) -> None:
    """As a checkout of another branch does it."""
    watched = watch()
    watched.write("pkg/a.py")
    watched.begun()
    shutil.rmtree(watched.project / "pkg")
    watched.write("pkg/b.py")
    watched.hears_of("pkg/b.py")
    watched.write("pkg/c.py")
    watched.hears_of("pkg/c.py")


def test_many_files_at_once_are_one_batch_or_few(watch: Watch) -> None:
    """The log names some and counts the rest."""
    watched = watch().begun()
    for number in range(100):
        watched.write(f"m{number:03}.py")
    told = 0
    while told < 100:
        told += watched.hears()
    assert watched.log.count("changed: reloading") < 50
    assert " more changed: reloading" in watched.log


def test_watcher_ends_with_its_channel(watch: Watch) -> None:
    """The parent is gone: code 0, and no line."""
    watched = watch().begun()
    watched.channel.shutdown(socket.SHUT_RDWR)
    assert watched.process.wait(10) == 0
    assert watched.log.count("\n") == 1


def test_signals_of_the_terminal_are_ignored(watch: Watch) -> None:
    """Ctrl-C, a hang-up and the others reach the whole group: only the parent decides."""
    watched = watch().begun()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        watched.process.send_signal(number)
    watched.write("app.py", "new\n")
    assert watched.hears() == 1
    assert watched.process.poll() is None


def test_reopened_log_is_followed(watch: Watch, tmp_path: Path) -> None:
    """What the parent hands over on SIGUSR1 is where the next line goes."""
    watched = watch().begun()
    with (tmp_path / "new.log").open("a") as fresh:
        messages.send(watched.channel, Record(Op.REOPEN_LOGS, a=Log.ERROR), (fresh.fileno(),))
    fresh_log = tmp_path / "new.log"

    def lines() -> int:
        return (watched.log + fresh_log.read_text()).count("app.py changed")

    def next_save_is_in_the_new_file() -> bool:  # a first one may be seen before the record is read
        before = lines()
        watched.write("app.py", "new\n" * (before + 2))
        eventually(lambda: lines() > before, WITHIN_S)
        return "app.py changed" in fresh_log.read_text()

    eventually(next_save_is_in_the_new_file, WITHIN_S)


def test_directory_that_is_missing_is_an_error_with_its_name(watch: Watch, tmp_path: Path) -> None:
    """The parent tries again later."""
    watched = watch(ReloadSettings(dirs=(str(tmp_path / "none"),)))
    assert watched.process.wait(WITHIN_S) == 1
    assert f"{tmp_path}/none" in watched.log and "[watcher] error   cannot watch " in watched.log


def test_missing_library_is_an_error_with_the_remedy(watch: Watch, tmp_path: Path) -> None:
    """It went while the server ran, or is not where the watcher looks."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "watchfiles.py").write_text("raise ImportError('no watchfiles here')\n")
    path = os.pathsep.join([str(tmp_path / "path"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    watched = watch(PYTHONPATH=path)
    assert watched.process.wait(WITHIN_S) == 2
    assert "no watchfiles here. Install the library: pip install watchfiles." in watched.log


def test_kernel_that_watches_no_more_is_said_and_polled_for(watch: Watch, tmp_path: Path) -> None:
    """ENOSPC or EMFILE of inotify: a warning with the remedy, and changes are seen nevertheless."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(NO_INOTIFY)
    path = os.pathsep.join([str(tmp_path / "path"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    watched = watch(PYTHONPATH=path).begun()
    assert "(OS file watch limit reached); looking at every file again and again" in watched.log
    assert "raise fs.inotify.max_user_watches" in watched.log
    watched.write("app.py", "new\n")
    assert watched.hears() == 1


NO_INOTIFY = """
import watchfiles
real = watchfiles.watch
def watch(*paths, force_polling=None, **options):
    if not force_polling:
        raise OSError('OS file watch limit reached. about ["/x"] (Error { kind: MaxFilesWatch, paths: ["/x"] })')
    yield from real(*paths, force_polling=force_polling, **options)
watchfiles.watch = watch
"""


def test_summary_names_a_few() -> None:
    """A line stays a line."""
    assert watcher.summary(["a.py"]) == "a.py"
    assert watcher.summary(["a.py", "b.py", "c.py"]) == "a.py, b.py, c.py"
    assert watcher.summary(["a.py", "b.py", "c.py", "d.py"]) == "a.py, b.py, c.py and 1 more"


def test_usage_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Started by hand without orders."""
    assert watcher.main(["x"]) == 2
    assert capsys.readouterr().err.startswith("usage: python -m hybrid.watcher ORDERS")
