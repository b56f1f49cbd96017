"""Servers that serve no ASGI application but have an API of their own, for :mod:`tests.benchmarks.peers`.

    python -m tests.benchmarks.own_api aiohttp|picows|socketify HOST PORT

aiohttp and picows send each message of a WebSocket back, as ``apps_http:websocket_echo`` does; socketify answers like
``apps_http:hello``. Each is written as its own documentation has it, on uvloop where it runs on asyncio.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.benchmarks.apps_http import HELLO


def aiohttp(host: str, port: int) -> None:
    """Echo with aiohttp's ``WebSocketResponse``; serve until the process is ended."""
    import uvloop
    from aiohttp import web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            await response.send_str(message.data)
        return response

    app = web.Application()
    app.router.add_get("/", echo)
    web.run_app(app, host=host, port=port, access_log=None, print=None, loop=uvloop.new_event_loop())


def picows(host: str, port: int) -> None:
    """Echo frame by frame with picows; serve until the process is ended."""
    import uvloop
    from picows import (  # type: ignore[import-not-found,unused-ignore]  # in .venv-peers only
        WSFrame,
        WSListener,
        WSMsgType,
        WSTransport,
        ws_create_server,
    )

    class Echo(WSListener):  # type: ignore[misc,unused-ignore]  # Any where it is not installed
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_bytes())

    async def serve() -> None:
        server = await ws_create_server(lambda request: Echo(), host, port, backlog=4096)
        await server.serve_forever()

    uvloop.run(serve())


def socketify(host: str, port: int) -> None:
    """Answer every request with HELLO, by a plain callback; serve until the process is ended."""
    from socketify import App, AppListenOptions  # type: ignore[import-not-found,unused-ignore]  # in .venv-peers only

    app = App()
    body = HELLO.decode()
    app.get("/*", lambda response, request: response.write_header("Content-Type", "text/plain").end(body))
    app.listen(AppListenOptions(port=port, host=host))
    app.run()


SERVERS: dict[str, Callable[[str, int], None]] = {"aiohttp": aiohttp, "picows": picows, "socketify": socketify}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
