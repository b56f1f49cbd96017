"""From the text of an option to its value, and back: one parser for every door.

The command line, the environment and a configuration file all hand over text, and so does
:mod:`hybrid.shared.keywords` after it has turned Python values into text; a value is therefore refused with the same
words wherever it came from.

The parsers look at the machine only where the answer says whether the value can work (a user's name).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from hybrid.ground.clock import LONGEST_S
from hybrid.ground.errors import UsageError
from hybrid.shared.options import Level, Option, Origin, nearest
from hybrid.shared.pool_size import AUTO, BETWEEN
from hybrid.shared.recycling_settings import LEAST_MEMORY_BYTES
from hybrid.shared.settings import MOST_WORKERS

MOST_THREADS = 1000
"""Of one worker. They share one interpreter lock: more would wait for it, not for their clients."""
_MASK = "***"
"""Instead of a secret."""
_TRUE = frozenset({"true", "yes", "on", "1"})
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_FALSE = frozenset({"false", "no", "off", "0"})


class Rejected(ValueError):
    """A parser does not take the text. The message is ``cause. Remedy.``, to stand after what was given."""


def read(option: Option, texts: Sequence[str], origin: Origin) -> Any:
    """Return the value that ``texts`` means for ``option``: one text, or several where it is repeatable.

    Raises: UsageError: names the value, the option, the origin, the cause and the remedy.
    """
    if not option.repeatable and len(texts) != 1:
        raise refuse(option, texts, origin, "it takes one value. Give one.")
    values: list[Any] = []
    for text in texts:
        try:
            value = _parse_one(option, text)
        except Rejected as error:
            raise refuse(option, text, origin, str(error)) from None
        values += value if isinstance(value, tuple) else (value,)  # a list in one text
    if option.repeatable:
        if not values:
            raise refuse(option, texts, origin, "it is empty. Give at least one value, or leave it out.")
        return tuple(values)
    return values[0]


def refuse(option: Option, given: object, origin: Origin, why: str) -> UsageError:
    """Return the error that says why ``given`` is not taken. ``why`` is ``cause. Remedy.``"""
    what = _MASK if option.secret else repr(given)
    if origin.level is Level.KEYWORD:
        return UsageError(f"cannot use {what} for {option.keyword}=: {why}")
    name = option.flag if origin.level is not Level.FILE else origin.name
    return UsageError(f"cannot use {what} for {name}, {origin.phrase}: {why}")


def show(option: Option, value: object) -> str:
    """Return ``value`` as text that :func:`read` understands; nothing for a value that means "not given".

    Of a secret, only that there is one.
    """
    if option.secret:
        return _MASK if value else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, int):
        return "" if value < 0 else f"{value:03o}" if option.parse == "mode" else str(value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _parse_one(option: Option, text: str) -> Any:
    if "\0" in text:
        raise Rejected("it holds a NUL character. Remove it.")
    if option.parse:
        return _PARSERS[option.parse](text)
    if option.is_switch:
        return _switch(text)
    if option.choices and text not in option.choices:
        did_you_mean = nearest(text, option.choices)
        raise Rejected(f"not one of its values.{did_you_mean} Give one of {', '.join(option.choices)}.")
    return text


def _switch(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise Rejected("neither true nor false. Give true or false.")


def _whole(text: str, least: int, most: int, remedy: str) -> int:
    """Return the number. int() alone would take ``1_0`` and digits of every script."""
    digits = text.strip()
    sign, digits = (-1, digits[1:]) if digits.startswith("-") else (1, digits)
    if not (digits.isascii() and digits.isdigit()):
        raise Rejected(f"not a whole number. {remedy}")
    # As text first: int() refuses more than 4300 digits, with an error that is none of ours.
    number = sign * int(digits) if len(digits.lstrip("0")) < 19 else sign * (1 << 63)
    if number < least:
        raise Rejected(f"less than {least}. {remedy}")
    if number > most:
        raise Rejected(f"more than {most}. {remedy}")
    return number


def _port(text: str) -> int:
    if text.startswith("tcp://"):
        # HYBRID_PORT=tcp://10.0.0.1:80: what Kubernetes puts into the environment of every pod beside a service
        # that is called "hybrid".
        raise Rejected("Kubernetes sets it for a service of this name. Use enableServiceLinks: false in the pod.")
    return _whole(text, 0, 65535, "Give 0 to 65535; 0 picks a free one.")


def _workers(text: str) -> int | str:
    remedy = f"Give 1 to {MOST_WORKERS}, auto, or 0 to serve in this process, without a pool."
    if BETWEEN in text:
        return _range_of_workers(*(each.strip() for each in text.split(BETWEEN, 1)))
    return "auto" if text.strip() == "auto" else _whole(text, 0, MOST_WORKERS, remedy)


def _range_of_workers(least: str, most: str) -> str:
    """Return the range in the one way of writing it."""
    remedy = f"Give a range such as 2..8, 2.., auto.. or auto..8; 1 to {MOST_WORKERS}."
    fewest = 1 if least == AUTO else _whole(least, 1, MOST_WORKERS, remedy)
    if most and fewest > _whole(most, 1, MOST_WORKERS, remedy):
        raise Rejected(f"it ends before it begins. {remedy}")
    return f"{least if least == AUTO else fewest}{BETWEEN}{int(most) if most else ''}"


def _standby(text: str) -> int:
    return _whole(text, 0, MOST_WORKERS, f"Give 0 to {MOST_WORKERS}.")


def _positive(text: str) -> int:
    return _whole(text, 1, 2**31 - 1, "Give a whole number of 1 or more.")


def _auto_or_positive(text: str) -> int | str:
    return "auto" if text.strip() == "auto" else _whole(text, 1, 2**31 - 1, "Give auto, or a number of 1 or more.")


def _threads(text: str) -> int | str:
    if text == "auto":
        return text
    return _whole(text, 1, MOST_THREADS, f"Give auto, or 1 to {MOST_THREADS}; for more, use more --workers.")


def _descriptor(text: str) -> int:
    return _whole(text, 1, 2**31 - 1, "Give the number of a descriptor that the command inherits, for example 3.")


def _number_of_seconds(text: str, remedy: str) -> float:
    try:
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise Rejected(f"not a number of seconds. {remedy}")
    if number < 0:
        raise Rejected(f"less than 0. {remedy}")
    if number > LONGEST_S:
        raise Rejected(f"more than {LONGEST_S:.0f}. {remedy}")
    return number + 0.0  # −0.0 becomes 0.0


def _seconds(text: str) -> float:
    return _number_of_seconds(text, "Give seconds, 0 or more, for example 30 or 0.5.")


def _positive_seconds(text: str) -> float:
    remedy = "Give seconds, more than 0, for example 60."
    number = _number_of_seconds(text, remedy)
    if number == 0:
        raise Rejected(f"no time at all. {remedy}")
    return number


def _mode(text: str) -> int:
    digits = text.strip().lower().removeprefix("0o")
    if not digits or any(digit not in "01234567" for digit in digits) or int(digits[-9:], 8) > 0o777 or len(digits) > 9:
        raise Rejected("not an octal mode. Give 000 to 777, for example 660.")
    return int(digits, 8)


def _bind(text: str) -> str:
    from hybrid.shared import bind_grammar  # here: what only reads other options need not load it

    try:
        return bind_grammar.parse(text).text
    except UsageError as error:
        raise Rejected(str(error).removeprefix(f"cannot use --bind {text!r}: ")) from None


def _optional_bind(text: str) -> str:
    return _bind(text) if text else ""  # empty: none, so that a higher level can undo a lower one


def _control(text: str) -> str:
    if not text.removeprefix("unix:"):
        raise Rejected("it is empty. Give a path, auto, or off.")
    return text


def _host(text: str) -> str:
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not host:
        raise Rejected("it is empty. Give a name or an address; * means all interfaces.")
    try:
        _bind(join_address(host, 0))
    except Rejected:
        raise Rejected("not the name or the address of a host. To give a port too, use --bind HOST:PORT.") from None
    return host


def join_address(host: str, port: int) -> str:
    """Return ``host`` and ``port`` in the grammar of ``--bind``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _user(text: str) -> str:
    import pwd  # here: nobody else needs it

    return _account(text, pwd.getpwnam, "no such user. Give a user of this machine, by name or number.")


