"""Figures in words."""

from __future__ import annotations

import pytest

from hybrid.cli import ctl_words
from hybrid.cli.ctl_notices import words_of
from hybrid.shared.notices import KINDS, to_plain


@pytest.mark.parametrize(
    ("function", "value", "words"),
    [
        (ctl_words.duration, 0.31, "0.3 s"),
        (ctl_words.duration, 59.9, "59 s"),
        (ctl_words.duration, 200, "3 min 20 s"),
        (ctl_words.duration, 3600, "1 h"),
        (ctl_words.duration, 273_600, "3 d 4 h"),
        (ctl_words.short_duration, 0.4, "0s"),
        (ctl_words.short_duration, 125, "2m"),
        (ctl_words.short_duration, 86_400, "24h"),
        (ctl_words.short_duration, 86_400 * 400, "400d"),
        (ctl_words.milliseconds, 0.0002, "0.2ms"),
        (ctl_words.milliseconds, 0.9994, "999ms"),
        (ctl_words.milliseconds, 0.9996, "1.0s"),
        (ctl_words.milliseconds, 250, "250s"),
        (ctl_words.size, 0, "0 B"),
        (ctl_words.size, 999, "999 B"),
        (ctl_words.size, 1234, "1.2 kB"),
        (ctl_words.size, 48_300_000, "48 MB"),
        (ctl_words.size, 999_600_000, "1.0 GB"),
        (ctl_words.size, 5e15, "5000 TB"),
        (ctl_words.rate, 0, "0"),
        (ctl_words.rate, 0.04, "0.0"),
        (ctl_words.rate, 9.94, "9.9"),
        (ctl_words.rate, 1234.4, "1 234"),
        (ctl_words.rate, 12_345, "12.3k"),
        (ctl_words.rate, 4_500_000, "4.5M"),
        (ctl_words.percent, 0.456, "46 %"),
    ],
)
def test_figure_in_words(function: object, value: float, words: str) -> None:
    """Few characters, the unit that fits; what is not known is a dash."""
    assert callable(function)
    assert function(value) == words
    assert function(None) == ctl_words.UNKNOWN


def test_failed_reload_is_told_once() -> None:
    """Its text says that it has failed."""
    ended = {"notice": "reload_ended", "ok": False, "text": "reload failed: no app. Generation 1 serves on."}
    assert words_of(ended) == "reload failed: no app. Generation 1 serves on."
    assert words_of({**ended, "ok": True, "text": "generation 2 serves"}) == "reload done: generation 2 serves"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_notice_has_words(kind: str) -> None:
    """None falls back to its bare fields."""
    words = words_of(to_plain(KINDS[kind]()))
    assert not words.startswith(kind), words
