"""The access log of running servers: who opens it, what gets into it, and what a rotation does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hybrid
from hybrid.ground.errors import UsageError
from tests.apps.hello import hello
from tests.process.conftest import Serve
from tests.support.eventually import eventually
from tests.support.forked import NOBODY
from tests.support.server import ROOT, Server, descriptor_links, follows, until_eof

HELLO = "tests.apps.hello:hello"


def get(server: Server, path: str = "/", *lines: str) -> bytes:
    """Ask on a connection of its own; return what comes."""
    request = "\r\n".join((f"GET {path} HTTP/1.1", "Host: test", "Connection: close", *lines, "", ""))
    return raw(server, request.encode("latin-1"))


def raw(server: Server, data: bytes) -> bytes:
    with server.connect() as client:
        client.sendall(data)
        return until_eof(client)


def objects(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSON log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


# ── who opens it ─────────────────────────────────────────────────────────────────────────────────────────────


def test_file_is_there_before_the_first_request(serve: Serve, tmp_path: Path) -> None:
    """The parent makes it, private; everybody inherits it."""
    path = tmp_path / "access.log"
    server = serve(HELLO, "--workers", "2", "--access-log", "--access-log-file", str(path))
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_text() == ""
    for pid in (server.pid, server.mold_pid(), *server.ready_pids()):
        assert str(path) in descriptor_links(pid)


def test_file_of_a_log_that_nobody_wants_is_not_made(serve: Serve, tmp_path: Path) -> None:
    """Off is off: no file, no line."""
    path = tmp_path / "access.log"
    server = serve(HELLO, "--workers", "1", "--access-log-file", str(path))
    assert get(server).endswith(b"hello\n")
    assert not path.exists()
    assert "GET /" not in server.log


@pytest.mark.root
def test_file_is_opened_before_privileges_are_dropped(
    serve: Serve, nobody_python: dict[str, Any], tmp_path: Path
) -> None:
    """A directory that only root may write: workers write as nobody, also after a rotation."""
    folder = tmp_path / "private"
    folder.mkdir(0o700)
    path = folder / "access.log"
    options = ("--access-log", "--access-log-file", str(path), "--workers", "1", "--user", "nobody")
    server = serve(HELLO, *options, **nobody_python)
    (pid,) = server.ready_pids()
    assert os.stat(f"/proc/{pid}").st_uid == NOBODY
    assert path.stat().st_uid == 0
    path.rename(folder / "old")
    server.signal(signal.SIGUSR1)
    eventually(lambda: path.exists() and str(path) in descriptor_links(pid))
    assert path.stat().st_uid == 0


@pytest.mark.parametrize("workers", ["1", "0"])
def test_file_that_cannot_be_opened_ends_the_boot(serve: Serve, tmp_path: Path, workers: str) -> None:
    """Exit code 2, and one line that names the file and the option."""
    path = tmp_path / "none" / "access.log"
    server = serve(HELLO, "--workers", workers, "--access-log", "--access-log-file", str(path), ready=False)
    assert server.wait() == 2
    assert f"cannot open the log file {path}: No such file or directory." in server.log
    assert "or change --access-log-file." in server.log
    assert "Traceback" not in server.log


def test_unknown_atom_is_a_usage_error(tmp_path: Path) -> None:
    """Before anything is started: exit code 2, the atom, and those that there are."""
    command = [sys.executable, "-m", "hybrid", HELLO, "--access-log-format", "%(h)s %(nope)s"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "%(nope)s is no atom. Give one of %(h)s, %(l)s" in run.stderr


# ── rotation ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_file_is_reopened_by_everybody(serve: Serve, tmp_path: Path) -> None:
    """Rename, SIGUSR1: parent, mold, workers and workers forked later have the new file; the error log stays."""
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    server = serve(HELLO, "--workers", "2", "--access-log", "--access-log-file", str(path))
    first, second = server.ready_pids()
    path.rename(old)
    server.signal(signal.SIGUSR1)
    for pid in (server.pid, server.mold_pid(), first, second):
        eventually(lambda pid=pid: follows(pid, path, old))  # type: ignore[misc]
    assert "info    SIGUSR1: access log file reopened" in server.log
    assert "SIGUSR1: the log is stderr; nothing to reopen" in server.log
    os.kill(first, signal.SIGKILL)
    pids = eventually(lambda: pids if len(pids := server.ready_pids()) == 2 and first not in pids else [])
    (third,) = set(pids) - {second}
    assert follows(third, path, old)


def test_both_logs_are_reopened_each_as_its_own(serve: Serve, tmp_path: Path) -> None:
    """One signal, two files, and no line in the wrong one."""
    error, access = tmp_path / "error.log", tmp_path / "access.log"
    files = ("--log-file", str(error), "--access-log-file", str(access))
    server = serve(HELLO, "--workers", "1", "--access-log", *files)
    (pid,) = server.ready_pids()
    for path in (error, access):
        path.rename(f"{path}.1")
    server.signal(signal.SIGUSR1)
    eventually(lambda: {str(error), str(access)} <= set(descriptor_links(pid)))
    assert get(server, "/after").endswith(b"hello\n")
    eventually(lambda: "GET /after" in access.read_text())
    assert server.stop() == 0
    assert "stopped" in error.read_text() and "GET" not in error.read_text()
    assert access.read_text().count("\n") == 1
    assert "GET" not in Path(f"{access}.1").read_text()


def test_file_that_cannot_be_reopened_is_kept(serve: Serve, tmp_path: Path) -> None:
    """The directory is gone: an error, and lines go where they went."""
    folder = tmp_path / "logs"
    folder.mkdir()
    server = serve(HELLO, "--workers", "1", "--access-log", "--access-log-file", str(folder / "access.log"))
    folder.rename(tmp_path / "gone")
    server.signal(signal.SIGUSR1)
    eventually(lambda: "error   SIGUSR1: cannot open the log file" in server.log)
    assert get(server, "/still").endswith(b"hello\n")
    eventually(lambda: "GET /still" in (tmp_path / "gone" / "access.log").read_text())


# ── what gets into it ────────────────────────────────────────────────────────────────────────────────────────


def test_each_request_is_a_line_of_its_worker(serve: Serve, tmp_path: Path) -> None:
    """Two workers, one file: whole lines, with who wrote them, in the order of the keys that is promised."""
    path = tmp_path / "access.log"
    server = serve(
        *(HELLO, "--workers", "2", "--access-log", "--access-log-file", str(path), "--access-log-format", "json")
    )
    asked = 0

    def both() -> bool:
        nonlocal asked
        assert get(server, f"/{asked}", "User-Agent: caf\xe9", f"X-Request-ID: id-{asked}").endswith(b"hello\n")
        asked += 1
        return {line["pid"] for line in objects(path)} == set(server.ready_pids())

    eventually(both)
    lines = eventually(lambda: lines if len(lines := objects(path)) == asked else [])
    assert sorted(line["path"] for line in lines) == sorted(f"/{number}" for number in range(asked))
    by_slot = {worker.slot: worker.pid for worker in server.workers()}
    for line in lines:
        assert by_slot[line["worker"]] == line["pid"]
        assert line["request_id"] == f"id-{line['path'][1:]}"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert 0 < line["duration_ms"] < 10_000
        known = ("client", "method", "version", "status", "bytes", "referer", "user_agent", "host", "scheme")
        assert [line[name] for name in known] == [
            *("127.0.0.1", "GET", "1.1", 200, 6, None, "café", "test", "http"),
        ]


def test_what_was_refused_is_a_line_too(serve: Serve, tmp_path: Path) -> None:
    """It was no request, so nothing is known of it but who sent it and what was said; and it is one line."""
    path = tmp_path / "access.log"
    server = serve(HELLO, "--workers", "1", "--access-log", "--access-log-file", str(path))
    refused = {
        b"\x1b[31mGET / HTTP/1.1\r\n\r\n": 400,
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n": 414,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 200 + b"\r\n": 431,
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n": 505,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
    }
    for request_bytes, status in refused.items():
        assert raw(server, request_bytes).startswith(b"HTTP/1.1 %d " % status)
    eventually(lambda: path.read_text().count("\n") == len(refused))
    for line, status in zip(path.read_text().splitlines(), refused.values(), strict=True):
        assert re.fullmatch(rf'127\.0\.0\.1 - - \[[^]]+\] "-" {status} \S+ "-" "-"', line)


def test_headers_of_the_response_can_be_logged(serve: Serve, tmp_path: Path) -> None:
    """With an ``o`` atom; bytes that are not ASCII are escaped."""
    path = tmp_path / "access.log"
    form = "%(s)s %({X-Greeting}o)s %({etag}o)s"
    server = serve(
        *(HELLO, "--workers", "1", "--access-log", "--access-log-file", str(path), "--access-log-format", form)
    )
    assert get(server).endswith(b"hello\n")
    assert eventually(path.read_text) == "200 caf\\xC3\\xA9 -\n"


def test_stdout_is_the_default(serve: Serve, tmp_path: Path) -> None:
    """Lines go to stdout, and the error log, to stderr, has none of them."""
    with (tmp_path / "out").open("w") as out:
        server = serve(HELLO, "--workers", "1", "--access-log", stdout=out)
    assert get(server, "/hello").endswith(b"hello\n")
    eventually(lambda: '"GET /hello HTTP/1.1" 200 6 "-" "-"\n' in (tmp_path / "out").read_text())
    assert "GET /" not in server.log


@pytest.fixture
def stalled() -> Iterator[int]:
    """Yield the writing end of a pipe that is full and that nobody reads."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(write, b"x" * size)
        except BlockingIOError:
            pass
    os.set_blocking(write, True)
    yield write
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("workers", ["1", "0"])
def test_reader_that_hangs_holds_up_no_request(serve: Serve, stalled: int, workers: str) -> None:
    """stdout is a full pipe: requests are served, lines are lost, the error log says so once, the stop is orderly."""
    server = serve(HELLO, "--workers", workers, "--access-log", stdout=stalled)
    for _ in range(5):
        assert get(server).endswith(b"hello\n")
    assert server.stop() == 0
    assert server.log.count("access log: it takes no more") == 1
    assert "warning access log: 5 lines lost: it took no more" in server.log
    assert os.get_blocking(stalled), "the flag is everybody's: untouched"


