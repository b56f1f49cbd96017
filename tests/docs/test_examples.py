"""Every example is served for real, by the command that its docstring shows, and talked to."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import smtplib
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.docs.pages import ROOT, Page
from tests.support.server import Server, running, until_eof
from tests.support.variations import mostly_long

Conversation = Callable[[Server], None]


def talk_to_echo(server: Server) -> None:
    """Send, and get it back."""
    assert server.echoes()


def talk_to_fetch(server: Server) -> None:
    """Ask for bytes, get so many and the end; ask nonsense, be told what to ask."""
    for question, answer in ((b"4000\n", b"x" * 4000), (b"many\n", b"ask for 0 to 1000000 bytes\n")):
        with server.connect() as client:
            client.sendall(question)
            assert until_eof(client) == answer


def talk_to_keyvalue(server: Server) -> None:
    """Set on one connection, get on another: whichever worker has it, the file is the same."""
    with server.connect() as client:
        client.sendall(b"set colour blue\nquit\n")
        assert until_eof(client) == b"ok\n"
    for _ in range(4):
        with server.connect() as client:
            client.sendall(b"get colour\nget nothing\nwhat\nquit\n")
            assert until_eof(client).startswith(b"blue\n-\nsay: ")


def talk_to_blocking(server: Server) -> None:
    """Be greeted, by name."""
    with server.connect() as client:
        client.sendall("Ada\nJosé\n".encode())
        client.shutdown(socket.SHUT_WR)
        assert until_eof(client).decode() == "Who are you?\nHello, Ada!\nHello, José!\n"


def talk_to_smtp(server: Server) -> None:
    """Deliver a mail."""
    host, _, port = server.address.rpartition(":")
    with smtplib.SMTP(host, int(port), local_hostname="localhost", timeout=10) as client:
        assert client.sendmail("a@example.org", ["b@example.org"], "Subject: hello\r\n\r\nhello\r\n") == {}
    assert "a@example.org → b@example.org" in server.log


def talk_to_aiohttp(server: Server) -> None:
    """Two requests on one connection."""
    host, _, port = server.address.rpartition(":")
    client = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        for path in ("/one", "/two"):
            client.request("GET", path)
            assert client.getresponse().read().decode().startswith(f"{path} from process ")
    finally:
        client.close()


def talk_to_asgi(server: Server) -> None:
    """Visit twice on one connection: one worker, which counts."""
    with httpx.Client(base_url=f"http://{server.address}", trust_env=False) as client:
        for visit in (1, 2):
            assert client.get("/José").text.startswith(f"hello, José: visit {visit} of process ")


def talk_to_fastapi(server: Server) -> None:
    """Leave a note, have it read by every worker; watch the clock for a moment, and not until the stop."""
    url = f"http://{server.address}"
    note = {"text": "buy milk"}
    assert httpx.post(f"{url}/notes", json=note, trust_env=False).json() == {"id": 1, **note}
    for _ in range(4):
        assert httpx.get(f"{url}/notes/1", trust_env=False).json() == note
    assert httpx.get(f"{url}/notes/2", trust_env=False).status_code == 404
    with httpx.stream("GET", f"{url}/events", trust_env=False) as response:
        assert next(response.iter_lines()).startswith("data: ")


def talk_to_wsgi(server: Server) -> None:
    with httpx.Client(base_url=f"http://{server.address}", trust_env=False) as http:
        assert http.get("/Ädä").text.startswith("hello, Ädä: thread hybrid-")
        assert http.post("/", content=b"x" * 100_000).text == "100000 bytes\n"
        assert http.get("/countdown").text == "3\n2\n1\nlift-off\n"


CONVERSATIONS: dict[str, Conversation] = {
    "echo.py": talk_to_echo,
    "fetch.py": talk_to_fetch,
    "keyvalue.py": talk_to_keyvalue,
    "blocking.py": talk_to_blocking,
    "smtp.py": talk_to_smtp,
    "aiohttp_server.py": talk_to_aiohttp,
    "asgi.py": talk_to_asgi,
    "fastapi_app.py": talk_to_fastapi,
    "wsgi_app.py": talk_to_wsgi,
}


SHORT = ("echo.py", "blocking.py", "fastapi_app.py", "wsgi_app.py")
"""One of each kind of handler."""


def command_of(example: str) -> list[str]:
    """Return the arguments that examples/README.md starts an example with, on a port of its own."""
    text = Page("examples/README.md").text
    (line,) = re.findall(rf"^hybrid-serve (examples/{re.escape(example)}:.*)$", text, re.MULTILINE)
    return shlex.split(re.sub(r"(--bind \S+):\d+", r"\1:0", line))


@pytest.mark.parametrize("example", mostly_long(CONVERSATIONS, SHORT.__contains__))
def test_example_serves(example: str, tmp_path: Path) -> None:
    """It boots on two workers, answers, and stops with 0 when asked."""
    env = {
        **os.environ,
        "KEYVALUE_DB": str(tmp_path / "keyvalue.db"),
        "NOTES_DB": str(tmp_path / "notes.db"),
        "PYTHONUNBUFFERED": "1",
    }
    with running(*command_of(example), "--workers", "2", log=tmp_path / "log", env=env) as server:
        server.wait_ready()
        CONVERSATIONS[example](server)
        assert server.stop() == 0, server.log


def test_every_example_is_listed_and_tried() -> None:
    """An example that nobody runs rots."""
    examples = {file.name for file in (ROOT / "examples").glob("*.py")}
    assert examples == CONVERSATIONS.keys()
    assert examples <= {link.partition("#")[0] for link in Page("examples/README.md").links}
