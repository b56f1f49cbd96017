"""Promises of :mod:`hybrid.handlers.detect`."""

from __future__ import annotations

import asyncio
import http.server
import socketserver
import wsgiref.validate
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest

from hybrid.ground.errors import LoadError
from hybrid.handlers.detect import Kind, detect
from hybrid.handlers.protocol import protocol


async def handle(conn: object) -> None: ...


async def with_option(conn: object, limit: int = 3, *, strict: bool = True) -> None: ...


async def two(reader: object, writer: object) -> None: ...


async def anything(*args: object) -> None: ...


async def nothing() -> None: ...


async def asgi(scope: object, receive: object, send: object) -> None: ...


async def generator(conn: object) -> AsyncIterator[bytes]:
    yield b""


def wsgi(environ: object, start_response: object) -> None: ...


def wsgi_yields(env: object, start_response: object) -> Iterator[bytes]:
    yield b""


def wsgi_with_more(environ: object, start_response: object = None, debug: bool = False) -> None: ...


def any3(first: object, one: object, other: object) -> None: ...


def two_plain(one: object, other: object) -> None: ...


def sync_streams(reader: object, writer: object) -> None: ...


def any_plain(*arguments: object) -> None: ...


def blocking(sock: object) -> None: ...


def perhaps_a_factory(settings: object = None) -> None: ...


def yields(sock: object) -> Iterator[bytes]:
    yield b""


class Blocking:
    def __call__(self, sock: object) -> None: ...


class Request(socketserver.BaseRequestHandler): ...


class Packet(socketserver.DatagramRequestHandler): ...


def make() -> asyncio.Protocol:
    return asyncio.Protocol()


def make_with(limit: int) -> asyncio.Protocol:
    return asyncio.Protocol()


class AsyncCallable:
    async def __call__(self, conn: object) -> None: ...


class AsgiApp:
    async def __call__(self, scope: object, receive: object, send: object) -> None: ...


class WsgiApp:
    def __call__(self, environ: object, start_response: object) -> None: ...


class WsgiClass:
    def __init__(self, environ: object, start_response: object) -> None: ...
    def __iter__(self) -> Iterator[bytes]:
        yield b""


class TwoArguments:
    def __init__(self, one: object, other: object) -> None: ...


class AsgiTwo:
    def __init__(self, scope: object, receive: object, send: object) -> None: ...


class Proto(asyncio.Protocol): ...


class Buffered(asyncio.BufferedProtocol): ...


class Duck:
    def connection_made(self, transport: object) -> None: ...
    def data_received(self, data: bytes) -> None: ...


class NeedsArgument(asyncio.Protocol):
    def __init__(self, limit: int) -> None: ...


class Datagram(asyncio.DatagramProtocol): ...


class Server:
    """Like aiohttp's web.Server: an object that makes protocols."""

    def __call__(self) -> asyncio.Protocol:
        return asyncio.Protocol()


class Plain: ...


VALIDATED: Any = wsgiref.validate.validator(cast(Any, wsgi))
STREAMS = [handle, with_option, anything, AsyncCallable(), partial(two, None), AsyncCallable().__call__]
BLOCKING = [blocking, Blocking(), Blocking().__call__, Request, http.server.SimpleHTTPRequestHandler]
PROTOCOLS = [Proto, Buffered, Duck, Server(), partial(NeedsArgument, 3), partial(NeedsArgument, limit=3)]


@pytest.mark.parametrize("obj", STREAMS)
@pytest.mark.parametrize("interface", ["auto", "stream"])
def test_stream_handlers_are_found(obj: object, interface: str) -> None:
    """Coroutine functions, objects with an async call, partials."""
    handler = detect(obj, interface, "h")
    assert (handler.kind, handler.target, handler.name) == (Kind.STREAM, obj, "h")


@pytest.mark.parametrize("obj", PROTOCOLS)
@pytest.mark.parametrize("interface", ["auto", "protocol"])
def test_protocols_are_found(obj: object, interface: str) -> None:
    """Protocol classes, by inheritance or by shape, and objects that make protocols."""
    assert detect(obj, interface, "h").kind is Kind.PROTOCOL


@pytest.mark.parametrize("obj", BLOCKING)
@pytest.mark.parametrize("interface", ["auto", "threaded"])
def test_blocking_handlers_are_found(obj: object, interface: str) -> None:
    """Plain functions of the socket, objects with such a call, socketserver's request handler classes."""
    assert detect(obj, interface, "h").kind is Kind.THREADED


def test_what_could_be_a_factory_is_a_blocking_handler_only_if_told() -> None:
    """def create_app(settings=None) is not called with a socket unless the user says so."""
    assert detect(perhaps_a_factory, "threaded", "h").kind is Kind.THREADED
    with pytest.raises(LoadError):
        detect(perhaps_a_factory, "auto", "h")


@pytest.mark.parametrize("obj", [make, lambda: None, Plain, partial(make_with, 3)])
def test_any_callable_without_arguments_is_a_protocol_factory_if_told(obj: Callable[[], Any]) -> None:
    """--interface protocol takes the user's word, and only then."""
    assert detect(obj, "protocol", "h").kind is Kind.PROTOCOL
    with pytest.raises(LoadError):
        detect(obj, "auto", "h")


def test_marked_factory_carries_on_drain() -> None:
    """hybrid.protocol(factory, on_drain=…) needs no option."""

    def close(proto: object) -> None: ...

    handler = detect(protocol(make, on_drain=close), "auto", "h")
    assert (handler.kind, handler.target, handler.on_drain) == (Kind.PROTOCOL, make, close)


