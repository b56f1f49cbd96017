"""What counts as the peer's leaving."""

from __future__ import annotations

import pytest
from anyio import BrokenResourceError, ClosedResourceError, DelimiterNotFound, EndOfStream, IncompleteRead

from hybrid.connection.failures import as_bytes, is_disconnect


class Group(Exception):
    """Shaped like an ExceptionGroup, which CPython 3.10 lacks."""

    def __init__(self, *exceptions: Exception) -> None:
        super().__init__("group")
        self.exceptions = exceptions


@pytest.mark.parametrize(
    "error",
    [
        BrokenResourceError(),
        ClosedResourceError(),
        EndOfStream(),
        IncompleteRead(),
        ConnectionResetError(),
        BrokenPipeError(),
        Group(EndOfStream(), Group(BrokenResourceError())),
    ],
    ids=repr,
)
def test_disconnects_are_told(error: Exception) -> None:
    """What using a connection raises when the peer has gone, alone or in groups."""
    assert is_disconnect(error)


@pytest.mark.parametrize(
    "error",
    [ValueError(), DelimiterNotFound(5), OSError(), TimeoutError(), Group(EndOfStream(), ValueError()), Group()],
    ids=repr,
)
def test_other_errors_are_not(error: Exception) -> None:
    """A group with one real error in it is a real error."""
    assert not is_disconnect(error)


@pytest.mark.parametrize("item", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_bytes_like_is_copied(item: bytes | bytearray | memoryview) -> None:
    """What the caller may change later is sent as it was."""
    assert as_bytes(item) == b"abc"


@pytest.mark.parametrize(("item", "says"), [("abc", r"not str\. Encode it"), (5, "not int"), (None, "not NoneType")])
def test_what_is_no_bytes_is_refused_by_name(item: object, says: str) -> None:
    """The commonest slips are named: text is not encoded by guess, and 5 is not five zeros."""
    with pytest.raises(TypeError, match=says):
        as_bytes(item)
