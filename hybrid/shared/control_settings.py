"""The options of control: where it is asked, and the doors that it opens for others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybrid.ground.errors import UsageError
from hybrid.shared.declare import option

AUTO = "auto"
OFF = "off"


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Where the running server answers questions about itself."""

    socket: str = option(
        AUTO,
        "Socket that hybrid-ctl asks; auto: one in a private directory; off: none.",
        more="auto: `$XDG_RUNTIME_DIR/hybrid/PID.sock`, else `/tmp/hybrid-UID/PID.sock`, with the parent's pid. Only "
        "root, the parent's user and the user of control itself (`--user`) are answered. See "
        "[Control a running server](../how-to/control-a-running-server.md). A server without a pool has none.",
        flag="--control",
        parse="control",
        metavar="PATH|auto|off",
    )
    metrics_bind: str = option(
        "",
        "Address for metrics, health checks and the status page; as --bind.",
        more="`/metrics`, `/healthz`, `/readyz` and the page at `/`. Whoever reaches the address may read them: bind "
        "an internal one. A unix socket's file has the permissions of `--uds-mode`.",
        flag="--metrics-bind",
        parse="optional_bind",
        metavar="ADDRESS",
    )
    agent_bind: str = option(
        "",
        "Address at which HAProxy's agent-check is answered; as --bind.",
        more="See [Several machines](../how-to/several-machines.md).",
        flag="--agent-bind",
        parse="optional_bind",
        metavar="ADDRESS",
    )


def check_control(control: ControlSettings, workers: int | str, binds: Sequence[str] = ()) -> None:
    """Refuse what contradicts itself, and an address of ``binds`` that is also one of control's.

    Raises: UsageError: there is no control process without a pool, and so on.
    """
    given = {
        "--control": control.socket if control.socket not in (AUTO, OFF) else "",
        "--metrics-bind": control.metrics_bind,
        "--agent-bind": control.agent_bind,
    }
    if workers == 0:
        for flag, value in given.items():
            if value:
                raise UsageError(
                    f"cannot use {flag} {value} with --workers 0: without a pool there is no process that answers. "
                    "Use --workers 1."
                )
    doors = [("--bind", each) for each in binds]
    for flag in ("--metrics-bind", "--agent-bind"):
        for other, address in doors:
            if given[flag] and given[flag] == address and not address.endswith(":0"):
                raise UsageError(
                    f"cannot use {address} for {other} and for {flag}: one socket speaks one protocol. "
                    "Give each its own port."
                )
        doors.append((flag, given[flag]))
