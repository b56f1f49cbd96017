"""An application whose import waits until somebody writes into the pipe ``TEST_GATE``."""

from __future__ import annotations

import os

from tests.apps.counted import app

with open(os.environ["TEST_GATE"]) as gate:
    gate.read()

__all__ = ["app"]
