"""A server as ``hybrid-ctl top`` sees it, without one: snapshots that a test brings, and what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hybrid.cli.ctl_client import Unreached
from hybrid.cli.top_link import OnEvent, ignore
from hybrid.ground.errors import HybridError


class FakeLink:
    """A :class:`hybrid.cli.top_link.Link`. ``asked``: what came, as (op, args), the two streams left out.

    ``answers``: by op, a result or an error to raise; ``steps``: what a reload sends on its way.
    """

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = dict(answers or {})
        self.steps: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self.every_s = 0.0
        self._cut = asyncio.Event()
        self._is_up = True
        self._watchers: list[OnEvent] = []

    async def ask(self, op: str, args: Mapping[str, object], on_event: OnEvent = ignore) -> Mapping[str, Any]:
        if not self._is_up:
            raise Unreached("cannot connect to /nowhere.sock: connection refused. The server is gone.")
        if op == "watch":
            self.every_s = float(str(args["every_s"]))
            self._watchers.append(on_event)
            try:
                return await self._stream()
            finally:
                self._watchers.remove(on_event)
        if op == "events":
            for notice in self.notices:
                on_event({"ev": "notice", "notice": notice})
            return await self._stream()
        self.asked.append((op, dict(args)))
        if op == "reload":
            for step in self.steps:
                on_event({"ev": "step", "notice": step})
        answer = self.answers.get(op, {})
        if isinstance(answer, HybridError):
            raise answer
        found: Mapping[str, Any] = answer
        return found

    async def _stream(self) -> Mapping[str, Any]:
        await self._cut.wait()
        raise Unreached("the server at /nowhere.sock closed the connection. It may be going down.")

    def show(self, *snapshots: Mapping[str, Any]) -> None:
        """Send snapshots to whoever watches."""
        for each in snapshots:
            for on_event in tuple(self._watchers):
                on_event({"ev": "snapshot", "snapshot": each})

    @property
    def is_watched(self) -> bool:
        return bool(self._watchers)

    def go_down(self) -> None:
        """Cut every stream, and let nobody in."""
        self._is_up = False
        self._cut.set()
        self._cut = asyncio.Event()

    def come_up(self) -> None:
        """Let everybody in again."""
        self._is_up = True
