"""The options of the access log: one line for each HTTP request."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.shared.declare import option

STDOUT = "-"
"""``--access-log-file -``: standard output."""


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Whether requests are logged, how a line looks, and where it goes."""

    enabled: bool = option(
        False,
        "Write a line for each HTTP request.",
        more="Each is written by the worker that served it, when the response has ended; see "
        "[Access log](../how-to/access-log.md).",
        flag="--access-log",
        restart=True,
    )
    format: str = option(
        "combined",
        "Form of its lines: Apache's combined one, JSON, or atoms such as %(h)s.",
        more="The atoms are those of gunicorn, and a few more: [Access log](../how-to/access-log.md#atoms).",
        flag="--access-log-format",
        parse="access_format",
        metavar="combined|json|FORMAT",
    )
    file: str = option(
        STDOUT,
        "File that they are appended to, reopened on SIGUSR1; -: stdout.",
        flag="--access-log-file",
        restart=True,
        parse="output",
        metavar="FILE|-",
    )

    @property
    def path(self) -> str:
        """The file to open; empty: there is none to open."""
        return self.file if self.enabled and self.file != STDOUT else ""