REFUSED: list[tuple[object, str, str]] = [
    (nothing, "auto", "add --factory"),
    (two, "auto", "two(reader: 'object', writer: 'object') -> 'None', and a stream handler takes one argument"),
    (AsgiTwo, "auto", "an ASGI application is an object or a function, not its class"),
    (handle, "asgi", "an ASGI application takes scope, receive and send"),
    (7, "asgi", "an ASGI application is called with scope, receive and send"),
    (sync_streams, "auto", "a reader and a writer are no environ and start_response; --interface wsgi"),
    (any_plain, "auto", "with more or fewer arguments; --interface wsgi says that it is one"),
    (TwoArguments, "auto", "objects of class TwoArguments have no __iter__"),
    (asgi, "wsgi", "it is async; a WSGI application is a plain callable"),
    (blocking, "wsgi", "a WSGI application takes environ and start_response. Name an object"),
    (7, "wsgi", "it is an int; a WSGI application is called with environ and start_response"),
    (perhaps_a_factory, "auto", "--interface threaded says that it is none"),
    (lambda sock: None, "auto", "a lambda may return anything"),
    (yields, "auto", "generator function"),
    (yields, "threaded", "generator function"),
    (Packet, "auto", "its requests are datagrams"),
    (Plain, "threaded", "def handle(sock)"),
    (handle, "threaded", "Leave out --interface threaded"),
    (two, "threaded", "Leave out --interface threaded"),
    (wsgi, "threaded", "looks like a WSGI application, and --interface threaded was asked for. Leave out"),
    (WsgiApp(), "asgi", "looks like a WSGI application, and --interface asgi was asked for"),
    (blocking, "stream", "Leave out --interface stream"),
    (generator, "auto", "async generator function"),
    (make, "auto", "add --interface protocol"),
    (make_with, "protocol", "a protocol factory is called without arguments. Give its parameters defaults"),
    (Plain, "auto", "class Plain has neither connection_made nor data_received"),
    (NeedsArgument, "auto", "called without arguments"),
    (Datagram, "auto", "Datagram is no stream protocol"),
    (Proto(), "auto", "it is one Proto object, and each connection needs its own"),
    (Proto, "stream", "cannot serve 'h'"),
    (handle, "protocol", "Leave out --interface protocol"),
    (7, "auto", "it is an int, which cannot be called"),
    (None, "auto", "it is None, which cannot be called"),
    (protocol(7), "auto", "hybrid.protocol() was given an int"),  # type: ignore[arg-type]  # the user's mistake
]


@pytest.mark.parametrize(("obj", "interface", "says"), REFUSED)
def test_what_fits_no_kind_is_refused_with_every_kind_tried(obj: object, interface: str, says: str) -> None:
    """One line with the remedy; the detail lists the kinds and why each did not fit."""
    with pytest.raises(LoadError) as caught:
        detect(obj, interface, "h")
    assert says in f"{caught.value}\n{caught.value.detail}"
    assert str(caught.value).startswith("cannot serve 'h': ")
    tried = [line.partition(":")[0] for line in caught.value.detail.splitlines()]
    assert tried == (
        ["not stream", "not asgi", "not wsgi", "not protocol", "not threaded"]
        if interface == "auto"
        else [f"not {interface}"]
    )


@pytest.mark.parametrize("app", [asgi, AsgiApp()])
@pytest.mark.parametrize("interface", ["auto", "asgi"])
def test_asgi_application_is_found(app: object, interface: str) -> None:
    """A coroutine function with its three parameters, or an object whose call is one."""
    assert detect(app, interface, "h").kind is Kind.ASGI


@pytest.mark.parametrize(
    "app",
    [
        wsgi,
        wsgi_yields,
        wsgi_with_more,
        two_plain,
        WsgiApp(),
        WsgiApp().__call__,
        WsgiClass,
        lambda e, s: [],
        partial(any3, 0),
    ],
)
@pytest.mark.parametrize("interface", ["auto", "wsgi"])
def test_wsgi_application_is_found(app: object, interface: str) -> None:
    """What is called with two arguments and is not async; a class, if its objects are iterated over."""
    handler = detect(app, interface, "h")
    assert handler.kind is Kind.WSGI and handler.kind.title == "WSGI application" and handler.kind.speaks_http


@pytest.mark.parametrize("app", [any_plain, sync_streams, TwoArguments, VALIDATED])
def test_what_could_be_something_else_is_a_wsgi_application_if_told(app: object) -> None:
    """A middleware that takes any arguments says nothing of itself."""
    assert detect(app, "wsgi", "h").kind is Kind.WSGI


class CallWithAnything:
    """Like an object that wraps an application, and hides what that takes."""

    def __call__(self, *args: object, **options: object) -> None: ...


@pytest.mark.parametrize("app", [CallWithAnything(), any_plain])
def test_what_takes_anything_is_not_guessed(app: Any) -> None:
    """An object was taken for one that makes protocols, and failed with its first client; the message says the way."""
    with pytest.raises(LoadError, match=r"which says nothing. Say what it is: --interface wsgi or asgi"):
        detect(app, "auto", "h")
    assert detect(app, "wsgi", "h").kind is Kind.WSGI
    assert detect(app, "protocol", "h").kind is Kind.PROTOCOL


def test_called_coroutine_is_refused() -> None:
    """handle() instead of handle."""
    coroutine = handle(None)
    with pytest.raises(LoadError, match="a coroutine that was called already"):
        detect(coroutine, "auto", "h")
    coroutine.close()


def test_protocol_asked_for_as_stream_says_what_to_leave_out() -> None:
    """The contradiction is named, with the way out."""

    class Upper(asyncio.Protocol):
        pass

    with pytest.raises(LoadError, match=r"it is an asyncio protocol.*Leave out --interface stream"):
        detect(Upper, "stream", "Upper")
