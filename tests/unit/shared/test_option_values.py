"""One parser for every door: what it takes, and what it says to what it does not take."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.ground.errors import UsageError
from hybrid.shared.option_values import read, show
from hybrid.shared.options import Level, Option, Origin, all_options
from tests.support.option_cases import texts_for

OPTIONS = {option.flag: option for option in all_options()}


def value(flag: str, *texts: str) -> Any:
    """Return what the command line's ``texts`` mean."""
    return read(OPTIONS[flag], texts, Origin(Level.COMMAND_LINE, flag))


@pytest.mark.parametrize(
    ("flag", "text", "expected"),
    [
        ("--workers", "4", 4),
        ("--workers", "0", 0),
        ("--workers", "auto", "auto"),
        ("--workers", " 2 ", 2),
        ("--workers", "2..8", "2..8"),
        ("--workers", " 02 .. 8 ", "2..8"),
        ("--workers", "2..", "2.."),
        ("--workers", "auto..", "auto.."),
        ("--workers", "auto..8", "auto..8"),
        ("--workers", "3..3", "3..3"),
        ("--standby", "2", 2),
        ("--port", "0", 0),
        ("--port", "65535", 65535),
        ("--limit-connections", "auto", "auto"),
        ("--limit-connections", "100", 100),
        ("--threads", "auto", "auto"),
        ("--threads", "1000", 1000),
        ("--uds-mode", "660", 0o660),
        ("--uds-mode", "0o600", 0o600),
        ("--umask", "022", 0o22),
        ("--umask", "0", 0),
        ("--graceful-timeout", "0", 0.0),
        ("--graceful-timeout", "-0", 0.0),
        ("--graceful-timeout", "1.5", 1.5),
        ("--graceful-timeout", "1e1", 10.0),
        ("--graceful-timeout", "2147483", 2147483.0),
        ("--boot-timeout", "0.1", 0.1),
        ("--factory", "yes", True),
        ("--factory", "Off", False),
        ("--log-level", "debug", "debug"),
        ("--host", "[::1]", "::1"),
        ("--host", "*", "*"),
        ("--user", "root", "root"),
        ("--user", "4711", "4711"),
        ("--user", "", ""),
        ("--log-file", "", ""),
        ("--ready-fd", "3", 3),
        ("--max-requests", "1000", 1000),
        ("--max-requests-jitter", "0", 0),
        ("--recycle-jitter", "0", 0),
        ("--recycle-jitter", "25%", 25),
        ("--max-memory", "0", 0),
        ("--max-memory", "536870912", 512 << 20),
        ("--max-memory", "512M", 512 << 20),
        ("--max-memory", " 512m ", 512 << 20),
        ("--max-memory", "512MB", 512 << 20),
        ("--max-memory", "512MiB", 512 << 20),
        ("--max-memory", "65536K", 64 << 20),
        ("--max-memory", "2 G", 2 << 30),
        ("--max-memory", "1TiB", 1 << 40),
    ],
)
def test_text_becomes_the_value(flag: str, text: str, expected: object) -> None:
    """Every documented form of a value is taken."""
    assert value(flag, text) == expected


def test_addresses_are_collected_in_order() -> None:
    """A repeatable option keeps all its values."""
    assert value("--bind", "127.0.0.1:1", "unix:/a", "fd://3") == ("127.0.0.1:1", "unix:/a", "fd://3")


