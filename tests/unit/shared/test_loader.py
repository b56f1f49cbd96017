"""Promises of :mod:`hybrid.shared.loader`."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.ground.errors import ExitCode, LoadError, UsageError
from hybrid.shared import loader
from hybrid.shared.loader import load


@pytest.fixture
def app_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory, first on sys.path and current; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    importlib.invalidate_caches()
    return path


def refusal(target: str, factory: bool = False) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load(target, factory=factory)
    assert target in str(caught.value)
    assert caught.value.exit_code is ExitCode.APP_NOT_LOADED
    return caught.value


def test_module_attribute_is_found(app_dir: Path) -> None:
    """package.module:attr, the attribute dotted."""
    write(app_dir / "pkg_a/__init__.py", "")
    write(app_dir / "pkg_a/mod.py", "class Outer:\n    class Inner:\n        handle = 7\n")
    loaded = load("pkg_a.mod:Outer.Inner.handle")
    assert (loaded.obj, loaded.name, loaded.pending) == (7, "Outer.Inner.handle", None)


def test_file_outside_the_path_gets_its_stem_and_works_with_pickle(app_dir: Path) -> None:
    """A file is registered in sys.modules: dataclasses and pickle find its classes."""
    write(
        app_dir / "deep/thing_b.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass(slots=True)\nclass Point:\n    x: int = 3\npoint = Point()\n",
    )
    point = load("deep/thing_b.py:point").obj
    assert pickle.loads(pickle.dumps(point)) == point
    assert type(point).__module__ == "thing_b"


def test_file_on_the_path_is_the_module_of_that_name(app_dir: Path) -> None:
    """No file runs twice under two names, whichever way comes first."""
    write(app_dir / "once_c.py", "runs = []\n")
    by_file = load("once_c.py:runs").obj
    assert load("once_c:runs").obj is by_file
    assert importlib.import_module("once_c").runs is by_file


def test_file_of_a_package_is_imported_as_part_of_it(app_dir: Path) -> None:
    """Relative imports work in a file that belongs to a package on sys.path."""
    write(app_dir / "pkg_d/__init__.py", "")
    write(app_dir / "pkg_d/other.py", "value = 5\n")
    write(app_dir / "pkg_d/app.py", "from .other import value\n")
    assert load(str(app_dir / "pkg_d/app.py") + ":value").obj == 5
    assert "pkg_d.app" in sys.modules


def test_file_that_was_imported_under_another_name_is_used(app_dir: Path) -> None:
    """A file that is a module already (of a namespace package, say) is not executed again."""
    write(app_dir / "space_e/app_e.py", "value = object()\n")
    module = importlib.import_module("space_e.app_e")
    assert load("space_e/app_e.py:value").obj is module.value


@pytest.mark.parametrize("stem", ["json", "string", "sys"])
def test_file_never_takes_the_name_of_another_module(app_dir: Path, stem: str) -> None:
    """A file called json.py outside the path does not become everybody's json."""
    before = importlib.import_module(stem)
    write(app_dir / f"deep/{stem}.py", "value = 1\n")
    assert load(f"deep/{stem}.py:value").obj == 1
    assert sys.modules[stem] is before


def test_file_name_need_not_be_an_identifier(app_dir: Path) -> None:
    """my-app.py can be served."""
    write(app_dir / "my-app.py", "value = 1\n")
    assert load("my-app.py:value").obj == 1


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("", "it names no attribute"),
        ("app", "Write app:NAME"),
        ("app.py", "Write app.py:NAME"),
        ("app:", "'' is not the name of an attribute"),
        ("app:make()", "'make()' is not the name of an attribute. Write app:make and add --factory."),
        ("app:a..b", "'a..b' is not the name of an attribute"),
        (":a", "'' is neither the name of a module nor a path"),
        (".app:a", "'.app' is neither"),
        ("deep/app:a", "'deep/app' is neither"),
        ("no_such_module:a", "no module named 'no_such_module', looked in"),
        ("json.nothing:a", "no module named 'json.nothing'"),
        ("os.path.join:a", "'os.path' is not a package"),
        ("no_such_file.py:a", "no_such_file.py does not exist"),
        ("json:dump_s", "module json has no attribute 'dump_s'. Did you mean dumps"),
        ("json:JSONDecoder.decod", "'JSONDecoder', a class, has no attribute 'decod'. Did you mean decode"),
        ("json:__doc__.qqq", "'__doc__', a str, has no attribute 'qqq'. It has capitalize, casefold"),
    ],
)
def test_wrong_target_is_refused_with_the_remedy(app_dir: Path, target: str, says: str) -> None:
    """What failed, the value, what to do."""
    error = refusal(target)
    assert says in str(error)
    assert error.detail == ""


def test_path_without_suffix_is_refused_with_the_right_path(app_dir: Path) -> None:
    """examples/echo:echo where examples/echo.py was meant."""
    write(app_dir / "deep/near_f.py", "")
    assert "write deep/near_f.py:handle" in str(refusal("deep/near_f:handle"))


def test_directory_is_refused(app_dir: Path) -> None:
    """A directory whose name ends in .py is no file."""
    (app_dir / "dir_g.py").mkdir()
    assert "is a directory" in str(refusal("dir_g.py:a"))


def test_missing_import_inside_the_module_is_not_taken_for_the_module(app_dir: Path) -> None:
    """The traceback starts at the user's line, not ours."""
    write(app_dir / "mod_h.py", "\nimport no_such_dependency\n")
    error = refusal("mod_h:a")
    assert "its import raised ModuleNotFoundError: No module named 'no_such_dependency'" in str(error)
    assert error.detail.splitlines()[1].endswith('mod_h.py", line 2, in <module>')
    assert "loader.py" not in error.detail
    assert "importlib" not in error.detail


