"""The documentation as data: pages, their code blocks, headings and links.

A code block says in its opening line what it is for::

    ```python test            a program: run in a fresh interpreter, must leave with 0
    ```python file=echo.py    a file that the page's programs and commands find in their working directory
    ```python outline         not a program, but it compiles

A block in an HTML comment counts like any other: that is where a page keeps a check that readers need not see.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"\[[^\]\[]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block. ``line``: where its text begins. ``marks``: what stands after the language."""

    page: str
    line: int
    language: str
    marks: tuple[str, ...]
    text: str

    @property
    def file(self) -> str:
        """Name of the file that the block is, or an empty string."""
        return next((mark.removeprefix("file=") for mark in self.marks if mark.startswith("file=")), "")

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """One Markdown file. ``path``: relative to the repository."""

    path: str

    @cached_property
    def text(self) -> str:
        return (ROOT / self.path).read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        found = []
        for match in _FENCE.finditer(self.text):
            language, *marks = match["info"].split() or [""]
            line = self.text.count("\n", 0, match.start("text")) + 1
            indent = len(match["indent"])
            text = "".join(row[indent:] for row in match["text"].splitlines(keepends=True))
            found.append(Block(self.path, line, language, tuple(marks), text))
        return tuple(found)

    @property
    def prose(self) -> str:
        """The page without code blocks and comments."""
        return _COMMENT.sub("", _FENCE.sub("", self.text))

    @property
    def inline_code(self) -> list[str]:
        return _INLINE.findall(self.prose)

    @property
    def links(self) -> list[str]:
        return [match["target"] for match in _LINK.finditer(_INLINE.sub("code", self.prose))]

    @property
    def anchors(self) -> set[str]:
        """The names that ``#…`` may point to, made from the headings as GitHub makes them."""
        return {_anchor(match["text"]) for match in _HEADING.finditer(_FENCE.sub("", self.text))}

    def write_files(self, directory: Path) -> None:
        """Put the files that the page shows into ``directory``."""
        for block in self.blocks:
            if block.file:
                place = directory / block.file
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(block.text, encoding="utf-8")


def _anchor(heading: str) -> str:
    text = heading.replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def pages() -> list[Page]:
    """Return every page that is written for readers."""
    folders = ("docs", "examples", "hybrid")
    files = [*ROOT.glob("*.md"), *(file for folder in folders for file in (ROOT / folder).rglob("*.md"))]
    return [Page(str(file.relative_to(ROOT))) for file in sorted(files)]


def blocks(language: str) -> Iterator[tuple[Page, Block]]:
    """Yield every block of a language, with its page."""
    for page in pages():
        for block in page.blocks:
            if block.language == language:
                yield page, block