def test_full_disk_fails_no_request(serve: Serve) -> None:
    """ENOSPC costs lines."""
    server = serve(HELLO, "--workers", "1", "--access-log", "--access-log-file", "/dev/full")
    for _ in range(3):
        assert get(server).endswith(b"hello\n")
    assert server.stop() == 0
    assert "warning access log: 3 lines lost: it took no more" in server.log


# ── without a pool ───────────────────────────────────────────────────────────────────────────────────────────


def test_process_that_serves_alone_has_one(serve: Serve, tmp_path: Path) -> None:
    """``--workers 0``: made, written, reopened, closed."""
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    server = serve(HELLO, "--workers", "0", "--access-log", "--access-log-file", str(path))
    assert path.stat().st_mode & 0o777 == 0o640
    assert get(server, "/old").endswith(b"hello\n")
    eventually(lambda: "GET /old" in path.read_text())
    path.rename(old)
    server.signal(signal.SIGUSR1)
    eventually(lambda: "SIGUSR1: access log file reopened" in server.log)
    assert get(server, "/new").endswith(b"hello\n")
    eventually(lambda: "GET /new" in path.read_text())
    assert server.stop() == 0
    assert "GET /new" not in old.read_text()


@pytest.mark.parametrize("workers", [0, 1])
async def test_embedded_server_has_one(tmp_path: Path, workers: int) -> None:
    """``hybrid.serve(..., access_log=True)``: in the host's loop or in a pool. The host keeps no descriptor of it."""
    path = tmp_path / "access.log"
    handler: Any = hello if workers == 0 else HELLO
    server = hybrid.serve(
        handler, bind="127.0.0.1:0", workers=workers, access_log=True, access_log_file=path, access_log_format="%(r)s"
    )
    async with server:
        host, port = server.addresses[0].rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /embedded HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"hello\n")
        writer.close()
    assert path.read_text() == "GET /embedded HTTP/1.1\n"
    assert str(path) not in descriptor_links(os.getpid())


async def test_embedded_server_says_what_is_wrong_in_its_words(tmp_path: Path) -> None:
    """A file that cannot be opened leaves nothing behind."""
    path = tmp_path / "none" / "log"
    with pytest.raises(UsageError, match=r"or change access_log_file=\."):
        async with hybrid.serve(hello, bind="127.0.0.1:0", workers=0, access_log=True, access_log_file=path):
            raise AssertionError("it came up")


@pytest.mark.parametrize("workers", ["1", "0"])
def test_file_without_a_log_is_said_to_have_no_effect(serve: Serve, tmp_path: Path, workers: str) -> None:
    """Whoever comes from gunicorn expects that the file is the switch. Also: --lifespan's words without a pool."""
    options = ("--access-log-file", str(tmp_path / "access.log"), "--lifespan", "off")
    server = serve(HELLO, "--workers", workers, *options)
    assert server.log.count("have no effect without --access-log") == 1
