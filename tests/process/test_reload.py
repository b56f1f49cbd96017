"""A reload, with real processes: new code serves, nothing is lost, and what fails changes nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.ground.states import Life
from hybrid.shared.procfs import open_descriptors
from tests.apps.http_knobs import PIECE, PIECES
from tests.process.conftest import Serve
from tests.support.clients import hear
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand, Crowd
from tests.support.reloads import PATIENCE_S, Site, reload, serves_load, wait_alone, wait_ended
from tests.support.server import ROOT, Server
from tests.support.variations import long

CLIENTS = 6
RELEASE = """
from pathlib import Path

import hybrid

IMPORTED = (Path(__file__).parent / "name").read_text()


async def handle(conn: hybrid.Connection) -> None:
    await conn.send(f"{IMPORTED} {Path('name').read_text()}\\n".encode())
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The directory that the server's code is in."""
    site = Site(tmp_path)
    yield site
    site.close()


def coming(server: Server) -> Crowd:
    """Return clients that come again and again, whatever happens."""
    return Crowd(server, is_over_when_refused=False)


def nothing_lost(people: Crowd, *killed: int) -> None:
    """But what the killed were serving."""
    assert [lost for lost in people.lost if lost[0] not in killed] == []
    assert people.refused == 0


def wait_said(server: Server, words: str, times: int) -> None:
    """Wait until the log has said it so often."""
    eventually(lambda: server.log.count(words) == times)


@pytest.mark.parametrize("preload", ["on", long("off")])
def test_new_code_is_served(serve: Serve, site: Site, preload: str) -> None:
    """Whatever is on disk when it is asked for; every worker of the old generation leaves, with its mold."""
    server = serve(site.target, "--workers", "2", "--preload", preload)
    assert serves_load(server, 1)
    with coming(server).busy(CLIENTS) as people:
        for load in (2, 3):
            people.wait_more(20)
            site.write(load)
            reload(server)
            assert serves_load(server, load)
        people.wait_more(20)
    nothing_lost(people)
    wait_alone(server, 3, 2)
    assert server.stop() == 0


def test_code_that_cannot_be_imported_changes_nothing(serve: Serve, site: Site) -> None:
    """The traceback is in the log, the old code serves on; mended, it is taken."""
    server = serve(site.target, "--workers", "2")
    with coming(server).busy(CLIENTS) as people:
        people.wait_more(20)
        site.write(2, "\nprint(no_such_name)\n")
        reload(server)
        assert "reload failed: the app cannot be imported" in server.log
        assert "NameError: name 'no_such_name' is not defined" in server.log
        wait_alone(server, 1, 2)
        assert serves_load(server, 1)
        site.write(3)
        reload(server)
        assert serves_load(server, 3)
    nothing_lost(people)


def test_worker_that_fails_in_the_roll_takes_all_back(serve: Serve, site: Site) -> None:
    """One new worker served already: it drains, and the parked one accepts again."""
    site.write(1)
    server = serve(site.target, "--workers", "3", "--max-surge", "1")
    old = server.ready_pids()
    site.write(2)
    site.shut("lifespan")
    with site.opened("lifespan"), coming(server).busy(CLIENTS) as people:
        server.signal(signal.SIGHUP)
        site.wait_for("lifespan", 1)
        site.let_through("lifespan")
        site.wait_for("lifespan", 2)
        assert [each.life for each in server.of_generation(1)] == [Life.PARKED, Life.READY, Life.READY]
        people.wait_more(20)
        (site.directory / "fail").touch()
        site.let_through("lifespan")
        eventually(lambda: "reload failed" in server.log, PATIENCE_S)
        assert "this load does not serve" in server.log
        wait_alone(server, 1, 3)
        assert server.ready_pids() == old
        people.wait_more(20)
    nothing_lost(people)


STEPS = {"import": "the new mold imports", "canary": "the first new worker boots", "roll": "the second one boots"}
VICTIMS = ("parent's mold", "new mold", "old worker", "new worker", "serving new worker")


