"""The mask of a client's frames (RFC 6455 §5.3): the C of the package ``websockets`` if it is there, else big numbers.

µs of CPU for 32 B / 1 KiB / 64 KiB / 1 MiB (CPython 3.11, a busy machine: to compare, not to quote): C 0.2 / 0.4 / 5.6
/ 73; one number 1.3 / 6.1 / 404 / 13500; numbers of 16 KiB – / – / 277 / 10100; a ``translate`` for each of the four
bytes 8.2 / 9.1 / 287 / 10900.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Final

_SPEEDUPS: Final = "websockets.speedups"
_CHUNK: Final = 16384
"""A multiple of four. Longer numbers leave the processor's cache."""


def xor(data: bytes, mask: bytes) -> bytes:
    """Return ``data`` with the four bytes of ``mask`` laid over it, again and again."""
    size = len(data)
    if size > _CHUNK:
        return b"".join([xor(data[at : at + _CHUNK], mask) for at in range(0, size, _CHUNK)])
    pattern = (mask * ((size + 3) >> 2))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")


def choose() -> Callable[[bytes, bytes], bytes]:
    """Return the fastest function that does what :func:`xor` does. Runs in: worker, once, at import."""
    try:
        found: Callable[[bytes, bytes], bytes] = _speedups().apply_mask
    except (ImportError, AttributeError, ValueError):  # not installed, or without its C, or another thing of that name
        return xor
    return found


def _speedups() -> ModuleType:
    """Load this one module without the package around it: that imports 2 MB of others, which nothing here uses.

    Raises: ImportError: it is not there. ValueError: what has the package's name came from nowhere.
    """
    if _SPEEDUPS in sys.modules:
        return importlib.import_module(_SPEEDUPS)
    package = importlib.util.find_spec(_SPEEDUPS.partition(".")[0])  # of a name without a dot: it imports nothing
    places = package.submodule_search_locations if package is not None else None
    spec = PathFinder.find_spec(_SPEEDUPS, places) if places is not None else None
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no {_SPEEDUPS}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # C may have entered itself. Whoever imports the package is to find it as if nobody had been here.
    sys.modules.pop(_SPEEDUPS, None)
    return module


apply_mask: Final = choose()
"""Lay a mask of four bytes over data; twice is as good as never."""
