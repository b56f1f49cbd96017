"""A name for each request."""

from __future__ import annotations

import re

import pytest

from hybrid.connection.request_id import LONGEST, new_request_id, request_id
from hybrid.http.fields import Fields
from hybrid.http.head import Head
from hybrid.http.request_line import RequestLine
from tests.support.forked import forked


def head(*values: bytes) -> Head:
    pairs = [(b"accept", b"*/*"), *((b"x-request-id", value) for value in values)]
    return Head(RequestLine("GET", b"/", b"1"), Fields(pairs), 0)


@pytest.mark.parametrize("value", [b"a", b"0b8dcb5e-6a3f", b"Az09._-", b"x" * LONGEST])
def test_sane_id_is_kept(value: bytes) -> None:
    """Who stands before us gave it."""
    assert request_id(head(value)) == value.decode()


@pytest.mark.parametrize(
    "value", [b"", b"x" * (LONGEST + 1), b"a b", b'"', b"a\\", b"\xe9", b"a;b", b"a/b", b"../..%00", b"a\tb"]
)
def test_any_other_is_replaced(value: bytes) -> None:
    """An id goes into logs and file names: nobody smuggles anything in."""
    assert re.fullmatch("[0-9a-f]{24}", request_id(head(value)))


def test_first_of_several_counts() -> None:
    """Whether it is sane or not."""
    assert request_id(head(b"one", b"two")) == "one"
    assert request_id(head(b"bad id", b"two")) not in ("bad id", "two")


@pytest.mark.parametrize("of", [None, head()])
def test_request_without_one_gets_one(of: Head | None) -> None:
    """Each another one."""
    ids = {request_id(of) for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("[0-9a-f]{24}", each) for each in ids)


def test_forked_process_gives_other_names() -> None:
    """A mold has imported this before it forks its workers."""
    names = {forked(new_request_id)[:16], forked(new_request_id)[:16], new_request_id()[:16]}
    assert len(names) == 3
