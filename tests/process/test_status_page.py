"""The status page of a real server, over HTTP and in a browser. Pictures are left where ``HYBRID_ARTIFACTS`` says."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.artifacts import artifacts
from tests.support.browser import browser
from tests.support.control import control_pid
from tests.support.eventually import eventually
from tests.support.server import ROOT, Server, running, stat_fields

NAME = '<img src=x onerror="window.pwned=1">.py'
"""A file that is served: a name like any other to the kernel."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of an app with a hostile name."""
    folder = tmp_path_factory.mktemp("page")
    (folder / NAME).write_text("from tests.apps.http_knobs import app\n")
    arguments = (f"{folder / NAME}:app", "--workers", "2", "--bind", "127.0.0.1:0", "--metrics-bind", "127.0.0.1:0")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with running(*arguments, log=folder / "log", env=environment) as server:
        yield server.wait_ready()
        assert server.stop() == 0, server.log


def page_address(server: Server) -> tuple[str, int]:
    """Return where the page is."""
    host, _, port = server.said["doors"]["metrics-bind"][0].rpartition(":")
    return host, int(port)


@contextmanager
def asked(address: tuple[str, int], path: str) -> Iterator[http.client.HTTPResponse]:
    """Yield the answer to a GET, its body unread."""
    connection = http.client.HTTPConnection(*address, timeout=20)
    try:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            yield answer
    finally:
        connection.close()


def events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """Yield the events of a stream, each as its name and what its data is."""
    name = ""
    while line := answer.readline():
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_page_forbids_what_it_does_not_need(server: Server) -> None:
    """No inline script, no other host, no frame; and nothing of the app's is in it."""
    with asked(page_address(server), "/") as answer:
        body = answer.read()
    assert answer.status == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ") and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert b"onerror" not in body


def test_stream_delivers_snapshots(server: Server) -> None:
    """Of the real workers, with rates; the past comes first, and what the parent said at its boot."""
    names, kinds, latest = [], set(), {}
    with asked(page_address(server), "/events") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        for name, data in events(answer):
            names.append(name)
            if name == "notices":
                kinds |= {notice["notice"] for notice in data}
            if name == "snapshot":
                latest = data
                if data["totals"]["requests_per_s"] is not None and data["totals"]["loop_use"] is not None:
                    break
            assert len(names) < 60
    assert names[0] == "past" and {"worker_ready", "phase_changed"} <= kinds
    pids = sorted(server.ready_pids())
    assert sorted(worker["pid"] for worker in latest["workers"]) == pids
    assert latest["parent"]["pid"] == server.pid
    assert latest["totals"]["ready"] == 2 and latest["totals"]["memory_bytes"] > 0
    assert latest["pool"]["app"].endswith(f"{NAME}:app")


def test_page_shows_a_real_server(server: Server, tmp_path: Path) -> None:
    """In a browser: its workers, its rates, its name as text. Control is killed, comes back, and the page with it."""
    host, port = page_address(server)
    url = f"http://{host}:{port}/"
    with browser(tmp_path) as page:
        page.look(1440, 900)
        page.open(url)
        eventually(lambda: page.text("#ready") == "2")
        eventually(lambda: page.value("document.querySelectorAll('#rows tr').length") == 2)
        eventually(lambda: page.text("#state") == "● serving")
        assert page.text("#app").endswith(f"{NAME}:app")
        for _ in range(50):
            with asked(server_address(server), "/") as answer:
                assert answer.read()
        eventually(lambda: page.text("#rows .c-use .n") not in ("", "–"))
        eventually(lambda: "is ready" in page.text("#events"))
        for name, width, scheme in (("light", 1440, "light"), ("dark", 1440, "dark"), ("phone", 390, "light")):
            page.look(width, 900, scheme)
            page.save(artifacts(tmp_path) / f"page-real-{name}.png")
        assert page.value("window.pwned ?? 0") == 0
        assert page.said == []
        assert all(each.startswith(url) for each in page.asked), page.asked

        before = control_pid(server)
        os.kill(before, signal.SIGKILL)
        page.asked.clear()
        eventually(lambda: page.text("#ready") and f"{url}events" in page.asked)
        eventually(lambda: page.text("#seen") == "live")
        assert eventually(lambda: control_pid(server)) != before


def test_workers_and_parent_do_not_notice(server: Server) -> None:
    """Whoever looks is served by control alone: no worker has a connection more."""
    address = page_address(server)
    with ExitStack() as readers:
        for _ in range(5):
            assert next(events(readers.enter_context(asked(address, "/events"))))[0] == "past"
        assert sum(worker.active for worker in server.workers()) == 0
    assert stat_fields(control_pid(server))[0] not in "ZX"


def server_address(server: Server) -> tuple[str, int]:
    """Return where the app is served."""
    host, _, port = server.address.rpartition(":")
    return host, int(port)
