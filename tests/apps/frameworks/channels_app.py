"""Django Channels: WebSockets beside Django's requests."""

from __future__ import annotations

from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from tests.apps.frameworks import common
from tests.apps.frameworks.django_app import app as requests


class Room(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    """Talk."""

    async def connect(self) -> None:
        await self.accept(common.chosen(self.scope["subprotocols"]))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        said = text_data if text_data is not None else bytes_data
        assert said is not None
        await common.converse(self.scope["url_route"]["kwargs"]["room"], said, self._say, self.close)

    async def disconnect(self, code: int) -> None:
        common.tell(f"websocket: {code}")

    async def _say(self, said: Any) -> None:
        await (self.send(text_data=said) if isinstance(said, str) else self.send(bytes_data=said))


class Denied(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    """Let nobody in."""

    async def connect(self) -> None:
        await self.close()


sockets = URLRouter([path("rooms/<str:room>", Room.as_asgi()), path("denied", Denied.as_asgi())])
app = ProtocolTypeRouter({"http": requests, "websocket": sockets})
