"""The WSGI applications that the servers of :mod:`tests.benchmarks.peers` serve.

Nothing of ours is imported here: a peer loads this file as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apps_http import HELLO  # type: ignore[import-not-found]  # found beside this file, where servers are started


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer without waiting for anything."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))])
    return [HELLO]
