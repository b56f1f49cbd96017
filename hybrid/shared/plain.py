"""Dataclasses as plain JSON values and back, across versions: what the other version does not know is left out.

Used where one program's memory becomes another's: an upgrade of the parent.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import IntEnum
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return ``value``, made of dataclasses, enums of ints, tuples and what JSON has, as what JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple):
        return [to_plain(each) for each in value]
    return int(value) if isinstance(value, IntEnum) else value


def from_plain(kind: type[T], value: Any) -> T:
    """Return the ``kind`` that :func:`to_plain` made ``value`` of.

    A field that ``kind`` does not have is passed over; one that ``value`` does not have gets its default.
    Raises: ValueError, TypeError: it is something else, or a field without a default is missing.
    """
    made: T = _made(kind, value, kind.__name__)
    return made


def _made(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: no object but {value!r}")
        hints = get_type_hints(kind)
        given = [each.name for each in fields(kind) if each.name in value]
        return kind(**{name: _made(hints[name], value[name], f"{where}.{name}") for name in given})
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where}: no list but {value!r}")
        return tuple(_made(get_args(kind)[0], each, where) for each in value)
    if get_origin(kind) in (Union, UnionType):
        for arm in get_args(kind):
            try:
                return _made(arm, value, where)
            except ValueError:
                continue
        raise ValueError(f"{where}: not {kind} but {value!r}")
    if issubclass(kind, IntEnum):
        return kind(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where}: no {kind.__name__} but {value!r}")
    return value
