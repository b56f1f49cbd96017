"""Where tests leave what people may want to look at."""

from __future__ import annotations

import os
from pathlib import Path


def artifacts(otherwise: Path) -> Path:
    """Return the directory that ``HYBRID_ARTIFACTS`` names, made if need be; without it, ``otherwise``."""
    folder = Path(os.environ.get("HYBRID_ARTIFACTS") or otherwise)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
