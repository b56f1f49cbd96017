"""How an option is declared: as a dataclass field, with what every door needs in its metadata."""

from __future__ import annotations

from dataclasses import field
from typing import Any, TypeVar

T = TypeVar("T")


def option(
    default: Any,
    help: str,
    *,
    flag: str,
    more: str = "",
    aliases: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    env: tuple[str, ...] = (),
    parse: str = "",
    metavar: str = "",
    doors: str = "cefk",
    secret: bool = False,
    restart: bool = False,
) -> Any:
    """Declare one option as a dataclass field.

    ``flag`` is the long option; the environment name (``HYBRID_…``), the TOML key and the keyword are made from it.
    ``help`` is what ``--help`` says, ``more`` what only the reference page adds. ``env`` adds foreign environment
    names (``PORT``). ``parse`` names a parser in :mod:`hybrid.shared.option_values`; without it the option is a
    bool if its default is one, else a choice or text. ``doors`` says through which the option comes in:
    c(ommand line), e(nvironment), f(ile), k(eyword). ``secret``: its value is never shown. ``restart``: a reload does
    not change it, because it is the parent's.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "more": more,
            "flag": flag,
            "aliases": aliases,
            "choices": choices,
            "env": env,
            "parse": parse,
            "metavar": metavar,
            "doors": doors,
            "secret": secret,
            "restart": restart,
        },
    )


def titled(kind: type[T], title: str, *, restart: bool = False) -> T:
    """Declare a group of options under the heading it has in ``--help`` and in the reference.

    ``restart``: a reload changes none of them.
    """
    return field(default_factory=kind, metadata={"title": title, "restart": restart})
