"""What counts as the peer's leaving."""

from __future__ import annotations

import pytest
from anyio import BrokenResourceError, ClosedResourceError, DelimiterNotFound, EndOfStream, IncompleteRead

from hybrid.connection.failures import is_disconnect


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
