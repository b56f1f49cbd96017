"""The options of recycling: when a worker has served enough, and another takes its place."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.shared.declare import option

LEAST_MEMORY_BYTES = 32 << 20
"""A worker that has served nothing has some 10 MB of its own: below this, each would be replaced at once."""


@dataclass(frozen=True, slots=True)
class RecyclingSettings:
    """What a worker may reach before it is replaced. Each limit of 0 is none."""

    max_requests: int = option(
        0,
        "Requests after which a worker is replaced; 0: never.",
        more="Of HTTP: requests given to the application. Of other kinds of handlers: connections accepted. The "
        "replacement is ready before the old worker stops accepting: [Recycling](../how-to/recycle-workers.md).",
        flag="--max-requests",
        parse="count",
        metavar="N",
    )
    max_requests_jitter: int = option(
        -1,
        "Up to so many requests more, drawn by each worker.",
        more="As gunicorn's. By default a share of --max-requests: that of --recycle-jitter.",
        flag="--max-requests-jitter",
        parse="count",
        metavar="N",
    )
    max_lifetime_s: float = option(
        0.0,
        "Time after which a worker is replaced; 0: never.",
        more="Counted from when it was ready.",
        flag="--max-lifetime",
        parse="seconds",
        metavar="SECONDS",
    )
    max_memory_bytes: int = option(
        0,
        "Private memory at which a worker is replaced: 512M, 2G; 0: never.",
        more="Of each worker; in bytes without a suffix. What it shares with the other workers, such as the preloaded "
        "app, does not count. 32M at least. Looked at every two seconds.",
        flag="--max-memory",
        parse="memory",
        metavar="SIZE",
    )
    jitter_percent: int = option(
        10,
        "Percent by which each limit is raised at most, drawn by each worker.",
        more="So that workers which began together do not wear out together. 0 to 100.",
        flag="--recycle-jitter",
        parse="percent",
        metavar="PERCENT",
    )

    @property
    def has_limits(self) -> bool:
        """Whether a worker is ever replaced for what it has done."""
        return bool(self.max_requests or self.max_lifetime_s or self.max_memory_bytes)

    @property
    def without_effect(self) -> tuple[str, ...]:
        """What to say of options that need another one, which was not given."""
        found = []
        if self.max_requests_jitter >= 0 and not self.max_requests:
            found.append("--max-requests-jitter has no effect without --max-requests")
        if self.jitter_percent != RecyclingSettings().jitter_percent and not self.has_limits:
            found.append("--recycle-jitter has no effect without --max-requests, --max-lifetime or --max-memory")
        return tuple(found)
