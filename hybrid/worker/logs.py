"""The logging module of a worker: our logger writes our lines.

``hybrid.error`` gets a handler and stops propagating. The root logger, and with it the app's own loggers, is left as
the app configures it; unconfigured, warnings go to stderr, as Python does everywhere. Only workers, and a process that
serves by itself (``--workers 0``, ``hybrid.run(..., workers=0)``), install: in ``hybrid.serve(..., workers=0)`` the
host's logging stays as it is, and our records reach whatever it has on its root. Requests are logged past all this:
:mod:`hybrid.connection.access_log`.
"""

from __future__ import annotations

import json
import logging
import os

from hybrid.connection.line_handler import LineHandler
from hybrid.ground.errors import UsageError
from hybrid.shared.log_line import LEVELS, LogWriter, Style
from hybrid.shared.settings import LogSettings

OWN_LOGGERS = ("hybrid.error",)


def install(settings: LogSettings, who: str, fd: int) -> LogWriter:
    """Point our loggers to ``fd``, then load ``--log-config``; return the writer.

    Runs in: worker, once, after the fork and before the app's lifespan. A second call replaces the first handler.
    Closes: nothing; ``fd`` stays the caller's.
    Raises: UsageError: the configuration file cannot be read or used.
    """
    writer = LogWriter(fd, Style.make(settings.format, settings.colour, fd), "debug", who)
    handler = LineHandler(writer)
    for name in OWN_LOGGERS:
        logger = logging.getLogger(name)
        for old in [h for h in logger.handlers if isinstance(h, LineHandler)]:
            logger.removeHandler(old)
            old.writer.close()
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(LEVELS[settings.level])
    if settings.config:
        load_config(settings.config)
        for name in OWN_LOGGERS:
            logger = logging.getLogger(name)
            # A file that only sets our level would otherwise leave the logger with nowhere to write.
            if not logger.handlers and not logger.propagate:
                logger.addHandler(handler)
    return writer


def set_level(weight: int) -> None:
    """Write nothing less important than ``weight`` from now on. Runs in: worker."""
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(weight)


def load_config(path: str) -> None:
    """Load a logging.config file: JSON when it begins with ``{`` or ends in .json, INI otherwise.

    Loggers that exist already stay enabled unless the file says otherwise.
    Raises: UsageError: the file cannot be read or used.
    """
    import logging.config  # here: sockets, queues and pickle come with it

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if path.endswith(".json") or text.lstrip().startswith("{"):
            document = json.loads(text)
            if not isinstance(document, dict):
                raise ValueError("the document is not an object")
            document.setdefault("disable_existing_loggers", False)
            logging.config.dictConfig(document)
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False, encoding="utf-8")
    except Exception as error:
        # Broad on purpose: the file names classes and factories, which may raise anything.
        raise UsageError(
            f"cannot use --log-config {os.path.abspath(path)}: {_cause(error)}. "
            "Write a logging.config dictionary as JSON, or an INI file for logging.config.fileConfig."
        ) from error


def _cause(error: BaseException) -> str:
    """Return the error and what it came from, on one line: logging.config tells the reason only in the latter."""
    said = ""
    current: BaseException | None = error
    while current is not None:
        text = current.strerror if isinstance(current, OSError) and current.strerror else str(current)
        if isinstance(current, KeyError):
            text = f"{text} is missing"
        text = " ".join(text.split()).rstrip(".") or type(current).__name__
        if text not in said:
            said += f": {text}" if said else text
        current = current.__cause__ or current.__context__
    return said
