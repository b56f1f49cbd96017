"""The first seconds: what cannot be loaded, what never gets ready, and what is asked meanwhile."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

import hybrid
from tests.process.conftest import Serve
from tests.support.clients import ask
from tests.support.eventually import eventually
from tests.support.forked import NOBODY
from tests.support.ports import PRIVILEGED
from tests.support.server import ROOT, Server, children
from tests.support.sources import copy_package
from tests.support.variations import long

KNOBS = "tests.apps.knobs:knobs"
BOOTS = "tests.apps.boots"
TRACEBACK = "Traceback (most recent call last)"


def marking(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Return the file that the app appends to, and the environment that tells it so."""
    mark = tmp_path / "mark"
    return mark, {**os.environ, "MARK": str(mark)}


def marked(mark: Path, word: str, count: int = 1) -> None:
    """Wait until the app has left ``word`` so often."""
    eventually(lambda: mark.exists() and mark.read_text().split().count(word) >= count)


def ends(server: Server, code: int) -> str:
    """Wait for the end of a server that never was ready; return its log once nothing of it is left."""
    assert server.wait() == code, server.log
    eventually(lambda: not server.everyone())
    return server.log


def errors(log: str) -> list[str]:
    """Return the lines of level error."""
    return [line for line in log.splitlines() if "] error " in line]


@pytest.mark.parametrize(
    ("target", "said", "tracebacks", "preload"),
    [
        case if preload == "auto" or case[2] else long(*case)
        for preload in ("auto", "off")
        for case in (
            ("tests.apps.knobs:nothing", "nothing", 0, preload),
            ("tests.apps.nowhere:knobs", "tests.apps.nowhere", 0, preload),
            ("tests.apps.bad_import:knobs", "RuntimeError: this module has a bad day", 1, preload),
            ("tests.apps.knobs:two_arguments", "two_arguments(reader", 0, preload),
            ("tests.apps.knobs:KNOBS", "cannot be called", 0, preload),
        )
    ],
)
def test_app_that_cannot_be_loaded_is_exit_code_4(
    serve: Serve, target: str, said: str, tracebacks: int, preload: str
) -> None:
    """No such attribute or module, one that raises, no handler: one message, with its traceback once, and code 4."""
    log = ends(serve(target, "--workers", "2", "--preload", preload, ready=False), 4)
    assert said in log
    assert len({error.partition("] ")[2] for error in errors(log)}) == len(errors(log)) <= 2
    assert log.count(TRACEBACK) == tracebacks


def test_lifespan_that_fails_is_exit_code_3_after_some_attempts(serve: Serve, tmp_path: Path) -> None:
    """Start-up failure: so many attempts as asked for, the traceback once for all workers, then code 3."""
    mark, env = marking(tmp_path)
    arguments = ("--workers", "2", "--lifespan", f"{BOOTS}:fails", "--boot-attempts", "2")
    server = serve(KNOBS, *arguments, env=env, ready=False)
    log = ends(server, 3)
    assert log.count(TRACEBACK) == 1
    assert "ConnectionError: no database today" in log
    assert "failed to boot 2 times" in log
    assert 3 <= mark.read_text().split().count("entered") <= 4


@pytest.mark.parametrize("lifespan", ["hangs", long("holds_loop")])
def test_lifespan_that_hangs_is_ended_by_the_boot_timeout(serve: Serve, lifespan: str) -> None:
    """Waiting for what never comes, with the loop free or not: killed in time, and code 3 says where it was."""
    # Time enough for the interpreter and the import, also on a busy machine.
    arguments = ("--workers", "1", "--lifespan", f"{BOOTS}:{lifespan}", "--boot-timeout", "4", "--boot-attempts", "1")
    log = ends(serve(KNOBS, *arguments, ready=False), 3)
    assert "did not boot within 4 s (--boot-timeout): SIGKILL" in log
    assert "at step lifespan" in log


def test_import_that_hangs_is_ended_by_the_boot_timeout(serve: Serve) -> None:
    """The same for the import of the app, in the mold."""
    arguments = ("--workers", "1", "--boot-timeout", "0.5", "--boot-attempts", "1")
    log = ends(serve("tests.apps.slow_import:knobs", *arguments, ready=False), 3)
    assert "did not finish importing within 0.5 s" in log