def _group(text: str) -> str:
    import grp

    return _account(text, grp.getgrnam, "no such group. Give a group of this machine, by name or number.")


def _account(text: str, find: Callable[[str], object], why: str) -> str:
    if text and not (text.isascii() and text.isdigit()):
        try:
            find(text)
        except (KeyError, UnicodeError):
            raise Rejected(why) from None
    return text


def _count(text: str) -> int:
    return _whole(text, 0, 2**53, "Give a whole number, 0 or more.")


def _percent(text: str) -> int:
    return _whole(text.strip().removesuffix("%"), 0, 100, "Give 0 to 100.")


def _memory(text: str) -> int:
    """Return bytes. Suffixes are powers of 1024, as docker, systemd and nginx read them."""
    number = text.strip().upper()
    number = number.removesuffix("IB" if number[-3:-2] in _UNITS else "B")  # who writes 512MiB or 512MB means 512M
    unit = _UNITS.get(number[-1:], 1)
    number = number if unit == 1 else number[:-1]
    remedy = f"Give a whole number with K, M, G or T, for example 512M; {LEAST_MEMORY_BYTES >> 20}M or more; or 0."
    value = _whole(number, 0, 2**53 // unit, remedy) * unit
    if 0 < value < LEAST_MEMORY_BYTES:
        raise Rejected(f"{value} bytes are less than a worker needs. {remedy}")
    return value


def _url_path(text: str) -> str:
    if text and (not text.startswith("/") or text.endswith("/")):
        raise Rejected("not the path of an application. Begin it with a slash and end it without: /api.")
    return text


def _access_format(text: str) -> str:
    from hybrid.shared import access_format

    if text != access_format.JSON:
        try:
            access_format.parse(text)
        except ValueError as error:
            raise Rejected(str(error)) from None
    return text


def _output(text: str) -> str:
    if not text:
        raise Rejected("it is empty. Give a file, or - for stdout.")
    return text


def _log_file(text: str) -> str:
    return "" if text == "-" else text  # stderr is "none": what the log goes to where no file is named


def _proxies(text: str) -> tuple[str, ...]:
    entries = tuple(_proxy(each.strip()) for each in text.split(",") if each.strip())
    if not entries:
        raise Rejected("it is empty. Give an address or a network, or use --no-proxy-headers to believe nobody.")
    return entries


def _proxy(entry: str) -> str:
    """Return one entry of a list of proxies as it compares: ``010.0.0.0/8`` is none, ``::0:1`` is ``::1``."""
    import ipaddress  # here: nobody else needs it

    if entry in ("*", "unix"):
        return entry
    if "%" in entry:
        raise Rejected(f"{entry!r} names an interface. Give the address without what is behind the %.")
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        remedy = "Give addresses (10.0.0.7, ::1), networks (10.0.0.0/8), unix, or *."
        raise Rejected(f"{entry!r} is neither an address nor a network. {remedy}") from None
    if "/" not in entry:
        return str(network.network_address)
    if network.network_address != ipaddress.ip_interface(entry).ip:
        raise Rejected(f"{entry!r} is an address inside a network. Give the network, {network}, or the address alone.")
    return str(network)


def _pattern(text: str) -> str:
    if not text.strip("./"):
        raise Rejected("it names no file. Give a pattern, for example *.html or templates/.")
    return text


def _text(text: str) -> str:
    """Take any text; empty means "none", so that a higher level can undo a lower one."""
    return text


_PARSERS: dict[str, Callable[[str], Any]] = {
    "access_format": _access_format,
    "auto_or_positive": _auto_or_positive,
    "bind": _bind,
    "control": _control,
    "count": _count,
    "descriptor": _descriptor,
    # Paths become absolute, and are looked at, once the working directory is known: hybrid.shared.assemble.
    "directory": _text,
    "existing_file": _text,
    "group": _group,
    "host": _host,
    "log_file": _log_file,
    "memory": _memory,
    "mode": _mode,
    "optional_bind": _optional_bind,
    "output": _output,
    "path": _text,
    "pattern": _pattern,
    "percent": _percent,
    "port": _port,
    "positive": _positive,
    "positive_seconds": _positive_seconds,
    "proxies": _proxies,
    "seconds": _seconds,
    "secret": _text,
    "standby": _standby,
    "target": _text,
    "threads": _threads,
    "url_path": _url_path,
    "user": _user,
    "workers": _workers,
}
