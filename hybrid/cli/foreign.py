"""What users of gunicorn and uvicorn type out of habit, and what to take instead.

Data: the one place where those names stand, for the errors about options that do not exist. The same with reasons, for
readers: docs/how-to/move-from-uvicorn-or-gunicorn.md; a test compares the two.

Source: the settings of gunicorn 27 and the options of uvicorn 0.54. Those that mean the same here are not in it.
"""

from __future__ import annotations

from collections.abc import Container

from hybrid.shared.options import ENVIRONMENT_PREFIX

_USE = {
    "--access-logfile": "--access-log, with --access-log-file FILE",
    "--access-logformat": "--access-log-format",
    "--asgi-lifespan": "--lifespan",
    "--asgi-loop": "--loop",
    "--ca-certs": "--ssl-ca-certs",
    "--cert-reqs": "--ssl-verify",
    "--certfile": "--ssl-certfile",
    "--check-config": "--print-config",
    "--error-logfile": "--log-file",
    "--fd": "--bind fd://N",
    "--h11-max-incomplete-event-size": "--limit-request-headers",
    "--keyfile": "--ssl-keyfile",
    "--limit-max-requests": "--max-requests",
    "--limit-max-requests-jitter": "--max-requests-jitter",
    "--limit-request-field-size": "--limit-request-headers, which is for all fields together",
    "--log-config-json": "--log-config",
    "--logger-class": "--log-config",
    "--no-use-colors": "--log-colour never",
    "--pythonpath": "--app-dir DIR, or PYTHONPATH in the environment",
    "--reload-extra-file": "--reload-include",
    "--reload-engine": "WATCHFILES_FORCE_POLLING=true in the environment, to poll",
    "--reuse-port": "--accept reuseport",
    "--ssl-cert-reqs": "--ssl-verify",
    "--timeout": "--worker-timeout",
    "--timeout-graceful-shutdown": "--graceful-timeout",
    "--timeout-keep-alive": "--keep-alive",
    "--timeout-worker-healthcheck": "--worker-timeout",
    "--use-colors": "--log-colour always",
    "--worker-connections": "--limit-connections",
}

_STRICT = "What two parsers could read in two ways is refused, without an option. Leave it out."
_ONE_HTTP = "There is one implementation of HTTP/1.1. Leave it out."

_WHY_NOT = {
    "--capture-output": "What your code prints goes to stdout and stderr anyway. Leave it out.",
    "--casefold-http-method": _STRICT,
    "--ciphers": "The ciphers are those of Python's ssl. Leave it out.",
    "--daemon": "A service manager starts it in the background: docs/how-to/systemd.md has a unit file.",
    "--do-handshake-on-connect": "Handshakes hold nobody up. Leave it out.",
    "--enable-stdio-inheritance": "Workers have stdout and stderr anyway. Leave it out.",
    "--env": "Set the variable before the command: NAME=value hybrid-serve ….",
    "--env-file": "Read it before the command: set -a; . ./.env; set +a; or by EnvironmentFile= of systemd.",
    "--forwarder-headers": "Give --forwarded-header the one that your proxies write.",
    "--header": "Let the application or the proxy add header fields.",
    "--header-map": _STRICT,
    "--http": _ONE_HTTP,
    "--http-parser": _ONE_HTTP,
    "--http-protocols": "HTTP/1.1 is served. Leave it out.",
    "--initgroups": "With --user the groups of that user are taken anyway. Leave it out.",
    "--name": "The processes are called hybrid. Leave it out.",
    "--no-sendfile": "Files are the application's to send. Leave it out.",
    "--paste": "Name the application: package.module:attr, or with --factory a function that makes it.",
    "--permit-obsolete-folding": _STRICT,
    "--permit-unconventional-http-method": _STRICT,
    "--permit-unconventional-http-version": _STRICT,
    "--protocol": "HTTP/1.1 is served. Leave it out.",
    "--proxy-allow-from": "PROXY protocol is not spoken. Let the proxy write X-Forwarded-For.",
    "--proxy-protocol": "PROXY protocol is not spoken. Let the proxy write X-Forwarded-For.",
    "--reload-delay": "Changes that come together are one reload. Leave it out.",
    "--secure-scheme-headers": "X-Forwarded-Proto is read, from --forwarded-allow-ips.",
    "--spew": "Leave it out.",
    "--ssl-ciphers": "The ciphers are those of Python's ssl. Leave it out.",
    "--ssl-version": "TLS 1.2 and 1.3 are spoken. Leave it out.",
    "--strip-header-spaces": _STRICT,
    "--suppress-ragged-eofs": "Leave it out.",
    "--ws": "There is one implementation of WebSocket. Leave it out.",
    "--ws-max-queue": "64 KiB of messages wait for the application, then the socket is not read. Leave it out.",
    "--worker-class": "There is one kind of worker, and it finds out what TARGET is. Leave it out.",
    "--worker-tmp-dir": "Heartbeats are in shared memory, not in files. Leave it out.",
}

