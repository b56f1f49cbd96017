"""The logging module in a worker: our loggers, the app's, and the user's configuration file."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.connection.line_handler import LineHandler, level_name
from hybrid.ground.errors import UsageError
from hybrid.shared.log_line import LEVELS
from hybrid.shared.settings import LogSettings
from hybrid.worker import logs
from tests.support.forked import forked


class Installed:
    """Our loggers pointed to a pipe."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)

    def __call__(self, config: str = "", level: str = "info", form: str = "text") -> None:
        settings = LogSettings(config=config, level=level, format=form, colour="never")
        logs.install(settings, "worker 3", self.write_fd)

    def read(self) -> str:
        try:
            return os.read(self.read_fd, 65536).decode()
        except BlockingIOError:
            return ""


@pytest.fixture
def installed() -> Iterator[Installed]:
    """Installs, and puts the logging module back afterwards."""
    names = [*logs.OWN_LOGGERS, "app", ""]
    before = {name: _state(logging.getLogger(name)) for name in names}
    found = Installed()
    yield found
    for name, (handlers, level, propagate, disabled) in before.items():
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            if isinstance(handler, LineHandler):
                handler.writer.close()
            elif handler not in handlers:
                handler.close()
        logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
        logger.setLevel(level)
    os.close(found.read_fd)
    os.close(found.write_fd)


def _state(logger: logging.Logger) -> tuple[list[logging.Handler], int, bool, bool]:
    return list(logger.handlers), logger.level, logger.propagate, logger.disabled


@pytest.mark.parametrize("name", logs.OWN_LOGGERS)
def test_record_is_one_line_with_the_workers_name(name: str, installed: Installed) -> None:
    """hybrid.error writes our lines."""
    installed()
    logging.getLogger(name).warning("hello %s", "world\nforged")
    line = installed.read()
    assert line.endswith(" [worker 3] warning hello world\\nforged\n")
    assert line.count("\n") == 1


def test_traceback_is_part_of_the_event(installed: Installed) -> None:
    """A logged exception is one event: the message, and the traceback indented below."""
    installed()
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger("hybrid.error").exception("handler failed")
    first, *detail = installed.read().splitlines()
    assert first.endswith("error   handler failed")
    assert detail[0] == "    Traceback (most recent call last):"
    assert detail[-1] == "    RuntimeError: boom"


def test_stack_is_part_of_the_event(installed: Installed) -> None:
    """So is a stack that was asked for."""
    installed(form="json")
    logging.getLogger("hybrid.error").error("here", stack_info=True)
    assert json.loads(installed.read())["detail"].startswith("Stack (most recent call last):")


def test_level_is_the_settings(installed: Installed) -> None:
    """--log-level holds for our logger."""
    installed(level="warning")
    logging.getLogger("hybrid.error").info("no")
    logging.getLogger("hybrid.error").error("yes")
    assert installed.read().endswith("error   yes\n")


@pytest.mark.parametrize(
    ("number", "name"), [*((w, n) for n, w in LEVELS.items()), (5, "debug"), (25, "info"), (99, "critical")]
)
def test_every_level_of_logging_has_a_name(number: int, name: str) -> None:
    """A level of the app's own takes the name below it."""
    assert level_name(number) == name


def test_apps_logging_is_untouched(installed: Installed) -> None:
    """The root logger keeps its handlers and level, and our records do not reach it."""
    root = logging.getLogger()
    before = _state(root)
    installed()
    seen: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    assert _state(root) == before
    collect = Collect()
    root.addHandler(collect)
    try:
        logging.getLogger("hybrid.error").error("ours")
        logging.getLogger("app").error("theirs")
    finally:
        root.removeHandler(collect)
    assert [record.getMessage() for record in seen] == ["theirs"]
    assert installed.read().endswith("ours\n")


