"""Every option, declared once.

The command line, the environment, the configuration file, ``--print-config``, ``hybrid.run``/``serve`` and the
reference page are all made from these declarations. A field's ``metadata`` holds what they need; this module
itself is standard library only, because the parent reads the finished settings.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field, fields
from typing import Any

from hybrid.ground.errors import HybridError
from hybrid.shared.access_settings import AccessSettings
from hybrid.shared.control_settings import ControlSettings
from hybrid.shared.declare import option, titled
from hybrid.shared.health_settings import HealthSettings
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.models import MODELS
from hybrid.shared.process_settings import ProcessSettings
from hybrid.shared.proxy_settings import ProxySettings
from hybrid.shared.recycling_settings import RecyclingSettings
from hybrid.shared.reload_settings import ReloadSettings
from hybrid.shared.tls_settings import TlsSettings
from hybrid.shared.websocket_settings import WebSocketSettings

MOST_WORKERS = 1024
"""Of one server."""
MOST_SLOTS = 4 * MOST_WORKERS
"""Workers of one server that may be alive at once: some serve, those of earlier generations finish what they hold.

The scoreboard has a row for each; untouched rows cost no memory."""


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What is served, and how it is found."""

    target: str = option(
        "",
        "What to serve: package.module:attr or path/to/file.py:attr.",
        more="The attribute may be dotted.",
        flag="TARGET",
        parse="target",
        metavar="TARGET",
        doors="cef",
    )
    app_dir: str = option(
        ".",
        "Directory put first on the app's sys.path.",
        flag="--app-dir",
        parse="directory",
        metavar="DIR",
    )
    factory: bool = option(
        False,
        "TARGET is a function that returns the handler.",
        more="A plain function is called where the app is imported; an async one is awaited in each worker's loop.",
        flag="--factory",
    )
    interface: str = option(
        "auto",
        "Kind of handler; auto looks at the object. threaded: blocking.",
        more="stream: async def handle(conn); asgi: async def app(scope, receive, send); wsgi: def app(environ, "
        "start_response); protocol: an asyncio.Protocol factory; threaded: a blocking def handle(sock), or a "
        "socketserver request handler class.",
        flag="--interface",
        choices=("auto", "stream", "asgi", "wsgi", "protocol", "threaded"),
    )
    lifespan: str = option(
        "",
        "Context manager, module:attr, entered once per worker. ASGI: auto, on, off.",
        more="It is called with the Worker; what it yields is every connection's `state`. An ASGI application has a "
        "lifespan of its own. auto, its default: if it has one; on: a boot without it fails; off: it is not asked.",
        flag="--lifespan",
        parse="target",
        metavar="TARGET",
    )
    preload: str = option(
        "auto",
        "Import the app once, before forking.",
        more="auto: unless the import leaves something that does not survive a fork, such as a thread or a socket; "
        "on: that is an error; off: each worker imports the app itself.",
        flag="--preload",
        choices=("auto", "on", "off"),
    )