_FAMILIES = {
    "--dirty-": "There are no dirty workers. Leave it out.",
    "--http2": "HTTP/1.1 is served. Leave it out.",
    "--log-syslog": "Log to stderr, and let the service manager take it, or use --log-config.",
    "--statsd-": "No metrics are sent yet. Leave it out.",
    "--websocket-": "See --ws-max-size, --ws-ping-interval and --ws-ping-timeout, or leave it out.",
}
"""Options that begin alike, and have one answer."""

_SHORT = {
    "-D": "--daemon",
    "-R": "--enable-stdio-inheritance",
    "-e": "--env",
    "-g": "--group",
    "-k": "--worker-class",
    "-m": "--umask",
    "-n": "--name",
    "-p": "--pid",
    "-t": "--timeout",
    "-u": "--user",
    "-v": "--version",
}
"""gunicorn's short names, by what they are short for."""

_IN_FILES = {
    "accesslog": "--access-logfile",
    "access-log-format": "--access-logformat",
    "errorlog": "--error-logfile",
    "keepalive": "--keep-alive",
    "logconfig": "--log-config",
    "logconfig-json": "--log-config",
    "logconfig-dict": "--log-config",
    "loglevel": "--log-level",
    "pidfile": "--pid",
    "preload-app": "--preload",
    "proc-name": "--name",
    "raw-env": "--env",
    "reload-extra-files": "--reload-include",
    "sendfile": "--no-sendfile",
    "syslog": "--log-syslog",
    "syslog-addr": "--log-syslog",
    "wsgi-app": "target",
}
"""Names of gunicorn's that only a configuration file has, by the option that they are."""

_HOOKS = (
    *("child-exit", "nworkers-changed", "on-exit", "on-reload", "on-starting", "post-fork", "post-request"),
    *("post-worker-init", "pre-exec", "pre-fork", "pre-request", "when-ready"),
    *("worker-abort", "worker-exit", "worker-int"),
)
_NO_HOOKS = "No code runs in the parent. What a worker opens and closes belongs into its lifespan (--lifespan)."

FOREIGN = (*_USE, *_WHY_NOT, *_FAMILIES)
"""The long names that there are answers to, or what a family of them begins with."""


def instead(name: str) -> str:
    """Return ``" Use --worker-timeout."`` for ``--timeout``, and so on; nothing for a name that is nobody's.

    Args: name: as on the command line, ``--timeout``, ``-t`` or ``-t30``.
    """
    name = name if name.startswith("--") else _SHORT.get(name[:2], name)
    name = name.replace("_", "-")
    if name in _USE:
        return f" Use {_USE[name]}."
    if name in _WHY_NOT:
        return f" {_WHY_NOT[name]}"
    for beginning, answer in _FAMILIES.items():
        if name.startswith(beginning):
            return f" {answer}"
    return f" Use {name}." if name in _SHORT.values() else ""


def instead_in_file(key: str, known: Container[str]) -> str:
    """Return what to write instead of ``key`` in a configuration file, or nothing. Args: known: the keys of ours."""
    key = key.replace("_", "-")
    if key in _HOOKS:
        return f" {_NO_HOOKS}"
    flag = _IN_FILES.get(key, f"--{key}")
    if flag.removeprefix("--") in known:
        return f" Use {flag.removeprefix('--')}."
    said = instead(flag)
    return said.replace(" --", " ") if said.startswith(" Use ") else said


def instead_of_variable(name: str, known: Container[str]) -> str:
    """Return what to set instead of ``name``, which another server reads, or nothing. Args: known: our variables."""
    if name == "GUNICORN_CMD_ARGS":
        return " Give options on the command line, or as HYBRID_ variables."
    if name == "FORWARDED_ALLOW_IPS":
        return f" Use {ENVIRONMENT_PREFIX}{name}."
    if not name.startswith("UVICORN_"):
        return ""
    word = name.removeprefix("UVICORN_")
    ours = ENVIRONMENT_PREFIX + word
    return f" Use {ours}." if ours in known else instead(f"--{word.lower()}")