@pytest.mark.long
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step(serve: Serve, site: Site, step: str, victim: str) -> None:
    """SIGKILL under load: no request fails but those that the killed process was serving."""
    if (victim == "new worker" and step == "import") or (victim == "serving new worker" and step != "roll"):
        pytest.skip("there is none yet")
    server = serve(site.target, "--workers", "2", "--max-surge", "1")
    old_mold = server.mold_pid()
    site.write(2)
    gate = "import" if step == "import" else "lifespan"
    site.shut(gate)
    with site.opened(gate), coming(server).busy(CLIENTS) as people:
        people.wait_more(20)
        server.signal(signal.SIGHUP)
        site.wait_for(gate, 1)
        if step == "roll":
            site.let_through(gate)
            site.wait_for(gate, 2)
        chosen = {
            "parent's mold": lambda: old_mold,
            "new mold": lambda: next(pid for pid in server.others() if pid != old_mold),
            "old worker": lambda: server.of_generation(1)[1].pid,
            "new worker": lambda: server.of_generation(2, Life.STARTING)[0].pid,
            "serving new worker": lambda: server.of_generation(2, Life.READY)[0].pid,
        }[victim]()
        os.kill(chosen, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{chosen}").exists(), PATIENCE_S)  # the parent has seen it
        people.wait_more(20)
        site.open(gate)
        wait_ended(server)
        is_fatal = victim in ("new mold", "new worker", "serving new worker")
        wait_alone(server, 1 if is_fatal else 2, 2)
        assert ("reload failed" in server.log) is is_fatal
        people.wait_more(20)
        assert serves_load(server, (1 if is_fatal else 2))
    nothing_lost(people, chosen)
    assert server.stop() == 0


@pytest.mark.long
@pytest.mark.parametrize("step", STEPS)
def test_stop_during_a_reload(serve: Serve, site: Site, step: str) -> None:
    """Both generations leave; whoever imports is not waited for."""
    server = serve(site.target, "--workers", "2", "--max-surge", "1")
    gate = "import" if step == "import" else "lifespan"
    site.shut(gate)
    with site.opened(gate):
        server.signal(signal.SIGHUP)
        site.wait_for(gate, 1)
        if step == "roll":
            site.let_through(gate)
            site.wait_for(gate, 2)
        assert server.stop() == 0
    assert server.everyone() == []


def test_wishes_during_a_reload_are_one_more(serve: Serve, site: Site) -> None:
    """Three signals while one is under way: one more reload, which is said once."""
    server = serve(site.target, "--workers", "1")
    site.shut("import")
    with site.opened("import"):
        server.signal(signal.SIGHUP)
        site.wait_for("import", 1)
        for count in range(3):
            server.signal(signal.SIGHUP)
            server.signal(signal.SIGUSR1)
            wait_said(server, "SIGUSR1: ", count + 1)  # what came before it was heard
        assert server.log.count("as soon as the server has reloaded") == 1
    wait_alone(server, 3, 1)
    assert server.log.count("reloaded: generation") == 2


def test_answer_in_flight_outlives_the_reload(serve: Serve, site: Site) -> None:
    """A download that began before is finished by the old generation, while the new one serves."""
    server = serve(site.target, "--workers", "1")
    with ByHand(server.connect()) as client:
        client.send(b"GET /download HTTP/1.1\r\nHost: test\r\n\r\n")
        status, fields = client.head()
        site.write(2)
        reload(server)
        assert serves_load(server, 2)
        assert (status, len(client.rest(fields))) == (200, PIECES * len(PIECE))
    wait_alone(server, 2, 1)


@pytest.mark.long
def test_parent_holds_nothing_of_what_is_gone(serve: Serve, site: Site) -> None:
    """Reload after reload under load: nothing lost, and the parent's descriptors are as many as before."""
    server = serve(site.target, "--workers", "2", "--max-surge", "2")
    with coming(server).busy(2) as people:
        reload(server)
        wait_alone(server, 2, 2)
        before = len(open_descriptors(server.pid))
        for _ in range(4):
            reload(server)
        wait_alone(server, 6, 2)
        people.wait_more(10)
        eventually(lambda: len(open_descriptors(server.pid)) <= before)  # of the last mold, too
    nothing_lost(people)
    assert len(server.workers()) <= 6


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_are_read_anew(serve: Serve, site: Site, tmp_path: Path) -> None:
    """The file says more workers now; a new address needs a restart, and that is said."""
    config = tmp_path / "server.toml"
    config.write_text("workers = 1\n")
    server = serve(site.target, "--config", str(config))
    config.write_text('workers = 3\nlog-format = "json"\n')
    reload(server)
    wait_alone(server, 2, 3)
    assert "changed, but taken over by a restart only: --log-format" in server.log


def test_settings_that_are_wrong_change_nothing(serve: Serve, site: Site, tmp_path: Path) -> None:
    """The message of the command line is in the log."""
    config = tmp_path / "server.toml"
    config.write_text("workers = 1\n")
    server = serve(site.target, "--config", str(config))
    config.write_text('workers = "many"\n')
    reload(server)
    assert "reload failed: the settings are wrong: cannot use 'many'" in server.log
    config.unlink()
    reload(server)
    assert server.log.count("reload failed: the settings are wrong") == 2
    wait_alone(server, 1, 1)
    assert serves_load(server, 1)


@pytest.mark.long
def test_directory_of_the_start_that_is_gone(serve: Serve, site: Site, tmp_path: Path) -> None:
    """Relative names begin there, and perhaps a pyproject.toml is; the log says what to do."""
    start = tmp_path / "release"
    start.mkdir()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    server = serve(site.target, "--workers", "1", cwd=start, env=env)
    start.rmdir()
    reload(server)
    assert f"cannot go to {start}, where the server was started: No such file or directory. Put it back" in server.log
    start.mkdir()
    site.write(2)
    reload(server)
    assert serves_load(server, 2)
    wait_alone(server, 3, 1)


@pytest.mark.parametrize("how", ["start", long("chdir")])
def test_releases_behind_a_link(serve: Serve, tmp_path: Path, how: str) -> None:
    """The link leads to the next release: what is imported and what is opened by a relative name are both of it."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "service.py").write_text(RELEASE)
        (tmp_path / name / "name").write_text(name)
    link = tmp_path / "current"
    link.symlink_to("one")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "PWD": str(link)}
    options = ("--workers", "1", "--app-dir", ".")
    where = {"cwd": link} if how == "start" else {}
    server = serve("service:handle", *options, *(("--chdir", str(link)) if how == "chdir" else ()), **where, env=env)
    with server.connect() as client:
        assert hear(client) == "one one"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(link)
    reload(server)
    wait_alone(server, 2, 1)
    with server.connect() as client:
        assert hear(client) == "two two"


def test_resolver_that_is_killed_costs_a_reload(serve: Serve, site: Site, tmp_path: Path) -> None:
    """It reads a file that never ends; nobody else waits for it."""
    config = tmp_path / "server.toml"
    config.write_text("workers = 1\n")
    server = serve(site.target, "--config", str(config))
    mold = server.mold_pid()
    config.unlink()
    os.mkfifo(config)
    server.signal(signal.SIGHUP)
    eventually(lambda: len(server.others()) == 2)
    assert serves_load(server, 1)
    os.kill(next(pid for pid in server.others() if pid != mold), signal.SIGKILL)
    eventually(lambda: "reload failed: the settings cannot be read: the resolver was killed by SIGKILL" in server.log)
    wait_alone(server, 1, 1)


# ── how many, and whether ────────────────────────────────────────────────────────────────────────────────────


def test_one_worker_more_and_one_fewer(serve: Serve, site: Site) -> None:
    """SIGTTIN, SIGTTOU: under load, and nothing is lost."""
    server = serve(site.target, "--workers", "1")
    with coming(server).busy(CLIENTS) as people:
        server.signal(signal.SIGTTIN)
        server.wait_workers(2)
        people.wait_more(20)
        server.signal(signal.SIGTTOU)
        wait_alone(server, 1, 1)
        people.wait_more(20)
    nothing_lost(people)


def test_everybody_parked(serve: Serve, site: Site) -> None:
    """SIGWINCH: newcomers wait in the kernel's queue, and are served when it comes again."""
    server = serve(site.target, "--workers", "2")
    server.signal(signal.SIGWINCH)
    eventually(lambda: not any(each.accepts for each in server.workers()))
    with ByHand(server.connect()) as client:
        client.send(b"GET /load HTTP/1.1\r\nHost: test\r\n\r\n")
        assert all(each.active == 0 for each in server.workers())
        server.signal(signal.SIGWINCH)
        assert client.answer().body == b"1"
