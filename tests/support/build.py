"""Tests that look into Python code while it runs: compiled, there is nothing to look into."""

from __future__ import annotations

import pytest

from hybrid.ground.build import kind

pure_only = pytest.mark.skipif(
    kind() == "compiled", reason="counts calls, or changes a constant: of compiled code neither can be done"
)
