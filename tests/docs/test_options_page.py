"""The reference page of the options is what the declarations say."""

from __future__ import annotations

from pathlib import Path

from hybrid.cli.reference import page
from hybrid.shared.options import all_options

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "options.md"


def test_committed_page_is_what_the_declarations_give() -> None:
    """No option is added, changed or removed without its documentation."""
    assert PAGE.read_text() == page(), "run: python -m hybrid.cli.reference > docs/reference/options.md"


def test_page_names_every_option_at_every_door() -> None:
    """Flag, variable, key and keyword can all be found by searching the page."""
    text = page()
    for option in all_options():
        assert option.flag in text
        for door, name in (("e", option.env_name), ("f", option.key), ("k", option.keyword)):
            assert door not in option.doors or f"`{name}`" in text, option.flag
