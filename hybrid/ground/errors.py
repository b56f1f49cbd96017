"""Every error the package raises, and every code the command exits with.

A message says what failed, the value, and the remedy:
``cannot listen on 127.0.0.1:8000: address in use. Stop the other server or change --bind.``
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What ``hybrid-serve`` leaves with; scripts and init systems may rely on it."""

    OK = 0
    """Stopped because somebody asked."""
    UNEXPECTED = 1
    """A fault of ours, or of the machine."""
    USAGE = 2
    """An option, environment variable or configuration file is wrong, or the address cannot be bound."""
    BOOT_FAILED = 3
    """No worker became ready: the lifespan failed, the boot timed out, or workers died while booting."""
    APP_NOT_LOADED = 4
    """The target cannot be imported or is no handler."""


class ControlExit(IntEnum):
    """What ``hybrid-ctl`` leaves with; scripts may rely on it."""

    DONE = 0
    """The server did what was asked, or answered."""
    REFUSED = 1
    """The server said no, or could not do it."""
    USAGE = 2
    """The command line is wrong; the server was not asked."""
    UNREACHED = 3
    """No server was found, several were, or the one there is does not answer."""
    RELOAD_FAILED = 4
    """A reload or an upgrade failed, or could not begin; what served before serves on."""


class HybridError(Exception):
    """Root of every error that ``hybrid`` raises on purpose.

    ``detail``: what does not fit into the message: a traceback of the user's code, a list; may span lines.
    """

    exit_code: ExitCode = ExitCode.UNEXPECTED

    def __init__(self, *args: object, detail: str = "") -> None:
        super().__init__(*args)
        self.detail = detail


class UsageError(HybridError):
    """An option, an environment variable, a configuration file or an argument is wrong."""

    exit_code = ExitCode.USAGE


class ListenError(HybridError):
    """An address cannot be bound, adopted or listened on."""

    exit_code = ExitCode.USAGE


class LoadError(HybridError):
    """The target cannot be imported, or what it names is not a handler."""

    exit_code = ExitCode.APP_NOT_LOADED


class BootError(HybridError):
    """The server could not boot: no worker became ready."""

    exit_code = ExitCode.BOOT_FAILED


class IllegalTransition(HybridError):
    """A state machine was given an event that its table does not list for its state."""
