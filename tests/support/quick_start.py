"""The command's own work, done here: reading the options, and the settings for the parent.

The command ends by becoming the parent. Until then an interpreter has started and imported the library that reads
options, a quarter of the CPU time of a start; hundreds of tests ask for one. What the command does besides is tested
with the command: :mod:`tests.component.test_command_line`, :mod:`tests.process.test_in_process`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from hybrid.cli.resolve import resolve
from hybrid.ground.errors import HybridError
from hybrid.shared.launch import import_path
from hybrid.shared.settings import Launch, Settings
from hybrid.shared.start import parent_command, settings_memfd


def quick_start(
    arguments: Sequence[str], environ: Mapping[str, str], cwd: str
) -> tuple[list[str], tuple[int, ...]] | None:
    """Return the command that starts the parent as ``hybrid-serve ARGUMENTS`` in ``cwd`` would, and its settings.

    The second is a descriptor that the command inherits, and the caller closes. None: only the command itself does
    what is asked for: it refuses, warns, serves in its own process, or finds its modules elsewhere.
    """
    if "LISTEN_PID" in environ or environ.get("PYTHONPATH") != os.environ.get("PYTHONPATH"):
        return None
    try:
        resolved = resolve(arguments, environ, cwd, Launch(sys_path=import_path("", sys.path, cwd)))
    except HybridError:
        return None
    if resolved.warnings or resolved.print_config or not _is_plain(resolved.settings):
        return None
    settings_fd = settings_memfd(resolved.settings)
    return parent_command(resolved.settings, str(settings_fd)), (settings_fd,)


def _is_plain(settings: Settings) -> bool:
    return settings.worker.workers != 0 and not settings.process.chdir and not settings.reload.enabled
