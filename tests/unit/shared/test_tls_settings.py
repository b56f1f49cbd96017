"""The options of TLS: what contradicts itself, and a secret that nobody sees."""

from __future__ import annotations

import os

import pytest

from hybrid.cli.print_config import table
from hybrid.cli.resolve import resolve
from hybrid.ground.errors import UsageError
from hybrid.shared.keywords import settings_from_keywords
from hybrid.shared.settings import Launch
from hybrid.shared.tls_files import open_tls_files
from hybrid.shared.tls_settings import TlsSettings, check_tls

FILE = __file__


@pytest.mark.parametrize(
    "tls",
    [
        TlsSettings(),
        TlsSettings("cert"),
        TlsSettings("cert", "key", "password"),
        TlsSettings("cert", ca_certs="ca", verify="optional"),
        TlsSettings("cert", ca_certs="ca", verify="required"),
    ],
)
def test_these_go_together(tls: TlsSettings) -> None:
    """A certificate alone, a key with it, and both things about clients."""
    check_tls(tls)


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        (TlsSettings(keyfile="key"), "--ssl-keyfile key without its certificate. Give --ssl-certfile."),
        (TlsSettings(keyfile_password="sesame"), "--ssl-keyfile-password: there is no key"),
        (TlsSettings(ca_certs="ca"), "--ssl-ca-certs ca without TLS. Give --ssl-certfile."),
        (TlsSettings(verify="required"), "--ssl-verify required without TLS. Give --ssl-certfile."),
        (TlsSettings("cert", verify="optional"), "--ssl-verify optional: nothing says which certificates are good"),
        (TlsSettings("cert", ca_certs="ca"), "--ssl-ca-certs ca: clients are not asked"),
    ],
)
def test_these_do_not(tls: TlsSettings, words: str) -> None:
    """Each half that is alone is refused, with the other half as the remedy."""
    with pytest.raises(UsageError) as refused:
        check_tls(tls)
    assert words in str(refused.value)
    assert "sesame" not in str(refused.value)


def test_contradictions_are_found_by_every_door() -> None:
    """The command line and keywords end at the same check; keywords in their own words."""
    with pytest.raises(UsageError, match="--ssl-verify required"):
        resolve(["m:a", "--ssl-certfile", FILE, "--ssl-verify", "required"], {}, os.getcwd(), Launch())
    with pytest.raises(UsageError, match="without its certificate"):
        settings_from_keywords("m:a", {"ssl_keyfile": FILE})


def test_file_that_is_not_there_is_refused_before_anything_starts() -> None:
    """With the path, and where it was given."""
    with pytest.raises(UsageError, match=r"'/none\.pem' for --ssl-certfile, from the command line: there is no"):
        resolve(["m:a", "--ssl-certfile", "/none.pem"], {}, os.getcwd(), Launch())


def test_password_comes_by_the_environment_and_is_not_printed() -> None:
    """--print-config says that there is one, and where from."""
    environment = {"HYBRID_SSL_KEYFILE_PASSWORD": "open sesame"}
    resolved = resolve(["m:a", "--ssl-certfile", FILE, "--print-config"], environment, os.getcwd(), Launch())
    assert resolved.settings.tls.keyfile_password == "open sesame"
    printed = table(resolved)
    assert "sesame" not in printed
    (line,) = (line for line in printed.splitlines() if "ssl-keyfile-password" in line)
    assert line.split() == ["ssl-keyfile-password", "***", "env", "HYBRID_SSL_KEYFILE_PASSWORD"]


@pytest.mark.parametrize("given", ["se\0same", ["sesame", "sesame"], b"sesame"])
def test_password_that_is_refused_is_not_printed_either(given: object) -> None:
    """What is wrong with it is said without it."""
    with pytest.raises(UsageError) as refused:
        settings_from_keywords("m:a", {"ssl_certfile": FILE, "ssl_keyfile_password": given})
    assert "ssl_keyfile_password=" in str(refused.value)
    assert "same" not in str(refused.value)


def test_parent_opens_each_file_once_and_leaves_out_what_it_cannot_open() -> None:
    """By path; a missing one is the mold's to complain about."""
    opened = open_tls_files(TlsSettings(FILE, FILE, ca_certs="/none.pem"))
    try:
        assert list(opened) == [FILE]
    finally:
        for fd in opened.values():
            os.close(fd)
