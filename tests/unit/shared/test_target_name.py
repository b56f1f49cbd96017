"""Promises of :mod:`hybrid.shared.target_name`."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid.ground.errors import UsageError
from hybrid.handlers.protocol import protocol
from hybrid.shared.loader import load, name_of
from hybrid.shared.target_name import LIFESPAN

ROOT = Path(__file__).parents[3]


async def handle(conn: object) -> None: ...


def replace(function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(conn: object) -> None: ...

    return wrapper


def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(conn: object) -> None: ...

    return wrapper


@replace
async def replaced(conn: object) -> None: ...


@wrap
async def wrapped(conn: object) -> None: ...


class Served(asyncio.Protocol):
    class Inner:
        @staticmethod
        async def still(conn: object) -> None: ...

        @classmethod
        async def of_class(cls, conn: object) -> None: ...

    async def method(self, conn: object) -> None: ...

    def __call__(self) -> Served:
        return self


instance = Served()
marked = protocol(Served)
assigned = lambda: Served()  # noqa: E731  (the point: a lambda with a name)


@pytest.mark.parametrize(
    ("function", "path"),
    [
        (handle, "handle"),
        (replaced, "replaced"),
        (wrapped, "wrapped"),
        (Served, "Served"),
        (Served.Inner.still, "Served.Inner.still"),
        (Served.Inner.of_class, "Served.Inner.of_class"),
        (instance, "instance"),
        (assigned, "assigned"),
    ],
)
def test_name_leads_back_to_the_same_object(function: object, path: str) -> None:
    """Found by identity: functions, decorated ones, classes, objects."""
    assert name_of(function) == f"{__name__}:{path}"
    assert load(name_of(function)).obj == function


def nameless() -> list[tuple[object, str]]:
    async def inner(conn: object) -> None: ...

    return [
        (lambda conn: None, "a lambda has no name"),
        (inner, "defined inside a function"),
        (instance.method, f"'{__name__}:instance.method'"),
        (Served().method, "'module:instance.method'"),
        (functools.partial(handle, None), "functools.partial"),
        (Served(), "no module has it under a name"),
        (12345.5, "cannot be called"),
        (None, "cannot serve None: it is None"),
        (True, "cannot serve True: it is a bool"),
    ]


@pytest.mark.parametrize(("function", "says"), nameless())
def test_what_has_no_name_is_refused_with_the_remedy(function: object, says: str) -> None:
    """Lambda, closure, method, partial, object: each error says what to write instead."""
    with pytest.raises(UsageError) as caught:
        name_of(function)
    assert says in str(caught.value)
    assert str(caught.value).startswith("cannot serve ")


def test_error_says_what_it_was_given_for() -> None:
    """A lifespan without a name is no handler without a name."""
    with pytest.raises(UsageError, match=r"^cannot use .*<lambda> for lifespan=: a lambda has no name"):
        name_of(lambda worker: None, LIFESPAN)


def test_marked_factory_is_named_though_it_cannot_be_called() -> None:
    """What ``hybrid.protocol()`` makes is found like a function."""
    assert name_of(marked) == f"{__name__}:marked"


SCRIPT = """
from hybrid.shared.loader import name_of
class Outer:
    @staticmethod
    async def inner(conn): ...
async def echo(conn): ...
if __name__ == "__main__":
    print(name_of(echo), name_of(Outer.inner), name_of(Outer), sep="|")
"""


def run(*arguments: str, cwd: Path, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip()


def test_script_is_named_by_its_file(tmp_path: Path) -> None:
    """__main__ is called otherwise when imported, so its file is named."""
    script = tmp_path / "my_script.py"
    script.write_text(SCRIPT)
    said = run("my_script.py", cwd=tmp_path).split("|")
    assert said == [f"{script}:echo", f"{script}:Outer.inner", f"{script}:Outer"]


def test_python_m_is_named_by_its_module(tmp_path: Path) -> None:
    """python -m pkg.mod and python -m pkg."""
    (tmp_path / "pkg").mkdir()
    for name in ("__init__", "mod", "__main__"):
        (tmp_path / "pkg" / f"{name}.py").write_text(SCRIPT if name != "__init__" else "")
    assert run("-m", "pkg.mod", cwd=tmp_path).startswith("pkg.mod:echo|pkg.mod:Outer.inner")
    assert run("-m", "pkg", cwd=tmp_path).startswith("pkg.__main__:echo|")


@pytest.mark.parametrize("arguments", [("-c", SCRIPT), ("-",)])
def test_program_without_a_file_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """-c and standard input: nothing that a worker could import."""
    said = run(*arguments, cwd=tmp_path, stdin=SCRIPT)
    assert "cannot serve 'echo': it was defined in a program that has no .py file" in said
