"""What is to be had at ``--metrics-bind``: metrics, health checks, the status page; all of it to be read only."""

from __future__ import annotations

import asyncio
import socket

from hybrid.control import health, metrics, status_page
from hybrid.control.app_metrics import AppMetrics
from hybrid.control.broadcast import Broadcast
from hybrid.control.past import Past
from hybrid.control.sampler import Sampler
from hybrid.control.state import State
from hybrid.control.web import open_site


async def serve(state: State, sampler: Sampler, listener: socket.socket) -> None:
    """Serve at a listening socket until cancelled. Runs in: control. Closes: the listener, all connections."""
    app_metrics = AppMetrics.from_environment(state.scoreboard.parent_pid)
    past = Past(state, sampler)
    routes = {
        **metrics.routes(state, sampler, app_metrics.families if app_metrics is not None else None),
        **health.routes(state),
        **status_page.routes(state, Broadcast(state, sampler), past),
    }
    site = await open_site(routes, listener)
    past.start()
    tidying = asyncio.create_task(app_metrics.tidy(), name="tidy") if app_metrics is not None else None
    try:
        await asyncio.Event().wait()
    finally:
        past.close()
        if tidying is not None:
            tidying.cancel()
        await site.close()
