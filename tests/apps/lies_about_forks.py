"""Makes its mold report a process that it never forked: ``VICTIM`` in the environment names it."""

from __future__ import annotations

import os
from collections.abc import Callable

from hybrid.mold import main
from tests.apps.knobs import knobs

__all__ = ["knobs"]


def _report_victim(body: Callable[[], int], report_fd: int) -> int:
    return int(os.environ["VICTIM"])


vars(main)["fork_sibling"] = _report_victim
