"""Real clients against a plain application: curl, httpx, aiohttp, ab, wrk, a browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trustme

from tests.apps.http_knobs import PIECE, PIECES
from tests.support.server import Server, running

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUESTS = 2000
"""Of one run of ab."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all; at the end it leaves in order."""
    log = tmp_path_factory.mktemp("clients") / "log"
    with running("tests.apps.http_knobs:app", "--workers", "2", "--bind", "127.0.0.1:0", log=log) as server:
        yield server.wait_ready()
        assert server.stop() == 0, server.log
        assert "error" not in server.log, server.log


def tool(*names: str) -> str:
    """Return the first of these commands that is installed; skip where none is."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"{' or '.join(names)} is not installed")
    return found


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Run to the end; fail with what it said."""
    done = subprocess.run(command, capture_output=True, timeout=30)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done


# ── curl ─────────────────────────────────────────────────────────────────────────────────────────────────────


def curl(server: Server, path: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Ask with curl, on 127.0.0.1 and by no proxy."""
    command = (tool("curl"), "-sS", "--noproxy", "*", "--max-time", "20")
    return run(*command, *arguments, f"http://{server.address}{path}")


def test_curl_1_0(server: Server) -> None:
    """A client of HTTP/1.0 gets no chunks: what has no length ends with the connection."""
    assert curl(server, "/headers", "--http1.0").stdout.startswith(b"GET\n1.0\n")
    streamed = curl(server, "/mirror", "--http1.0", "--data-binary", "some bytes", "--include").stdout
    head, _, body = streamed.partition(b"\r\n\r\n")
    assert body == b"some bytes"
    assert b"connection: close" in head.lower() and b"transfer-encoding" not in head.lower()


def test_curl_expects_100_continue(server: Server, tmp_path: Path) -> None:
    """2 MB that wait for leave to be sent come back byte for byte; with and without a length."""
    data = os.urandom(2_000_000)
    (tmp_path / "upload").write_bytes(data)
    for fields in ((), ("--header", "Transfer-Encoding: chunked")):
        arguments = ("--data-binary", f"@{tmp_path / 'upload'}", "--header", "Expect: 100-continue", *fields)
        done = curl(server, "/echo", "--verbose", *arguments)
        assert done.stdout == data
        assert done.stderr.count(b"< HTTP/1.1 100 Continue") == 1


def test_curl_raw_shows_the_chunks(server: Server) -> None:
    """Framing, byte for byte: a chunk for each piece, and the last one."""
    assert (
        curl(server, "/mirror", "--http1.1", "--raw", "--data", "ten bytes!").stdout == b"a\r\nten bytes!\r\n0\r\n\r\n"
    )


def test_curl_head(server: Server) -> None:
    """A response to HEAD has the length and no body: the next one on the same connection is understood."""
    url = f"http://{server.address}/headers"
    done = curl(server, "/headers", "--head", "--write-out", "[%{num_connects} %{size_download}]", url, url)
    assert re.findall(rb"\[\d \d+\]", done.stdout) == [b"[1 0]", b"[0 0]", b"[0 0]"]
    assert done.stdout.lower().count(b"content-length: ") == 3


def test_curl_has_trailers(server: Server, tmp_path: Path) -> None:
    """Fields behind the body arrive as fields."""
    done = curl(server, "/trailers", "--dump-header", str(tmp_path / "fields"))
    assert done.stdout == b"body"
    head, _, trailers = (tmp_path / "fields").read_bytes().partition(b"\r\n\r\n")
    assert b"trailer: x-sum" in head.lower() and trailers.strip() == b"x-sum: 4"


def test_curl_shows_early_hints(server: Server) -> None:
    """103 comes before the response, and does not end it; a client of HTTP/1.0 is spared."""
    done = curl(server, "/early", "--verbose")
    assert done.stdout == b"late"
    said = [line[2:].strip() for line in done.stderr.splitlines() if line.startswith(b"< ")]
    assert said[:2] == [b"HTTP/1.1 103 Early Hints", b"link: </style.css>; rel=preload; as=style"]
    assert b"HTTP/1.1 200 OK" in said[2:]
    assert b"103" not in curl(server, "/early", "--verbose", "--http1.0").stderr


def test_curl_leaves_a_download(server: Server) -> None:
    """A client that has enough goes away in the middle; the rest of the server does not mind."""
    done = subprocess.run(
        [
            tool("curl"),
            "-sS",
            "--noproxy",
            "*",
            "--limit-rate",
            "1K",
            "--max-time",
            "0.3",
            f"http://{server.address}/download",
        ],
        capture_output=True,
        timeout=20,
    )
    assert done.returncode == 28  # timed out
    assert curl(server, "/echo", "--data", "still here").stdout == b"still here"


# ── httpx, aiohttp ───────────────────────────────────────────────────────────────────────────────────────────


def test_httpx_keeps_its_connection(server: Server) -> None:
    """One connection, and so one worker, for as many requests as one likes."""
    with httpx.Client(base_url=f"http://{server.address}", trust_env=False) as http:
        ports = set()
        pids = set()
        for _ in range(50):
            response = http.get("/pid")
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr")[1])
            pids.add(response.text)
        assert len(ports) == len(pids) == 1
        assert http.get("/download").content == PIECE * PIECES
        assert http.get("/trailers").text == "body"
        assert http.get("/early").text == "late"


async def test_aiohttp(server: Server) -> None:
    """Many at a time on a few connections; a body without a length, and one that is asked for."""
    import aiohttp  # here: a second, which each process that collects would pay

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield PIECE

    connector = aiohttp.TCPConnector(limit=8)
    async with aiohttp.ClientSession(f"http://{server.address}", connector=connector) as session:
        for _ in range(50):
            async with session.get("/pid") as response:
                assert response.status == 200 and int(await response.text())
        async with session.post("/mirror", data=pieces()) as response:
            assert await response.read() == PIECE * 20
        async with session.post("/echo", data=PIECE, expect100=True) as response:
            assert await response.read() == PIECE
        async with session.head("/headers") as response:
            assert int(response.headers["content-length"]) > 0


# ── ab, wrk ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "closed"])
def test_ab(server: Server, keep: bool) -> None:
    """No request fails; ab is a client of HTTP/1.0 that asks for connections to be kept."""
    options = ("-k",) if keep else ()
    said = run(tool("ab"), "-q", "-n", str(REQUESTS), "-c", "8", "-l", *options, f"http://{server.address}/pid").stdout
    figures = dict(re.findall(r"^([A-Z][\w -]+): +(\d+)$", said.decode(), re.MULTILINE))
    assert (figures["Complete requests"], figures["Failed requests"]) == (str(REQUESTS), "0"), said
    assert figures.get("Keep-Alive requests") == (str(REQUESTS) if keep else None), said
    assert "Non-2xx responses" not in figures


def test_wrk(server: Server) -> None:
    """A second of requests: no error of a socket, none of a status."""
    said = run(tool("wrk"), "-t1", "-c16", "-d1s", f"http://{server.address}/pid").stdout.decode()
    count = re.search(r"(\d+) requests in", said)
    assert count is not None and int(count[1]) > 100, said
    assert "Socket errors" not in said and "Non-2xx" not in said


# ── a browser ────────────────────────────────────────────────────────────────────────────────────────────────


def command_of(url: str, profile: Path, *arguments: str) -> list[str]:
    """Return what opens a page in a browser that asks the machine of nobody else."""
    return [
        *(tool(*BROWSERS), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--no-proxy-server"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        *("--ignore-certificate-errors", f"--user-data-dir={profile}", *arguments, url),
    ]


@contextmanager
def browsing(url: str, profile: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Have a page open for the length of a block. Leaves no process behind."""
    command = command_of(url, profile, *arguments)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True
    ) as process:
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # all of them have left
                pass


