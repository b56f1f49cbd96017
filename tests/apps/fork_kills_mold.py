"""Ends the process that forks it: a mold of this app never brings forth a worker."""

from __future__ import annotations

import os

from tests.apps.knobs import knobs

__all__ = ["knobs"]

os.register_at_fork(before=lambda: os._exit(9))
