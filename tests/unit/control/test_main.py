"""The control process's own matters."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.connection.line_handler import LineHandler
from hybrid.control.main import log_records
from hybrid.shared.log_line import LEVELS, LogWriter, Style


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Yield our logger; afterwards it is as it was."""
    found = logging.getLogger("hybrid.error")
    before = found.handlers[:], found.propagate, found.level
    yield found
    found.handlers[:], found.propagate = before[:2]
    found.setLevel(before[2])


def test_what_connections_log_is_a_line_of_the_log(logger: logging.Logger, tmp_path: Path) -> None:
    """In the log's form, from its level on; not Python's own words on stderr."""
    with open(tmp_path / "log", "ab") as file:
        log = LogWriter(file.fileno(), Style.make("text", "never", file.fileno()), "info", "control")
        log_records(log)
        assert [type(handler) for handler in logger.handlers] == [LineHandler]
        logger.info("a client said nonsense")
        logger.error("a page failed")
        log.least = LEVELS["critical"]
        logger.error("nobody wants to know")
        log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 1 and lines[0].endswith("[control] error   a page failed")
