"""Compiles the hot path by mypyc when HYBRID_COMPILE=1 is set; without it there is nothing to build.

All else that a build needs to know stands in pyproject.toml. Why this file, and why so:
docs/decisions/0015-compiled-by-mypyc.md.
"""

from __future__ import annotations

import os
import sys
from glob import glob

from setuptools import Extension, setup

HOT = [
    *sorted(set(glob("hybrid/http/*.py")) - {"hybrid/http/__init__.py"}),
    *(
        f"hybrid/connection/{name}.py"
        for name in (
            "access_line",
            "access_log",
            "addresses",
            "endpoint",
            "flow",
            "http_connection",
            "http_ending",
            "http_endpoint",
            "http_phases",
            "http_wire",
            "lines",
            "load",
            "phases",
            "registry",
            "websocket",
        )
    ),
    *(f"hybrid/worker/acceptors/{name}.py" for name in ("guard", "intake")),
    *(f"hybrid/handlers/{name}.py" for name in ("asgi", "asgi_exchange", "asgi_task", "asgi_websocket")),
]
"""What runs for each message, request or connection. The rest stays Python, which is easier to look into."""


def extensions() -> list[Extension]:
    """Return what is to be compiled: nothing, unless asked for."""
    choice = os.environ.get("HYBRID_COMPILE", "")
    if choice not in ("", "0", "1"):
        sys.exit(f"HYBRID_COMPILE={choice}: it is 1, to compile the hot path, or 0.")
    if choice != "1" or {"egg_info", "dist_info"} & set(sys.argv):  # these ask what a build needs: not yet the build
        return []
    try:
        from mypyc.build import mypycify
    except ImportError as error:
        sys.exit(f"HYBRID_COMPILE=1 needs mypy, which has the compiler: {error}. Install it: pip install mypy.")

    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    options = ["--config-file=", "--ignore-missing-imports", f"--python-version={version}"]
    return mypycify(
        [*options, *HOT],
        opt_level="3",
        debug_level="0",
        group_name="hybrid",
    )


setup(
    ext_modules=extensions(),
    # Asked for by the front end before it builds: mypy is needed where something is compiled, and nowhere else.
    setup_requires=["mypy>=1.18"] if os.environ.get("HYBRID_COMPILE") == "1" else [],
)
