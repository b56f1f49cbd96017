"""The control socket and its process, with real servers: what can be asked, and that nobody depends on it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hybrid.ground.states import Life
from tests.process.conftest import Serve
from tests.support.clients import ask as say
from tests.support.control import Control, control_pid, path_of
from tests.support.eventually import eventually
from tests.support.forked import NOBODY
from tests.support.http_clients import crowd
from tests.support.reloads import Site, serves_load
from tests.support.server import is_alive

KNOBS = "tests.apps.knobs:knobs"
HTTP = "tests.apps.http_knobs:app"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The directory that the server's code is in."""
    site = Site(tmp_path)
    yield site
    site.close()


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Stop processes for the length of a block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


# ── where it is, and when it is there ────────────────────────────────────────────────────────────────────────


def test_nobody_is_started_until_somebody_asks(serve: Serve) -> None:
    """No control runs in a server that nobody asks; the first to ask is answered all the same."""
    server = serve(KNOBS, "--workers", "1")
    assert control_pid(server) == 0
    with Control(server) as control:
        assert control.result("status")["parent"]["pid"] == server.pid
    assert control_pid(server)


def test_socket_is_private_and_goes_with_the_server(serve: Serve, tmp_path: Path) -> None:
    """The socket is 0600 in a directory that is 0700; both names say whose it is, and the file is removed."""
    server = serve(KNOBS, "--workers", "1", env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    path = Path(path_of(server))
    assert path == tmp_path / "hybrid" / f"{server.pid}.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert server.stop() == 0
    assert not path.exists()


def test_socket_of_a_dead_server_is_swept(serve: Serve, tmp_path: Path) -> None:
    """A server that was killed leaves its socket; the next one removes it, and none that lives."""
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    dead, living = (serve(KNOBS, "--workers", "1", env=env) for _ in range(2))
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    server = serve(KNOBS, "--workers", "1", env=env)
    assert not Path(path_of(dead)).exists()
    for each in (living, server):
        with Control(each) as control:
            assert control.result("status")["parent"]["pid"] == each.pid


def test_socket_may_be_anywhere_or_nowhere(serve: Serve, tmp_path: Path) -> None:
    """``--control PATH`` and ``--control off``."""
    server = serve(KNOBS, "--workers", "1", "--control", str(tmp_path / "c.sock"))
    assert path_of(server) == str(tmp_path / "c.sock")
    with Control(server) as control:
        assert control.result("status")["pool"]["phase"] == "running"
    assert "control" not in serve(KNOBS, "--workers", "1", "--control", "off").said["doors"]


def test_directory_that_others_may_enter_is_not_used(serve: Serve, tmp_path: Path) -> None:
    """The server goes without a control socket, or with one elsewhere, and serves."""
    (tmp_path / "hybrid").mkdir(mode=0o777)
    (tmp_path / "hybrid").chmod(0o777)
    server = serve(KNOBS, "--workers", "1", env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    assert all(str(tmp_path) not in each for each in server.said["doors"].get("control", ()))


def test_path_that_is_taken_ends_the_boot(serve: Serve, tmp_path: Path) -> None:
    """What was asked for by name is there, or the server says why not."""
    serve(KNOBS, "--workers", "1", "--control", str(tmp_path / "c.sock"))
    second = serve(KNOBS, "--workers", "1", "--control", str(tmp_path / "c.sock"), ready=False)
    assert second.wait_said()["exit_code"] == 2
    assert "address in use" in second.said["error"] and "--control" in second.said["error"]


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_status_shows_the_pool(serve: Serve) -> None:
    """Who serves, what, where."""
    server = serve(KNOBS, "--workers", "2")
    with Control(server) as control:
        status = control.result("status")
        assert [each["pid"] for each in status["workers"]] == server.ready_pids()
        assert status["pool"]["addresses"] == server.said["addresses"]
        assert status["pool"]["app"].endswith("knobs") and status["pool"]["target"] == 2
        assert [each["slot"] for each in control.result("workers")["workers"]] == [0, 1]


@pytest.mark.parametrize("how", ["blocked", "stopped"])
def test_status_is_answered_while_no_worker_turns(serve: Serve, how: str) -> None:
    """Control reads what the workers have written, and asks none of them."""
    server = serve(KNOBS, "--workers", "2", "--worker-timeout", "0", "--stall-dump", "0")
    pids = server.ready_pids()
    if how == "stopped":
        with stopped(*pids), Control(server) as control:
            assert len(control.result("status")["workers"]) == 2
        return
    clients: list[socket.socket] = []
    while {say(client, "pid") for client in clients} != {str(pid) for pid in pids}:
        clients.append(server.connect())
    for client in clients:
        client.sendall(b"block 600\n")
    with Control(server) as control:
        first = control.result("status")
        assert [each["pid"] for each in first["workers"]] == pids
    for client in clients:
        client.close()


def test_watch_streams_snapshots(serve: Serve) -> None:
    """As many as are asked for, as often; somebody who leaves in the middle leaves nothing behind."""
    server = serve(KNOBS, "--workers", "1")
    with Control(server) as control:
        assert control.result("watch", every_s=0.1, count=3) == {"snapshots": 3}
        assert all(len(each["snapshot"]["workers"]) == 1 for each in control.events)
    with Control(server) as control:
        control.send("watch", every_s=0.1)
        control.hear()


def test_events_tell_what_happened_and_what_happens(serve: Serve) -> None:
    """A control that starts later knows what was before; who follows hears of a death, its cause and the successor."""
    server = serve(KNOBS, "--workers", "1")
    (old,) = server.ready_pids()
    with Control(server) as control:
        control.result("events", last=100)
        before = [each["notice"] for each in control.events]
        assert {"notice": "worker_ready", "slot": 0, "pid": old}.items() <= next(
            each for each in before if each["notice"] == "worker_ready"
        ).items()
        control.send("events", follow=True, last=1)
        assert control.hear()  # so that it listens
        os.kill(old, signal.SIGKILL)
        told: dict[str, Any] = {}
        while "worker_ready" not in told:
            said = control.hear()
            assert said is not None
            told[said["notice"]["notice"]] = said["notice"]
        assert (told["worker_exited"]["pid"], told["worker_exited"]["cause"]) == (old, "died")
        assert told["worker_exited"]["text"] == "was killed by SIGKILL"
        assert [told["worker_ready"]["pid"]] == server.wait_workers(1)
        numbers = [each["number"] for each in before]
        assert numbers == list(range(1, len(numbers) + 1))


def test_config_masks_secrets(serve: Serve) -> None:
    """Every option as in a file; of a secret, only that there is one."""
    server = serve(KNOBS, "--workers", "1", "--graceful-timeout", "7")
    with Control(server) as control:
        settings = control.result("config")["settings"]
        assert settings["timeout"]["graceful-timeout"] == 7.0
        assert settings["tls"]["ssl-keyfile-password"] == ""


def test_dump_returns_the_stacks(serve: Serve) -> None:
    """Of a worker that computes: where it is."""
    server = serve(KNOBS, "--workers", "1", "--worker-timeout", "0", "--stall-dump", "0")
    client = server.connect()
    client.sendall(b"block 600\n")
    with Control(server) as control:
        eventually(lambda: "knobs.py" in control.result("dump", slot=0)["stacks"])
        assert "no worker" in control.ask("dump", slot=7)["error"]
    client.close()


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_reload_streams_its_steps_and_ends(serve: Serve, site: Site) -> None:
    """It answers when the new code serves, with all workers."""
    server = serve(site.target, "--workers", "2")
    with Control(server) as control:
        site.write(2)
        assert "generation 2" in control.result("reload")["text"]
        assert [each["stage"] for each in control.events][:3] == ["resolve", "import", "canary"]
    assert serves_load(server, 2)


def test_reload_that_fails_returns_the_boot_log(serve: Serve, site: Site) -> None:
    """The traceback comes back to who asked; the old code serves on."""
    server = serve(site.target, "--workers", "1")
    with Control(server) as control:
        site.write(2, "\nraise RuntimeError('not today')\n")
        answer = control.ask("reload")
        assert not answer["ok"] and "reload failed" in answer["error"]
        assert "RuntimeError: not today" in answer["detail"]
        assert serves_load(server, 1)
        site.write(3)
        assert control.ask("reload")["ok"]
    assert serves_load(server, 3)


def test_two_who_reload_at_once_are_both_answered(serve: Serve, site: Site) -> None:
    """The second one's reload begins after the first one's, and his answer is about his own."""
    server = serve(site.target, "--workers", "1")
    with Control(server) as one, Control(server) as other:
        one.send("reload")
        one.hear()
        assert "generation 3" in other.result("reload")["text"]
        while (said := one.hear()) is not None and "ok" not in said:
            pass
        assert said is not None and "generation 2" in said["result"]["text"]


def test_scale_changes_the_size(serve: Serve) -> None:
    """To a number, or to bounds."""
    server = serve(KNOBS, "--workers", "1")
    with Control(server) as control:
        control.result("scale", workers=3)
        server.wait_workers(3)
        control.result("scale", least=1, most=4)
        pool = control.result("status")["pool"]
        assert (pool["least"], pool["most"]) == (1, 4)
        assert not control.ask("scale", workers=0)["ok"]
        assert "least is 3 and most is 2" in control.ask("scale", least=3, most=2)["error"]


def test_one_worker_is_parked_and_unparked(serve: Serve) -> None:
    """By slot; what cannot be is refused with the reason."""
    server = serve(KNOBS, "--workers", "2")
    with Control(server) as control:
        control.result("park", slot=1)
        assert [each.life for each in server.workers()] == [Life.READY, Life.PARKED]
        control.result("unpark", slot=1)
        eventually(lambda: [each.life for each in server.workers()] == [Life.READY, Life.READY])
        refused = control.ask("park", slot=9)["error"]
        assert refused == "cannot park slot 9: there is no worker. Workers are in slots 0, 1"


@pytest.mark.parametrize("op", ["drain", "kill"])
def test_one_worker_is_replaced(serve: Serve, op: str) -> None:
    """In order, or at once."""
    server = serve(KNOBS, "--workers", "1")
    (old,) = server.ready_pids()
    with Control(server) as control:
        control.result(op, slot=0)
        eventually(lambda: not is_alive(old) and [pid for pid in server.ready_pids() if pid != old], 20)


def test_set_changes_a_running_server(serve: Serve) -> None:
    """The log level of all processes, those to come as well; the grace; workers that stand by."""
    server = serve(KNOBS, "--workers", "1")
    with Control(server) as control:
        control.result("set", key="log-level", value="error")
        lines = server.log.count("\n")
        control.result("scale", workers=2)
        server.wait_workers(2)
        assert server.log.count("\n") == lines
        control.result("set", key="log-level", value="info")
        control.result("set", key="graceful-timeout", value=3)
        control.result("set", key="standby", value=1)
        eventually(lambda: [each.life for each in server.workers()].count(Life.PARKED) == 1)
        settings = eventually(lambda: (found := control.result("config")["settings"])["worker"]["standby"] and found)
        assert settings["timeout"]["graceful-timeout"] == 3.0
        assert "There are log-level" in control.ask("set", key="bind", value=":1")["error"]
        assert "not a level" in control.ask("set", key="log-level", value="loud")["error"]
        assert "Raise --worker-timeout" in control.ask("set", key="worker-timeout", value=1)["error"]
        control.result("shutdown")
    assert server.wait() == 0
    assert "have 3 s to finish" in server.log


def test_shutdown_ends_the_server(serve: Serve) -> None:
    """Who asks is answered, and hears the end."""
    server = serve(KNOBS, "--workers", "1")
    with Control(server) as control:
        assert "stopping" in control.result("shutdown")["text"]
        assert control.hear() is None
    assert server.wait() == 0
    assert not Path(path_of(server)).exists()


def test_end_is_told_to_who_follows(serve: Serve) -> None:
    """Up to the last worker, and that all is over; then comes the answer."""
    server = serve(KNOBS, "--workers", "2")
    with Control(server) as control:
        control.send("events", follow=True, last=1)
        assert control.hear()  # so that it listens
        server.signal(signal.SIGTERM)
        notices: list[dict[str, Any]] = []
        while (said := control.hear()) is not None and "ok" not in said:
            notices.append(said["notice"])
    assert server.wait() == 0
    assert [each["notice"] for each in notices].count("worker_exited") == 2
    assert [each["phase"] for each in notices if each["notice"] == "phase_changed"] == ["stopping", "stopped"]
    assert said is not None and said["result"] == {"events": len(notices) + 1}


def test_shutdown_now_cuts_connections(serve: Serve) -> None:
    """Nobody waits for a client that stays."""
    server = serve(KNOBS, "--workers", "1")
    with server.connect() as client, Control(server) as control:
        assert say(client, "pid")
        control.result("shutdown", now=True)
        assert server.wait() == 0


def test_logs_are_reopened(serve: Serve, tmp_path: Path) -> None:
    """As by SIGUSR1, and control's own lines go to the new file, too."""
    log = tmp_path / "hybrid.log"
    server = serve(KNOBS, "--workers", "1", "--log-file", str(log))
    with Control(server) as control:
        log.rename(tmp_path / "old.log")
        control.result("reopen-logs")
        eventually(log.exists)
        control.result("scale", workers=2)
        eventually(lambda: "[control] info" in log.read_text() and "[parent] info" in log.read_text())
        assert "[parent] info    control: log file reopened" in log.read_text()


def test_log_that_cannot_be_reopened_is_told(serve: Serve, tmp_path: Path) -> None:
    """Which one, and why; what is open stays."""
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    server = serve(KNOBS, "--workers", "1", "--log-file", str(folder / "hybrid.log"))
    with Control(server) as control:
        folder.rename(moved)
        assert f"cannot open the log file {folder / 'hybrid.log'}: No such" in control.ask("reopen-logs")["error"]
        assert "[parent] error   control: cannot open the log file" in (moved / "hybrid.log").read_text()


def test_socket_survives_an_upgrade(serve: Serve) -> None:
    """Who asked for it is answered, and the socket is where it was; notices are counted on."""
    server = serve(KNOBS, "--workers", "1")
    with Control(server) as control:
        control.result("events", last=100)
        before = [each["notice"] for each in control.events]
        assert "takes over" in control.result("upgrade")["text"]
        assert control.hear() is None
    with Control(server) as control:
        assert control.result("status")["parent"]["pid"] == server.pid
        control.result("events", last=100)
        assert [each["notice"] for each in control.events][: len(before)] == before
        numbers = [each["notice"]["number"] for each in control.events]
        assert numbers == list(range(1, len(numbers) + 1))
    assert server.stop() == 0
    assert not Path(path_of(server)).exists()


# ── nobody depends on it ─────────────────────────────────────────────────────────────────────────────────────


def test_killed_control_costs_no_request_and_comes_back(serve: Serve) -> None:
    """Under load; the next who asks is answered by another one."""
    server = serve(HTTP, "--workers", "2")
    with crowd(server) as people:
        for _ in range(2):
            with Control(server) as control:
                assert control.result("status")
                pid = control_pid(server)
                os.kill(pid, signal.SIGKILL)
                assert control.hear() is None
            eventually(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]  # bound now
            people.wait_more(20)
        with Control(server) as control:
            assert control.result("status")
    assert (people.lost, people.refused) == ([], 0)
    assert server.stop() == 0


def test_stopped_control_holds_up_nobody(serve: Serve, site: Site) -> None:
    """The parent goes on telling it, and never waits: reloads, deaths and the stop take their course."""
    server = serve(site.target, "--workers", "2")
    with Control(server) as control:
        control.result("status")
        pid = control_pid(server)
        os.kill(pid, signal.SIGSTOP)
        for load in range(2, 5):
            site.write(load)
            server.signal(signal.SIGHUP)
            assert serves_load(server, load)
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: control.result("status")["pool"]["generation"] == 4)
        os.kill(pid, signal.SIGSTOP)
        assert server.stop() == 0


def test_group_wide_signals_do_not_end_it(serve: Serve) -> None:
    """Ctrl-C reaches everybody; only the parent decides, and the end of control is no news."""
    server = serve(KNOBS, "--workers", "1")
    with Control(server) as control:
        control.result("status")
        os.killpg(server.pid, signal.SIGTERM)
        assert server.wait() == 0
    assert "control" not in server.log.partition("SIGTERM: stopping")[2]


def test_killed_control_with_another_door_comes_back_by_itself(serve: Serve) -> None:
    """Nobody has to knock where a balancer may ask any time."""
    server = serve(KNOBS, "--workers", "1", "--agent-bind", "127.0.0.1:0")
    pid = eventually(lambda: control_pid(server))
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: (other := control_pid(server)) not in (0, pid) and other, 20)
    assert "control was killed by SIGKILL; another starts in 1 s" in server.log


