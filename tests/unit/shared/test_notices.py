"""Notices as JSON and back, across versions."""

from __future__ import annotations

import json

import pytest

from hybrid.shared.notices import KINDS, Logged, Notice, PoolState, Resized, WorkerReady, from_json, name_of, to_json


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_comes_back_as_it_was(kind: type[Notice]) -> None:
    """With its number and its time."""
    notice = kind(at=1.5, number=7)
    assert from_json(to_json(notice)) == notice
    assert json.loads(to_json(notice))["notice"] == name_of(notice)


def test_fields_keep_their_types() -> None:
    """Tuples are lists in JSON, and tuples again."""
    for notice in (PoolState(addresses=("a", "b")), Resized(1, 2, "demand", {"busy": 1.5}), WorkerReady(1, 2)):
        assert from_json(to_json(notice)) == notice


def test_what_another_version_tells_is_taken_as_far_as_it_is_known() -> None:
    """A field too many is passed over, one that is missing has its default; a kind that is not known is none."""
    assert from_json('{"notice": "logged", "text": "x", "novel": 1}') == Logged(text="x")
    assert from_json('{"notice": "novel"}') is None
    assert from_json("{}") is None


@pytest.mark.parametrize("data", ["", "[]", "7", "{"])
def test_what_is_no_object_is_an_error(data: str) -> None:
    """Nothing is made of it."""
    with pytest.raises(ValueError):
        from_json(data)
