"""Every ``hybrid-serve`` command that the documentation and the examples show is one that the command accepts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hybrid.cli.serve import main
from tests.docs.pages import ROOT, pages

_CALL = re.compile(r"^(?P<before>.*?)(?:\S*/)?(?:hybrid-serve|python -m hybrid)(?P<arguments>(?: .*)?)$")
_ASSIGNMENT = re.compile(r"([A-Z_]+)=(\S+)")
_AFTERWARDS = re.compile(r" (?:[&|>#;]|\d>).*$")

Command = tuple[str, str, str]
"""Where it stands, the file it stands in, the line."""


def commands_in(text: str) -> list[str]:
    """Return the lines that call the command, with continued lines joined."""
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if _CALL.match(line.strip())]


def commands() -> list[Command]:
    """Return the commands of all pages and of the docstrings of the examples."""
    found = [
        (f"{block.place}#{number}", page.path, line)
        for page in pages()
        for block in page.blocks
        if block.language in ("sh", "console", "ini")
        for number, line in enumerate(commands_in(block.text))
    ]
    for example in sorted((ROOT / "examples").glob("*.py")):
        docstring = example.read_text(encoding="utf-8").partition('"""')[2].partition('"""')[0]
        path = str(example.relative_to(ROOT))
        found += [(f"{path}#{number}", path, line) for number, line in enumerate(commands_in(docstring))]
    return found


COMMANDS = commands()


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_command_is_accepted(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ``--print-config`` the command prints its configuration, without a warning, and leaves with 0."""
    _place, file, line = command
    if file.endswith(".md"):
        next(page for page in pages() if page.path == file).write_files(tmp_path)
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.chdir(ROOT)
    match = _CALL.match(line)
    assert match is not None
    for name, value in _ASSIGNMENT.findall(match["before"]):
        monkeypatch.setenv(name, value)
    arguments = shlex.split(_AFTERWARDS.sub("", match["arguments"]), comments=True)
    answers = {"--help", "-h", "--version", "--print-config"}
    code = main(arguments if answers & set(arguments) else [*arguments, "--print-config"])
    said = capsys.readouterr()
    assert (code, said.err) == (0, ""), said.err


def test_wrong_command_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above says no to an option that does not exist."""
    monkeypatch.chdir(tmp_path)
    assert main(["app.py:handle", "--wokers", "2", "--print-config"]) == 2


def test_continued_lines_and_prompts_are_understood() -> None:
    """A prompt, a path, an assignment and a backslash hide no command."""
    text = "$ PORT=1 .venv/bin/hybrid-serve app:handle \\\n    --workers 2\necho hybrid\n"
    assert commands_in(text) == ["$ PORT=1 .venv/bin/hybrid-serve app:handle      --workers 2"]
