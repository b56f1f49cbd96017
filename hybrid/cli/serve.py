"""``hybrid-serve TARGET [options]``: resolve the options, then become the parent.

Runs in: the process that the user started, which is the parent's after the exec.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from hybrid.ground.errors import ExitCode, HybridError, UsageError
from hybrid.shared.launch import own_directory
from hybrid.shared.settings import Settings
from hybrid.shared.start import open_standard_descriptors
from hybrid.watcher.filters import watched_directories

_PROGRAM = "hybrid-serve"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for and return the exit code; with a pool, never return: exec.

    Args: argv: without the program's name; None: the process's own.
    """
    open_standard_descriptors()
    if os.getpid() == 1:
        # Process 1 loses a signal that it has no handler for, but not one that it has blocked: whoever serves unblocks
        # it. Or "stop" would be unheard in the first moments of a container. Source: pid_namespaces(7).
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGQUIT))
    # Here and not at the top: the library takes 80 ms to import, and a test of this module needs none of it.
    from hybrid.cli.command_line import Asked
    from hybrid.cli.print_config import table
    from hybrid.cli.resolve import facts_of_this_process, resolve

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        resolved = resolve(arguments, os.environ, own_directory(os.environ), facts_of_this_process(os.environ))
        for warning in resolved.warnings:
            _say("warning", warning)
        if resolved.print_config:
            sys.stdout.write(table(resolved))
            return ExitCode.OK
        return _serve(resolved.settings)
    except Asked as asked:
        asked.answer()
        return ExitCode.OK
    except HybridError as error:
        _say("error", str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # nothing was started yet


def _serve(settings: Settings) -> int:
    """Serve here, or become the parent. Raises: UsageError: this machine cannot do what is asked."""
    settings = fit_platform(settings, sys.platform)
    _check_descriptor(settings.process.ready_fd)
    if settings.process.chdir:
        os.chdir(settings.process.chdir)
    if settings.reload.enabled:
        _check_reload(settings)
    if settings.worker.workers == 0:
        from hybrid.in_loop import serve_here

        return serve_here(settings)
    from hybrid.shared.start import exec_parent

    return exec_parent(settings)


def fit_platform(settings: Settings, platform: str) -> Settings:
    """Return the settings as ``platform`` can serve them: without Linux there is no pool, and auto means 0.

    Raises: UsageError: a number of workers, or --reload, was asked for where there can be no pool.
    """
    if platform == "linux" or settings.worker.workers == 0:
        return settings
    if settings.reload.enabled:
        raise UsageError(f"cannot use --reload on {platform}: it needs the pool, which needs Linux. Leave it out.")
    why = "the pool needs Linux (pidfds, memfds, one epoll per listener)"
    if settings.worker.workers != "auto":
        raise UsageError(
            f"cannot run --workers {settings.worker.workers} on {platform}: {why}. Use --workers 0 (no pool)."
        )
    _say("warning", f"serving in this process, as with --workers 0: {why}, and this is {platform}")
    return replace(settings, worker=replace(settings.worker, workers=0))


def _check_reload(settings: Settings) -> None:
    """Raises: UsageError: the library that watches files is missing, or it would have to watch the whole machine."""
    if importlib.util.find_spec("watchfiles") is None:
        raise UsageError(
            "cannot use --reload: the library watchfiles is not installed. Install it with "
            "pip install watchfiles, or leave --reload out."
        )
    if os.sep in watched_directories(settings, os.getcwd()):
        raise UsageError(
            "cannot use --reload on /: all files of the machine would be watched. Name the app's directory with "
            "--reload-dir."
        )


def _check_descriptor(fd: int) -> None:
    if fd < 0:
        return
    try:
        os.fstat(fd)
    except OSError as error:
        raise UsageError(
            f"cannot use {fd} for --ready-fd: {error.strerror}. Give a descriptor that the command inherits."
        ) from error


def _say(level: str, text: str) -> None:
    sys.stderr.write(f"{_PROGRAM}: {level}: {text}\n")
