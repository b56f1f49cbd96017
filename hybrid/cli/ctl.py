"""``hybrid-ctl``: ask a running server how it is, and steer it.

Runs in: the process that the user started, until it has the answer. Closes: its connection.
Everything is asked over the server's control socket; nothing here reads the scoreboard or sends signals.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hybrid.cli.ctl_client import ControlClient, Lost, Refused, Unreached
from hybrid.cli.ctl_find import find
from hybrid.cli.ctl_words import printable
from hybrid.ground.errors import ControlExit, HybridError, UsageError

_PROGRAM = "hybrid-ctl"
_RELOADS = ("reload", "upgrade")
_RATED = ("status", "workers")
RATE_S = 0.8
"""Between two looks: a control process that has just been started has seen the workers once, and knows no rates."""
AGAIN_S = 0.1
"""Before a follower whose connection has ended connects again: one that ends says so at once to who comes."""
_LIVE = ("reload", "upgrade", "events")
"""Commands whose events are shown as they come."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for and return the exit code.

    Args: argv: without the program's name; None: the process's own.
    """
    # Here and not at the top: the library takes 80 ms to import.
    from hybrid.cli.command_line import Asked
    from hybrid.cli.ctl_options import parse

    name = ""
    values: dict[str, Any] = {}
    try:
        name, values = parse(list(sys.argv[1:] if argv is None else argv))
        return _top(values) if name == "top" else _ask(name, values)
    except Asked as asked:
        asked.answer()
        return ControlExit.DONE
    except (UsageError, Unreached, Refused) as error:
        return _fail(error, name, as_json=bool(values.get("json")))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # | head
        sys.stdout = None  # or its last flush complains at exit
        return 128 + signal.SIGPIPE


def exit_code(error: HybridError, name: str) -> ControlExit:
    """Return the code that says how command ``name`` failed."""
    if isinstance(error, UsageError):
        return ControlExit.USAGE
    if isinstance(error, Unreached):
        return ControlExit.UNREACHED
    return ControlExit.RELOAD_FAILED if name in _RELOADS else ControlExit.REFUSED


def _fail(error: HybridError, name: str, *, as_json: bool) -> int:
    """Say what went wrong: on stderr, or as JSON on stdout where JSON was asked for."""
    if as_json:
        _print_json({"ok": False, "error": str(error), "detail": error.detail}, is_line=name in _LIVE)
    else:
        if error.detail:
            sys.stderr.write(printable(error.detail).rstrip("\n") + "\n")
        sys.stderr.write(f"{_PROGRAM}: error: {printable(str(error))}\n")
    return exit_code(error, name)


def _ask(name: str, values: dict[str, Any]) -> int:
    from hybrid.cli.ctl_options import ANSWER_S, COMMANDS

    command = COMMANDS[name]
    patience_s = values["timeout"] or (None if command.is_long else ANSWER_S)
    instance = find(values["pid"] or 0, values["control"])
    if name == "events" and values["follow"]:
        return _follow(instance.path, patience_s, values)
    with ControlClient(instance.path, patience_s) as client:
        conversation = client.exchange(command.op, command.args(values))
        as_json = values["json"]
        while True:
            try:
                event = next(conversation)
            except StopIteration as end:
                result: dict[str, Any] = end.value
                break
            if name in _LIVE:
                _tell(event, as_json=as_json)
        if name in _RATED and not _has_rates(result):
            time.sleep(RATE_S)
            result = client.ask(command.op, command.args(values))
    if name == "events":
        return ControlExit.DONE  # they were the answer
    if as_json:
        _print_json(result, is_line=name in _LIVE)
    else:
        _print(name, result)
    return ControlExit.DONE


def _follow(path: str, patience_s: float | None, values: Mapping[str, Any]) -> int:
    """Tell what happens until the server ends.

    The end of a connection is not that: after an upgrade, or when control was killed, another control process answers
    at the same path. It is asked for what was missed; what was told before is known by its number, or by its time, as
    the server may be another one by now.
    """
    from hybrid.cli.ctl_notices import notice_in
    from hybrid.cli.ctl_options import COMMANDS, MOST_EVENTS

    command, last = COMMANDS["events"], values["last"]
    number, at = 0, 0.0
    client = ControlClient(path, patience_s)
    while True:
        with client:
            try:
                for event in client.exchange(command.op, command.args({**values, "last": last})):
                    notice = notice_in(event)
                    if notice.get("number", 0) > number or notice.get("at", 0.0) > at:
                        number, at = notice.get("number", 0), max(at, notice.get("at", 0.0))
                        _tell(event, as_json=values["json"])
            except Lost:
                pass
        time.sleep(AGAIN_S)
        last = MOST_EVENTS if number else last  # if nothing was told yet, nothing was to be told of the past
        try:
            client = ControlClient(path, patience_s)
        except Unreached:
            return ControlExit.DONE


def _has_rates(result: Mapping[str, Any]) -> bool:
    """Return whether what happens in a second is known of any worker that could do something."""
    rows = [row for row in result.get("workers") or () if str(row.get("life")) == "ready"]
    return not rows or any(row.get("accepted_per_s") is not None for row in rows)


def _tell(event: Mapping[str, Any], *, as_json: bool) -> None:
    from hybrid.cli import ctl_show
    from hybrid.cli.ctl_notices import is_news, notice_in

    notice = notice_in(event)
    if as_json:
        _print_json(notice, is_line=True)
    elif is_news(notice):
        ctl_show.show(ctl_show.event(notice))


def _print(name: str, result: dict[str, Any]) -> None:
    from hybrid.cli import ctl_show

    shown: dict[str, Callable[[Mapping[str, Any]], Iterator[ctl_show.Part]]] = {
        "status": ctl_show.status,
        "workers": ctl_show.workers,
        "config": ctl_show.config,
        "dump": ctl_show.dump,
    }
    ctl_show.show(shown.get(name, ctl_show.done)(result))


def _print_json(value: object, *, is_line: bool = False) -> None:
    sys.stdout.write(json.dumps(value, indent=None if is_line else 1, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _top(values: dict[str, Any]) -> int:
    import importlib.util

    if importlib.util.find_spec("textual") is None:
        raise UsageError(
            "cannot show top: the library textual is not installed. Install it with pip install 'hybrid[top]'."
        )
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"cannot show top: this is no terminal. Use {_PROGRAM} status, or run it in a terminal.")
    from hybrid.cli.top import run

    return run(values)


if __name__ == "__main__":
    sys.exit(main())
