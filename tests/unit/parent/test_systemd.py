"""What is said to a service manager, and what is never waited for."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hybrid.parent.systemd import Notifier, claim_stored
from hybrid.shared.handed import stored_name
from hybrid.shared.listeners import Listener, open_listeners
from hybrid.shared.log_line import LogWriter, Style
from hybrid.shared.settings import BindSettings, Launch, Settings
from tests.support.systemd import NotifySocket


class Log:
    """A log that can be read. Closes: its file."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("log")
        self.writer = LogWriter(self.fd, Style.TEXT, "debug", "parent")

    def said(self) -> list[str]:
        return os.pread(self.fd, 1 << 20, 0).decode().splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    os.close(log.fd)


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[NotifySocket]:
    with NotifySocket(str(tmp_path / "notify")) as ear:
        yield ear


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def notifier(stack: ExitStack, log: Log, **environ: str) -> Notifier:
    made = Notifier.from_environment(environ, 7, log.writer)
    stack.callback(made.close)
    return made


def listener(stack: ExitStack, bind: str = "127.0.0.1:0") -> Listener:
    (made,) = open_listeners([bind], 16, 0o600)
    stack.callback(made.close)
    return made


def heard(ear: NotifySocket) -> dict[str, str]:
    message = ear.next(1)
    assert message is not None
    return message


# ── words ──


def test_each_word_is_one_message(stack: ExitStack, log: Log, ear: NotifySocket) -> None:
    """Source: sd_notify(3)."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name)
    us.extend(1.5)
    us.ready("2 workers serve")
    us.status("one line\nand another")
    us.reloading()
    us.reloaded("2 new workers serve")
    us.stopping("leaving")
    us.failed("no", 98)
    assert heard(ear) == {"EXTEND_TIMEOUT_USEC": "1500000"}
    assert heard(ear) == {"READY": "1", "MAINPID": str(os.getpid()), "STATUS": "2 workers serve"}
    assert heard(ear) == {"STATUS": "one line and another"}
    reloading = heard(ear)
    assert abs(int(reloading.pop("MONOTONIC_USEC")) - time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6) < 60e6
    assert reloading == {"RELOADING": "1", "STATUS": "reloading"}
    assert heard(ear) == {"READY": "1", "STATUS": "2 new workers serve"}
    assert heard(ear) == {"STOPPING": "1", "STATUS": "leaving"}
    assert heard(ear) == {"STOPPING": "1", "STATUS": "no", "ERRNO": "98"}


def test_failed_reload_stays_in_the_status(stack: ExitStack, log: Log, ear: NotifySocket) -> None:
    """Until one succeeds: whoever looks an hour later sees it."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name)
    us.reloaded("1 worker serves", "the app cannot be imported")
    us.status("2 workers serve")
    us.reloaded("2 workers serve")
    us.status("1 worker serves")
    assert heard(ear)["STATUS"] == "1 worker serves; the last reload failed: the app cannot be imported"
    assert heard(ear)["STATUS"] == "2 workers serve; the last reload failed: the app cannot be imported"
    assert [heard(ear)["STATUS"] for _ in range(2)] == ["2 workers serve", "1 worker serves"]


def test_abstract_name(stack: ExitStack, log: Log) -> None:
    """``@`` stands for the leading NUL. Source: sd_notify(3)."""
    with NotifySocket(f"@{uuid.uuid4()}") as ear:
        notifier(stack, log, NOTIFY_SOCKET=ear.name).ready("here")
        assert heard(ear)["READY"] == "1"


@pytest.mark.parametrize("name", ["vsock:2:1234", "notify", "unix:/run/x"])
def test_other_kinds_of_sockets_are_refused_in_words(name: str, stack: ExitStack, log: Log) -> None:
    """Nobody is told, and the log says so."""
    us = notifier(stack, log, NOTIFY_SOCKET=name, WATCHDOG_USEC="100")
    us.ready("here")
    assert not us.is_there and us.deadline is None
    (line,) = log.said()
    assert f"NOTIFY_SOCKET={name}: only a path and an abstract name" in line


def test_without_a_manager_nothing_is_said(stack: ExitStack, log: Log) -> None:
    """Nor is anything to be done in the loop, whatever the rest of the environment says."""
    us = notifier(stack, log, WATCHDOG_USEC="100", FDSTORE="3")
    us.ready("here")
    us.time_passed(5.0)
    ours = [listener(stack)]
    assert us.store(ours) == ours
    assert us.deadline is None and not log.said()


# ── never a wait, never an error ──


def test_manager_that_is_gone_is_one_warning(stack: ExitStack, log: Log, tmp_path: Path) -> None:
    """What it was to hear is lost; when it is back, it hears the rest."""
    path = str(tmp_path / "notify")
    us = notifier(stack, log, NOTIFY_SOCKET=path)
    us.status("one")
    us.status("two")
    with NotifySocket(path) as ear:
        us.status("three")
        assert heard(ear)["STATUS"] == "three"
    (line,) = log.said()
    assert "warning" in line and f"at NOTIFY_SOCKET={path}: No such file" in line


def test_path_that_is_too_long_is_one_warning(stack: ExitStack, log: Log) -> None:
    """It has no errno."""
    us = notifier(stack, log, NOTIFY_SOCKET="/" + "x" * 200)
    us.ready("here")
    us.status("here")
    assert len(log.said()) == 1