@pytest.mark.parametrize("place", ["mod_i", "deep/file_i.py"])
def test_error_at_import_shows_the_traceback(app_dir: Path, place: str) -> None:
    """A module that raises, by name or by file; a failed file leaves no half module behind."""
    write(app_dir / "mod_i.py", "def f():\n    return 1 / 0\nf()\n")
    write(app_dir / "deep/file_i.py", "def f():\n    return 1 / 0\nf()\n")
    error = refusal(f"{place}:a")
    assert "its import raised ZeroDivisionError: division by zero" in str(error)
    assert error.detail.splitlines()[1].endswith("line 3, in <module>")
    assert "loader.py" not in error.detail
    assert "file_i" not in sys.modules


def test_syntax_error_shows_the_line(app_dir: Path) -> None:
    """There is no frame of the user's, but a line."""
    write(app_dir / "mod_j.py", "x = = 1\n")
    error = refusal("mod_j:a")
    assert "SyntaxError" in str(error)
    assert "x = = 1" in error.detail
    assert "loader.py" not in error.detail


def test_system_exit_at_import_is_an_error_of_the_app(app_dir: Path) -> None:
    """A script without a guard does not take the mold with it."""
    write(app_dir / "mod_k.py", "import sys\nsys.exit(3)\n")
    error = refusal("mod_k:a")
    assert "sys.exit(3)" in str(error)
    assert "__main__" in str(error)


def test_relative_import_in_a_lone_file_says_how_to_name_it(app_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a package whose root is not on sys.path."""
    write(app_dir / "far/pkg_l/__init__.py", "")
    write(app_dir / "far/pkg_l/app_l.py", "from . import other\n")
    assert f"write pkg_l.app_l:a with --app-dir {app_dir}/far" in str(refusal("far/pkg_l/app_l.py:a"))


def test_attribute_that_raises_is_shown(app_dir: Path) -> None:
    """A module's __getattr__ is the user's code."""
    write(app_dir / "mod_m.py", "def __getattr__(name):\n    raise ValueError(name)\n")
    error = refusal("mod_m:a")
    assert "reading 'a' raised ValueError: a" in str(error)
    assert "mod_m.py" in error.detail


def test_plain_factory_is_called_here(app_dir: Path) -> None:
    """--factory with a plain function."""
    write(app_dir / "mod_n.py", "def make():\n    return [1]\n")
    assert load("mod_n:make", factory=True).obj == [1]


async def test_async_factory_waits_for_the_loop(app_dir: Path) -> None:
    """--factory with async def: nothing runs until complete()."""
    write(app_dir / "mod_o.py", "ran = []\nasync def make():\n    ran.append(1)\n    return 7\n")
    loaded = load("mod_o:make", factory=True)
    assert loaded.pending is not None
    assert load("mod_o:ran").obj == []
    assert await loaded.complete() == 7


async def test_async_factory_that_raises_is_a_load_error(app_dir: Path) -> None:
    """The traceback starts at the user's frame there too."""
    write(app_dir / "mod_p.py", "async def make():\n    raise OSError('no database')\n")
    loaded = load("mod_p:make", factory=True)
    with pytest.raises(LoadError, match="the factory raised OSError: no database") as caught:
        await loaded.complete()
    assert "loader.py" not in caught.value.detail


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("make = 3", "--factory needs a function, and this is an int"),
        ("def make():\n    raise KeyError('x')", "the factory raised KeyError: 'x'"),
        ("def make(a):\n    pass", "cannot be called without arguments"),
        ("async def real(): ...\ndef make():\n    return real()", "Define it with async def"),
        ("import sys\ndef make():\n    sys.exit(1)", "the factory raised SystemExit: 1"),
    ],
)
def test_wrong_factory_is_refused(app_dir: Path, source: str, says: str) -> None:
    """A factory that is none, raises, or is async in disguise."""
    name = f"mod_q{abs(hash(source))}"
    write(app_dir / f"{name}.py", source + "\n")
    assert says in str(refusal(f"{name}:make", factory=True))


def test_importing_names_the_target_while_it_is_imported(app_dir: Path) -> None:
    """hybrid.run() can tell that it was called by an import, and its remedy reaches the user."""
    write(
        app_dir / "mod_r.py",
        "from hybrid.ground.errors import UsageError\nfrom hybrid.shared import loader\n"
        "if loader.importing():\n    raise UsageError(f'run() called while importing {loader.importing()}')\n",
    )
    assert loader.importing() is None
    error = refusal("mod_r:a")
    assert "run() called while importing mod_r:a" in str(error)
    assert not isinstance(error, UsageError)
    assert loader.importing() is None


def test_loader_loads_without_asyncio() -> None:
    """shared/ stays light."""
    code = "import sys, hybrid.shared.loader; sys.exit('asyncio' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


def test_module_beside_the_file_names_app_dir(tmp_path: Path) -> None:
    """A file that imports its neighbour from elsewhere needs --app-dir, and is told so."""
    (tmp_path / "neighbour_of_it.py").write_text("x = 1\n")
    (tmp_path / "lonely_app.py").write_text("import neighbour_of_it\n")
    with pytest.raises(LoadError, match=f"--app-dir {tmp_path}"):
        load(f"{tmp_path}/lonely_app.py:handle")
