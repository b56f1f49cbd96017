"""Every program in the documentation is run, for real: it starts servers and talks to them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, Page, blocks
from tests.support.variations import mostly_long

PYTHON = list(blocks("python"))
PROGRAMS = [(page, block) for page, block in PYTHON if "test" in block.marks]


def is_short(program: tuple[Page, Block]) -> bool:
    """Return whether ``make test`` runs it: what somebody reads first, and the reference."""
    return not program[0].path.startswith("docs/how-to/")


@pytest.mark.parametrize(
    ("page", "block"),
    mostly_long(PROGRAMS, is_short),
    ids=[block.place for _, block in PROGRAMS],
)
def test_program_runs(page: Page, block: Block, tmp_path: Path) -> None:
    """What a page shows as a program leaves with 0 in a fresh interpreter, beside the files the page shows."""
    page.write_files(tmp_path)
    (tmp_path / "program.py").write_text(block.text, encoding="utf-8")
    command = [sys.executable, "program.py"]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=50,
    )
    assert run.returncode == 0, f"{block.place}\n{run.stdout}{run.stderr}"


@pytest.mark.parametrize("block", [block for _, block in PYTHON], ids=[block.place for _, block in PYTHON])
def test_python_block_says_what_it_is(block: Block) -> None:
    """A Python block is a test, a file or an outline, and compiles in any case."""
    kinds = [mark for mark in block.marks if mark in ("test", "outline") or mark.startswith("file=")]
    assert len(kinds) == 1 and len(block.marks) == 1, f"{block.place}: mark it: test, file=NAME or outline"
    compile(block.text, block.place, "exec", dont_inherit=True)


def test_page_with_a_python_file_runs_it() -> None:
    """A file that no program of its page uses could be wrong for ever."""
    unused = {
        f"{block.place}: {block.file}"
        for page, block in PYTHON
        if block.file and not _is_example(block) and not any("test" in other.marks for other in page.blocks)
    }
    assert not unused, unused


def test_shown_example_is_the_file() -> None:
    """A block that shows a file of examples/ shows it as it is."""
    wrong = [block.place for _, block in PYTHON if _is_example(block) and (ROOT / block.file).read_text() != block.text]
    assert not wrong


def _is_example(block: Block) -> bool:
    return block.file.startswith("examples/")
