"""Where options come from below the command line: the environment, then a TOML file."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from hybrid.cli.foreign import instead_in_file, instead_of_variable
from hybrid.ground.errors import UsageError
from hybrid.shared.assemble import absolute
from hybrid.shared.option_values import refuse
from hybrid.shared.options import ENVIRONMENT_PREFIX, Level, Option, Origin, Value, all_options, nearest, options_for
from hybrid.shared.process_settings import GRACE_VARIABLE

Found = dict[str, tuple[list[str], Origin]]
"""Texts and origin, by flag."""


_SLIP = 0.9
"""Likeness of a misspelt variable to a known one; the prefix that they share makes any two look alike."""


class Environment:
    """``HYBRID_…`` variables, and the foreign ones that other servers read too. An empty variable is not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def find(self, given: Mapping[str, Value]) -> Found:
        """Return what the environment says. Our own names win over foreign ones."""
        found: Found = {}
        for option in options_for("e"):
            for level, name in ((Level.ENVIRONMENT, option.env_name), *((Level.FOREIGN, each) for each in option.env)):
                text = self._environ.get(name)
                if text:
                    texts = [part.strip() for part in text.split(",") if part.strip()] if option.repeatable else [text]
                    found[option.flag] = (texts or [text], Origin(level, name))
                    break
        return found

    def misspelt(self) -> list[str]:
        """Return a warning for each variable that is no option but looks like one, or is one of another server.

        Only like one: other programs may use the prefix too, so a stranger is none of our business.
        """
        known = {option.env_name for option in options_for("e")} | {GRACE_VARIABLE}
        strangers = (
            name for name in sorted(self._environ) if name.startswith(ENVIRONMENT_PREFIX) and name not in known
        )
        guesses = [(name, nearest(name, known, _SLIP)) for name in strangers]
        guesses += [(name, instead_of_variable(name, known)) for name in sorted(self._environ) if name not in known]
        return [
            f"{name} in the environment is no option.{guess}"
            for name, guess in guesses
            if guess and not any(guess == f" Use {ours}." for ours in self._environ)  # both are set: for either server
        ]


class ConfigurationFile:
    """A TOML file: ``--config``'s, else the ``[tool.hybrid]`` table of ``pyproject.toml``.

    Relative names start at the directory that ``--chdir`` gives, else at ``cwd``. ``path`` is the file that was read,
    once it was.
    """

    def __init__(self, cwd: str) -> None:
        self._cwd = cwd
        self.path = ""

    def find(self, given: Mapping[str, Value]) -> Found:
        """Return what the file says. Raises: UsageError: unreadable, no TOML, or a key that is no option."""
        directory = working_directory(given, self._cwd)
        path = _absolute("--config", given, directory)
        if not path:
            path = os.path.join(directory, "pyproject.toml")
            if not os.path.isfile(path):
                return {}
        table: Any = _load(path)
        if os.path.basename(path) == "pyproject.toml":
            for key in ("tool", "hybrid"):
                table = table.get(key, {}) if isinstance(table, dict) else table
            if table == {}:
                return {}
        self.path = path
        return _found(table, path)


def working_directory(given: Mapping[str, Value], cwd: str) -> str:
    """Return where relative paths start: what --chdir says, else ``cwd``. Raises: UsageError: there is no such."""
    return _absolute("--chdir", given, cwd) or cwd


def _absolute(flag: str, given: Mapping[str, Value], directory: str) -> str:
    if flag not in given:
        return ""
    option = next(option for option in all_options() if option.flag == flag)
    return str(absolute(option, given[flag], directory))


def _load(path: str) -> dict[str, Any]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")  # only if there is a file
    try:
        with open(path, "rb") as file:
            return dict(toml.load(file))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}. Make the file readable.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: it is not UTF-8, byte {error.start}. Save it as UTF-8.") from error
    except ValueError as error:  # TOMLDecodeError
        # "Expected '=' after a key in a key/value pair (at line 3, column 5)"
        cause, _, place = str(error).removesuffix(")").rpartition(" (at ")
        where = f", {place}" if cause else ""
        remedy = "Correct the file: it is to be TOML."
        if path.endswith(".py"):
            remedy = "Write a TOML file instead: it holds options (workers = 4), and no code runs."
        raise UsageError(f"cannot read {path}{where}: {cause or error}. {remedy}") from error


def _found(table: Any, path: str) -> Found:
    if not isinstance(table, dict):
        raise UsageError(f"cannot read {path}: tool.hybrid is not a table. Write [tool.hybrid] and its keys below.")
    known = {option.key: option for option in options_for("f")}
    found: Found = {}
    for key, value in table.items():
        option = known.get(key.replace("_", "-"))
        if option is None:
            raise _unknown(key, value, path, known)
        if option.flag in found:
            raise UsageError(f"cannot use {key} in {path}: {option.key} is there too. Remove one of them.")
        origin = Origin(Level.FILE, key, path)
        found[option.flag] = (_texts(option, value, origin), origin)
    return found


def _unknown(key: str, value: object, path: str, known: Mapping[str, Option]) -> UsageError:
    elsewhere = {option.key: option for option in options_for("c")}.get(key.replace("_", "-"))
    if elsewhere is not None:
        remedy = f" A file cannot set it. Use {elsewhere.flag} on the command line."
    elif isinstance(value, dict):
        remedy = " There are no tables here: the options stand at the top."
    else:
        remedy = instead_in_file(key, known) or nearest(key.replace("_", "-"), known) + " Correct or remove it."
    return UsageError(f"unknown option {key!r} in {path}.{remedy}")


def _texts(option: Option, value: object, origin: Origin) -> list[str]:
    """Return the value as the text that the command line would have handed over."""
    if isinstance(value, list) and option.repeatable:
        if not value:
            raise refuse(option, value, origin, "it is empty. Give at least one value, or remove the key.")
        return [text for each in value for text in _texts(option, each, origin)]
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, int) and option.parse == "mode":
        # TOML hands 0o660 and 432 over as the same number, and 660 as another: which one was meant cannot be seen.
        raise refuse(option, value, origin, 'a number does not show its base. Write octal digits in quotes, "660".')
    if isinstance(value, (int, float, str)):
        return [str(value)]
    kind = "an array" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"
    raise refuse(option, value, origin, f"{kind} is no value of this option. Give one value.")
