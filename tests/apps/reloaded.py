"""An application of which every load is a different one, and whose boot waits at gates that a test opens.

It is copied into a directory of the test's, with the number of its load in it. A gate is a file beside the copy: whoever
comes by while it is there makes a FIFO of its own, and waits until somebody opens that for writing. ``import``: in the
mold; ``lifespan``: in the worker. Where there is a file ``fail``, a worker fails behind its gate.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.apps import http_knobs

LOAD = 0
HERE = Path(__file__).parent


def wait_at(gate: str) -> None:
    """Wait until the gate is opened; go by if there is none."""
    mine = HERE / f"{gate}.{os.getpid()}"
    if (HERE / gate).exists():
        os.mkfifo(mine)
        if (HERE / gate).exists():  # else it was taken away just now, and nobody may have seen ours
            os.close(os.open(mine, os.O_RDONLY))


wait_at("import")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Say which load this is, and whatever else the knobs can."""
    if scope["type"] == "lifespan":
        wait_at("lifespan")
        if (HERE / "fail").exists():
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "this load does not serve"})
            return
    if scope.get("path") == "/load":
        await http_knobs.respond(send, b"%d" % LOAD)
    else:
        await http_knobs.app(scope, receive, send)