def test_record_that_cannot_be_formatted_costs_nothing(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong format string is reported as the logging module reports it, and the next record arrives."""
    installed()
    logging.getLogger("hybrid.error").error("%d", "no number")
    logging.getLogger("hybrid.error").error("next")
    assert installed.read().endswith("next\n")
    assert "--- Logging error ---" in capsys.readouterr().err


def test_second_install_replaces_the_first(installed: Installed) -> None:
    """A record is written once, however often the handler is installed."""
    installed()
    installed()
    logging.getLogger("hybrid.error").error("once")
    assert installed.read().count("\n") == 1


def test_install_after_a_fork_writes_the_childs_name(installed: Installed) -> None:
    """Each worker installs for itself: its name is in its lines, and a lock held in the mold holds nobody up."""
    installed()
    handler = logging.getLogger("hybrid.error").handlers[0]
    handler.acquire()

    def work() -> object:
        logs.install(LogSettings(colour="never"), "worker 7", installed.write_fd)
        logging.getLogger("hybrid.error").error("from the child")
        return "done"

    try:
        assert forked(work) == "done"
    finally:
        handler.release()
    assert installed.read().endswith("[worker 7] error   from the child\n")


# ── --log-config ──


def test_json_configuration_is_loaded_after_ours(installed: Installed, tmp_path: Path) -> None:
    """The file may give our loggers other handlers, and existing loggers stay enabled."""
    config = tmp_path / "logging.json"
    document = {
        "version": 1,
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(tmp_path / "out")}},
        "loggers": {"hybrid.error": {"handlers": ["file"], "level": "DEBUG"}},
    }
    config.write_text(json.dumps(document))
    app = logging.getLogger("app")
    installed(str(config))
    logging.getLogger("hybrid.error").debug("to the file")
    assert (tmp_path / "out").read_text() == "to the file\n"
    assert installed.read() == ""
    assert not app.disabled
    logging.getLogger("hybrid.error").handlers[0].close()


def test_configuration_that_only_sets_a_level_keeps_our_handler(installed: Installed, tmp_path: Path) -> None:
    """A logger that the file leaves without a handler still writes our lines."""
    config = tmp_path / "logging.conf"  # JSON is known by its content too
    config.write_text(json.dumps({"version": 1, "loggers": {"hybrid.error": {"level": "DEBUG"}}}))
    installed(str(config), level="error")
    logging.getLogger("hybrid.error").debug("seen")
    assert installed.read().endswith("debug   seen\n")


def test_ini_configuration_is_loaded(installed: Installed, tmp_path: Path) -> None:
    """fileConfig's format works as well."""
    config = tmp_path / "logging.ini"
    config.write_text(
        "[loggers]\nkeys=root,error\n[handlers]\nkeys=file\n[formatters]\nkeys=plain\n"
        "[logger_root]\nhandlers=file\n[logger_error]\nqualname=hybrid.error\nhandlers=file\npropagate=0\n"
        f"[handler_file]\nclass=FileHandler\nformatter=plain\nargs=({str(tmp_path / 'out')!r},)\n"
        "[formatter_plain]\nformat=plain %(message)s\n"
    )
    installed(str(config))
    logging.getLogger("hybrid.error").error("to the file")
    assert (tmp_path / "out").read_text() == "plain to the file\n"


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("a.json", "{", "Expecting property name"),
        ("a.json", "[]", "the document is not an object"),
        ("a.json", "{}", "doesn't specify a version"),
        ("a.json", '{"version": 1, "handlers": {"x": {"class": "no.such.Class"}}}', "Unable to configure handler 'x'"),
        ("a.json", '{"version": 1, "loggers": {"x": {"level": "LOUD"}}}', "Unknown level: 'LOUD'"),
        ("a.ini", "nonsense", "no section headers"),
        ("a.ini", "[loggers]\nkeys=root\n", "formatters"),
        ("a.yaml", "version: 1\n", "Write a logging.config dictionary as JSON"),
        ("missing.json", None, "No such file or directory"),
    ],
)
def test_bad_configuration_names_the_file_and_the_cause(
    name: str, text: str | None, cause: str, installed: Installed, tmp_path: Path
) -> None:
    """An error in the file is a usage error with the file, what is wrong in it, and what it should be."""
    config = tmp_path / name
    if text is not None:
        config.write_text(text)
    with pytest.raises(UsageError) as caught:
        installed(str(config))
    assert str(caught.value).startswith(f"cannot use --log-config {config}: ")
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)
