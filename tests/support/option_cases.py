"""Hypothesis strategies for options: settings of every shape, and valid texts for every option."""

from __future__ import annotations

import string
from dataclasses import fields
from typing import Any

from hypothesis import strategies as st

from hybrid.ground.errors import UsageError
from hybrid.shared import models
from hybrid.shared.bind_grammar import check_shared_port
from hybrid.shared.health_settings import HealthSettings, check_health
from hybrid.shared.options import Option, all_options
from hybrid.shared.pool_size import check_size
from hybrid.shared.settings import Settings

_words = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=12).filter(
    lambda word: not word.startswith("-")
)
_paths = _words.filter(lambda word: word not in (".", "..")).map(lambda word: f"/no-such-place/{word}")
_addresses = st.one_of(
    st.integers(0, 65535).map(lambda port: f"127.0.0.1:{port}"),
    st.integers(0, 65535).map(lambda port: f"[::1]:{port}"),
    _paths.map(lambda path: f"unix:{path}"),
    st.integers(3, 99).map(lambda fd: f"fd://{fd}"),
)
# Of control: none that --bind may have, which is refused; never empty, which is no value in the environment.
_doors = st.one_of(
    st.integers(0, 65535).map(lambda port: f"127.0.0.2:{port}"),
    _words.map(lambda word: f"unix:/no-such-door/{word}.sock"),
)
_modes = st.integers(0, 0o777).map(lambda mode: f"{mode:o}")
_numbers = st.integers(1, 10**6).map(str)
_seconds = st.floats(0.001, 10**6).map(repr)

_TEXTS: dict[str, st.SearchStrategy[str]] = {
    "access_format": st.sampled_from(["combined", "json", '%(h)s "%({x-a}i)s" 100%%\t%(L)s']),
    "threads": st.one_of(st.just("auto"), st.integers(1, 1000).map(str)),
    "auto_or_positive": st.one_of(st.just("auto"), _numbers),
    "bind": _addresses,
    "control": st.one_of(st.sampled_from(["auto", "off"]), _paths),
    "count": st.integers(0, 10**9).map(str),
    "descriptor": st.integers(1, 99).map(str),
    "directory": st.just("/"),
    "existing_file": st.just(__file__),
    "group": st.sampled_from(["root", "0", "77"]),
    "host": st.sampled_from(["localhost", "0.0.0.0", "::1", "example.org"]),
    "log_file": _paths,
    "memory": st.one_of(st.just("0"), st.integers(32, 10**6).map(lambda number: f"{number}M")),
    "mode": _modes,
    "optional_bind": _doors,
    "output": st.one_of(st.just("-"), _paths),
    "path": _paths,
    "pattern": st.sampled_from(["*.html", "templates/", "a/**/*.c"]),
    "percent": st.integers(0, 100).map(str),
    "port": st.integers(0, 65535).map(str),
    "positive": _numbers,
    "positive_seconds": _seconds,
    "proxies": st.sampled_from(["*", "unix", "::1", "10.0.0.7", "10.0.0.0/8", "2001:db8::/32"]),
    "secret": st.just("***"),  # what a secret is shown as
    "seconds": st.one_of(st.just("0"), _seconds),
    "target": st.tuples(_paths, st.sampled_from(["app", "a.b"])).map(lambda parts: f"{parts[0]}.py:{parts[1]}"),
    "url_path": st.sampled_from(["/api", "/a/b"]),
    "user": st.sampled_from(["root", "0", "77"]),
    "standby": st.integers(0, 1024).map(str),
    "workers": st.one_of(st.sampled_from(["auto", "auto..", "auto..9", "2..", "2..8"]), st.integers(0, 1024).map(str)),
}

_TLS_OF_CLIENTS = {"--ssl-ca-certs", "--ssl-verify"}
_EXCLUSIVE = ("--bind", "--host", "--port", "--uds")


