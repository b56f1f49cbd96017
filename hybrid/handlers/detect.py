"""Tell what kind of handler an object is.

Detection looks at the object, never calls it. Where the object comes from an async factory, that has been awaited.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from hybrid.ground.errors import LoadError
from hybrid.handlers.protocol import ProtocolHandler
from hybrid.handlers.threaded import is_request_handler, takes_datagrams
from hybrid.shared.loader import is_async


class Kind(Enum):
    """The kinds of handler that this version serves."""

    STREAM = "stream"
    """``async def handle(conn)``."""
    ASGI = "asgi"
    """``async def app(scope, receive, send)``."""
    WSGI = "wsgi"
    """``def app(environ, start_response)``, blocking."""
    PROTOCOL = "protocol"
    """A callable without arguments that returns an asyncio protocol."""
    THREADED = "threaded"
    """``def handle(sock)``, blocking; or a request handler class of socketserver's."""

    @property
    def title(self) -> str:
        """What the boot line says."""
        return f"{self.name} application" if self.speaks_http else f"{self.value} handler"

    @property
    def speaks_http(self) -> bool:
        """Whether it is given requests, not connections."""
        return self in (Kind.ASGI, Kind.WSGI)


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler whose kind is known. ``on_drain``: see :func:`hybrid.handlers.protocol.protocol`."""

    kind: Kind
    target: Any
    name: str
    on_drain: Callable[[Any], object] | None = None


def detect(obj: object, interface: str, name: str) -> Handler:
    """Return the handler that ``obj`` is.

    Runs in: worker, or wherever the loaded object is at hand.
    Args: interface: ``auto``, or the name of a :class:`Kind` that the user says it is; name: for log lines.
    Raises: LoadError saying what it is instead; its ``detail`` lists each kind tried and why it did not fit.
    """
    misfits: dict[Kind, str] = {}
    for kind in Kind:
        if interface not in ("auto", kind.value):
            continue
        misfit = _misfit(kind, obj, interface != "auto")
        if not misfit:
            if isinstance(obj, ProtocolHandler):
                return Handler(kind, obj.factory, name, obj.on_drain)
            return Handler(kind, obj, name)
        misfits[kind] = misfit
    what, remedy = _verdict(obj, interface)
    raise LoadError(
        f"cannot serve {name!r}: {what}. {remedy}",
        detail="\n".join(f"not {kind.value}: {why}" for kind, why in misfits.items()),
    )


def _misfit(kind: Kind, obj: object, told: bool) -> str:
    """Say why ``obj`` is no handler of this kind; empty when it is one. ``told``: the user says that it is."""
    if kind is Kind.STREAM:
        return _stream_misfit(obj)
    if kind is Kind.ASGI:
        return _asgi_misfit(obj, told)
    if kind is Kind.WSGI:
        return _wsgi_misfit(obj, told)
    return _protocol_misfit(obj, told) if kind is Kind.PROTOCOL else _threaded_misfit(obj, told)


def _threaded_misfit(obj: object, told: bool) -> str:
    """Say why ``obj`` is no blocking handler; empty when it is one. ``told``: the user says that it is."""
    if is_request_handler(obj):
        return "its requests are datagrams, not connections" if takes_datagrams(obj) else ""
    if not callable(obj) or isinstance(obj, type):
        return f"it is {_what(obj)}; a blocking handler is def handle(sock), or a socketserver request handler class"
    if is_async(obj):
        return "it is async; a blocking handler is a plain function"
    if inspect.isgeneratorfunction(obj) or inspect.isasyncgenfunction(obj):
        return "it is a generator function; a blocking handler does its work when it is called"
    if not _takes(obj, 1):
        return f"its signature is {_signature(obj)}; a blocking handler takes one argument, the socket"
    if not told and getattr(obj, "__name__", "") == "<lambda>":
        return "a lambda may return anything, a coroutine too; --interface threaded says that it does not"
    if not told and _takes(obj, 0):
        return "it can also be called without arguments, as a factory is; --interface threaded says that it is none"
    return ""


def _stream_misfit(obj: object) -> str:
    """Say why ``obj`` is no stream handler; empty when it is one."""
    if not callable(obj) or isinstance(obj, type):
        return f"it is {_what(obj)}; a stream handler is async def handle(conn)"
    if not is_async(obj):
        return f"it is {_what(obj)}; a stream handler is defined with async def"
    if _takes(obj, 1):
        return ""
    return f"its signature is {_signature(obj)}; a stream handler takes one argument, the connection"


def _asgi_misfit(obj: object, told: bool) -> str:
    """Say why ``obj`` is no ASGI application; empty when it is one. ``told``: the user says that it is."""
    if not callable(obj):
        return f"it is {_what(obj)}; an ASGI application is called with scope, receive and send"
    if isinstance(obj, type):
        return f"it is {_what(obj)}; an ASGI application is an object or a function, not its class"
    if not _takes(obj, 3):
        return f"its signature is {_signature(obj)}; an ASGI application takes scope, receive and send"
    if told or is_async(obj) or _parameter_names(obj)[-3:] == ["scope", "receive", "send"]:
        return ""
    return "it is not async; --interface asgi says that what it returns can be awaited"


def _wsgi_misfit(obj: object, told: bool) -> str:
    """Say why ``obj`` is no WSGI application; empty when it is one. ``told``: the user says that it is."""
    if not callable(obj):
        return f"it is {_what(obj)}; a WSGI application is called with environ and start_response"
    if is_async(obj):
        return "it is async; a WSGI application is a plain callable"
    if not _takes(obj, 2):
        return f"its signature is {_signature(obj)}; a WSGI application takes environ and start_response"
    if told or _is_named_wsgi(obj):
        return ""
    if isinstance(obj, type) and not hasattr(obj, "__iter__"):
        return f"objects of class {obj.__name__} have no __iter__; what a WSGI application returns is iterated over"
    if _takes(obj, 0) or _takes(obj, 1) or _takes(obj, 3):
        return "it can also be called with more or fewer arguments; --interface wsgi says that it is one"
    if _parameter_names(obj) == ["reader", "writer"]:
        return "a reader and a writer are no environ and start_response; --interface wsgi says that they are"
    return ""


def _protocol_misfit(obj: object, told: bool) -> str:
    """Say why ``obj`` is no factory of protocols; empty when it is one. ``told``: the user says that it is."""
    if isinstance(obj, ProtocolHandler):
        factory: object = obj.factory  # the user may have given anything
        return "" if callable(factory) else f"hybrid.protocol() was given {_what(factory)}; it needs a callable"
    if not callable(obj):
        return f"it is {_what(obj)}; a protocol is a class, or a callable that returns protocol objects"
    if is_async(obj):
        return "it is async; protocols are made by a plain call, once for each connection"
    maker = obj.func if isinstance(obj, partial) else obj
    if isinstance(maker, type):
        if issubclass(maker, (asyncio.DatagramProtocol, asyncio.SubprocessProtocol)):
            return f"{maker.__name__} is no stream protocol"
        if not told and not _is_protocol_class(maker):
            return f"class {maker.__name__} has neither connection_made nor data_received or get_buffer"
    elif not told and not _is_instance_to_call(obj):
        return "a function may return anything; --interface protocol, or hybrid.protocol(function), says that it does"
    if not _takes(obj, 0):
        return f"its signature is {_signature(obj)}; a protocol factory is called without arguments"
    if not told and not isinstance(obj, (type, partial)) and _takes(obj, 2):
        return "it can also be called with arguments, as an application is; --interface protocol says that it is none"
    return ""


def _is_protocol_class(cls: type) -> bool:
    return issubclass(cls, asyncio.BaseProtocol) or (
        hasattr(cls, "connection_made") and (hasattr(cls, "data_received") or hasattr(cls, "get_buffer"))
    )


def _is_instance_to_call(obj: object) -> bool:
    """Tell whether ``obj`` is an object that was made callable (aiohttp's web.Server), not a function."""
    return not isinstance(obj, partial) and not inspect.isroutine(obj)


def _verdict(obj: object, interface: str) -> tuple[str, str]:
    """Say what the object is, as far as that explains it, and what to do."""
    if interface not in ("auto", Kind.WSGI.value) and not _wsgi_misfit(obj, told=False):
        return (
            f"it looks like a WSGI application, and --interface {interface} was asked for",
            f"Leave out --interface {interface}.",
        )
    if interface == Kind.WSGI.value:
        return _wsgi_misfit(obj, told=True), "Name an object that is called with environ and start_response."
    if inspect.iscoroutine(obj) or inspect.isasyncgen(obj):
        return f"it is {_what(obj)}", "Name the function; do not call it."
    if isinstance(obj, asyncio.BaseProtocol):
        return (
            f"it is one {type(obj).__name__} object, and each connection needs its own",
            "Name the class, or a function that makes one with --interface protocol.",
        )
    if inspect.isasyncgenfunction(obj):
        return "it is an async generator function: it has a yield", "Send to the connection, await conn.send(data)."
    if interface == Kind.THREADED.value and isinstance(obj, type):
        return _threaded_misfit(obj, told=True), "Name a function, def handle(sock), or a socketserver handler class."
    if inspect.isgeneratorfunction(obj):
        return "it is a generator function: it has a yield", "Send to the socket, sock.sendall(data)."
    if isinstance(obj, (type, partial)):
        misfit = _protocol_misfit(obj, told=False)
        if not misfit:
            return "it is an asyncio protocol, and --interface stream was asked for", "Leave out --interface stream."
        return misfit, "Name an asyncio protocol class that needs no arguments, or a coroutine function."
    if not callable(obj):
        remedy = "Name a coroutine function, an ASGI application or a protocol class."
        return f"it is {_what(obj)}, which cannot be called", remedy
    return _verdict_on_function(obj, interface)


def _verdict_on_function(obj: Callable[..., object], interface: str) -> tuple[str, str]:
    signature = _signature(obj)
    if interface == Kind.THREADED.value:
        if is_async(obj):
            return "it is async, and --interface threaded needs a plain function", "Leave out --interface threaded."
        return f"its signature is {signature}, and a blocking handler takes one argument", "Write def handle(sock)."
    if interface == Kind.PROTOCOL.value:
        if is_async(obj):
            return "it is async, and --interface protocol needs a plain callable", "Leave out --interface protocol."
        return (
            f"its signature is {signature}, and a protocol factory is called without arguments",
            "Give its parameters defaults, or use functools.partial.",
        )
    if is_async(obj):
        if _takes(obj, 0):
            return (
                f"its signature is {signature}, and a stream handler takes the connection",
                "Write async def handle(conn); if this function makes the handler, add --factory.",
            )
        if _takes(obj, 2):
            return (
                f"its signature is {signature}, and a stream handler takes one argument",
                "Write async def handle(conn): the connection is both reader and writer.",
            )
        return f"its signature is {signature}, and a stream handler takes one argument", "Write async def handle(conn)."
    if _takes(obj, 0) and _takes(obj, 2):
        return (
            f"it is {_what(obj)} with signature {signature}, which says nothing",
            "Say what it is: --interface wsgi or asgi for an application; --factory, if it makes one.",
        )
    if _takes(obj, 0):
        return (
            f"it is {_what(obj)} that takes no arguments",
            "If it makes a protocol for each connection, add --interface protocol; if it makes the handler, --factory.",
        )
    if interface == Kind.STREAM.value and _takes(obj, 1):
        return "it is a plain function, and --interface stream needs an async one", "Leave out --interface stream."
    return (
        f"it is {_what(obj)} with signature {signature}",
        "Write async def handle(conn), or def handle(sock) for blocking code.",
    )


def _is_named_wsgi(obj: Callable[..., object]) -> bool:
    """Tell whether the parameters have the names that PEP 3333 gives them, or nearly."""
    names = _parameter_names(obj)
    return len(names) >= 2 and names[1] == "start_response" and names[0].startswith("env")


def _parameter_names(obj: Callable[..., object]) -> list[str]:
    try:
        return list(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        return []


def _takes(obj: Callable[..., object], count: int) -> bool:
    """Tell whether ``obj`` can be called with ``count`` positional arguments; yes when it does not say."""
    try:
        signature = inspect.signature(obj)
    except (TypeError, ValueError):  # written in C
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _signature(obj: Callable[..., object]) -> str:
    name = getattr(obj, "__name__", type(obj).__name__)
    try:
        return f"{name}{inspect.signature(obj)}"
    except (TypeError, ValueError):
        return f"{name}(…)"


def _what(obj: object) -> str:
    """Name the kind of thing an object is."""
    if obj is None:
        return "None"
    if isinstance(obj, type):
        return f"the class {obj.__name__}"
    if inspect.isasyncgenfunction(obj):
        return "an async generator function"
    if is_async(obj):
        return "a coroutine function"
    if inspect.isroutine(obj):
        return "a plain function"
    if inspect.iscoroutine(obj):
        return "a coroutine that was called already"
    name = type(obj).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