@pytest.mark.parametrize(
    ("flag", "text", "cause", "remedy"),
    [
        ("--workers", "-1", "less than 0", "Give 1 to 1024, auto, or 0"),
        ("--workers", "x", "not a whole number", "Give 1 to 1024, auto, or 0"),
        ("--workers", "1.5", "not a whole number", "auto"),
        ("--workers", "", "not a whole number", "auto"),
        ("--workers", "1_0", "not a whole number", "auto"),
        ("--workers", "٣", "not a whole number", "auto"),
        ("--workers", "9" * 5000, "more than 1024", "auto"),
        ("--workers", "-" + "9" * 5000, "less than 0", "auto"),
        ("--workers", "0..4", "less than 1", "Give a range such as 2..8"),
        ("--workers", "4..2", "ends before it begins", "Give a range such as 2..8"),
        ("--workers", "..8", "not a whole number", "Give a range such as 2..8"),
        ("--workers", "2..auto", "not a whole number", "Give a range such as 2..8"),
        ("--workers", "2...8", "not a whole number", "Give a range such as 2..8"),
        ("--workers", "2..1025", "more than 1024", "1 to 1024"),
        ("--standby", "-1", "less than 0", "Give 0 to 1024"),
        ("--port", "99999", "more than 65535", "0 to 65535"),
        ("--port", "-1", "less than 0", "0 to 65535"),
        ("--port", "tcp://10.0.0.1:80", "Kubernetes", "enableServiceLinks"),
        ("--backlog", "0", "less than 1", "1 or more"),
        ("--limit-connections", "all", "not a whole number", "Give auto"),
        ("--threads", "1001", "more than 1000", "use more --workers"),
        ("--uds-mode", "888", "not an octal mode", "660"),
        ("--uds-mode", "1777", "not an octal mode", "660"),
        ("--umask", "-1", "not an octal mode", "000 to 777"),
        ("--umask", "", "not an octal mode", "000 to 777"),
        ("--graceful-timeout", "soon", "not a number of seconds", "for example 30"),
        ("--graceful-timeout", "-1", "less than 0", "0 or more"),
        ("--graceful-timeout", "nan", "not a number of seconds", "0 or more"),
        ("--graceful-timeout", "inf", "more than", "0 or more"),
        ("--graceful-timeout", "2147483.5", "more than 2147483", "0 or more"),
        ("--boot-timeout", "3000000", "more than 2147483", "more than 0"),
        ("--boot-timeout", "0", "no time at all", "more than 0"),
        ("--log-level", "loud", "not one of its values", "debug, info, warning, error, critical"),
        ("--log-level", "warn", "Did you mean warning?", "debug, info, warning, error, critical"),
        ("--factory", "perhaps", "neither true nor false", "Give true or false"),
        ("--bind", "127.0.0.1", "no port", "127.0.0.1:8000"),
        ("--bind", "8000", "no host", "127.0.0.1:8000"),
        ("--bind", "127.0.0.1:99999", "no port", "0 to 65535"),
        ("--bind", "::1:8000", "brackets", "[::1]:8000"),
        ("--host", "a:80", "not the name or the address of a host", "--bind HOST:PORT"),
        ("--host", "", "it is empty", "Give a name"),
        ("--user", "no such user", "no such user", "by name or number"),
        ("--group", "no such group", "no such group", "by name or number"),
        ("--ready-fd", "0", "less than 1", "descriptor"),
        ("--recycle-jitter", "101", "more than 100", "0 to 100"),
        ("--recycle-jitter", "-1%", "less than 0", "0 to 100"),
        ("--max-requests", "-1", "less than 0", "0 or more"),
        ("--max-memory", "512", "512 bytes are less than a worker needs", "512M; 32M or more"),
        ("--max-memory", "31M", "32505856 bytes are less than a worker needs", "32M or more"),
        ("--max-memory", "-1G", "less than 0", "512M"),
        ("--max-memory", "1.5G", "not a whole number", "512M"),
        ("--max-memory", "much", "not a whole number", "512M"),
        ("--max-memory", "", "not a whole number", "512M"),
        ("--max-memory", "M", "not a whole number", "512M"),
        ("--max-memory", "B", "not a whole number", "512M"),
        ("--max-memory", "512P", "not a whole number", "K, M, G or T"),
        ("--max-memory", "99999T", "more than", "512M"),
        ("--forwarded-allow-ips", "", "it is empty", "--no-proxy-headers"),
        ("--forwarded-allow-ips", "::1, proxy.example", "'proxy.example' is neither an address nor", "10.0.0.0/8"),
        ("--forwarded-allow-ips", "10.1.0.0/8", "'10.1.0.0/8' is an address inside", "the network, 10.0.0.0/8"),
        ("--forwarded-allow-ips", "10.0.0.0/33", "neither an address nor a network", "10.0.0.0/8"),
        ("--forwarded-allow-ips", "010.0.0.7", "neither an address nor a network", "10.0.0.7"),
        ("--forwarded-allow-ips", "fe80::1%eth0", "names an interface", "behind the %"),
        ("--log-file", "a\0b", "NUL", "Remove it"),
    ],
)
def test_refusal_names_option_value_origin_and_remedy(flag: str, text: str, cause: str, remedy: str) -> None:
    """One line that lets the user mend it without the manual."""
    with pytest.raises(UsageError) as caught:
        value(flag, text)
    message = str(caught.value)
    assert message.startswith(f"cannot use {text!r} for {flag}, from the command line: ")
    assert cause in message and remedy in message
    assert "\n" not in message and message.endswith(".")


@pytest.mark.parametrize(
    ("origin", "start"),
    [
        (Origin(Level.COMMAND_LINE, "-w"), "cannot use 'x' for --workers, from the command line: "),
        (Origin(Level.ENVIRONMENT, "HYBRID_WORKERS"), "cannot use 'x' for --workers, from HYBRID_WORKERS in the env"),
        (Origin(Level.FOREIGN, "WEB_CONCURRENCY"), "cannot use 'x' for --workers, from WEB_CONCURRENCY in the env"),
        (Origin(Level.FILE, "workers", "/a.toml"), "cannot use 'x' for workers, from /a.toml: "),
        (Origin(Level.KEYWORD, "workers="), "cannot use 'x' for workers=: "),
    ],
)
def test_refusal_says_where_the_value_came_from(origin: Origin, start: str) -> None:
    """The same value is refused with the same cause, and with the place where the user has to look."""
    with pytest.raises(UsageError) as caught:
        read(OPTIONS["--workers"], ["x"], origin)
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("not a whole number. Give 1 to 1024, auto, or 0 to serve in this process, "
                                      "without a pool.")  # fmt: skip


def test_list_of_proxies_is_one_value_or_several() -> None:
    """Commas or repetition, or both; each entry in the form in which it compares."""
    assert value("--forwarded-allow-ips", "10.0.0.0/8, ::0:1,,unix") == ("10.0.0.0/8", "::1", "unix")
    assert value("--forwarded-allow-ips", "10.0.0.7", "*,2001:DB8::/32") == ("10.0.0.7", "*", "2001:db8::/32")
    default = OPTIONS["--forwarded-allow-ips"].default
    assert value("--forwarded-allow-ips", *default) == default


@given(st.data())
def test_a_shown_value_reads_back(data: st.DataObject) -> None:
    """What ``--print-config`` shows can be typed in again."""
    option: Option = data.draw(st.sampled_from(all_options()))
    result = read(option, data.draw(texts_for(option)), Origin(Level.COMMAND_LINE, option.flag))
    shown = show(option, result)
    again = read(option, shown.split(", ") if option.repeatable else [shown], Origin(Level.COMMAND_LINE, option.flag))
    assert again == (pytest.approx(result, rel=1e-14) if isinstance(result, float) else result)


@given(st.sampled_from(all_options()), st.text())
def test_no_text_raises_anything_but_a_usage_error(option: Option, text: str) -> None:
    """Whatever is typed, the answer is a value or one line."""
    try:
        read(option, [text], Origin(Level.COMMAND_LINE, option.flag))
    except UsageError as error:
        assert "\n" not in str(error)
