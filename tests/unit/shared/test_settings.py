"""The declarations are complete and consistent, and settings survive the trip to the parent."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings

from hybrid.ground.errors import HybridError
from hybrid.shared import option_values
from hybrid.shared.options import ENVIRONMENT_PREFIX, all_options, nearest, options_for
from hybrid.shared.settings import Settings, from_json, to_json
from tests.support.option_cases import settings_of_every_shape


@given(settings_of_every_shape())
@settings(max_examples=25, deadline=None)
def test_settings_survive_json(original: Settings) -> None:
    """What the parent reads from the memfd equals what the door wrote, types included."""
    again = from_json(to_json(original))
    assert again == original
    assert repr(again) == repr(original)


def test_undecodable_path_survives_json() -> None:
    """A file name that is no UTF-8 reaches the parent unchanged."""
    app = dataclasses.replace(Settings().app, target="/srv/\udcff.py:app")
    original = dataclasses.replace(Settings(), app=app)
    assert from_json(to_json(original)) == original


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"app": {}}', json.dumps({"unknown": {}}), "null"])
def test_what_are_no_settings_is_refused(text: str) -> None:
    """Another version's settings, or none, raise instead of becoming defaults."""
    with pytest.raises(HybridError, match="have different options"):
        from_json(text)


def test_unknown_field_is_refused() -> None:
    """A field that this version does not know is not dropped silently."""
    groups = json.loads(to_json(Settings()))
    groups["bind"]["novel"] = 1
    with pytest.raises(HybridError, match="SIGUSR2"):
        from_json(json.dumps(groups))


@pytest.mark.parametrize("name", ["flag", "key", "keyword", "env_name"])
def test_no_two_options_share_a_name(name: str) -> None:
    """Each option can be told from every other at each door."""
    names = [getattr(option, name) for option in all_options()]
    assert len(names) == len(set(names))


def test_foreign_names_are_foreign_and_unique() -> None:
    """PORT and WEB_CONCURRENCY belong to one option each, and our prefix to none of them."""
    names = [name for option in all_options() for name in option.env]
    assert sorted(names) == ["PORT", "WEB_CONCURRENCY"]
    assert not any(name.startswith(ENVIRONMENT_PREFIX) for name in names)


def test_each_declared_parser_exists_and_each_parser_is_declared() -> None:
    """``parse=`` names a parser, and there is no parser that nothing uses."""
    declared = {option.parse for option in all_options() if option.parse}
    assert declared == set(option_values._PARSERS)


def test_each_option_has_a_parser_or_choices_or_is_a_switch() -> None:
    """No option takes text unchecked by accident."""
    for option in all_options():
        assert bool(option.parse) + bool(option.choices) + option.is_switch == 1, option.flag


@pytest.mark.parametrize("option", all_options(), ids=lambda option: option.flag)
def test_help_is_a_short_sentence(option: object) -> None:
    """``--help`` stays short: details belong to the reference page."""
    text = getattr(option, "help")  # noqa: B009  # parametrize hands over object
    assert text.endswith(".") and len(text) <= 80


def test_default_of_a_choice_is_one_of_its_values() -> None:
    """A default needs no exception from its own rule."""
    for option in all_options():
        assert not option.choices or option.default in option.choices


def test_options_that_belong_to_one_start_are_no_file_keys() -> None:
    """What says where the file is, or names a descriptor of one start, cannot come from a file."""
    keys = {option.key for option in options_for("f")}
    assert keys.isdisjoint({"config", "chdir", "ready-fd", "print-config"})


def test_nearest_name_is_suggested_only_when_near() -> None:
    """A suggestion helps with a slip and does not guess at random."""
    assert nearest("wrokers", ["workers", "port"]) == " Did you mean workers?"
    assert nearest("zzz", ["workers", "port"]) == ""


def test_settings_need_no_option_machinery() -> None:
    """The parent reads settings without loading the parsers, difflib or a command-line library."""
    heavy = "{'hybrid.shared.options', 'hybrid.shared.option_values', 'difflib', 'cyclopts', 'asyncio', 'logging'}"
    code = f"import sys; import hybrid.shared.settings; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