def test_mold_that_dies_at_each_fork_is_exit_code_3(serve: Serve) -> None:
    """An app that ends whoever forks it is a failed boot, not an endless one."""
    log = ends(serve("tests.apps.fork_kills_mold:knobs", "--workers", "2", "--boot-attempts", "2", ready=False), 3)
    assert "the mold exited with code 9 2 times before a worker was ready" in log


def test_port_in_use_is_exit_code_2(serve: Serve) -> None:
    """Another server's port: one message that says so, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        log = ends(serve(KNOBS, "--bind", address, ready=False), 2)
    assert f"cannot listen on {address}: address in use. Stop the other server or change --bind." in log
    assert TRACEBACK not in log


def test_second_server_on_a_port_is_refused(serve: Serve) -> None:
    """Two of our own servers never share a port silently."""
    first = serve(KNOBS, "--workers", "1")
    log = ends(serve(KNOBS, "--workers", "1", "--bind", first.address, ready=False), 2)
    assert "address in use" in log
    with first.connect() as client:
        assert ask(client, "echo mine") == "mine"


@pytest.mark.root
def test_privileged_port_is_exit_code_2(serve: Serve, nobody_python: dict[str, Any]) -> None:
    """A port that only root may have: the message names it and what to do."""
    address = f"127.0.0.1:{PRIVILEGED}"
    log = ends(serve(KNOBS, "--bind", address, ready=False, user=NOBODY, group=NOBODY, **nobody_python), 2)
    assert f"cannot listen on {address}" in log
    assert TRACEBACK not in log


def test_sigterm_while_the_sockets_are_bound_leaves_no_file(serve: Serve, tmp_path: Path) -> None:
    """A stop that comes before anything was started undoes what was made until then."""
    pid_file = tmp_path / "server.pid"
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)  # a rival that binds there: the server waits for its turn
    try:
        arguments = ("--bind", f"unix:{tmp_path}/server.sock", "--pid", str(pid_file))
        server = serve(KNOBS, *arguments, ready=False)
        eventually(pid_file.exists)
        server.signal(signal.SIGTERM)
    finally:
        os.close(directory)
    ends(server, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["server1.log"]


# ── SIGTERM while it boots ───────────────────────────────────────────────────────────────────────────────────


def test_sigterm_during_a_slow_import_is_a_clean_stop(serve: Serve, tmp_path: Path) -> None:
    """An asked-for stop is code 0 at any time; the mold that imports is not waited for."""
    mark, env = marking(tmp_path)
    server = serve("tests.apps.slow_import:knobs", "--workers", "2", env=env, ready=False)
    marked(mark, "importing")
    server.signal(signal.SIGTERM)
    log = ends(server, 0)
    assert TRACEBACK not in log


@pytest.mark.parametrize("lifespan", ["hangs", "holds_loop", long("ignores_cancel")])
def test_sigterm_during_a_slow_lifespan_is_a_clean_stop(serve: Serve, tmp_path: Path, lifespan: str) -> None:
    """A worker that boots is cancelled; one whose loop does not turn is killed soon."""
    mark, env = marking(tmp_path)
    server = serve(KNOBS, "--workers", "2", "--lifespan", f"{BOOTS}:{lifespan}", env=env, ready=False)
    marked(mark, "entered", 2)
    server.signal(signal.SIGTERM)
    log = ends(server, 0)
    assert TRACEBACK not in log
    assert ("SIGKILL" in log) is (lifespan == "holds_loop")


def test_lifespan_that_starts_in_spite_of_a_stop_is_left_again(serve: Serve, tmp_path: Path) -> None:
    """A start-up that swallows its cancellation is followed by its shut-down, not by serving."""
    mark, env = marking(tmp_path)
    server = serve(KNOBS, "--workers", "1", "--lifespan", f"{BOOTS}:ignores_cancel", env=env, ready=False)
    marked(mark, "entered")
    server.signal(signal.SIGTERM)
    ends(server, 0)
    assert mark.read_text().split() == ["entered", "cancelled", "left"]


def test_sigterm_during_an_import_after_the_fork_is_a_clean_stop(serve: Serve, tmp_path: Path) -> None:
    """Without preload each worker imports the app; it is not waited for either."""
    mark, env = marking(tmp_path)
    server = serve("tests.apps.slow_import:knobs", "--workers", "2", "--preload", "off", env=env, ready=False)
    marked(mark, "importing", 2)
    server.signal(signal.SIGTERM)
    ends(server, 0)


def test_signal_to_a_mold_that_is_not_up_yet_is_nothing(serve: Serve) -> None:
    """What reaches whole process groups does not end a mold in its first moments either, before it has handlers."""
    server = serve(KNOBS, "--workers", "1", ready=False)
    (mold,) = eventually(lambda: children(server.pid))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(mold, number)
    server.wait_ready()
    assert server.mold_pid() == mold
    assert not errors(server.log) and TRACEBACK not in server.log


def test_ctrl_c_at_any_moment_of_the_boot_leaves_no_traceback(serve: Serve) -> None:
    """SIGINT to the whole process group, as soon as there is a mold: it says nothing, and nothing is left."""
    server = serve(KNOBS, "--workers", "2", ready=False)
    eventually(lambda: "hybrid: parent" in Path(f"/proc/{server.pid}/comm").read_text() and len(server.everyone()) > 1)
    os.killpg(server.pid, signal.SIGINT)
    log = ends(server, 0)
    assert TRACEBACK not in log
    assert "KeyboardInterrupt" not in log


def test_parent_and_workers_are_of_the_package_that_was_started(serve: Serve, tmp_path: Path) -> None:
    """A checkout that is run next to an installed hybrid is run as a whole, not half of each."""
    copy_package(tmp_path)
    init = tmp_path / "hybrid" / "__init__.py"
    init.write_text(init.read_text().replace(f'"{hybrid.__version__}"', '"9.9.9"'))
    server = serve(KNOBS, "--workers", "1", "--app-dir", str(ROOT), cwd=tmp_path)
    assert "hybrid 9.9.9 serves" in server.log
    with server.connect() as client:
        assert ask(client, "package") == str(init)


# ── preload ──────────────────────────────────────────────────────────────────────────────────────────────────

UNSAFE = [("tests.apps.thread_at_import", "thread 'poller'"), ("tests.apps.socket_at_import", "bound to 127.0.0.1:")]


@pytest.mark.parametrize(("module", "found"), UNSAFE)
def test_unsafe_import_falls_back_and_says_why(serve: Serve, module: str, found: str) -> None:
    """``--preload auto``: names the thread or socket, and lets workers import the app."""
    server = serve(f"{module}:knobs", "--workers", "2")
    log = server.log
    assert "not preloading" in log and found in log
    assert "app imported by each worker" in log
    assert not errors(log)
    with server.connect() as client:
        assert ask(client, "echo hello") == "hello"


@pytest.mark.parametrize(("module", "found"), UNSAFE[:1])
def test_unsafe_import_is_exit_code_3_when_preload_is_on(serve: Serve, module: str, found: str) -> None:
    """``--preload on`` means it."""
    log = ends(serve(f"{module}:knobs", "--workers", "2", "--preload", "on", ready=False), 3)
    assert "--preload on" in log and found in log


@pytest.mark.parametrize(("module", "found"), UNSAFE[1:])
def test_unsafe_import_is_no_matter_when_preload_is_off(serve: Serve, module: str, found: str) -> None:
    """``--preload off``: nothing is looked for, workers import."""
    server = serve(f"{module}:knobs", "--workers", "2", "--preload", "off")
    assert found not in server.log
    with server.connect() as client:
        assert ask(client, "echo hello") == "hello"


def test_whoever_waits_hears_of_the_failure(serve: Serve) -> None:
    """``--ready-fd`` gets a line in either case: here the one that says why it will not be ready."""
    server = serve("tests.apps.bad_import:knobs", ready=False)
    said = server.wait_said()
    assert (said["event"], said["exit_code"]) == ("failed", 4)
    assert "RuntimeError: this module has a bad day" in said["error"]
    assert TRACEBACK in said["detail"]
    ends(server, 4)