def texts_for(option: Option) -> st.SearchStrategy[list[str]]:
    """Return lists of texts that ``option`` takes; one text unless it is repeatable."""
    if option.is_switch:
        one: st.SearchStrategy[str] = st.sampled_from(["true", "false"])
    elif option.choices:
        one = st.sampled_from(option.choices)
    else:
        one = _TEXTS[option.parse]
    return st.lists(one, min_size=1, max_size=3) if option.repeatable else one.map(lambda text: [text])


@st.composite
def subsets(draw: st.DrawFn, door: str) -> dict[str, list[str]]:
    """Draw valid texts for some of the options that every level can set, by flag; TARGET is always there."""
    options = [option for option in all_options() if "c" in option.doors and door in option.doors]
    chosen = draw(st.sets(st.sampled_from([option.flag for option in options]))) | {"TARGET"}
    listening = draw(st.sampled_from([("--bind",), ("--host", "--port"), ("--uds",)]))
    chosen -= set(_EXCLUSIVE) - set(listening)
    texts = {option.flag: draw(texts_for(option)) for option in options if option.flag in chosen}
    if _contradicts_the_rest(texts):
        del texts["--accept"]
    if _contradicts_the_dump(texts):
        texts.pop("--stall-dump", None)
        texts.pop("--worker-timeout", None)
    if texts.get("--workers") == ["0"]:
        for flag in ("--reload", "--standby", "--control", "--metrics-bind", "--agent-bind"):
            texts.pop(flag, None)
    if texts.get("--metrics-bind") == texts.get("--agent-bind"):
        texts.pop("--agent-bind", None)
    if not texts.keys() >= _TLS_OF_CLIENTS or texts["--ssl-verify"] == ["none"]:
        for flag in _TLS_OF_CLIENTS:
            texts.pop(flag, None)
    if "--ssl-certfile" not in texts:
        texts = {flag: value for flag, value in texts.items() if not flag.startswith("--ssl-")}
    return texts


def _contradicts_the_rest(texts: dict[str, list[str]]) -> bool:
    """Return whether the other options do not go with ``--accept``: a kind of handler, an address, no pool."""
    accept, interface, workers = (texts.get(flag, ["auto"])[0] for flag in ("--accept", "--interface", "--workers"))
    try:
        models.check_pool(accept, 0 if workers == "0" else workers)
        check_size(workers, 0, accept)
        if interface != "auto":
            models.resolve(accept, threaded=interface == "threaded")
        if accept == "reuseport":
            check_shared_port([*texts.get("--bind", ()), *(f"unix:{path}" for path in texts.get("--uds", ()))])
    except UsageError:
        return True
    return False


def _contradicts_the_dump(texts: dict[str, list[str]]) -> bool:
    """Return whether a worker would be replaced before its stacks are logged."""
    default = HealthSettings()
    limits = {"--stall-dump": default.dump_s, "--worker-timeout": default.kill_s}
    try:
        check_health(HealthSettings(*(float(texts.get(flag, [str(value)])[0]) for flag, value in limits.items())))
    except UsageError:
        return True
    return False


def _field_values(default: Any, kind: str) -> st.SearchStrategy[Any]:
    text = st.text(max_size=20)
    if kind == "tuple[str, ...]":
        return st.lists(text, max_size=4).map(tuple)
    if kind == "tuple[int, ...]":
        return st.lists(st.integers(0, 2**31), max_size=4).map(tuple)
    if kind == "int | str":
        return st.one_of(st.integers(0, 2**31), text)
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, float):
        return st.floats(allow_nan=False, allow_infinity=False)
    return st.integers(-1, 2**31) if isinstance(default, int) else text


def settings_of_every_shape() -> st.SearchStrategy[Settings]:
    """Return settings with any value of the declared type in every field, sensible or not."""
    groups = {}
    for group in fields(Settings):
        kind: Any = type(getattr(Settings(), group.name))
        values = {each.name: _field_values(each.default, str(each.type)) for each in fields(kind)}
        groups[group.name] = st.builds(kind, **values)
    return st.builds(Settings, **groups)
