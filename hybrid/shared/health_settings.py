"""The options of a worker's health: what is done about a loop that does not turn."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.ground.errors import UsageError
from hybrid.shared.declare import option


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """How long a worker's loop may stand still before something is done about it."""

    dump_s: float = option(
        5.0,
        "Time a worker's loop may stand still before its stacks are logged; 0: never.",
        more="Time in which the worker could not have run does not count. Has no effect with `--workers 0`. See "
        "[Find a blocked worker](../how-to/find-a-blocked-worker.md).",
        flag="--stall-dump",
        parse="seconds",
        metavar="SECONDS",
    )
    kill_s: float = option(
        30.0,
        "Time a worker's loop may stand still before it is replaced; 0: never.",
        more="Its stacks are logged, then it gets SIGABRT, and 2 s later SIGKILL. A worker that waited for a CPU, a "
        "debugger or a disk is not killed for that. It counts while a worker serves or drains; the boot and the drain "
        "have limits of their own, `--boot-timeout` and `--graceful-timeout`. Has no effect with `--workers 0`.",
        flag="--worker-timeout",
        parse="seconds",
        metavar="SECONDS",
    )


def check_health(health: HealthSettings) -> None:
    """Refuse what contradicts itself. Raises: UsageError: says what to change."""
    if health.dump_s and health.kill_s and health.kill_s < health.dump_s:
        raise UsageError(
            f"cannot use --worker-timeout {health.kill_s:g} with --stall-dump {health.dump_s:g}: a worker would be "
            "replaced before its stacks are logged. Raise --worker-timeout, or lower --stall-dump."
        )