def test_manager_that_does_not_read_hears_it_later_in_order(stack: ExitStack, log: Log, ear: NotifySocket) -> None:
    """A full socket holds nobody up; READY is not lost by it, and only one WATCHDOG waits."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name, WATCHDOG_USEC="2000000")
    while us.deadline == 0.0 and not us._unsent:
        us.status("filling")
    us.ready("here")
    for second in range(5):
        us.time_passed(float(second))
    assert us.deadline is not None
    ear.silence()
    us.time_passed(9.0)
    said = [next(iter(message)) for message in ear.so_far()]
    assert said[-2:] == ["READY", "WATCHDOG"] and said.count("WATCHDOG") == 1
    (line,) = log.said()
    assert "does not read" in line


def test_ready_is_not_pushed_out_by_what_is_said_after_it(stack: ExitStack, log: Log, ear: NotifySocket) -> None:
    """A manager that reads nothing for minutes: of states and extensions only the last is kept for it."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name)
    while not us._unsent:
        us.status("filling")
    us.ready("here")
    for number in range(100):
        us.status(f"{number} workers")
        us.extend(number)
    ear.silence()
    us.time_passed(9.0)
    said = [(message.get("STATUS"), message.get("EXTEND_TIMEOUT_USEC")) for message in ear.so_far()]
    assert said[-3:] == [("here", None), ("99 workers", None), (None, "99000000")]


def test_closed_notifier_says_nothing(stack: ExitStack, log: Log, ear: NotifySocket) -> None:
    """Closing twice is no error."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name, WATCHDOG_USEC="100")
    us.close()
    us.close()
    us.ready("here")
    us.time_passed(1.0)
    assert ear.next(0.001) is None and us.deadline is None and not log.said()


# ── the watchdog ──


def test_watchdog_is_fed_twice_within_its_time(stack: ExitStack, log: Log, ear: NotifySocket) -> None:
    """At once, and then whenever half of it has passed; not sooner."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name, WATCHDOG_USEC="3000000", WATCHDOG_PID="7")
    us.time_passed(100.0)
    assert heard(ear) == {"WATCHDOG": "1"}
    assert us.deadline == 101.5
    us.time_passed(101.4)
    assert ear.next(0.001) is None
    us.time_passed(101.5)
    assert heard(ear) == {"WATCHDOG": "1"}


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "100", "WATCHDOG_PID": "8"}, {"WATCHDOG_USEC": "soon"}],
)
def test_no_watchdog(environ: dict[str, str], stack: ExitStack, log: Log, ear: NotifySocket) -> None:
    """None is asked for, or another process is to feed it, or what is asked for makes no sense and the log says so."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name, **environ)
    assert us.deadline is None
    assert len(log.said()) == (environ.get("WATCHDOG_USEC") == "soon")


# ── the store ──


def test_our_sockets_are_stored_out_of_poll(stack: ExitStack, log: Log, ear: NotifySocket, tmp_path: Path) -> None:
    """One message each, with the very socket; it has the manager's name from then on, and its file is not removed."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name, FDSTORE="2")
    ours = [listener(stack), listener(stack, f"unix:{tmp_path}/app.sock")]
    stored = us.store(ours)
    for each, kept in zip(ours, stored, strict=True):
        name = stored_name(each.address, each.file)
        assert (kept.name, kept.file, kept.socket) == (name, None, each.socket)
        assert heard(ear) == {"FDSTORE": "1", "FDNAME": name, "FDPOLL": "0"}
        assert os.fstat(ear.stored[name]).st_ino == os.fstat(each.fileno()).st_ino
    assert us.store(stored) == stored and not ear.so_far()  # as after an upgrade: it has them already


def test_what_the_manager_handed_over_it_has_already(stack: ExitStack, log: Log, ear: NotifySocket) -> None:
    """Neither its own nor what came out of the store; the latter takes room there."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name, FDSTORE="2")
    own, unit, back, more = (listener(stack) for _ in range(4))
    adopted = [Listener(unit.socket, unit.address, adopted=True, name="web")]
    adopted += [Listener(back.socket, back.address, adopted=True, name="hybrid/x")]
    names = [each.name for each in us.store([*adopted, own, more])]
    assert names == ["web", "hybrid/x", stored_name(own.address, None), ""]
    assert "FileDescriptorStoreMax" in log.said()[0]


@pytest.mark.parametrize("room", ["", "0", "many"])
def test_no_store(room: str, stack: ExitStack, log: Log, ear: NotifySocket) -> None:
    """FDSTORE is unset where there is none. Source: systemd.exec(5)."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name, FDSTORE=room)
    ours = [listener(stack)]
    assert us.store(ours) == ours and not us.keeps_sockets
    assert ear.next(0.001) is None


def test_socket_that_could_not_be_sent_is_not_kept(stack: ExitStack, log: Log, tmp_path: Path) -> None:
    """Or its file would be left behind for nothing."""
    us = notifier(stack, log, NOTIFY_SOCKET=str(tmp_path / "none"), FDSTORE="2")
    ours = [listener(stack)]
    assert us.store(ours) == ours


def test_stored_sockets_that_are_not_wanted_are_forgotten(stack: ExitStack, log: Log, ear: NotifySocket) -> None:
    """What remains is served; the log says why the others are not."""
    us = notifier(stack, log, NOTIFY_SOCKET=ear.name)
    wanted, other, unit = (listener(stack) for _ in range(3))
    names = (stored_name(wanted.address, None), stored_name(other.address, None), "web")
    launch = Launch(listen_fds=(wanted.fileno(), os.dup(other.fileno()), unit.fileno()), listen_names=names)
    kept = claim_stored(Settings(bind=BindSettings(bind=(wanted.address,)), launch=launch), us, log.writer)
    assert [each.fd for each in kept] == [wanted.fileno(), unit.fileno()]
    assert heard(ear) == {"FDSTOREREMOVE": "1", "FDNAME": names[1]}
    (line,) = log.said()
    assert f"closing {other.address}, kept by the service manager: nothing binds" in line
    assert not other.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
