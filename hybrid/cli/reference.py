"""Writes ``docs/reference/options.md`` from the declarations: ``python -m hybrid.cli.reference``.

A test fails while the page in the repository is not what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from hybrid.shared.option_values import show
from hybrid.shared.options import Option, all_options

_HEAD = """\
# Options

<!-- Written by `python -m hybrid.cli.reference > docs/reference/options.md` from hybrid/shared/settings.py. -->

`hybrid-serve TARGET [OPTIONS]`; `python -m hybrid` is the same command.

## Where a value comes from

The first of these that says something wins:

1. the command line: `--graceful-timeout 10`; of a repeated option the last one, `--bind` collects;
2. the environment: `HYBRID_GRACEFUL_TIMEOUT=10`; an empty variable is not set;
3. foreign variables that platforms set: `PORT`, `WEB_CONCURRENCY`;
4. the configuration file: `graceful-timeout = 10`; `_` for `-` is fine. The file is `--config FILE` (TOML, options at
   the top), else the table `[tool.hybrid]` of `pyproject.toml` in the working directory;
5. the default.

`--print-config` prints every value with its origin. A value that an option does not take, an option that does not
exist and a file that is no TOML end the command with exit code 2 and one line on stderr. A `HYBRID_` variable that is
no option is ignored, with a warning if it looks like a misspelt one.

Relative paths start at the working directory, after `--chdir`, in the configuration file too.

## When a change takes effect

A [reload](../how-to/reload-and-upgrade.md) reads all of them anew. Those that say *restart* below are the parent's own,
and stay as they are until it is started again; the log names them if they have changed.

## Where it listens

`--host`, `--port` and `--uds` are short for a `--bind`. On one level they and `--bind` exclude each other; between
levels the higher one wins, so `--bind` on the command line beats `PORT`, and `PORT` beats `bind` in a file. `--host`
and `--port` may come from different levels. `PORT` alone means `0.0.0.0:$PORT`, because the platforms that set it
reach the server from outside; `--port` alone means 127.0.0.1. Sockets that a service manager hands over (`LISTEN_FDS`)
are always served: instead of the default address, and beside whatever is given explicitly.

## What a service manager or a platform says

These variables are no options. They are heeded by the command, and not in the environment of your code.

| Variable | Meaning |
|---|---|
| `LISTEN_FDS`, `LISTEN_PID` | so many sockets are handed over, from descriptor 3, to the process of that pid |
| `LISTEN_FDNAMES` | their names, for the log; one that begins with `hybrid/` is taken back from the descriptor store |
| `NOTIFY_SOCKET` | where to say how the server is: a path, or an abstract name that begins with `@` |
| `WATCHDOG_USEC`, `WATCHDOG_PID` | the process of that pid is to report twice in so many microseconds |
| `FDSTORE` | so many listening sockets are kept for the next start |
| `HYBRID_GRACE` | whole seconds from SIGTERM to SIGKILL: a stop that may take longer is a warning at the start |

See [run as a systemd service](../how-to/systemd.md) and [run on Kubernetes](../how-to/kubernetes.md). `HYBRID_GRACE` is
left in your code's environment.

## From a program

`hybrid.run(target, …)` and `hybrid.serve(target, …)` take the same options as keyword arguments, with the same checks.
They read neither the environment nor a configuration file: an embedded server is what its program says.
"""


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD]
    title = ""
    for option in all_options():
        if option.title != title:
            title = option.title
            parts.append(f"## {title}\n")
        parts.append("\n".join(_entry(option)))
    parts.append("## Answers\n\n`--help`, `-h` and `--version` print and exit, whatever else is given.\n")
    return "\n".join(parts)


def _entry(option: Option) -> Iterator[str]:
    yield f"### `{_usage(option)}`\n"
    yield f"{option.help} {option.more}".rstrip() + "\n"
    yield f"| {' | '.join(name for name, _ in _facts(option))} |"
    yield "|" + "---|" * len(list(_facts(option)))
    yield f"| {' | '.join(fact for _, fact in _facts(option))} |\n"


def _usage(option: Option) -> str:
    if option.is_switch:
        return option.flag + (f", --no-{option.key}" if "f" in option.doors else "")
    flags = ", ".join((option.flag, *option.aliases))
    return flags if option.flag == option.metavar else f"{flags} {option.metavar or '|'.join(option.choices)}"


def _facts(option: Option) -> Iterable[tuple[str, str]]:
    default = show(option, option.default)
    yield "Default", f"`{default}`" if default else "none"
    if option.choices:
        yield "Values", ", ".join(f"`{choice}`" for choice in option.choices)
    if "e" in option.doors:
        yield "Environment", ", ".join(f"`{name}`" for name in (option.env_name, *option.env))
    if "f" in option.doors:
        yield "File", f"`{option.key}`"
    if "k" in option.doors:
        yield "Keyword", f"`{option.keyword}`"
    if option.restart:
        yield "After a change", "restart"


if __name__ == "__main__":
    sys.stdout.write(page())
