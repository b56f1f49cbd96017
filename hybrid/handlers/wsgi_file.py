"""``wsgi.file_wrapper``: a file that an application gives as its response.

A regular file goes from the page cache into the socket by sendfile(2), in the request's thread; what is no file, or
where the connection cannot be lent (TLS), is read and sent block by block.

Source: PEP 3333, "Optional Platform-Specific File Handling".
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

BLOCK_BYTES = 65536
LEAST_BYTES = 131072
"""Of a file for which it is worth while to borrow the socket."""
_AT_ONCE_BYTES = 1 << 20
_NO_SENDFILE = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))
"""What a file system says that has no sendfile."""


_GONE = frozenset((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN))
"""What a socket says of a network that is gone; other errors of a client have classes of their own."""
_PROXIES = 3
"""Around a file, looked through."""


class FileWrapper:
    """The blocks of a file-like object, which is closed with it."""

    def __init__(self, filelike: Any, block_size: int = BLOCK_BYTES) -> None:
        self.filelike = filelike
        self.block_size = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        """Yield what is left of the file."""
        while block := self.filelike.read(self.block_size):
            yield block


class Span(NamedTuple):
    """A part of a regular file."""

    fd: int
    offset: int
    size: int
    """To the end of the file."""


def span_of(filelike: Any) -> Span | None:
    """Return what is left of a regular file, from its position on; None: it is none. Raises: nothing."""
    if not _is_plain(filelike):
        return None
    try:
        fd = filelike.fileno()
        status = os.fstat(fd)
        offset = filelike.tell()
    except (AttributeError, OSError, TypeError, ValueError):  # of io.BytesIO and the like
        return None
    if not stat.S_ISREG(status.st_mode) or offset > status.st_size:
        return None
    return Span(fd, offset, status.st_size - offset)


def _is_plain(filelike: Any) -> bool:
    """Whether reading yields the bytes of the descriptor: gzip's files have one too, and make others of its bytes."""
    for _ in range(_PROXIES):
        if isinstance(filelike, io.IOBase):
            break
        filelike = getattr(filelike, "file", None)  # as tempfile's and Django's have it
    if type(filelike) is io.BufferedReader or type(filelike) is io.BufferedRandom:
        filelike = filelike.raw
    return type(filelike) is io.FileIO  # one of a subclass may read otherwise


def is_of_client(error: OSError) -> bool:
    """Whether sending a file failed because the client is gone, and not because of the file."""
    return isinstance(error, (ConnectionError, TimeoutError)) or error.errno in _GONE


def send_file(
    sock: socket.socket, head: bytes, span: Span, wait: Callable[[socket.socket], None], count: Callable[[int], None]
) -> None:
    """Send ``head`` and the span on a socket that does not block.

    Runs in: the request's thread. Args: wait: returns when the socket takes more; count: is told
    how many bytes of the file it took, each time. Raises: what ``wait`` raises;
    OSError: see :func:`is_of_client`; RuntimeError: the file has become shorter.
    """
    rest = memoryview(head)
    while rest:
        try:
            rest = rest[sock.send(rest, socket.MSG_MORE) :]
        except BlockingIOError:
            wait(sock)
    offset, end = span.offset, span.offset + span.size
    step = _sendfile
    while offset < end:
        try:
            sent = step(sock, span.fd, offset, min(end - offset, _AT_ONCE_BYTES))
        except BlockingIOError:
            wait(sock)
            continue
        except OSError as error:
            if error.errno not in _NO_SENDFILE or step is _copy:
                raise
            step = _copy
            continue
        if not sent:
            raise RuntimeError(f"the file has become {end - offset} bytes shorter while it was sent")
        offset += sent
        count(sent)


def _sendfile(sock: socket.socket, fd: int, offset: int, count: int) -> int:
    return os.sendfile(sock.fileno(), fd, offset, count)


def _copy(sock: socket.socket, fd: int, offset: int, count: int) -> int:
    data = os.pread(fd, min(count, BLOCK_BYTES), offset)
    return sock.send(data) if data else 0


def wait_writable(sock: socket.socket, patience_s: float) -> bool:
    """Return when the socket takes more, or is shut; False: it does not within ``patience_s``; 0: wait for ever."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLOUT)
    return bool(poll.poll(patience_s * 1000 if patience_s else None))
