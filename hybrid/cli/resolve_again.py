"""What a running server's command line says now: the resolver, run again on the original arguments.

Runs in: a process of its own, which the parent starts at a reload and does not wait for.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Sequence

from hybrid.cli.command_line import Asked
from hybrid.cli.resolve import resolve
from hybrid.ground.errors import ExitCode, HybridError, UsageError
from hybrid.shared import boot_report, prctl
from hybrid.shared.boot_report import Report
from hybrid.shared.settings import Settings, from_json, to_json


def main(argv: Sequence[str]) -> int:
    """Write the settings into ``settings``, or what is wrong into ``report``; return the exit code.

    ``argv[1]``: JSON with three descriptors: ``now`` (the running server's settings), ``settings``, ``report``.
    """
    orders = json.loads(argv[1])
    prctl.set_name("hybrid: resolve")
    try:
        fresh = _resolve(from_json(os.pread(orders["now"], 1 << 24, 0).decode()))
    except HybridError as error:
        boot_report.write(orders["report"], Report("resolve", str(error), error.detail, error.exit_code))
        return error.exit_code
    except Exception as error:  # noqa: BLE001  # whatever it is, the server goes on with what it has, and says why
        message = f"{type(error).__name__}: {error}"
        boot_report.write(orders["report"], Report("resolve", message, traceback.format_exc()))
        return ExitCode.BOOT_FAILED
    os.pwrite(orders["settings"], to_json(fresh).encode(), 0)
    return ExitCode.OK


def _resolve(now: Settings) -> Settings:
    launch = now.launch
    try:
        os.chdir(launch.cwd)
    except OSError as error:
        raise UsageError(
            f"cannot go to {launch.cwd}, where the server was started: {error.strerror}. Put it back, or start the "
            "server anew in a directory that stays."
        ) from error
    try:
        fresh = resolve(launch.command, os.environ, launch.cwd, launch).settings
    except Asked as asked:  # the arguments are those that a server was started with
        raise UsageError(f"the command line asks for {type(asked).__name__}, not for a server") from asked
    if fresh.worker.workers == 0:
        raise UsageError("--workers 0 needs a restart: it means a server without a pool. Give 1 or more.")
    return fresh