# ── who may ask, and what ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.root
def test_others_are_refused(serve: Serve, tmp_path: Path) -> None:
    """Somebody who can open the file, and is neither root nor the server's user, is told so."""
    path = tmp_path / "c.sock"
    server = serve(KNOBS, "--workers", "1", "--control", str(path))
    path.chmod(0o666)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o111)
    assert b"may not control this server" in _said_to(NOBODY, str(path))
    with Control(server) as control:
        assert control.result("status")


def _said_to(uid: int, path: str) -> bytes:
    """Return what a process of user ``uid`` hears at a socket."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(path)
                os.write(write, client.recv(4096))
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


@pytest.mark.root
def test_control_runs_as_the_apps_user(serve: Serve, nobody_python: dict[str, Any]) -> None:
    """With ``--user`` control has no more rights than the app; root and that user are answered."""
    server = serve(KNOBS, "--workers", "1", "--user", "nobody", **nobody_python)
    with Control(server) as control:
        assert control.result("status")["workers"]
        status = Path(f"/proc/{control_pid(server)}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status


def test_what_is_no_request_is_refused(serve: Serve) -> None:
    """A line too long ends the connection; everything else is answered with what to do."""
    server = serve(KNOBS, "--workers", "1")
    with Control(server) as control:
        for line, words in [
            (b"hello\n", "no JSON object"),
            (b"[1]\n", "no JSON object"),
            (b'{"id": 1, "op": "dance"}\n', "there is no op 'dance'"),
            (b'{"id": 1, "op": "status", "args": 7}\n', "no object"),
            (b'{"id": 1, "op": "status", "args": {"x": 1}}\n', "no argument 'x'"),
            (b'{"id": 1, "op": "park"}\n', "slot is missing"),
            (b'{"id": 1, "op": "park", "args": {"slot": -1}}\n', "slot is -1"),
            (b'{"id": [], "op": "status"}\n', "neither a number nor a text"),
            (b"[" * 5000 + b"\n", "no JSON object"),
        ]:
            control.socket.sendall(line)
            said = control.hear()
            assert said is not None and not said["ok"] and words in said["error"], (line, said)
        control.socket.sendall(b"x" * 70_000)
        said = control.hear()
        assert said is not None and "longer than 65536 bytes" in said["error"]
        assert control.hear() is None


def test_no_more_than_64_at_a_time(serve: Serve) -> None:
    """One more is told so, and closed; when one leaves, there is room."""
    server = serve(KNOBS, "--workers", "1")
    clients = [Control(server) for _ in range(64)]
    assert all(each.result("config") for each in clients)
    with Control(server) as one_more:
        said = one_more.hear()
        assert said is not None and "64 clients are connected" in said["error"]
        assert one_more.hear() is None
    for each in clients:
        each.__exit__()

    def is_let_in() -> bool:
        with Control(server) as control:
            control.send("config")
            return bool((control.hear() or {}).get("ok"))

    eventually(is_let_in)


def test_who_does_not_read_is_dropped(serve: Serve) -> None:
    """A client that asks and never reads costs a bounded amount of memory; the others are answered."""
    server = serve(KNOBS, "--workers", "1")
    with Control(server) as greedy, Control(server) as control:
        greedy.socket.settimeout(5)
        request = json.dumps({"id": 1, "op": "config"}).encode() + b"\n"
        with pytest.raises((BrokenPipeError, ConnectionResetError, TimeoutError, socket.timeout)):
            for _ in range(20_000):
                greedy.socket.sendall(request)
        assert control.result("status")
