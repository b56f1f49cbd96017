"""Cannot be imported: it says why."""

from __future__ import annotations

raise RuntimeError("this module has a bad day")
