"""What the parent pays for these rooms, in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hybrid

ROOT = Path(hybrid.__file__).parents[1]

HEAVY = {"logging", "asyncio", "subprocess", "tempfile", "pathlib", "urllib", "http", "email", "encodings.idna"}


def test_what_the_parent_loads_is_light() -> None:
    """Neither importing these rooms nor opening a listener by name loads what the parent has no use for."""
    code = f"""
import sys
from hybrid.parent import auto_size, pid_file
from hybrid.shared import cgroup, listeners, log_line, privileges, procfs
listeners.open_listeners(["localhost:0", "127.0.0.1:0"], 1, 0)
log_line.LogWriter(2, log_line.Style.JSON, "info", "parent").debug("hello")
privileges.resolve_user("", "")
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
