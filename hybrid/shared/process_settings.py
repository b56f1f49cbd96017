"""The options about the processes themselves: their files, their identity, where they start."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.shared.declare import option

GRACE_VARIABLE = "HYBRID_GRACE"
"""No option, but what the platform says: the seconds that it leaves between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What the processes are."""

    pid_file: str = option(
        "", "File that holds the parent's pid while it runs.", flag="--pid", parse="path", metavar="PATH"
    )
    ready_file: str = option(
        "",
        "File that is there while the server is ready: for a readiness probe.",
        more="At least one worker accepts, and nobody has asked for a stop. The parent's loop sets its time of change "
        "every five seconds: for a liveness probe. See [Kubernetes](../how-to/kubernetes.md).",
        flag="--ready-file",
        parse="path",
        metavar="PATH",
    )
    user: str = option(
        "",
        "User, by name or number, that app code runs as.",
        more="The parent keeps its own, so that it can bind and signal.",
        flag="--user",
        parse="user",
        metavar="USER",
    )
    group: str = option(
        "",
        "Group that app code runs as; by default the user's own.",
        flag="--group",
        parse="group",
        metavar="GROUP",
    )
    umask: int = option(-1, "File mode creation mask, octal.", flag="--umask", parse="mode", metavar="MODE")
    chdir: str = option(
        "",
        "Directory to change to before anything else.",
        more="Every relative path, the configuration file's too, is looked for from there. A file cannot set it.",
        flag="--chdir",
        parse="directory",
        metavar="DIR",
        doors="ce",
    )
    ready_fd: int = option(
        -1,
        "Descriptor that gets one JSON line when all workers are ready.",
        more="The line holds the addresses and the parent's pid.",
        flag="--ready-fd",
        parse="descriptor",
        metavar="N",
        doors="ce",
    )
