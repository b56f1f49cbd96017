"""A preforking, asyncio-hybrid, multiprocess server: any protocol, all cores, real supervision.

The public names, each imported when it is first used: the parent is made of this package too, and must stay small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid.connection.connection import Connection as Connection
    from hybrid.embed import PoolServer as PoolServer
    from hybrid.embed import run as run
    from hybrid.embed import serve as serve
    from hybrid.ground.errors import BootError as BootError
    from hybrid.ground.errors import HybridError as HybridError
    from hybrid.ground.errors import ListenError as ListenError
    from hybrid.ground.errors import LoadError as LoadError
    from hybrid.ground.errors import UsageError as UsageError
    from hybrid.handlers.lifespan import Worker as Worker
    from hybrid.handlers.protocol import protocol as protocol
    from hybrid.in_loop import InLoopServer as InLoopServer
    from hybrid.shared.status import WorkerLoad as WorkerLoad
    from hybrid.shared.status import WorkerStatus as WorkerStatus
    from hybrid.shared.status import WorkerUse as WorkerUse

__version__ = "0.1.0"

_HOMES = {
    "Connection": "hybrid.connection.connection",
    "PoolServer": "hybrid.embed",
    "run": "hybrid.embed",
    "serve": "hybrid.embed",
    "BootError": "hybrid.ground.errors",
    "HybridError": "hybrid.ground.errors",
    "ListenError": "hybrid.ground.errors",
    "LoadError": "hybrid.ground.errors",
    "UsageError": "hybrid.ground.errors",
    "Worker": "hybrid.handlers.lifespan",
    "protocol": "hybrid.handlers.protocol",
    "InLoopServer": "hybrid.in_loop",
    "WorkerLoad": "hybrid.shared.status",
    "WorkerStatus": "hybrid.shared.status",
    "WorkerUse": "hybrid.shared.status",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  # strings, all of them


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
