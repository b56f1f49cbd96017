"""What the HTTP listeners of one worker share."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from hybrid.connection.access_log import AccessLog
from hybrid.connection.http_endpoint import Load
from hybrid.http.date import StandingLines
from hybrid.shared.http_settings import HttpSettings


@dataclass(slots=True)
class HttpShared:
    """Made once per worker, before its first listener. Runs in: worker, in its loop."""

    settings: HttpSettings
    standing: StandingLines
    load: Load
    access_log: AccessLog | None

    @classmethod
    def of(cls, settings: HttpSettings, access_log: AccessLog | None = None) -> HttpShared:
        """Make it from the settings."""
        return cls(
            settings,
            StandingLines("hybrid" if settings.server_header else "", date=settings.date_header),
            Load(settings.limit_concurrency or inf),
            access_log,
        )