@dataclass(frozen=True, slots=True)
class BindSettings:
    """Where the server listens. ``bind`` is the whole truth: the aliases are resolved into it."""

    bind: tuple[str, ...] = option(
        ("127.0.0.1:8000",),
        "Address to listen on: HOST:PORT, [V6]:PORT, unix:PATH, fd://N. Repeatable.",
        more="Port 0 picks a free one. Sockets inherited through LISTEN_FDS are always served: instead of the "
        "default address, and beside what is given explicitly. Several addresses in "
        "an environment variable are separated by commas; in a file they are an array.",
        flag="--bind",
        aliases=("-b",),
        parse="bind",
        metavar="ADDRESS",
    )
    host: str = option(
        "",
        "Short for the host part of --bind.",
        more="127.0.0.1 if only a port is given, but 0.0.0.0 if the port comes from PORT: platforms that set PORT "
        "reach the server from outside.",
        flag="--host",
        parse="host",
        metavar="HOST",
    )
    port: int = option(
        -1,
        "Short for the port part of --bind.",
        more="8000 if only a host is given.",
        flag="--port",
        env=("PORT",),
        parse="port",
        metavar="PORT",
    )
    uds: str = option("", "Short for --bind unix:PATH.", flag="--uds", parse="path", metavar="PATH")
    uds_mode: int = option(
        0o666,
        "Permissions of a unix socket's file, octal.",
        flag="--uds-mode",
        parse="mode",
        metavar="MODE",
    )
    backlog: int = option(
        4096,
        "Connections the kernel queues for us.",
        more="The system's net.core.somaxconn caps it.",
        flag="--backlog",
        parse="positive",
        metavar="N",
    )
    accept: str = option(
        "auto",
        "How workers share accepts; auto: shared, or threads for blocking handlers.",
        more="Each name, and which kinds of handler it serves, is described in [Accepting](accepting.md).",
        flag="--accept",
        choices=("auto", *MODELS),
        metavar="NAME",
    )


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How many workers, and what each is made of."""

    workers: int | str = option(
        "auto",
        "Worker processes, or a range: 2..8, 2.., auto..; 0: no pool.",
        more="auto: the least of CPU affinity, cgroup CPU quota (rounded up) and what memory allows. A range: the pool "
        "sizes itself by its load, and begins with the fewest; 2.. ends with what auto means, auto.. goes from 1 to "
        "one more than that: [How many workers](../how-to/how-many-workers.md). 0: this process serves, without a "
        "pool. The pool needs Linux; elsewhere auto means 0.",
        flag="--workers",
        aliases=("-w",),
        env=("WEB_CONCURRENCY",),
        parse="workers",
        metavar="N|auto|A..B",
    )
    standby: int = option(
        0,
        "Extra workers, booted and parked, ready for a rush.",
        more="They accept nothing until they are needed: when the pool grows, or when a worker dies. Each that is used "
        "is replaced.",
        flag="--standby",
        parse="standby",
        metavar="N",
    )
    max_surge: int | str = option(
        "auto",
        "Workers that a reload starts at once; auto: a quarter of them.",
        more="They come on top of those that serve. The first one of a reload always starts alone.",
        flag="--max-surge",
        parse="auto_or_positive",
        metavar="N|auto",
    )
    loop: str = option(
        "auto",
        "Event loop; auto is uvloop where it is installed.",
        flag="--loop",
        choices=("auto", "uvloop", "asyncio"),
    )
    threads: int | str = option(
        "auto",
        "Threads per worker that run blocking code; auto: 16, and 8 for WSGI.",
        more="Each serves one connection at a time, or one request of a WSGI application. For --accept thread and "
        "fork, which start one for each connection, --limit-connections is the bound. 1000 at most: use more workers "
        "instead.",
        flag="--threads",
        parse="threads",
        metavar="N|auto",
    )
    limit_connections: int | str = option(
        "auto",
        "Open connections per worker at which it leaves new ones to others.",
        more="auto: derived from RLIMIT_NOFILE, which is raised to its hard limit.",
        flag="--limit-connections",
        parse="auto_or_positive",
        metavar="N|auto",
    )


@dataclass(frozen=True, slots=True)
class TimeoutSettings:
    """How long the server waits for what."""

    grace_s: float = option(
        30.0,
        "Time for open connections to finish at a stop.",
        more="Then their handlers are cancelled. 0 cancels at once.",
        flag="--graceful-timeout",
        parse="seconds",
        metavar="SECONDS",
    )
    boot_s: float = option(
        60.0,
        "Time for a worker, or the import of the app, to become ready.",
        flag="--boot-timeout",
        parse="positive_seconds",
        metavar="SECONDS",
    )
    drain_delay_s: float = option(
        0.0,
        "Time to go on accepting after SIGTERM, while load balancers look elsewhere.",
        more="The server is not ready any more from the start of it. A second signal, or SIGQUIT, skips it.",
        flag="--drain-delay",
        parse="seconds",
        metavar="SECONDS",
    )
    boot_attempts: int = option(
        3,
        "Failed boots before the server gives up.",
        more="Counted only until the first worker was ready; a server that once served never gives up by itself.",
        flag="--boot-attempts",
        parse="positive",
        metavar="N",
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is written, and where."""

    level: str = option(
        "info",
        "Least important level that is written.",
        flag="--log-level",
        choices=("debug", "info", "warning", "error", "critical"),
        metavar="LEVEL",
    )
    file: str = option(
        "",
        "File to append to instead of stderr; reopened on SIGUSR1; -: stderr.",
        flag="--log-file",
        restart=True,
        parse="log_file",
        metavar="FILE|-",
    )
    format: str = option(
        "text",
        "One line of text, or one JSON object, per event.",
        flag="--log-format",
        restart=True,
        choices=("text", "json"),
    )
    config: str = option(
        "",
        "logging.config file (JSON or INI) that workers load.",
        more="Loaded after our own set-up; the logger is hybrid.error. The parent's lines keep their form.",
        flag="--log-config",
        parse="existing_file",
        metavar="PATH",
    )
    colour: str = option(
        "auto",
        "Colour in text lines; auto: when stderr is a terminal.",
        flag="--log-colour",
        restart=True,
        choices=("auto", "always", "never"),
    )


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """Options of the command itself: they are used up by the resolver and are no part of :class:`Settings`."""

    config: str = option(
        "",
        "TOML file with options; without it [tool.hybrid] of ./pyproject.toml.",
        flag="--config",
        aliases=("-c",),
        parse="existing_file",
        metavar="FILE",
        doors="ce",
    )
    print_config: bool = option(
        False,
        "Print each value and where it came from, and exit.",
        flag="--print-config",
        doors="c",
    )