def browse(url: str, profile: Path) -> str:
    """Return the document that a page has become when all is loaded."""
    with browsing(url, profile, "--virtual-time-budget=5000", "--dump-dom") as process:
        return process.communicate(timeout=40)[0]


def is_whole(document: str) -> bool:
    """Whether style, script, pictures and a request of the script have all arrived."""
    return "<p>rgb(1, 2, 3)|31|said by the page|" in document


def test_browser_loads_a_page(server: Server, tmp_path: Path) -> None:
    """A page with what belongs to it, on as many connections as the browser likes."""
    document = browse(f"http://{server.address}/page", tmp_path)
    assert is_whole(document), document


def test_browser_loads_a_page_by_https(tmp_path: Path) -> None:
    """The same through TLS; the certificate is nobody's, and the browser is told not to mind."""
    tool(*BROWSERS)
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    files = ("--ssl-certfile", str(tmp_path / "pem"), "--ssl-keyfile", str(tmp_path / "pem"))
    arguments = ("tests.apps.http_knobs:app", "--workers", "2", "--bind", "127.0.0.1:0", *files)
    with running(*arguments, log=tmp_path / "log") as server:
        server.wait_ready()
        document = browse(f"https://{server.address}/page", tmp_path / "profile")
        assert is_whole(document), (document, server.log)
        assert server.stop() == 0, server.log
