"""Promises of :mod:`hybrid.mold.fork_safety`, each in an interpreter of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import json
from hybrid.mold import fork_safety
{earlier}
before = fork_safety.snapshot()
{app}
print(json.dumps(fork_safety.check(before)), flush=True)
import os
os._exit(0)
"""


def findings(app: str, earlier: str = "") -> list[str]:
    """Run ``app`` as the import and return what the check found; ``earlier`` runs before the snapshot."""
    code = PROGRAM.format(app=textwrap.dedent(app), earlier=textwrap.dedent(earlier))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, list)
    return found


SAFE = {
    "nothing": "",
    "libraries": "import asyncio, anyio, uvloop, ssl, concurrent.futures, multiprocessing",
    "a file": "f = open('/dev/null')",
    "a thread that ended": "import threading; t = threading.Thread(target=int); t.start(); t.join()",
    "a pool that ended": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(4) as pool: list(pool.map(int, "123"))
    """,
    "a loop that ended": "import asyncio; asyncio.run(asyncio.sleep(0))",
    "a socket that was closed": "import socket; socket.socket().close()",
}


@pytest.mark.parametrize("name", SAFE)
def test_what_leaves_nothing_behind_is_safe(name: str) -> None:
    """No false alarm: auto would stop sharing memory for no reason."""
    assert findings(SAFE[name]) == []


@pytest.mark.parametrize(
    ("app", "says"),
    [
        (
            "import threading; threading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()",
            "thread 'poller' is running",
        ),
        (
            """
            from concurrent.futures import ThreadPoolExecutor
            pool = ThreadPoolExecutor(1, 'reports'); pool.submit(int).result()
            """,
            "thread 'reports_0' is running (concurrent.futures.thread._worker)",
        ),
        (
            """
            import _thread
            lock = _thread.allocate_lock(); lock.acquire(); _thread.start_new_thread(lock.acquire, ())
            """,
            "is running, not started by Python",
        ),
        (
            """
            import socket
            s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); s.close()
            """,
            "to 127.0.0.1:",
        ),
        ("import socket; s = socket.create_server(('127.0.0.1', 0))", "bound to 127.0.0.1:"),
        ("import socket; s = socket.create_server(('::1', 0), family=socket.AF_INET6)", "bound to [::1]:"),
        ("import socket; s = socket.socket()", "is open"),
        (
            "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('\\0hybrid-test-fork-safety')",
            "bound to @hybrid-test-fork-safety",
        ),
        ("import select; e = select.epoll()", "an epoll set, is open"),
        ("import selectors; e = selectors.DefaultSelector()", "an epoll set, is open"),
    ],
)
def test_what_does_not_survive_a_fork_is_named_with_the_remedy(app: str, says: str) -> None:
    """One sentence: what it is, and where it belongs instead."""
    (found,) = findings(app)
    assert says in found
    assert "in the lifespan, which runs once per worker, or use --preload off." in found


@pytest.mark.parametrize("maker", ["asyncio.new_event_loop()", "__import__('uvloop').new_event_loop()"])
def test_current_loop_is_found(maker: str) -> None:
    """A loop that was set, and what it holds open."""
    found = findings(f"import asyncio; loop = {maker}; asyncio.set_event_loop(loop)")
    assert any("an event loop was made and set as the current one" in one for one in found)
    assert any("epoll" in one for one in found)


def test_what_was_open_before_the_import_is_not_the_apps() -> None:
    """The mold's own channel and listeners; a descriptor that changed hands is the app's."""
    earlier = "import socket, os; ours = socket.socketpair()"
    assert findings("", earlier) == []
    (found,) = findings("ours[0].close(); theirs = socket.socket()", earlier)
    assert "is open" in found


def test_check_changes_nothing() -> None:
    """Two checks find the same, and no loop is made on the way."""
    app = """
        import asyncio, socket
        s = socket.socket()
        assert fork_safety.check(before) == fork_safety.check(before)
        assert asyncio._get_running_loop() is None
    """
    assert len(findings(app)) == 1