@dataclass(frozen=True, slots=True)
class Launch:
    """Facts of the start that are no options: what the resolver hands to the parent."""

    sys_path: tuple[str, ...] = ()
    """The app's import path, absolute, in order."""
    interpreter_flags: tuple[str, ...] = ()
    """The caller's -X, -W, -O … for the interpreters we start."""
    command: tuple[str, ...] = ()
    """The original arguments: a reload resolves them anew."""
    cwd: str = ""
    """Where the command was started, before ``--chdir``: a reload resolves from there."""
    listen_fds: tuple[int, ...] = ()
    """Listening sockets inherited from a service manager (LISTEN_FDS), in order."""
    listen_names: tuple[str, ...] = ()
    """Their names (LISTEN_FDNAMES)."""
    host_fd: int = -1
    """Channel to the program that embeds us (hybrid.run, hybrid.serve); its end of file means the program is gone."""
    workers_source: str = ""
    """Where --workers came from, for the boot line: ``--workers``, ``WEB_CONCURRENCY``, …, or ``default``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything one server was told. Frozen: a reload makes a new one."""

    # ruff: noqa: RUF009  # titled() is a field() and no value
    app: AppSettings = titled(AppSettings, "Serving")
    bind: BindSettings = titled(BindSettings, "Listening", restart=True)
    worker: WorkerSettings = titled(WorkerSettings, "Workers")
    timeout: TimeoutSettings = titled(TimeoutSettings, "Timeouts")
    health: HealthSettings = titled(HealthSettings, "Health")
    recycling: RecyclingSettings = titled(RecyclingSettings, "Recycling")
    http: HttpSettings = titled(HttpSettings, "HTTP")
    websocket: WebSocketSettings = titled(WebSocketSettings, "WebSocket")
    proxy: ProxySettings = titled(ProxySettings, "Proxies")
    tls: TlsSettings = titled(TlsSettings, "TLS")
    log: LogSettings = titled(LogSettings, "Logging")
    access: AccessSettings = titled(AccessSettings, "Access log")
    control: ControlSettings = titled(ControlSettings, "Control", restart=True)
    process: ProcessSettings = titled(ProcessSettings, "Process", restart=True)
    reload: ReloadSettings = titled(ReloadSettings, "Reload", restart=True)
    launch: Launch = field(default_factory=Launch)


def to_json(settings: Settings) -> str:
    """Return the settings as JSON: what travels in the memfd."""
    return json.dumps(dataclasses.asdict(settings))


def from_json(text: str) -> Settings:
    """Return the settings that :func:`to_json` wrote. Raises: HybridError: they are another version's, or none."""
    try:
        groups = json.loads(text)
        if not isinstance(groups, dict) or groups.keys() != {declared.name for declared in fields(Settings)}:
            raise ValueError("other groups")
        return Settings(**{each.name: _group(each.default_factory, groups[each.name]) for each in fields(Settings)})
    except (ValueError, TypeError, AttributeError) as error:
        raise HybridError(
            "the hybrid that runs and the one that is installed have different options. Upgrade the running server "
            "first (SIGUSR2), or restart it."
        ) from error


def _group(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
