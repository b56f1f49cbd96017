"""What is asked of uvloop is not promised by it: whatever is missing, the answer is "unknown"."""

from __future__ import annotations

import asyncio
import ctypes
import math
from collections.abc import Iterator
from types import ModuleType

import pytest

from hybrid.meters.libuv_idle import LibuvIdle

uvloop = pytest.importorskip("uvloop")


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of uvloop's that has not run."""
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    yield loop
    loop.close()


def extension(
    file: str | None = uvloop.loop.__file__, pointer: object = uvloop.loop.libuv_get_loop_t_ptr
) -> ModuleType:
    """Return a module as uvloop's, with another file or another way to the loop's pointer."""
    module = ModuleType("loop")
    module.__file__ = file
    module.Loop = uvloop.loop.Loop  # type: ignore[attr-defined]  # a module made for the test
    if pointer is not None:
        module.libuv_get_loop_t_ptr = pointer  # type: ignore[attr-defined]  # a module made for the test
    return module


def test_tested_wheel_tells(loop: asyncio.AbstractEventLoop) -> None:
    """The uvloop that is installed here exports what is needed; nothing was waited for yet."""
    idle = LibuvIdle.of(loop, extension())
    assert idle is not None and idle.idle_ns() == 0


def test_hidden_symbols_are_unknown(loop: asyncio.AbstractEventLoop) -> None:
    """A shared library without them: that of the interpreter's maths, say."""
    assert LibuvIdle.of(loop, extension(file=math.__file__ if hasattr(math, "__file__") else None)) is None


@pytest.mark.parametrize("file", [None, "", "/nowhere/loop.so", __file__])
def test_no_library_is_unknown(loop: asyncio.AbstractEventLoop, file: str | None) -> None:
    """Built in, moved away, or no library at all. (An empty name is the whole program, which has no libuv.)"""
    assert LibuvIdle.of(loop, extension(file=file)) is None


def _raise(loop: object) -> object:
    raise ValueError("no loop of mine")


@pytest.mark.parametrize("pointer", [None, lambda loop: None, lambda loop: 7, _raise])
def test_no_way_to_the_loop_is_unknown(loop: asyncio.AbstractEventLoop, pointer: object) -> None:
    """An older uvloop has no such function; what is no capsule is no pointer."""
    assert LibuvIdle.of(loop, extension(pointer=pointer)) is None


def test_loop_of_another_kind_is_unknown() -> None:
    """It is not asked about: uvloop would take the object for a loop of its own, and the process would crash."""
    other = asyncio.new_event_loop()
    try:
        assert LibuvIdle.of(other, uvloop.loop) is None
    finally:
        other.close()


def test_libuv_that_does_not_know_the_option_is_unknown(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One before 1.39 answers with an error code: a loop that is not measured would look as if it never waited."""
    monkeypatch.setattr("hybrid.meters.libuv_idle._UV_METRICS_IDLE_TIME", 99)
    assert LibuvIdle.of(loop, extension()) is None


def test_closed_loop_is_unknown() -> None:
    """Its memory is not looked at: the question does not crash."""
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    idle = LibuvIdle.of(loop, extension())
    loop.close()
    assert idle is not None and idle.idle_ns() is None


def test_prototypes_of_everybody_are_left_alone(loop: asyncio.AbstractEventLoop) -> None:
    """Other users of ctypes.pythonapi find it as it was."""
    before = ctypes.pythonapi.PyCapsule_GetPointer.argtypes
    assert LibuvIdle.of(loop, extension()) is not None
    assert ctypes.pythonapi.PyCapsule_GetPointer.argtypes == before
