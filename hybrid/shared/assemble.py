"""From checked values to :class:`Settings`: aliases resolved, paths absolute.

The last step of every door: :mod:`hybrid.cli.resolve` and :mod:`hybrid.shared.keywords` end here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hybrid.ground.errors import UsageError
from hybrid.shared import models
from hybrid.shared.access_settings import STDOUT
from hybrid.shared.bind_grammar import check_shared_port
from hybrid.shared.control_settings import AUTO, OFF, check_control
from hybrid.shared.handed import paired
from hybrid.shared.health_settings import check_health
from hybrid.shared.option_values import join_address, refuse
from hybrid.shared.options import COMMAND, DEFAULT, Level, Option, Origin, Value, all_options
from hybrid.shared.pool_size import check_size
from hybrid.shared.reload_settings import check_reload
from hybrid.shared.settings import Launch, Settings
from hybrid.shared.tls_settings import check_tls

Values = Mapping[str, Value]
"""What was given, by flag. What is not in it has its default."""

_DEFAULT_HOST = "127.0.0.1"
_PLATFORM_HOST = "0.0.0.0"
_DEFAULT_PORT = 8000
_PATHS = ("path", "control", "log_file", "output", "directory", "existing_file", "target")
"""Parsers of options that hold a path."""


def assemble(given: Values, directory: str, launch: Launch) -> tuple[Settings, tuple[Origin, ...]]:
    """Return the settings, and what ``bind`` was made from (empty: the default).

    Args: directory: absolute; relative paths start here.
    Raises: UsageError: options contradict each other, or a path that must exist does not.
    """
    groups: dict[str, dict[str, Any]] = {}
    for option in all_options():
        if option.group != COMMAND:
            value = given.get(option.flag, Value(option.default))
            groups.setdefault(option.group, {})[option.field] = absolute(option, value, directory)
    handed = paired(launch.listen_fds, launch.listen_names)
    bind, bind_origins = resolve_bind(given, tuple(each.fd for each in handed if not each.is_stored))
    groups["bind"]["bind"] = tuple(_absolute_bind(each, directory) for each in bind)
    accept, interface = groups["bind"]["accept"], groups["app"]["interface"]
    models.check_pool(accept, groups["worker"]["workers"])
    check_size(groups["worker"]["workers"], groups["worker"]["standby"], accept)
    if interface != "auto":  # else the worker looks at the object first
        models.resolve(accept, threaded=interface == "threaded")
    if accept == "reuseport":
        check_shared_port(bind)
    empty = Settings()
    settings = replace(
        empty, launch=launch, **{name: replace(getattr(empty, name), **fields) for name, fields in groups.items()}
    )
    check_tls(settings.tls)
    check_health(settings.health)
    check_reload(settings.reload, settings.worker.workers)
    check_control(settings.control, settings.worker.workers, settings.bind.bind)
    return settings, bind_origins


def resolve_bind(given: Values, listen_fds: tuple[int, ...] = ()) -> tuple[tuple[str, ...], tuple[Origin, ...]]:
    """Return what to listen on, and what that was made from.

    --host, --port and --uds are aliases of --bind. The highest level that says anything decides which form counts;
    within one level the forms exclude each other. --host and --port may come from different levels, unless a form
    that they exclude stands between them. Inherited sockets are served in any case: a service manager hands
    over a socket so that it is served, and on one that nobody serves its clients would hang. ``listen_fds``: without
    those that an earlier run has stored, which say nothing of what is wanted now.
    """
    _refuse_contradictions(given)
    bind, host, port, uds = (given.get(flag) for flag in ("--bind", "--host", "--port", "--uds"))
    if uds is not None and not uds.value:
        uds = None
    aliases = [each for each in (host, port) if each]
    level = max((each.origin.level for each in (bind, uds, *aliases) if each), default=Level.DEFAULT)
    inherited = tuple(f"fd://{fd}" for fd in listen_fds)
    if level is Level.DEFAULT:
        return inherited or ("127.0.0.1:8000",), ()
    addresses: tuple[str, ...]
    origins: tuple[Origin, ...]
    if bind and bind.origin.level is level:
        addresses, origins = bind.value, (bind.origin,)
    elif uds and uds.origin.level is level:
        addresses, origins = (f"unix:{uds.value}",), (uds.origin,)
    else:
        floor = max((each.origin.level for each in (bind, uds) if each), default=Level.DEFAULT)
        addresses, origins = _from_host_and_port(
            host if host and host.origin.level > floor else None, port if port and port.origin.level > floor else None
        )
    return addresses + tuple(each for each in inherited if each not in addresses), origins


def _from_host_and_port(host: Value | None, port: Value | None) -> tuple[tuple[str, ...], tuple[Origin, ...]]:
    """Return the one address. PORT is set by platforms that reach the server from outside: all interfaces then."""
    by_platform = port is not None and port.origin.level is Level.FOREIGN
    name = host.value if host else _PLATFORM_HOST if by_platform else _DEFAULT_HOST
    number = port.value if port else _DEFAULT_PORT
    return (join_address(name, number),), tuple(each.origin for each in (host, port) if each)


def _refuse_contradictions(given: Values) -> None:
    for flag, others in (("--bind", ("--host", "--port", "--uds")), ("--uds", ("--host", "--port"))):
        first = given.get(flag)
        if first is None or not first.value:
            continue
        for other in others:
            second = given.get(other)
            if second and second.value != "" and second.origin.level is first.origin.level:
                raise _contradiction(flag, first, second)


def _contradiction(flag: str, first: Value, second: Value) -> UsageError:
    """Return the error about two options of one level, with both values and what to drop."""
    why = "both say where to listen" if flag == "--bind" else "a unix socket has no host and no port"
    one, other, place = first.origin.name, second.origin.name, first.origin.place
    values = [", ".join(each.value) if isinstance(each.value, tuple) else each.value for each in (first, second)]
    return UsageError(
        f"cannot use {one} {values[0]} together with {other} {values[1]}{place and f', from {place}'}: {why}. "
        f"Drop {other}, or drop {one}."
    )


def absolute(option: Option, value: Value, directory: str) -> Any:
    """Return the value with its path, or each of its paths, made absolute, and refuse a path that cannot be meant.

    Raises: UsageError: a directory or a file that must exist does not.
    """
    text = value.value
    if isinstance(text, tuple):
        return tuple(absolute(option, Value(each, value.origin), directory) for each in text)
    if option.parse == "optional_bind":
        return _absolute_bind(text, directory)
    if option.parse == "control":
        if text in (AUTO, OFF):
            return text
        text = text.removeprefix("unix:")  # as every other address of a unix socket is written
    if option.parse not in _PATHS or not text:
        return text
    if option.parse == "output" and text == STDOUT:
        return text
    if option.parse == "target":
        place, colon, attribute = text.rpartition(":")
        return f"{_join(directory, place)}:{attribute}" if colon and place.endswith(".py") else text
    path = _join(directory, text)
    if value.origin is DEFAULT:
        return path
    if option.parse == "directory" and not os.path.isdir(path):
        raise refuse(option, text, value.origin, f"{_missing(path, 'directory')}. Give a directory that exists.")
    if option.parse == "existing_file" and not os.path.isfile(path):
        raise refuse(option, text, value.origin, f"{_missing(path, 'file')}. Give a file that exists.")
    return path


def _missing(path: str, kind: str) -> str:
    return f"{path} is not a {kind}" if os.path.exists(path) else f"there is no {path}"


def _join(directory: str, path: str) -> str:
    return os.path.normpath(os.path.join(directory, path))


def _absolute_bind(address: str, directory: str) -> str:
    path = address.removeprefix("unix:")
    return address if path == address or path.startswith("@") else f"unix:{_join(directory, path)}"
