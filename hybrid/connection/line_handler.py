"""Our loggers' handler: a record of the logging module becomes a line of the log.

Runs in: worker, and control.
"""

from __future__ import annotations

import logging

from hybrid.shared.log_line import LEVELS, LogEvent, LogWriter

_NAMES = sorted(((weight, name) for name, weight in LEVELS.items()), reverse=True)


class LineHandler(logging.Handler):
    """Writes each record as one event of :mod:`hybrid.shared.log_line`."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self.writer = writer
        self._tracebacks = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record: one write(2), traceback and stack included."""
        try:
            event = LogEvent(
                record.created, self.writer.who, level_name(record.levelno), record.getMessage(), self._detail(record)
            )
            self.writer.write_event(event)
        except Exception:  # noqa: BLE001  # a record that cannot be formatted: logging's own way to say so
            self.handleError(record)

    def _detail(self, record: logging.LogRecord) -> str:
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            record.exc_text = self._tracebacks.formatException(record.exc_info)
        return "\n".join(part for part in (record.exc_text, record.stack_info) if part)


def level_name(number: int) -> str:
    """Return our name for a level of the logging module; one in between takes the lower name."""
    return next((name for weight, name in _NAMES if number >= weight), "debug")
