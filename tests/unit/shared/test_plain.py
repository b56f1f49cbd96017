"""Dataclasses as JSON values and back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum

import pytest

from hybrid.shared.plain import from_plain, to_plain
from hybrid.shared.settings import Settings


class Colour(IntEnum):
    """An enum."""

    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Leaf:
    """A part."""

    colour: Colour = Colour.RED
    size: float = 0.0


@dataclass(frozen=True)
class Tree:
    """A whole."""

    name: str
    leaves: tuple[Leaf, ...] = ()
    best: Leaf | None = None
    words: int | str = 0


TREE = Tree("oak", (Leaf(Colour.BLUE, 1.5), Leaf()), Leaf(), "many")


@pytest.mark.parametrize("value", [TREE, Tree("bare"), Tree("n", (), None, 3)])
def test_there_and_back(value: Tree) -> None:
    """Through JSON, it is the same."""
    assert from_plain(Tree, json.loads(json.dumps(to_plain(value)))) == value


def test_settings_survive_it() -> None:
    """What an upgrade hands over."""
    assert from_plain(Settings, json.loads(json.dumps(to_plain(Settings())))) == Settings()


def test_other_versions() -> None:
    """A field more is passed over, a field less has its default."""
    plain = to_plain(TREE) | {"height": 3}
    del plain["best"]
    assert from_plain(Tree, plain) == Tree("oak", TREE.leaves, None, "many")


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ([], "Tree: no object"),
        ({"name": 3}, "Tree.name: no str"),
        ({"name": "x", "leaves": {}}, "Tree.leaves: no list"),
        ({"name": "x", "leaves": [{"colour": 9}]}, "9 is not a valid Colour"),
        ({"name": "x", "best": [1]}, "Tree.best: not"),
        ({}, "name"),
    ],
)
def test_what_it_is_not(plain: object, message: str) -> None:
    """Says where, and what was found."""
    with pytest.raises((ValueError, TypeError), match=message):
        from_plain(Tree, plain)
