"""The ways of sharing accepts between workers, by the name that ``--accept`` takes: the textbook's designs.

Which of them can serve which kind of handler is decided here, for the command line, for a worker that has just
found out what its handler is, and for the reference page.

Source: W. R. Stevens, UNIX Network Programming, vol. 1, 2nd ed., ch. 27 (3rd ed., ch. 30).
"""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.ground.errors import UsageError

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Model:
    """One way of accepting.

    ``term``: the textbook's. ``loop``, ``threaded``: whether it serves handlers that run in the worker's loop
    (stream, protocol), and blocking ones. ``needs_pool``: it is no use without a parent.
    """

    term: str
    loop: bool
    threaded: bool
    needs_pool: bool = False


MODELS: dict[str, Model] = {
    "shared": Model("prefork, no locking around accept", loop=True, threaded=False),
    "shared=plain": Model("prefork, no locking around accept", loop=True, threaded=False),
    "locked=fcntl": Model("prefork, file locking around accept", loop=True, threaded=True),
    "locked=robust": Model("prefork, thread locking around accept", loop=True, threaded=True),
    "passing": Model("prefork, descriptor passing", loop=True, threaded=True, needs_pool=True),
    "reuseport": Model("prefork, one listening socket for each worker", loop=True, threaded=True),
    "threads": Model("prethreaded, each thread calls accept", loop=False, threaded=True),
    "threads=mutex": Model("prethreaded, mutex around accept", loop=False, threaded=True),
    "threads=main": Model("prethreaded, main thread calls accept", loop=False, threaded=True),
    "thread": Model("concurrent server, one thread per client", loop=False, threaded=True),
    "fork": Model("concurrent server, one child per client", loop=False, threaded=True, needs_pool=True),
}


def resolve(accept: str, *, threaded: bool) -> str:
    """Return the model that ``accept`` means for a blocking handler (``threaded``) or one that runs in the loop.

    Raises: UsageError: that model cannot serve this kind of handler.
    """
    if accept == AUTO:
        return "threads" if threaded else "shared"
    model = MODELS[accept]
    if model.threaded if threaded else model.loop:
        return accept
    kind = "a blocking handler (threaded)" if threaded else "a handler that runs in the event loop"
    fit = ", ".join(name for name, each in MODELS.items() if (each.threaded if threaded else each.loop))
    raise UsageError(f"--accept {accept} ({model.term}) cannot serve {kind}. Use one of {fit}, or leave it at auto.")


def check_pool(accept: str, workers: int | str) -> None:
    """Raises: UsageError: the model needs a pool, and there is to be none."""
    if workers == 0 and accept in MODELS and MODELS[accept].needs_pool:
        raise UsageError(
            f"--accept {accept} ({MODELS[accept].term}) needs a pool, and --workers 0 asks for none. "
            "Use --workers 1 or more, or leave out --accept."
        )
