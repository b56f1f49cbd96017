"""A headless Chromium, told what to do through its DevTools protocol.

Source: Chrome DevTools Protocol, 1.3: Target, Page, Runtime, Emulation, Log.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.eventually import eventually
from tests.support.server import session_members
from tests.support.tied import tied

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
ANSWER_S = 30.0


class Page:
    """One tab. ``said``: what its console and its log said; ``asked``: every address that it loaded something from."""

    def __init__(self, channel: ClientConnection) -> None:
        self._channel = channel
        self._numbers = count(1)
        self.said: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **args: Any) -> dict[str, Any]:
        """Return what a command came to; note what was said meanwhile."""
        number = next(self._numbers)
        self._channel.send(json.dumps({"id": number, "method": method, "params": args}))
        while True:
            message = json.loads(self._channel.recv(timeout=ANSWER_S))
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, args = message["method"], message["params"]
        if method == "Runtime.exceptionThrown":
            details = args["exceptionDetails"]
            self.said.append(str(details.get("exception", {}).get("description", details["text"])))
        elif method == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(each.get("value")) for each in args["args"]))
        elif method == "Log.entryAdded":
            self.said.append(f"{args['entry']['text']} {args['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.asked.append(args["request"]["url"])

    def open(self, url: str) -> None:
        """Go there."""
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression comes to. Fails with its error."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """Return the text of the first element that matches; empty: there is none."""
        found: str = self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return found

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """Show the page in a window of this size; ``scheme``: light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def save(self, path: Path) -> None:
        """Keep a picture of all of the page."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))


def browser_command() -> str:
    """Return the path of a Chromium; skip where none is installed."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Run a browser for the length of a block; yield its one page.

    Args: folder: for what it keeps. Skips: Chromium is not installed.
    """
    command = [browser_command(), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(
        tied(command), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
    )
    try:
        port = eventually(lambda: _port(folder), within_s=40)
        with connect(f"ws://127.0.0.1:{port[0]}{port[1]}", max_size=None, proxy=None) as whole:
            whole.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
            target = json.loads(whole.recv(timeout=ANSWER_S))["result"]["targetId"]
            with connect(f"ws://127.0.0.1:{port[0]}/devtools/page/{target}", max_size=None, proxy=None) as channel:
                yield Page(channel)
    finally:
        for pid in session_members(process.pid):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        process.wait(10)


def _port(folder: Path) -> list[str]:
    try:
        return (folder / "DevToolsActivePort").read_text().split()[:2]
    except FileNotFoundError:
        return []
