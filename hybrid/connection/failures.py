"""What becomes of an exception that leaves a handler: a line in the log, or, if the peer just left, not even that."""

from __future__ import annotations

import logging
import ssl

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, IncompleteRead

log = logging.getLogger("hybrid.error")

_DISCONNECTS = (BrokenResourceError, ClosedResourceError, EndOfStream, IncompleteRead, ConnectionError)


def is_disconnect(error: BaseException) -> bool:
    """Return whether ``error`` is what using a connection raises when it is gone; of a group, all of it.

    It may as well come from another connection of the handler's (a database): the caller checks that its own is gone.
    """
    if isinstance(error, _DISCONNECTS):
        return True
    parts = getattr(error, "exceptions", None)  # an ExceptionGroup, also the backport's on CPython 3.10
    return isinstance(parts, tuple) and bool(parts) and all(is_disconnect(part) for part in parts)


def log_disconnect(name: str, peer: str, error: BaseException) -> None:
    """Note, for who debugs, that the peer left before the handler was done with it."""
    log.debug("handler %s: connection from %s ended before the handler: %r", name, peer, error)


def log_no_tls(peer: str, error: Exception | None) -> None:
    """Note why a connection ended in its TLS handshake: it is nobody's failure here. A bad certificate is news."""
    say = log.info if isinstance(error, ssl.SSLCertVerificationError) else log.debug
    say("no TLS with %s: %s", peer, error or "the connection was closed within the handshake")


def text_of(error: BaseException) -> str:
    """Return what an exception says of itself. Raises: nothing; the user's code may, and the record would be lost."""
    try:
        return str(error)
    except BaseException as raised:  # noqa: BLE001  (even one that would end a thread: who logs goes on)
        return f"(its text cannot be had: {type(raised).__name__})"


def log_failed_request(app: str, title: str, error: BaseException) -> None:
    """Log one record, with the traceback: the application has a bug, and it cost this request."""
    _log_raised("app %s failed, %s: %s: %s", app, title, error)


def log_failure(name: str, peer: str, error: BaseException) -> None:
    """Log one record, with the traceback: the handler has a bug, and it cost this connection."""
    _log_raised("handler %s failed, connection from %s closed: %s: %s", name, peer, error)


def _log_raised(template: str, code: str, whose: str, error: BaseException) -> None:
    """Log one record. Args: template: for the two, and the exception's type and text."""
    what = type(error).__name__, text_of(error)
    log.error(template, code, whose, *what, exc_info=(type(error), error, error.__traceback__))


def as_bytes(item: object) -> bytes:
    """Return a copy of what is bytes-like. Raises: TypeError: it is not; the message says what to write."""
    try:
        return bytes(memoryview(item))  # type: ignore[arg-type]  # that is what is found out; bytes(5) would be 5 NULs
    except TypeError:
        remedy = " Encode it: text.encode()." if isinstance(item, str) else ""
        raise TypeError(f"send() takes bytes, not {type(item).__name__}.{remedy}") from None
