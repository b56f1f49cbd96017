"""Takes as long to import as the interpreter lives."""

from __future__ import annotations

import time

from tests.apps.boots import mark
from tests.apps.knobs import knobs

__all__ = ["knobs"]

mark("importing")
while True:
    time.sleep(60)
